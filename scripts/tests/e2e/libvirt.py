# SPDX-License-Identifier: GPL-2.0
"""The commands of Documentation/virtio/working-set-host.rst, as they are typed
there, with QEMU alone and through libvirt; and wsrd with a guest of libvirt.

What they print must have the shape of what the guide says: the same but for
numbers, true or false, blanks, and "..." for anything.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import vm
from e2e import Skip, check

GUIDE = vm.ROOT / "Documentation/virtio/working-set-host.rst"
QMP_SHELL = vm.BUILD / "src/qemu-10.0/scripts/qmp/qmp-shell"
STEP_TIMEOUT = 120

# What is typed into a shell, into socat (JSON), and into qmp-shell
TYPED = re.compile(r'\$ |\(QEMU\) |(?=\{"execute")')
# libvirtd's log says this when somebody begins to wait for an event.
LISTENS = "virConnectDomainQemuMonitorEventRegister"
# A libvirtd of root's would serve the whole machine.
AS_NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


# The guide

def blocks(section):
    """The literal blocks of a section of the guide."""
    text = GUIDE.read_text(encoding="utf-8")
    found = re.search(rf"^{section}\n=+\n(.*?)(?=^[^\n]+\n===|\Z)", text,
                      re.MULTILINE | re.DOTALL)
    check(found, f"{GUIDE.name} has no section {section}")
    return [re.sub("^  ", "", block, flags=re.MULTILINE) for block in
            re.findall(r"::\n\n((?:  .*\n|\n)+)", found[1])]


def is_complete(typed):
    """Whether what was typed does not go on in the next line."""
    if typed.startswith("{"):
        return typed.count("{") == typed.count("}")
    return not typed.endswith("\\") and typed.count("'") % 2 == 0


def steps(block):
    """[(what is typed, what is printed)]"""
    result = []
    for line in block.splitlines():
        prompt = TYPED.match(line)
        if prompt:
            result.append([line[prompt.end():], ""])
        elif is_complete(result[-1][0]):
            result[-1][1] += line + "\n"
        else:
            result[-1][0] += "\n" + line
    return result


def without_blanks(text):
    return re.sub(r"\s+|\(QEMU\)", "", text)


def shape(printed):
    """A regular expression for output like this."""
    def replacement(word):
        if word[0] in "0123456789":
            return r"\d+"
        if word in ("true", "false"):
            return "(true|false)"
        return ".*" if word == "..." else re.escape(word)

    return "".join(map(replacement, re.findall(r"\d+|true|false|\.{3}|.",
                                               without_blanks(printed))))


# What the guide presumes

class Host:
    """A directory with QEMU, a guest's kernel and wsr.xml, and all that the
    guide's commands start there. Leaving the context ends it."""

    def __init__(self, base):
        self.base = base
        self.as_user = []
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="wsr-guide-"))
        self._libvirtd = None
        self._listeners = 0
        # libvirt finds its other directories from HOME.
        self.environment = {
            "PATH": f"{self.directory}:{QMP_SHELL.parent}:{os.environ['PATH']}:"
                    "/usr/sbin:/sbin",
            "HOME": str(self.directory),
            "XDG_RUNTIME_DIR": str(self.directory / "run"),
            "LIBVIRT_DEFAULT_URI": "qemu:///session",
            "LC_ALL": "C",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def __enter__(self):
        products = {"qemu-system-x86_64": vm.qemu_binary(),
                    "bzImage": vm.kernel_image(self.base),
                    "guest.cpio.gz": vm.guest_image()}
        for name, path in products.items():
            if not os.access(path, os.R_OK):
                raise vm.MissingProduct(f"{path} is missing: build it with make")
            (self.directory / name).symlink_to(path.resolve())
        return self

    def __exit__(self, *exception):
        if self._libvirtd:
            self.run("virsh", "destroy", "wsr")
            self._libvirtd.terminate()
            try:
                self._libvirtd.wait(30)
            except subprocess.TimeoutExpired:
                self._libvirtd.kill()
                self._libvirtd.wait()
        for name in "qemu.pid", "run/libvirt/qemu/run/wsr.pid":
            try:
                os.kill(int((self.directory / name).read_text()),
                        signal.SIGKILL)
            except (OSError, ValueError):
                pass  # it has ended already
        for path in self.directory.glob("*console.log"):
            shutil.copyfile(path, vm.LOGS /
                            f"console-{self.base}-guide-{path.name}")
        shutil.rmtree(self.directory, ignore_errors=True)

    def run(self, *command):
        """(exit status, output) of a command on the host"""
        done = subprocess.run(
            [*self.as_user, *command], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            cwd=self.directory, env=self.environment, timeout=STEP_TIMEOUT,
            check=False)
        return done.returncode, done.stdout

    def write_domain(self, name, xml):
        """The guide's domain, with the files where they are here."""
        xml = re.sub("/usr/local/bin(?=/)|/srv/guest(?=/)",
                     str(self.directory), xml)
        (self.directory / name).write_text(xml)

    def start_libvirtd(self):
        """A daemon of its own, of a user who is not root."""
        for program in "libvirtd", "virsh":
            if not shutil.which(program, path=self.environment["PATH"]):
                raise Skip(f"no {program}: scripts/packages libvirt")
        config = self.directory / ".config/libvirt"
        config.mkdir(parents=True)
        (config / "qemu.conf").write_text('stdio_handler = "file"\n')
        (config / "libvirtd.conf").write_text(
            f'log_outputs = "1:file:{self.directory}/libvirtd.log"\n'
            'log_filters = "1:libvirt-qemu"\n')
        (self.directory / "run").mkdir(mode=0o700)
        if os.geteuid() == 0:
            self.as_user = AS_NOBODY
            for path in self.directory, *self.directory.rglob("*"):
                if not path.is_symlink():
                    shutil.chown(path, "nobody", "nogroup")
        for path in self.directory.iterdir():
            if self.run("test", "-r", str(path))[0]:
                raise Skip(f"the user nobody can't read {path.resolve()}")
        self._libvirtd = self.start("libvirtd", log="libvirtd.out")
        vm.wait_for(lambda: self.run("virsh", "list")[0] == 0, STEP_TIMEOUT,
                    "libvirtd")

    def start(self, *command, log):
        """A process of the user's; log: file for what it writes"""
        with open(self.directory / log, "ab") as file:
            return subprocess.Popen(
                [*self.as_user, *command], stdin=subprocess.DEVNULL,
                stdout=file, stderr=file, cwd=self.directory,
                env=self.environment)

    def restart_libvirtd(self):
        """Guests go on; returns when the new one answers."""
        self._libvirtd.terminate()
        self._libvirtd.wait(30)
        self._libvirtd = self.start("libvirtd", log="libvirtd.out")
        vm.wait_for(lambda: self.run("virsh", "list")[0] == 0, STEP_TIMEOUT,
                    "libvirtd")

    def qemu_pid(self):
        """Of the guest, as libvirt knows it"""
        return int((self.directory / "run/libvirt/qemu/run/wsr.pid")
                   .read_text())

    def wait_listens(self):
        """Until one more client of libvirtd waits for events."""
        self._listeners += 1
        log = self.directory / "libvirtd.log"
        vm.wait_for(lambda: log.read_text().count(LISTENS) >= self._listeners,
                    STEP_TIMEOUT, "virsh to wait for events")

    def type(self, block):
        """Types what the guide says and compares what is printed."""
        with open(self.directory / "output", "w+", encoding="utf-8") as output:
            # Bash reads byte by byte: the rest is for the program it runs.
            with subprocess.Popen(
                    [*self.as_user, "bash", "-e"], stdin=subprocess.PIPE,
                    stdout=output, stderr=output, cwd=self.directory,
                    env=self.environment, start_new_session=True) as shell:
                try:
                    self._type(shell, steps(block))
                finally:
                    if shell.poll() is None:
                        os.killpg(shell.pid, signal.SIGKILL)

    def _type(self, shell, session):
        def output():
            return (self.directory / "output").read_text(errors="replace")

        def matches():
            return re.fullmatch(expected, without_blanks(output()))

        expected = ""
        for typed, printed in session:
            expected += shape(printed)
            shell.stdin.write(typed.encode() + b"\n")
            shell.stdin.flush()
            if typed.endswith("&"):
                self.wait_listens()
            if not printed:
                continue
            try:
                vm.wait_for(lambda: matches() or shell.poll() is not None,
                            STEP_TIMEOUT, "output as in the guide")
            except vm.VMError:
                pass
            check(matches(), f"{typed}\nprinted, up to here:\n{output()}\n"
                  f"which does not look like the guide's\n{printed}\n"
                  f"consoles:\n{self.console_tails()}")
        shell.stdin.close()
        check(shell.wait(STEP_TIMEOUT) == 0, output())
        check(matches(), f"something else was printed at the end: {output()}")

    def console_tails(self):
        return "\n".join(
            line for path in self.directory.glob("*console.log") for line in
            path.read_text(errors="replace").splitlines()
            [-vm.CONSOLE_TAIL_LINES:])

    def check_console(self, name):
        """The guest's kernel must not have complained."""
        text = vm.hide_harmless(
            (self.directory / name).read_text(errors="replace"))
        found = vm.SPLAT.search(text)
        check(not found, f"the guest's kernel complained: "
              f"{text[found.start():][:2000] if found else ''}")


def test_guide_without_libvirt(env):
    if not shutil.which("socat"):
        raise Skip("no socat: scripts/packages libvirt")
    with Host(env.base) as host:
        host.type(blocks("In short")[0])
        if QMP_SHELL.exists():
            for session in blocks("With qmp-shell"):
                host.type(session)
        host.check_console("console.log")
    return "" if QMP_SHELL.exists() else "no qmp-shell"


def test_guide_with_libvirt(env):
    with Host(env.base) as host:
        domain, command_line, *sessions = blocks("With libvirt")
        host.write_domain("wsr.xml", domain)
        host.start_libvirtd()
        host.type(blocks("In short")[1])
        for session in sessions:
            host.type(session)
        host.check_console("libvirt-console.log")

        # The other way to switch it on
        host.write_domain("wsr.xml", re.sub(
            "(?s)<qemu:override>.*</qemu:override>", command_line, domain))
        host.type("$ virsh create --paused wsr.xml\n"
                  "Domain 'wsr' created from wsr.xml\n"
                  "$ virsh qemu-monitor-command wsr --hmp qom-get "
                  "/machine/peripheral/balloon0 guest-working-set\n"
                  '{"active": false, "last-update": 0}\n')


# wsrd with a guest of libvirt

HOST_MIB = 200  # for a guest of 256 MiB
WSRD_CONFIG = """\
[host]
qmp = {directory}/sockets/*
memory = {memory}M
control = {directory}/control
state = {directory}/state.json
pressure = off
[policy]
grace = 1s
shrink-rate = 10%
[defaults]
slo = 100%
min = 64M
[reports]
interval = 2s
"""


@contextlib.contextmanager
def running(host, *command, log):
    process = host.start(*command, log=log)
    try:
        yield process
        check(process.poll() is None, f"{command[0]} has ended: "
              f"{(host.directory / log).read_text()}")
        process.terminate()
        check(process.wait(30) == 0, f"{command[0]}: {process.returncode}")
    finally:
        process.kill()
        process.wait()


def ask_wsrd(host):
    """What wsrd says of the guest, {} if it has none"""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(host.directory / "control"))
        except OSError:
            return {}
        client.sendall(b'{"command": "status"}\n')
        status = json.loads(client.makefile().readline())
    return status["vms"][0] if status["vms"] else {}


