# SPDX-License-Identifier: GPL-2.0
"""Test guests: starts QEMU with the guest image, speaks QMP with QEMU and runs
commands in the guest.

    with VM("6.12", memory="512M") as vm:
        vm.sh("echo 1000,5000 > /sys/devices/system/node/node0/working_set/"
              "intervals_ms")
        vm.request_report()

Environment: WSR_ACCEL=tcg|kvm chooses the accelerator; without it kvm is taken
if a guest really boots with it.
"""

import base64
import functools
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
OUT = BUILD / "out"
LOGS = BUILD / "logs"

BALLOON_PATH = "/machine/peripheral/balloon0"
BALLOON = "working-set-reporting=on,working-set-reclaim=on"

# Traces of what is not wrong: where memory was not to be had in the middle of
# reclaim; interrupts whose entry in /proc could not be allocated.
HARMLESS = re.compile(
    r"^.*(?:page allocation failure|WARNING: .* at remove_proc_entry\+).*$"
    r"(?:\n(?!.*(?:BUG: |WARNING: |KASAN: |UBSAN: |Oops|wsr_(?!faults))).*){0,60}?</TASK>",
    re.MULTILINE)
# What a healthy guest never prints.
SPLAT = re.compile(
    r"WARNING: |BUG: |\bOops\b|general protection fault|kernel BUG at|"
    r"Kernel panic|INFO: possible|INFO: suspicious|possible circular locking|"
    r"INFO: task .* blocked|rcu: INFO: |UBSAN: |KASAN: |Call Trace:|"
    r"Bad page state|refcount_t: |unregister_netdevice: waiting")
CONSOLE_TAIL_LINES = 25

# For an emulated guest's kernel: a busy host may not get the timer's interrupts
# through in time. Nor is the TSC's frequency found then: its clock would be
# wrong by any factor. The HPET's is given.
TCG_WORDS = ["no_timer_check", "tsc=unstable clocksource=hpet"]


class VMError(Exception):
    """The guest or QEMU did not do what it had to."""


class MissingProduct(VMError):
    """Something has to be built first."""


class CommandError(VMError):
    """A command in the guest failed."""


# What QEMU says when a driver made a device write to its own registers
QEMU_REFUSED = re.compile("Blocked re-entrant IO")


def hide_harmless(text):
    """The same text, as long as before, without the traces that are HARMLESS."""
    return HARMLESS.sub(lambda match: "-" * len(match[0]), text)


