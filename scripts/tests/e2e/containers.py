# SPDX-License-Identifier: GPL-2.0
"""wsrd in a guest, as the host of containers: real control groups."""

import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import tempfile

import vm
from e2e import Skip, check

WSRD = vm.OUT / "bin/wsrd"
WSRCTL = vm.OUT / "bin/wsrctl"
PLACE = "/wsrd"     # in the guest
LOADER = f"{PLACE}/ld-linux-x86-64.so.2 --library-path {PLACE}"
MIB = 1 << 20
# Two containers of 170 MiB, of which 120 MiB are cold
BANDS = "50M:0.5:anon 120M:never:anon"
CONFIG = """
[host]
memory = 360M
control = /run/control
state = /run/state.json
pressure = 150ms/1s
{host}
[policy]
buffer = 100M
grace = 5s
min-age = 3s
working-set-age = {wss_age}
shrink-rate = 10%
shrink-block = 5s
[reports]
interval = 2s
[defaults]
min = 16M
slo = 20%
[cgroup a]
cgroup = pods/a
[cgroup b]
cgroup = /sys/fs/cgroup/pods/b
shares = 2
"""


def libraries(program):
    """Shared libraries that a program needs, with the one that loads them"""
    output = subprocess.run(["ldd", program], stdout=subprocess.PIPE,
                            check=True, text=True).stdout
    return set(re.findall(r"(/\S+) \(", output))