def used_kib(host):
    """What libvirt thinks the guest has"""
    found = re.search(r"Used memory: +(\d+) KiB", host.run("virsh", "dominfo",
                                                           "wsr")[1])
    return int(found[1]) if found else 0


def greeting_pid(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(STEP_TIMEOUT)
        client.connect(str(path))
        return json.loads(client.makefile().readline())["QMP"].get("pid")


def test_wsrd_with_libvirt(env):
    program = vm.OUT / "bin/wsr-libvirt"
    if not program.exists():
        raise Skip("wsr-libvirt was not built: scripts/packages libvirt, make "
                   "tools")
    with Host(env.base) as host:
        host.write_domain("wsr.xml", blocks("With libvirt")[0])
        host.start_libvirtd()
        (host.directory / "wsrd.conf").write_text(WSRD_CONFIG.format(
            directory=host.directory, memory=HOST_MIB))
        sockets = host.directory / "sockets"
        with running(host, str(program), "--uri", "qemu:///session",
                     "--directory", str(sockets), log="wsr-libvirt.log"), \
                running(host, str(vm.OUT / "bin/wsrd"), "--config",
                        "wsrd.conf", log="wsrd.log"):
            host.run("virsh", "create", "wsr.xml")
            follow_domain(host, sockets / "wsr")
        host.check_console("libvirt-console.log")
        with running(host, str(program), "--uri", "qemu:///session",
                     "--directory", str(sockets), log="wsr-libvirt.log"):
            host.run("virsh", "create", "--paused", "wsr.xml")
            vm.wait_for((sockets / "wsr").exists, STEP_TIMEOUT, "socket")
            check(greeting_pid(sockets / "wsr") == host.qemu_pid(),
                  "wsr-libvirt knows another process as QEMU")


def follow_domain(host, path):
    def state():
        return ask_wsrd(host).get("state")

    def limited():
        actual = ask_wsrd(host).get("actual-bytes", 0)
        return actual if 0 < actual <= HOST_MIB << 20 else 0

    vm.wait_for(lambda: state() == "reporting", STEP_TIMEOUT, "reports")
    actual = vm.wait_for(limited, STEP_TIMEOUT, "a smaller balloon")
    vm.wait_for(lambda: used_kib(host) == limited() >> 10, STEP_TIMEOUT,
                "the same in libvirt")

    host.restart_libvirtd()
    log = host.directory / "wsr-libvirt.log"
    vm.wait_for(lambda: log.read_text().count("connected to libvirt") == 2,
                STEP_TIMEOUT, "the new libvirtd")
    check(ask_wsrd(host)["actual-bytes"] <= actual, "wsrd has forgotten it")
    # Events, and with them a new connection of wsrd
    host.run("virsh", "suspend", "wsr")
    vm.wait_for(lambda: state() == "paused", STEP_TIMEOUT, "STOP")
    host.run("virsh", "resume", "wsr")
    vm.wait_for(lambda: state() == "reporting", STEP_TIMEOUT, "RESUME")

    host.run("virsh", "destroy", "wsr")
    vm.wait_for(lambda: not path.exists() and not ask_wsrd(host), STEP_TIMEOUT,
                "wsrd to forget the guest")