def wait_for(condition, timeout, what, interval=0.1):
    """Returns the first true value of condition(); fails after timeout
    seconds, saying what was waited for and what came last."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise VMError(f"waited {timeout} s in vain for {what}; "
                          f"last value: {value!r}")
        time.sleep(interval)


def connect(path, process, timeout=30):
    """Connects to a socket that QEMU is about to open."""
    end = time.monotonic() + timeout
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            if process.poll() is not None or time.monotonic() > end:
                raise
        time.sleep(0.02)


class QMPError(VMError):
    """QEMU answered a command with an error."""


class QMP:
    """A connection to QEMU's machine protocol. A thread of its own reads, so
    that events are noted at the time when they arrive."""

    def __init__(self, connection):
        self._socket = connection
        self._file = connection.makefile("r", encoding="utf-8")
        self._changed = threading.Condition()
        self._answers = []
        # With the keys "arrived": time.monotonic(), and "bytes"
        self.events = []
        self._closed = False
        # An event can come before the greeting, while QEMU starts.
        while "QMP" not in json.loads(self._file.readline()):
            pass
        threading.Thread(target=self._read, daemon=True).start()
        self.command("qmp_capabilities")

    def _read(self):
        try:
            for line in self._file:
                message = json.loads(line)
                with self._changed:
                    if "event" in message:
                        message["arrived"] = time.monotonic()
                        message["bytes"] = len(line)
                        self.events.append(message)
                    else:
                        self._answers.append(message)
                    self._changed.notify_all()
        except (OSError, ValueError):
            pass
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def command(self, name, /, timeout=30, **arguments):
        """Returns what the command returns; QMPError with QEMU's words."""
        request = json.dumps({"execute": name, "arguments": arguments})
        try:
            self._socket.sendall(request.encode() + b"\n")
        except OSError as error:
            raise VMError(f"QEMU has gone: {error}") from error
        with self._changed:
            self._changed.wait_for(lambda: self._answers or self._closed,
                                   timeout)
            if not self._answers:
                raise VMError(f"no answer from QEMU to {name}")
            answer = self._answers.pop(0)
        if "error" in answer:
            raise QMPError(answer["error"]["desc"])
        return answer["return"]

    def mark(self):
        """A position in the list of events, for events_since()."""
        with self._changed:
            return len(self.events)

    def events_since(self, mark, name):
        with self._changed:
            return [e for e in self.events[mark:] if e["event"] == name]

    def wait_event(self, name, mark=0, predicate=lambda data: True, timeout=30):
        """The first event after mark whose data the predicate likes."""
        def found():
            for event in self.events[mark:]:
                if event["event"] == name and predicate(event.get("data")):
                    return event
            return None

        with self._changed:
            self._changed.wait_for(lambda: found() or self._closed, timeout)
            event = found()
            if not event:
                seen = [e for e in self.events[mark:] if e["event"] == name]
                raise VMError(
                    f"no matching event {name} within {timeout} s; "
                    f"{len(seen)} others of this name, last: {seen[-1:]}")
            return event

    def close(self):
        # Ends the thread's read as well.
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()


class CommandLoop:
    """The other end of the guest's /bin/command-loop."""

    def __init__(self, connection):
        self._socket = connection
        self._buffer = b""
        self._number = 0

    def _line(self, end):
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0:
                raise socket.timeout
            self._socket.settimeout(left)
            data = self._socket.recv(65536)
            if not data:
                raise VMError("QEMU has ended")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def wait_ready(self, timeout):
        end = time.monotonic() + timeout
        try:
            while self._line(end) != "ready":
                pass
        except socket.timeout:
            raise VMError(f"the guest is not up after {timeout} s") from None

    def send(self, command):
        self._number += 1
        encoded = base64.b64encode(command.encode()).decode()
        self._socket.settimeout(30)
        self._socket.sendall(f"{self._number} {encoded}\n".encode())

    def run(self, command, timeout):
        """Returns (exit status, output)."""
        self.send(command)
        end = time.monotonic() + timeout
        try:
            while True:
                line = self._line(end)
                if line == "ready":
                    raise VMError(f"the guest restarted during: {command}")
                number, status, *output = line.split()
                if number == str(self._number):
                    text = base64.b64decode("".join(output))
                    return int(status), text.decode(errors="replace")
        except socket.timeout:
            raise VMError(f"after {timeout} s the guest has not finished: "
                          f"{command}") from None


def qemu_binary(which="qemu"):
    """build/out/qemu (patched), qemu-10.2 (patched) or qemu-stock; WSR_QEMU,
    WSR_QEMU_10_2 and WSR_QEMU_STOCK name others."""
    variable = "WSR_" + re.sub("[-.]", "_", which.upper())
    return pathlib.Path(os.environ.get(variable)
                        or OUT / which / "qemu-system-x86_64")


def kernel_image(base, wsr=True):
    """The kernel of a base, with or without CONFIG_WSR; WSR_KERNEL and
    WSR_KERNEL_NOWSR name others."""
    variable = "WSR_KERNEL" if wsr else "WSR_KERNEL_NOWSR"
    directory = f"linux-{base}" if wsr else f"linux-{base}-nowsr"
    return pathlib.Path(os.environ.get(variable)
                        or OUT / directory / "bzImage")


def guest_image():
    return OUT / "guest.cpio.gz"