def make_initrd(path):
    """The guest's image, and a second one behind it: wsrd, wsrctl, and the
    libraries that the guest has none of"""
    cpio = shutil.which("cpio")
    if not (cpio and WSRD.exists()):
        raise Skip("no cpio, or no wsrd: make tools")
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory) / PLACE.strip("/")
        place.mkdir()
        for program in (WSRD, WSRCTL):
            shutil.copy(program, place)
            for library in libraries(program):
                shutil.copy(library, place)
        names = [str(entry.relative_to(directory))
                 for entry in [place, *sorted(place.iterdir())]]
        archive = subprocess.run(
            [cpio, "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=directory,
            input="\n".join(names).encode(), stdout=subprocess.PIPE,
            check=True).stdout
    image = vm.guest_image().read_bytes()
    path.write_bytes(image + bytes(-len(image) % 4) + archive)


class Host:
    """The guest that is the host of containers"""

    def __init__(self, env, name, **options):
        self.directory = tempfile.TemporaryDirectory(prefix="wsr-initrd-")
        initrd = pathlib.Path(self.directory.name) / "initrd"
        make_initrd(initrd)
        self.env, self.name = env, name
        # Of two images, QEMU takes the last one.
        self.guest = env.start(name, memory="768M", swap="300M",
                               extra=("-initrd", str(initrd)), **options)
        self.guest.sh("cd /sys/fs/cgroup; echo +memory >cgroup.subtree_control;"
                      "mkdir pods; echo +memory >pods/cgroup.subtree_control")

    def close(self):
        """Ends the guest"""
        self.env.close_guest(self.name)
        self.directory.cleanup()

    def run_container(self, name, bands=BANDS, more=""):
        """A container that has memory"""
        self.guest.sh(f"mkdir -p /sys/fs/cgroup/pods/{name}")
        self.guest.background(f"exec wsr_bands cgroup=/sys/fs/cgroup/pods/{name}"
                              f" {bands}", name + more)
        self.guest.sh(f"until grep -q ready /run/{name + more}.log; do "
                      "sleep 0.2; done", 120)

    def configure(self, host="", wss_age="30s"):
        """Writes the configuration."""
        text = CONFIG.format(host=host, wss_age=wss_age)
        self.guest.sh(f"cat >/run/wsrd.conf <<'END'\n{text}END\n")

    def start(self):
        """Starts wsrd. Returns its process id."""
        pid = self.guest.background(
            f"exec {LOADER} {PLACE}/wsrd -c /run/wsrd.conf", "wsrd")
        vm.wait_for(lambda: not self.guest.run(self.command("status"))[0], 60,
                    "answer from wsrd")
        return pid

    @staticmethod
    def command(words):
        """wsrctl as the guest's shell runs it"""
        return f"{LOADER} {PLACE}/wsrctl -s /run/control {words}"

    def status(self):
        """What wsrd knows of each container"""
        answer = json.loads(self.guest.sh(self.command("-j status")))
        return {entry["name"]: entry for entry in answer["vms"]}

    def read(self, name, file):
        """A file of a group"""
        return self.guest.sh(f"cat /sys/fs/cgroup/pods/{name}/memory.{file}")

    def high(self, name):
        """memory.high in MiB, or None"""
        text = self.read(name, "high").strip()
        return None if text == "max" else int(text) / MIB

    def current(self, name):
        """memory.current in MiB"""
        return int(self.read(name, "current")) / MIB

    def stop(self, pid):
        """As systemctl stop"""
        self.guest.sh(f"kill {pid}; while kill -0 {pid} 2>/dev/null; do "
                      "sleep 0.2; done")

    def log(self):
        """What wsrd wrote"""
        return self.guest.sh("cat /run/wsrd.log")


@contextlib.contextmanager
def host(env, name, **options):
    """A host with two containers"""
    machine = Host(env, name, **options)
    try:
        machine.run_container("a")
        machine.run_container("b")
        yield machine
    finally:
        machine.close()


def check_shrunk(machine, source):
    """Cold memory goes, hot memory stays, and then there is a limit."""
    def total():
        return machine.current("a") + machine.current("b")

    def knows_ages():
        status = machine.status()
        return all(status[name].get("source") == source for name in ("a", "b"))

    try:
        vm.wait_for(knows_ages, 60, f"ages by {source}", 1)
        vm.wait_for(lambda: total() < 262 and machine.high("a") and
                    machine.high("b"), 240, "memory for all", 2)
    except vm.VMError as error:
        raise AssertionError(f"{error}: {machine.status()}, "
                             f"{machine.log()}") from error
    for name in ("a", "b"):
        check(machine.high(name) >= 55, f"{name}: {machine.high(name)} MiB")
    return total()


def test_containers_share_memory(env):
    with host(env, "containers") as machine:
        machine.guest.sh("echo 230M >/sys/fs/cgroup/pods/b/memory.high; "
                         "echo nobody:x:99:99::/:/bin/sh >/etc/passwd")
        machine.configure("user = nobody")
        machine.guest.sh("chown nobody /run")
        pid = machine.start()
        # The guest's kernel and busybox know no better way.
        found = machine.guest.sh(f"grep -ls '^PPid:.{pid}$' /proc/[0-9]*/status"
                                 " || true")
        check(found.count("/proc/") == 1, f"children of wsrd: {found}")
        helper = found.split("/")[2]
        check(machine.guest.sh(f"grep Uid /proc/{pid}/status").split()[1] ==
              "99", "wsrd is still root")
        check(machine.guest.sh(f"grep Uid /proc/{helper}/status").split()[1]
              == "0", "its process is not root")
        total = check_shrunk(machine, "memory.working_set")

        # Killed and started again, it still knows what was there before.
        machine.guest.sh(f"kill -9 {pid}; while kill -0 {helper}; do "
                         "sleep 0.1; done 2>/dev/null")
        check(machine.high("a"), "the limit is lost")
        pid = machine.start()
        vm.wait_for(lambda: machine.status()["a"].get("high-bytes"), 30,
                    "limit of before")

        # Who needs more gets it.
        before = machine.high("a")
        machine.run_container("a", "120M:0.2:anon", "2")
        vm.wait_for(lambda: machine.high("a") is None or
                    machine.high("a") > before + 20, 60,
                    f"more for a than {before:.0f} MiB; {machine.log()}")

        machine.stop(pid)
        check(machine.high("a") is None and machine.high("b") == 230,
              f"memory.high stays: {machine.high('a')}, {machine.high('b')}")
        check(not machine.read("a", "working_set.intervals_ms").strip(),
              "the kernel still looks at a")
        return f"{total:.0f} MiB in use"


def test_containers_by_generations(env):
    """A kernel without working set reporting: debugfs says what is old."""
    image = vm.kernel_image(env.base, wsr=False)
    if not image.exists():
        raise Skip(f"no {image}: make kernel")
    with host(env, "generations", kernel=image, balloon=None) as machine:
        machine.configure(wss_age="10s")
        pid = machine.start()
        total = check_shrunk(machine, "lru_gen")
        machine.guest.sh("killall wsr_bands; until rmdir /sys/fs/cgroup/pods/a "
                         "2>/dev/null; do sleep 0.2; done")
        vm.wait_for(lambda: "size-bytes" not in machine.status()["a"], 30,
                    "end of a")
        machine.run_container("a")
        vm.wait_for(lambda: "size-bytes" in machine.status()["a"], 30,
                    "a again")
        machine.stop(pid)
        check(machine.high("b") is None, "memory.high stays")
        return f"{total:.0f} MiB in use"
