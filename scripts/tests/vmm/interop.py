# SPDX-License-Identifier: GPL-2.0
"""The device with drivers, transports and QEMUs that lack something: features
that are refused, legacy interfaces, the other side without our patches."""

import itertools
import subprocess

import vm
from e2e import Skip, check
from e2e.coexistence import check_balloon
from vmm import (DRIVER, HINT, ON, RECLAIM, REPORTING, STATS, WORKING_SET, Row,
                 Table, accepted, check_no_reporting, check_reporting, device,
                 start)

NAMES = {STATS: "stats", HINT: "hint", REPORTING: "reporting",
         WORKING_SET: "working set", RECLAIM: "reclaim"}
OPTIONS = {HINT: "free-page-hint=on,iothread=hint",
           REPORTING: "free-page-reporting=on"}


def names(bits):
    return " ".join(NAMES[bit] for bit in bits) or "-"


def check_stats(guest):
    """Each side takes the same queue for that of the statistics."""
    guest.set("guest-stats-polling-interval", 1)
    vm.wait_for(lambda: guest.get("guest-stats")["last-update"], 30,
                "statistics")
    guest.set("guest-stats-polling-interval", 0)


def refuse(guest, bits):
    """Makes the driver start again and not accept these features."""
    name = device(guest)
    debug = f"/sys/kernel/debug/virtio/{name}"
    if guest.run(f"[ -e {debug}/filter_feature_add ]")[0]:
        raise Skip("the kernel lacks CONFIG_VIRTIO_DEBUG, see "
                   "scripts/kernel.config")
    guest.sh(f"echo {name} >{DRIVER}/unbind")
    for bit in bits:
        guest.sh(f"echo {bit} >{debug}/filter_feature_add")
    guest.sh(f"echo {name} >{DRIVER}/bind")
    both = accepted(guest) & set(bits)
    check(not both, f"the driver accepted {names(both)}")


def start_with(env, offered, **options):
    balloon = ",".join([ON, *(OPTIONS[bit] for bit in offered
                              if bit in OPTIONS)])
    return start(env, "guest", **{
        "balloon": balloon, "extra": ("-object", "iothread,id=hint"),
        **options})


def offered_and_refused(offered, refused):
    def run(env):
        guest = start_with(env, offered)
        found = accepted(guest) & {STATS, HINT, REPORTING, WORKING_SET}
        check(found == {*offered, WORKING_SET}, f"accepted: {names(found)}")
        if refused:
            refuse(guest, refused)
            check(not accepted(guest) & {WORKING_SET, RECLAIM}, "the driver "
                  f"accepted working set reporting, but not {names(refused)}")
            check_no_reporting(guest)
        else:
            check_reporting(guest)
        if STATS not in refused:
            check_stats(guest)
    return run


def refused_and_taken_back(env):
    """A driver that starts later may accept what the one before refused."""
    guest = start_with(env, (STATS, HINT, REPORTING))
    refuse(guest, (STATS, HINT, REPORTING))
    check_no_reporting(guest)
    name = device(guest)
    guest.sh(f"echo {name} >{DRIVER}/unbind; "
             f"echo 1 >/sys/kernel/debug/virtio/{name}/filter_features_clear; "
             f"echo {name} >{DRIVER}/bind")
    check_reporting(guest)
    check_stats(guest)


def reclaim_refused(env):
    """A guest may report and yet not reclaim memory for the host."""
    guest = start(env, "guest")
    refuse(guest, (RECLAIM,))
    check(RECLAIM not in accepted(guest), "accepted what was refused")
    check_reporting(guest)
    try:
        guest.request_reclaim(1 << 20, 1000)
    except vm.QMPError as error:
        check("does not reclaim memory" in str(error), f"{error}")
        return
    raise AssertionError("a request to reclaim was accepted")


def poison(option, guest_option, reporting):
    """Without page poisoning a guest that initialises free pages can't have
    them taken away: it refuses free page reporting."""
    def run(env):
        guest = start_with(env, (STATS, REPORTING), append=guest_option,
                           balloon=f"{ON},{OPTIONS[REPORTING]},{option}")
        check((REPORTING in accepted(guest)) == reporting,
              f"accepted: {accepted(guest)}")
        if reporting:
            check_reporting(guest)
        else:
            check_no_reporting(guest)
        check_stats(guest)
    return run


def poison_rows():
    for option, guest_option, reporting in (
            ("page-poison=on", "init_on_free=0", True),
            ("page-poison=on", "init_on_free=1", True),
            ("page-poison=off", "init_on_free=0", True),
            ("page-poison=off", "init_on_free=1", False)):
        yield Row((option, guest_option,
                   "reports" if reporting else "reporting refused, so inactive"),
                  poison(option, guest_option, reporting))


def refusal_rows():
    for optional in ((), (HINT,), (REPORTING,), (HINT, REPORTING)):
        offered = (STATS, *optional)
        for number in range(len(offered) + 1):
            for refused in itertools.combinations(offered, number):
                yield Row((names(offered), names(refused),
                           "inactive" if refused else "reports"),
                          offered_and_refused(offered, refused))
    yield Row((names(offered), names((WORKING_SET,)), "inactive"),
              offered_and_refused(offered, (WORKING_SET,)))
    yield Row((names((STATS,)), names((RECLAIM,)), "reports, no reclaim"),
              reclaim_refused)
    yield Row((names(offered), names(offered) + ", then none", "reports"),
              refused_and_taken_back)