@functools.lru_cache()
def accelerator(base):
    """kvm if a guest really boots with it: a host can have /dev/kvm and still
    hang the guest. The answer is kept in build/accelerator."""
    chosen = os.environ.get("WSR_ACCEL")
    if chosen:
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    remembered = BUILD / "accelerator"
    if not remembered.exists():
        try:
            with VM(base, "kvm", accel="kvm", balloon=None,
                    boot_timeout=15):
                remembered.write_text("kvm")
        except MissingProduct:
            raise
        except VMError:
            remembered.write_text("tcg")
    return remembered.read_text()


def size_bytes(size):
    """Of "512M" or "1G" """
    return int(size[:-1]) << {"M": 20, "G": 30}[size[-1]]


def node_arguments(memory, cpus, nodes):
    """QEMU's arguments for memory split evenly over NUMA nodes. Those without a
    CPU have memory only."""
    share = size_bytes(memory) // nodes
    arguments = []
    for node in range(nodes):
        arguments += ["-object",
                      f"memory-backend-ram,id=memory{node},size={share}",
                      "-numa", f"node,nodeid={node},memdev=memory{node}"]
    for cpu in range(cpus):
        # a package does not reach over nodes
        arguments += ["-numa", f"cpu,node-id={cpu % nodes},"
                      f"socket-id={cpu % nodes},core-id={cpu // nodes},"
                      "thread-id=0"]
    return arguments


def command_line(base, *, kernel=None, qemu=None, memory="512M", cpus=2,
                 nodes=1, balloon=BALLOON, append="",
                 swap=None, disk=None, accel=None, extra=()):
    """QEMU's command line without the connections to the outside.

    balloon: properties of the balloon device, None: no such device; swap: size
    of compressed swap; disk: path of an image with ext4."""
    qemu = qemu or qemu_binary()
    accel = accel or accelerator(base)
    sockets = min(nodes, cpus)
    words = ["console=ttyS0", "panic=-1"]
    if accel.split(",")[0] == "tcg":
        # The guest takes the time that the host spends on other work for its
        # own. Looks at memory must not become rare because the host is busy.
        words += ["wsr.cpu_percent=25", *TCG_WORDS]
    words.append(append)
    arguments = [
        str(qemu), "-nodefaults", "-no-user-config", "-display", "none",
        "-machine", "q35", "-accel", accel, "-m", memory,
        "-smp", f"{cpus},sockets={sockets},cores={cpus // sockets}",
        "-kernel", str(kernel or kernel_image(base)),
        "-initrd", str(guest_image())]
    if accel == "kvm":
        arguments += ["-cpu", "host"]
    if nodes > 1:
        arguments += node_arguments(memory, cpus, nodes)
    if balloon is not None:
        arguments += ["-device", ",".join(filter(None, [
            "virtio-balloon-pci,id=balloon0", balloon]))]
    if swap:
        words.append(f"wsr.swap={swap}")
    if disk:
        words.append("wsr.disk")
        arguments += ["-drive", f"file={disk},format=raw,if=virtio"]
    arguments += ["-append", " ".join(filter(None, words))]
    return arguments + list(extra)


def missing_products(arguments):
    """Files that a command line needs and that are not built."""
    needed = [arguments[0]] + [
        arguments[i + 1] for i, word in enumerate(arguments)
        if word in ("-kernel", "-initrd")]
    return [path for path in needed if not os.access(path, os.R_OK)]


def make_disk(path):
    """An empty ext4 image, large enough for files without blocks."""
    mkfs = shutil.which("mkfs.ext4", path=os.environ["PATH"] + ":/usr/sbin:"
                        "/sbin")
    if not mkfs:
        raise VMError("mkfs.ext4 is missing: apt-get install e2fsprogs")
    # Nothing is left for the guest's kernel to write later.
    subprocess.run([mkfs, "-q", "-O", "^has_journal", "-E",
                    "lazy_itable_init=0", path, "64M"],
                   stdout=subprocess.DEVNULL, check=True)


