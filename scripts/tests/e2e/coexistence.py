# SPDX-License-Identifier: GPL-2.0
"""Each side with another side that does not know the feature."""

import time

import vm
from e2e import Skip, check
from e2e.lifecycle import set_balloon

MIB = 1 << 20


def check_balloon(guest):
    set_balloon(guest, 192 * MIB)
    set_balloon(guest, 256 * MIB)


def test_kernel_without_wsr(env):
    kernel = vm.kernel_image(env.base, wsr=False)
    if not kernel.exists():
        raise Skip(f"no {kernel.relative_to(vm.ROOT)}")
    guest = env.start("nowsr", memory="256M", kernel=kernel)
    guest.set("guest-working-set-request-id", 5)
    check_balloon(guest)
    state = guest.get("guest-working-set")
    check(not state["active"], "active although the kernel lacks WSR")
    check(state["last-update"] == 0 and "report" not in state, f"{state}")
    for program in ("node_files", "poll /mnt", "accuracy"):
        status, output = guest.run(f"cd /kselftest/wsr && ./{program}")
        check(status == 4 and "CONFIG_WSR" in output,
              f"{program} does not skip: status {status}\n{output}")
    env.close_guest("nowsr")


def check_without_feature(guest):
    check_balloon(guest)
    guest.sh(f"echo 1000,5000 >{guest.node_file('intervals_ms')}")
    time.sleep(0.5)
    check(len(guest.read_histogram()) == 3, "no histogram in sysfs")
    check(guest.read_stat()["total"] > 0, "no total in sysfs")


def test_qemu_without_the_feature(env):
    qemu = vm.qemu_binary("qemu-stock")
    if not qemu.exists():
        raise Skip(f"no {qemu.relative_to(vm.ROOT)}")
    check_without_feature(env.start("stock", memory="256M", qemu=qemu,
                                    balloon=""))
    env.close_guest("stock")


def test_property_off(env):
    check_without_feature(env.start("off", memory="256M", balloon=""))
    env.close_guest("off")