# Transports: how QEMU's arguments name the device. microvm has one serial port
# of its own. Its ACPI tables say that there is no PIT, and then an emulated
# guest can't find out how fast its other timers are, and hangs. Without them it
# finds its devices on the kernel's command line, and uses one CPU and the 8259.
MICROVM = ("-machine", "microvm,acpi=off",
           "-device", "isa-serial,chardev=commands")


def pci(properties):
    def arguments(balloon):
        return {"balloon": ",".join(filter(None, [balloon, properties]))}
    return arguments


def mmio(legacy):
    def arguments(balloon):
        return {"balloon": None, "extra": (
            *MICROVM, "-global", f"virtio-mmio.force-legacy={legacy}",
            "-device", ",".join(filter(None, [
                "virtio-balloon-device,id=balloon0", balloon])))}
    return arguments


TRANSPORTS = {
    "pci": pci(""),
    "pci, disable-legacy=on": pci("disable-legacy=on"),
    "pci, disable-modern=on": pci("disable-legacy=off,disable-modern=on"),
    "mmio": mmio("off"),
    "mmio, force-legacy=on": mmio("on"),
}
LEGACY = ("pci, disable-modern=on", "mmio, force-legacy=on")
QEMUS = {"on": ("qemu", ON), "off": ("qemu", ""),
         "unpatched": ("qemu-stock", ""), "10.2, on": ("qemu-10.2", ON)}


def check_products(kernel, qemu, transport):
    """A kernel may lack the driver of a transport, QEMU the machine."""
    for product in (kernel, qemu):
        if not product.exists():
            raise Skip(f"no {product}")
    option = None
    if transport.startswith("mmio"):
        option = "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y"
        machines = subprocess.run([qemu, "-machine", "help"], check=True,
                                  stdout=subprocess.PIPE, text=True).stdout
        if "\nmicrovm " not in machines:
            raise Skip("QEMU lacks the machine microvm: built without libfdt")
    elif transport in LEGACY:
        option = "CONFIG_VIRTIO_PCI_LEGACY=y"
    config = kernel.with_name("config").read_text().splitlines()
    if option and option not in config:
        raise Skip(f"the kernel lacks {option}, see scripts/kernel.config")


def check_without_property(guest):
    """A QEMU without the feature has nothing to ask; sysfs works as always."""
    check(WORKING_SET not in accepted(guest), "accepted what is not offered")
    check_balloon(guest)
    check_stats(guest)
    if guest.run(f"[ -e {guest.node_file('histogram')} ]")[0] == 0:
        guest.sh(f"echo 1000,5000 >{guest.node_file('intervals_ms')}")
        check(len(guest.read_histogram()) == 3, "no histogram in sysfs")


def refused_by_qemu(env, options):
    """QEMU must not start, and say why."""
    try:
        start(env, "guest", **options)
    except vm.VMError as error:
        text = str(error)
    else:
        raise AssertionError("QEMU has started")
    words = "'working-set-reporting' requires a device with a virtio 1.0"
    check(words in text, text)
    return next(line for line in text.splitlines() if words in line)


def pair(transport, qemu_name, wsr):
    def run(env):
        binary, balloon = QEMUS[qemu_name]
        kernel = vm.kernel_image(env.base, wsr)
        qemu = vm.qemu_binary(binary)
        check_products(kernel, qemu, transport)
        options = {"qemu": qemu, "kernel": kernel,
                   **TRANSPORTS[transport](balloon)}
        if balloon == ON and transport in LEGACY:
            return refused_by_qemu(env, options)
        guest = start(env, "guest", **options)
        if balloon != ON:
            check_without_property(guest)
        elif wsr:
            check_reporting(guest)
            check_stats(guest)
        else:
            check_no_reporting(guest)
            check_stats(guest)
        return None
    return run


def legacy_driver(env):
    """A device with both interfaces, a guest that takes the legacy one: the
    feature bit is in the part that it sees."""
    guest = start(env, "guest", balloon=f"{ON},disable-legacy=off",
                  append="virtio_pci.force_legacy=1")
    if 32 in accepted(guest):
        raise Skip("the kernel lacks CONFIG_VIRTIO_PCI_LEGACY, see "
                   "scripts/kernel.config")
    check(WORKING_SET not in accepted(guest), "accepted without VERSION_1")
    check_no_reporting(guest)
    check_stats(guest)


def pair_rows():
    for transport, qemu, wsr in itertools.product(TRANSPORTS, QEMUS,
                                                  (True, False)):
        if QEMUS[qemu][1] != ON:
            expected = "works without reports"
        elif transport in LEGACY:
            expected = "QEMU says why not"
        else:
            expected = "reports" if wsr else "inactive"
        yield Row((transport, qemu, "patched" if wsr else "without WSR",
                   expected), pair(transport, qemu, wsr))
    yield Row(("pci, disable-legacy=off", "on", "virtio_pci.force_legacy=1",
               "inactive"), legacy_driver)


TABLES = [
    Table("queues before working_set_vq: offered by QEMU, refused by the guest",
          ("offered", "refused", "expected"), list(refusal_rows())),
    Table("free page reporting and page poisoning",
          ("QEMU", "guest", "expected"), list(poison_rows())),
    Table("transports: QEMU 10.0 with working-set-reporting on, off, unpatched; "
          "10.2",
          ("transport", "QEMU", "kernel", "expected"), list(pair_rows())),
]