class VM:
    """A running guest. Leaving the context ends it, whatever happened.

    boots=False: QEMU waits for a migration or a snapshot; options["extra"] says
    for which."""

    def __init__(self, base, name="guest", disk=False, boot_timeout=120,
                 boots=True, **options):
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix="wsr-vm-"))
        self.process = None
        self.qmp = None
        self._loop = None
        self._checked = 0  # bytes of the console that have been searched
        self._boot_timeout = boot_timeout
        LOGS.mkdir(parents=True, exist_ok=True)
        self.console_path = LOGS / f"console-{base}-{name}.log"
        try:
            if disk:
                options["disk"] = self._directory / "disk"
                make_disk(options["disk"])
            self._start(command_line(base, **options))
            if boots:
                self.wait_boot()
        except BaseException:
            self.close()
            raise

    def _start(self, arguments):
        missing = missing_products(arguments)
        if missing:
            raise MissingProduct(f"{missing[0]} is missing: build it with make")
        sockets = {name: self._directory / name
                   for name in ("qmp", "qmp2", "commands")}
        arguments = arguments + [
            "-d", "guest_errors",
            "-chardev", f"file,id=console,path={self.console_path}",
            "-serial", "chardev:console",
            "-chardev", "socket,id=commands,server=on,wait=off,"
            f"path={sockets['commands']}",
            "-serial", "chardev:commands"]
        for name in ("qmp", "qmp2"):
            arguments += ["-qmp", f"unix:{sockets[name]},server=on,wait=off"]
        self.qmp_path = sockets["qmp2"]  # for a client under test
        self.qemu_log_path = self.console_path.with_suffix(".qemu.log")
        with open(self.qemu_log_path, "wb") as log:
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.qmp = QMP(connect(sockets["qmp"], self.process))
            self._loop = CommandLoop(
                connect(sockets["commands"], self.process))
        except (OSError, ValueError, VMError):
            raise VMError("QEMU did not start: " +
                          self.qemu_log_path.read_text()) from None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        if self.qmp:
            self.qmp.close()
        if self.process:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def alive(self):
        return self.process.poll() is None

    def console(self):
        try:
            return self.console_path.read_text(errors="replace")
        except OSError:
            return ""

    def console_tail(self):
        return "\n".join(self.console().splitlines()[-CONSOLE_TAIL_LINES:])

    def check_logs(self):
        """Fails if the kernel complained since the last call, or if QEMU did
        about the balloon driver."""
        for line in self.qemu_log_path.read_text().splitlines():
            if "virtio-balloon" in line and not QEMU_REFUSED.search(line):
                raise VMError(f"QEMU complained: {line}")
        text = hide_harmless(self.console())
        found = SPLAT.search(text, self._checked)
        start, self._checked = self._checked, len(text)
        if found:
            begin = max(start, text.rfind("\n", 0, found.start()) + 1)
            lines = text[begin:].splitlines()[:CONSOLE_TAIL_LINES]
            raise VMError("the guest's kernel complained:\n" +
                          "\n".join(lines))

    def wait_boot(self):
        try:
            self._loop.wait_ready(self._boot_timeout)
        except VMError as error:
            raise VMError(f"{error}\n{self.console_tail()}\n"
                          f"{self.qemu_log_path.read_text()}") from None

    def run(self, command, timeout=60):
        """Runs a shell command in the guest: (exit status, output)."""
        return self._loop.run(command, timeout)

    def sh(self, command, timeout=60):
        """The output of a shell command that has to succeed."""
        status, output = self.run(command, timeout)
        if status:
            raise CommandError(f"status {status} from \"{command}\":\n"
                               f"{output}")
        return output

    def background(self, command, name):
        """Starts a command; its output goes to the guest's /run/NAME.log.
        Returns its process id."""
        return int(self.sh(f"({command}) >/run/{name}.log 2>&1 & echo $!"))

    def reboot(self):
        """Restarts the guest from inside and waits until it is up."""
        self._loop.send("reboot -f")
        self.wait_boot()

    # The balloon device

    def get(self, name):
        return self.qmp.command("qom-get", path=BALLOON_PATH, property=name)

    def set(self, name, value):
        self.qmp.command("qom-set", path=BALLOON_PATH, property=name,
                         value=value)

    def configure(self, **fields):
        """Changes fields of guest-working-set-config: idle_age_ms, refresh_ms,
        report_ms."""
        config = self.get("guest-working-set-config")
        config.update({name.replace("_", "-"): value
                       for name, value in fields.items()})
        self.set("guest-working-set-config", config)

    def request_report(self, timeout=30):
        """Asks for a report and returns it."""
        current = self.get("guest-working-set-request-id")
        request = current % 0xffffffff + 1
        self.set("guest-working-set-request-id", request)

        def answered():
            report = self.get("guest-working-set").get("report")
            return report if report and report["request-id"] == request \
                else None

        return wait_for(answered, timeout, f"the report with id {request}")

    def request_reclaim(self, max_bytes, idle_age_ms, **fields):
        """Asks the guest to reclaim memory; returns its id."""
        report = self.get("guest-working-set").get("report", {})
        request = max(self.get("guest-working-set-reclaim")["id"],
                      report.get("reclaim", {}).get("id", 0)) + 1
        self.set("guest-working-set-reclaim", {
            "id": request, "max-bytes": max_bytes, "idle-age-ms": idle_age_ms,
            **{name.replace("_", "-"): value
               for name, value in fields.items()}})
        return request

    def reclaim_result(self, request, timeout=60):
        """What a report says of a request to reclaim, when it has ended."""
        def ended():
            report = self.get("guest-working-set").get("report", {})
            result = report.get("reclaim", {})
            return result if result.get("id") == request else None

        return wait_for(ended, timeout, f"the end of reclaim request {request}")

    # The guest's own files

    def node_file(self, name, node=0):
        return f"/sys/devices/system/node/node{node}/working_set/{name}"

    def read_stat(self, node=0):
        """The file stat as a dictionary."""
        lines = self.sh(f"cat {self.node_file('stat', node)}").splitlines()
        return {key: int(value) for key, value in map(str.split, lines)}

    def read_histogram(self, node=0):
        return parse_histogram(
            self.sh(f"cat {self.node_file('histogram', node)}"))


def parse_histogram(text):
    """[(bound in ms or None for the last, anon bytes, file bytes)]"""
    bins = []
    for line in text.splitlines():
        bound, anon, file_backed = line.split()
        bins.append((None if bound == "max" else int(bound),
                     int(anon.removeprefix("anon=")),
                     int(file_backed.removeprefix("file="))))
    return bins


class Bands:
    """wsr_bands running in a guest."""

    def __init__(self, vm, *bands, timeout=120):
        self._vm = vm
        self.pid = vm.background(
            "exec wsr_bands -c /run/bands " + " ".join(bands), "bands")
        vm.sh("until [ -p /run/bands.reply ]; do "
              f"kill -0 {self.pid} || exit 1; sleep 0.1; done", timeout)

    def command(self, words):
        answer = self._vm.sh(f"bands {words}")
        if answer.startswith("error"):
            raise VMError(f"wsr_bands, {words}: {answer}")
        return answer

    def truth(self, *bounds_ms):
        """What a perfect histogram would show now."""
        return parse_histogram(
            self.command("truth " + " ".join(map(str, bounds_ms))))

    def quit(self):
        """Ends the workload and waits until its memory is free."""
        self._vm.sh(f"kill {self.pid}; rm -f /run/bands /run/bands.reply; "
                    f"while kill -0 {self.pid} 2>/dev/null; do sleep 0.1; done")
