#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""wsr-libvirt without libvirt: its library is fake_libvirt.c, libvirtd is here,
and guests are out of fleet.py.

usage: test_libvirt.py DIRECTORY [NAME]...

DIRECTORY has the programs. Prints TAP.
"""
import contextlib
import json
import os
import pathlib
import random
import resource
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import test_wsrd
from fleet import MIB, Fleet
from test_wsrd import check, cpu_ticks, low_limit, wait_for

GENERIC, NOT_FOUND = "GenericError", "CommandNotFound"
RUNNING, INCOMING = (1, 1), (3, 2)              # state and reason
INTERNAL_ERROR, NO_DOMAIN, TIMEOUT = 1, 42, 68  # of libvirt
NAMES = {"query-version": {"qemu": {"major": 11, "minor": 0, "micro": 2},
                           "package": ""}}


class Failure(Exception):
    """A call of libvirt that fails: code and message"""


class Domain:
    """A domain whose QEMU is a guest of the fleet."""

    def __init__(self, libvirt, name, guest):
        self.libvirt = libvirt
        self.name = name
        self.guest = guest
        self.uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
        self.id = -1
        self.goes_on = threading.Event()    # clear: it hangs
        self.goes_on.set()
        self.state = RUNNING
        self.failures = []                  # of the next calls
        self.memory = []                    # (KiB, flags)
        self._lock = threading.Lock()       # one command at a time
        self._answered = threading.Condition()
        self._answer = None
        self._socket = None

    def start(self):
        """virsh start"""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(self.guest.path)
        lines = self._socket.makefile("rb")
        lines.readline()
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        self.qemu({"execute": "qmp_capabilities"})
        self.id = self.libvirt.next_id()
        self.libvirt.lifecycle(self)

    def stop(self):
        """virsh destroy"""
        self.id = -1
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        wait_for(lambda: not self.guest.writer, "end of the connection")
        self.libvirt.lifecycle(self)

    def json(self):
        """As the library sees it"""
        return {"name": self.name, "id": self.id, "uuid": self.uuid}

    def _read(self, lines):
        with contextlib.suppress(OSError, ValueError):
            for line in lines:
                message = json.loads(line)
                if "event" in message:
                    self.libvirt.monitor_event(self, message)
                    continue
                with self._answered:
                    self._answer = message
                    self._answered.notify()

    def qemu(self, command):
        """What QEMU answers"""
        check("id" not in command, "libvirt makes ids itself")
        with self._lock, self._answered:
            self._answer = None
            self._socket.sendall(json.dumps({**command, "id": "libvirt-1"})
                                 .encode() + b"\n")
            self._answered.wait_for(lambda: self._answer, 30)
            return self._answer

    def ready(self):
        """Waits as a call does; raises what is to go wrong."""
        self.libvirt.waits.append((time.monotonic(), self.name))
        self.goes_on.wait()
        if self.failures:
            raise Failure(*self.failures.pop(0))
        if self.id < 0:
            raise Failure(NO_DOMAIN, "Domain not found")


class Libvirt:
    """libvirtd"""

    def __init__(self, directory):
        self.path = str(pathlib.Path(directory) / "libvirtd")
        self.domains = {}
        self.connections = set()
        self.waits = []                     # (time, name) of calls
        self._last_id = 0
        self._lock = threading.RLock()      # of what is above
        self._listener = None

    def start(self):
        """systemctl start libvirtd"""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,),
                         daemon=True).start()

    def stop(self):
        """Domains go on without it."""
        os.unlink(self.path)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self.connections:
                connection.shutdown(socket.SHUT_RDWR)

    def next_id(self):
        """Of a domain that starts"""
        with self._lock:
            self._last_id += 1
            return self._last_id

    def add(self, name, guest):
        """A domain that does not run"""
        domain = Domain(self, name, guest)
        self.domains[domain.uuid] = domain
        return domain

    def _broadcast(self, message):
        with self._lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    self._send(connection, message)

    def lifecycle(self, domain):
        """It has started or stopped."""
        self._broadcast({"event": "lifecycle", **domain.json()})

    def monitor_event(self, domain, message):
        """QEMU has said this."""
        event = {"event": message["event"], **domain.json()}
        if "data" in message:
            event["details"] = json.dumps(message["data"])
        self._broadcast(event)

    def _send(self, connection, message):
        with self._lock:
            connection.sendall(json.dumps(message).encode() + b"\n")

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with self._lock:
                    self.connections.add(connection)
                threading.Thread(target=self._serve, args=(connection,),
                                 daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError, ValueError):
            for line in connection.makefile("rb"):
                request = json.loads(line)
                try:
                    answer = getattr(self, "_call_" + request["call"])(request)
                except Failure as failure:
                    answer = {"error": {"code": failure.args[0],
                                        "message": failure.args[1]}}
                self._send(connection, answer)
        with self._lock:
            self.connections.discard(connection)
        connection.close()

    def _call_list(self, _):
        return {"domains": [domain.json() for domain in self.domains.values()
                            if domain.id >= 0]}

    def _call_lookup(self, request):
        return self.domains[request["uuid"]].json()

    def _call_state(self, request):
        state, reason = self.domains[request["uuid"]].state
        return {"state": state, "reason": reason}

    def _call_memory(self, request):
        domain = self.domains[request["uuid"]]
        domain.ready()
        domain.memory.append((request["kib"], request["flags"]))
        domain.qemu({"execute": "balloon",
                     "arguments": {"value": request["kib"] * 1024}})
        return {}

    def _call_monitor(self, request):
        domain = self.domains[request["uuid"]]
        domain.ready()
        command = json.loads(request["command"])
        check(request["flags"] == 0, "flags of a monitor command")
        if command["execute"] == "query-version":
            answer = {"return": NAMES["query-version"]}
        elif command["execute"] == "query-cpus-fast":
            answer = {"return": [{"thread-id": threading.get_native_id()}]}
        else:
            answer = domain.qemu(command)
        return {"result": json.dumps({**answer, "id": "libvirt-7"})}


class Client:
    """Who talks to a socket of wsr-libvirt."""

    def __init__(self, path, greeting=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(test_wsrd.PATIENCE_S)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")
        if greeting:
            self.greeting = self.read()
            check(self.command("qmp_capabilities")["return"] == {}, "no answer")

    def read(self):
        """The next message, None at the end"""
        line = self.file.readline()
        return json.loads(line) if line else None

    def send(self, data):
        """Bytes, or a message"""
        if not isinstance(data, bytes):
            data = json.dumps(data).encode() + b"\n"
        self.socket.sendall(data)

    def answer(self):
        """The next message that is no event"""
        while True:
            message = self.read()
            if message is None or "event" not in message:
                return message

    def command(self, name, **arguments):
        """Its answer"""
        self.send({"execute": name, "arguments": arguments})
        return self.answer()

    def silent(self, seconds=0.3):
        """Nothing comes for so long."""
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(test_wsrd.PATIENCE_S)
        return not data and None

    def close(self):
        """Leaves."""
        self.file.close()
        self.socket.close()


class Host:
    """Guests vm0 to vm{nr - 1} that run, libvirtd and wsr-libvirt."""

    def __init__(self, directory, fleet, options=()):
        self.directory = pathlib.Path(directory)
        self.sockets = self.directory / "sockets"
        self.fleet = fleet
        self.options = options
        self.process = None
        self.libvirt = Libvirt(directory)
        self.libvirt.start()
        self.domains = {}
        for name, guest in fleet.guests.items():
            self.domains[name] = self.libvirt.add(name, guest)
            self.domains[name].start()

    def command(self):
        """wsr-libvirt and its options"""
        program = test_wsrd.PROGRAMS.parent / "obj-wsr/wsr-libvirt-fake"
        return [program, "--directory", self.sockets, *self.options]

    def start(self):
        """Starts wsr-libvirt, returns when all domains have sockets."""
        before = len(self.messages())
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "WSR_FAKE_LIBVIRT": self.libvirt.path})
        for name, domain in self.domains.items():
            if domain.id >= 0:
                wait_for(lambda: f": {name}: there\n" in
                         self.messages()[before:], f"socket of {name}")

    def messages(self):
        """What it has written so far"""
        log = self.directory / "log"
        return log.read_text() if log.exists() else ""

    def stop(self):
        """It must still be there, and end at once."""
        check(self.process.poll() is None, f"it has ended: {self.messages()}")
        self.process.terminate()
        check(self.process.wait(20) == 0, self.messages())
        check(not os.listdir(self.sockets), "sockets are left")

    def connect(self, name="vm0", **options):
        """A client"""
        return Client(self.sockets / name, **options)


@contextlib.contextmanager
def setup(nr, options=(), **attributes):
    """A host"""
    with tempfile.TemporaryDirectory(prefix="wsrlv-") as directory, \
            Fleet(directory, nr, **attributes) as fleet:
        host = Host(directory, fleet, options)
        host.start()
        try:
            yield host
            host.stop()
        except BaseException:
            print("# " + host.messages().replace("\n", "\n# "))
            raise
        finally:
            host.process.kill()
            host.process.wait()
            for domain in host.domains.values():
                domain.goes_on.set()


def test_conversation():
    """Greeting, capabilities, ids, answers and errors of QEMU"""
    with setup(1) as host:
        client = host.connect(greeting=False)
        greeting = client.read()["QMP"]
        check(greeting == {"version": NAMES["query-version"],
                           "capabilities": [], "pid": os.getpid()}, greeting)
        answer = client.command("query-status")
        check(answer["error"]["class"] == NOT_FOUND and
              "qmp_capabilities" in answer["error"]["desc"], answer)
        check(client.command("qmp_capabilities") == {"return": {}}, "")
        answer = client.command("qmp_capabilities")
        check(answer["error"]["class"] == NOT_FOUND, answer)
        for number in (7, "seven", {"seven": [7]}, None, 2**63 - 1, 1.5):
            client.send({"execute": "query-name", "id": number})
            answer = client.answer()
            check(answer == {"return": {"name": "vm0"}, "id": number}, answer)
        answer = client.command("qom-get", path="/x",
                                property="guest-working-set-request-id")
        check(answer == {"return": 0}, answer)
        host.fleet["vm0"].feature = False
        client.send({"execute": "qom-get", "id": 3, "arguments": {
            "path": "/x", "property": "guest-working-set"}})
        answer = client.answer()
        check(answer == {"id": 3, "error": {
            "class": GENERIC, "desc": "start QEMU with "
            "working-set-reporting=on"}}, answer)


def test_what_is_let_through():
    """Nothing but what has to do with the balloon gets to QEMU."""
    with setup(1) as host:
        client = host.connect()
        host.fleet["vm0"].commands.clear()
        for command in ("quit", "system_reset", "stop", "device_del", "migrate",
                        "human-monitor-command", "query-cpus-fast", "Quit",
                        "object-add", "", "query-name "):
            answer = client.command(command)
            check(answer["error"]["class"] == NOT_FOUND, f"{command}: {answer}")
        for name, properties in (
                ("qom-get", ("data", "loaded", "guest-working-set-reclaim", "")),
                ("qom-set", ("realized", "deflate-on-oom", "guest-working-set",
                             "guest-stats"))):
            for word in properties:
                answer = client.command(name, path="/objects/x", property=word,
                                        value=1)
                check(answer["error"]["class"] == GENERIC, f"{word}: {answer}")
        for data in ({"execute": "qom-get"}, {"execute": 5}, {},
                     {"execute": "qom-get", "arguments": []},
                     {"execute": "qom-get", "arguments": {"property": 1}},
                     {"exec-oob": "query-name"}):
            client.send(data)
            answer = client.answer()
            check("error" in answer, f"{data}: {answer}")
        check(not host.fleet["vm0"].commands, host.fleet["vm0"].commands)
        # The last one counts, here as in QEMU.
        client.send(b'{"execute": "query-name", "execute": "quit"}\n')
        check("error" in client.answer(), "two names")
        check(not host.fleet["vm0"].commands, host.fleet["vm0"].commands)


def test_balloon():
    """libvirt itself sets it, so that it knows."""
    with setup(1) as host:
        client = host.connect()
        client.send({"execute": "balloon", "id": 1,
                     "arguments": {"value": 512 * MIB + 1}})
        check(client.answer() == {"return": {}, "id": 1}, "answer")
        domain = host.domains["vm0"]
        check(domain.memory == [(512 * 1024 + 1, 1)], domain.memory)
        wait_for(lambda: host.fleet["vm0"].actual == 512 * MIB + 1024,
                 "balloon")
        domain.failures = [(INTERNAL_ERROR, "cannot do that")]
        answer = client.command("balloon", value=600 * MIB)
        check(answer == {"error": {"class": GENERIC,
                                   "desc": "libvirt: cannot do that"}}, answer)
        # It may be long, and in the language of its daemon.
        domain.failures = [(INTERNAL_ERROR, "x" + 400 * "é")]
        answer = client.command("balloon", value=600 * MIB)
        check(answer["error"]["desc"].startswith("libvirt: x"), answer)
        # What libvirt can't be asked for, QEMU refuses.
        got = []
        domain.qemu = lambda command: got.append(command) or {"error": {}}
        for value in (-1, 0, "1", None, 1.5):
            check("error" in client.command("balloon", value=value), value)
        check(len(got) == 5 and len(domain.memory) == 1, got)


def test_events():
    """Those of its domain, to who has negotiated"""
    with setup(2) as host:
        client, other = host.connect(), host.connect("vm1")
        host.fleet["vm0"].event("BALLOON_CHANGE", {"actual": 5})
        check(client.read() == {
            "event": "BALLOON_CHANGE", "data": {"actual": 5},
            "timestamp": {"seconds": 1, "microseconds": 2}}, "event")
        host.fleet["vm0"].event("RESET")
        message = client.read()
        check(message["event"] == "RESET" and "data" not in message, message)
        check(other.silent(), "an event of another domain")
        client.close()
        with contextlib.closing(host.connect(greeting=False)) as late:
            check("QMP" in late.read(), "greeting")
            host.fleet["vm0"].event("RESET")
            check(late.silent(), "an event before the negotiation")


def test_one_client():
    """Others wait for their greeting, as with QEMU."""
    with setup(1) as host:
        first = host.connect()
        second = host.connect(greeting=False)
        check(second.silent(), "two clients")
        check("return" in first.command("query-name"), "the first is served")
        first.close()
        check("QMP" in second.read(), "greeting")


def test_hung_domains_delay_nobody():
    """More of them than libvirtd takes calls of one connection"""
    nr = 10
    with setup(nr) as host:
        clients = {name: host.connect(name) for name in host.domains}
        for name, domain in host.domains.items():
            if name != "vm0":
                domain.goes_on.clear()
                clients[name].send({"execute": "query-status"})
        check("return" in clients["vm0"].command("query-status"), "vm0")
        check(all(client.silent(0.01) for name, client in clients.items()
                  if name != "vm0"), "no hang")
        # Who leaves is followed by another one only when QEMU is back.
        clients["vm1"].close()
        again = host.connect("vm1", greeting=False)
        check(again.silent(), "a second thread for a domain that hangs")
        host.domains["vm1"].goes_on.set()
        check("QMP" in again.read(), "greeting")
        # It ends although threads wait.
        host.domains["vm2"].stop()
        wait_for(lambda: not (host.sockets / "vm2").exists(), "end of vm2")
        check(clients["vm2"].read() is None, "vm2 is open")
        host.stop()
        host.start()
    return f"{nr - 1} of {nr} hung"


def test_many_hung_domains():
    """libvirtd keeps workers for others, and gets no burst of calls."""
    nr = 30
    with setup(nr) as host:
        clients = {name: host.connect(name) for name in host.domains}
        for domain in host.domains.values():
            domain.goes_on.clear()
        host.libvirt.waits.clear()
        for client in clients.values():
            client.send({"execute": "query-status"})
        wait_for(lambda: "calls wait for QEMUs" in host.messages(), "limit")
        check(all(client.silent(0.01) for client in clients.values()), "hang")
        began = [when for when, _ in host.libvirt.waits]
        check(len(began) == 10, f"{len(began)} calls")
        check(all(b - a > 0.1 for a, b in zip(began, began[1:])),
              f"a burst: {began}")
        for domain in host.domains.values():
            domain.goes_on.set()
        for client in clients.values():
            check("return" in client.answer(), "no answer")


def test_who_waits_sleeps():
    """A call that ends wakes the next one, not all; and nobody is left out."""
    nr, each = 60, 20
    with setup(nr) as host:
        for domain in host.domains.values():
            domain.qemu = lambda _: {"return": {}}
        clients = [host.connect(name) for name in host.domains]

        def switches():
            tasks = pathlib.Path(f"/proc/{host.process.pid}/task").iterdir()
            return sum(int(line.split()[1]) for task in tasks for line in
                       (task / "status").read_text().splitlines()
                       if line.startswith("voluntary_ctxt_switches"))

        before = switches()
        host.libvirt.waits.clear()
        for client in clients:
            client.send(b'{"execute": "query-name"}\n' * each)
        for client in clients:
            for _ in range(each):
                check("return" in client.answer(), "no answer")
        woken = (switches() - before) / (nr * each)
        names = [name for _, name in host.libvirt.waits]
        late = max(names.index(name) for name in host.domains)
        check(woken < 15, f"{woken:.0f} switches for each call")
        check(late < nr * each / 2, f"a first answer after {late} others")
    return f"{woken:.1f} switches for each call"


def test_incoming_migrations():
    """They hold up nobody, however many there are."""
    nr = 12
    with setup(nr) as host:
        guests = [f"vm{i}" for i in range(1, nr)]
        for name in guests:
            host.domains[name].state = INCOMING
            host.domains[name].goes_on.clear()
        clients = [host.connect(name, greeting=False) for name in guests]
        check(all(client.silent(0.1) for client in clients), "a greeting")
        check("return" in host.connect().command("query-name"), "held up")
        check(all(name == "vm0" for _, name in host.libvirt.waits), "calls")
        # Who leaves meanwhile is not waited for.
        clients.pop().close()
        for name in guests:
            host.domains[name].state = RUNNING
            host.domains[name].goes_on.set()
        check(all("QMP" in client.read() for client in clients), "greeting")


def test_busy_domain():
    """A job of libvirt's makes it silent; then it goes on."""
    with setup(1) as host:
        client = host.connect()
        busy = (TIMEOUT, "cannot acquire state change lock")
        host.domains["vm0"].failures = [busy]
        check(client.command("query-name") == {"return": {"name": "vm0"}}, "")
        host.domains["vm0"].failures = [busy]
        check(client.command("balloon", value=900 * MIB) == {"return": {}}, "")
        check(not host.domains["vm0"].failures, "not asked")


def test_domains_come_and_go():
    """Sockets with them, for the owner alone"""
    with setup(2, options=("--owner", "nobody") if not os.geteuid() else ()) \
            as host:
        status = (host.sockets / "vm0").stat()
        check(stat.S_IMODE(status.st_mode) == 0o600, oct(status.st_mode))
        check(os.geteuid() or status.st_uid == 65534, status.st_uid)
        client = host.connect()
        host.domains["vm0"].stop()
        check(client.read() is None, "still open")
        check(not (host.sockets / "vm0").exists(), "its socket is there")
        host.domains["vm0"].start()
        wait_for((host.sockets / "vm0").exists, "socket")
        client = host.connect()
        # So quickly that nobody saw it stopped
        domain = host.domains["vm0"]
        domain.id = host.libvirt.next_id()
        host.libvirt.lifecycle(domain)
        check(client.read() is None, "another QEMU behind the old connection")
        wait_for(lambda: host.messages().count("vm0: there") == 3, "socket")
        host.connect().close()
        check("return" in host.connect("vm1").command("query-name"), "vm1")


def test_commands_of_the_past():
    """What was sent to a QEMU that has gone is not for the next one."""
    with setup(12) as host:
        stuck = [host.connect(f"vm{i}") for i in range(1, 11)]
        domain = host.domains["vm0"]
        for leaves, hung in ((False, 1), (True, 1), (False, 10)):
            # With as many calls as there may be, not even the first is made.
            client = host.connect()
            domain.memory.clear()
            host.libvirt.waits.clear()
            hang = [domain] if hung == 1 else \
                [host.domains[f"vm{i}"] for i in range(1, 11)]
            for other in hang:
                other.goes_on.clear()
            if hung > 1:
                for other in stuck:
                    other.send({"execute": "query-status"})
                wait_for(lambda: len(host.libvirt.waits) == hung, "calls")
            for value in (300, 400, 500):
                client.send({"execute": "balloon",
                             "arguments": {"value": value * MIB}})
            if hung == 1:
                wait_for(lambda: host.libvirt.waits, "the first one")
            if leaves:
                client.close()
            there = host.messages().count("vm0: there")
            domain.id = host.libvirt.next_id()
            host.libvirt.lifecycle(domain)
            wait_for(lambda: host.messages().count("vm0: there") > there,
                     "the next one")
            for other in hang:
                other.goes_on.set()
            again = host.connect()
            check("return" in again.command("query-name"), "the next one")
            again.close()
            wait_for(lambda: len(host.libvirt.connections) == 1 + len(stuck),
                     "the end of both")
            check(len(domain.memory) == (hung == 1), domain.memory)
        for other in stuck:
            check("return" in other.answer(), "no answer")


def test_names():
    """Names that are none for a file"""
    with setup(1) as host:
        host.domains["vm0"].stop()
        for name in ("a b=c:é*", "x" * 200, ".hidden", "../up"):
            domain = host.libvirt.add(name, host.fleet["vm0"])
            domain.start()
            file = name if name[0] == "a" else domain.uuid
            wait_for((host.sockets / file).exists, f"socket for {name}")
            host.connect(file).close()
            domain.stop()
            wait_for(lambda: not os.listdir(host.sockets), "end")


def test_restart_of_libvirt():
    """Sockets stay; who comes back is greeted when libvirt is back."""
    with setup(3) as host:
        client = host.connect()
        host.libvirt.stop()
        check(client.read() is None, "still open")
        wait_for(lambda: "no libvirt at" in host.messages(), "message")
        client = host.connect(greeting=False)
        check(client.silent(), "a greeting without libvirt")
        host.domains["vm1"].stop()
        host.domains["vm2"].stop()
        host.domains["vm2"].start()
        host.libvirt.start()
        check("QMP" in client.read(), "greeting")
        wait_for(lambda: not (host.sockets / "vm1").exists(), "end of vm1")
        host.connect("vm2").close()


def test_no_descriptors():
    """It waits for some, asleep; it may have all that the system allows."""
    with low_limit(), setup(3) as host:
        pid = host.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        check(soft == hard, f"{soft} of {hard} descriptors")

        first = host.connect()
        used = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, hard))
        before = cpu_ticks(pid)
        late = host.connect("vm1", greeting=False)
        other = host.connect("vm2", greeting=False)
        check(late.silent(2), "a greeting without descriptors")
        check(cpu_ticks(pid) - before < os.sysconf("SC_CLK_TCK") / 2,
              "it is busy")
        check(host.messages().count("no client can be") <= 4, "messages")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        check("QMP" in late.read() and "QMP" in other.read(), "greetings")
        check("return" in first.command("query-name"), "the first one")


def test_crash():
    """Sockets that it left are removed; there is only one for a directory."""
    with setup(2) as host:
        host.process.kill()
        host.process.wait()
        host.domains["vm1"].stop()
        check((host.sockets / "vm1").exists(), "the test is wrong")
        (host.sockets / "file").write_text("not ours")
        host.start()
        host.connect().close()
        check(sorted(os.listdir(host.sockets)) == ["file", "vm0"],
              os.listdir(host.sockets))
        (host.sockets / "file").unlink()
        done = subprocess.run(host.command(), stderr=subprocess.PIPE, text=True,
                              check=False, timeout=30)
        check(done.returncode == 1 and "another wsr-libvirt" in done.stderr,
              done.stderr)


def test_options():
    """Each error says what is wrong."""
    with setup(1) as host:
        for options, words in (
                (("--uri", "qemu+ssh://other/system"), "this host"),
                (("--owner", "no-such-user"), "no such user"),
                (("argument",), "unexpected argument"),
                (("--directory", "/no/such/directory"), "No such file"),
                (("--directory", "/tmp/" + "x" * 90), "too long")):
            done = subprocess.run([*host.command(), *options], text=True,
                                  stderr=subprocess.PIPE, check=False,
                                  timeout=30)
            check(done.returncode in (1, 2) and words in done.stderr,
                  f"{options}: {done.stderr}")


def test_many_commands():
    """All at once, more than it takes: answered in their order"""
    nr = 500
    with setup(1) as host:
        client = host.connect()
        client.send(b"".join(
            b'{"execute": "query-name", "id": %d}\r\n\n' % i
            for i in range(nr)))
        for i in range(nr):
            check(client.answer()["id"] == i, f"answer {i}")
        # In pieces
        line = json.dumps({"execute": "query-name", "id": "x"}).encode() + b"\n"
        for i in range(len(line)):
            client.send(line[i:i + 1])
        check(client.answer()["id"] == "x", "pieces")
        # What was sent before leaving is done.
        client.send({"execute": "balloon", "arguments": {"value": 700 * MIB}})
        client.close()
        wait_for(lambda: host.domains["vm0"].memory, "balloon")


def test_order():
    """What is refused is answered when what was sent before is."""
    with setup(1) as host:
        client = host.connect()
        host.domains["vm0"].goes_on.clear()
        for number, name in enumerate(("query-name", "quit", "qom-get")):
            client.send({"execute": name, "id": number})
        check(client.silent(), "an answer before that of a QEMU that hangs")
        host.domains["vm0"].goes_on.set()
        answers = [client.answer() for _ in range(3)]
        check([answer["id"] for answer in answers] == [0, 1, 2] and
              "return" in answers[0] and "error" in answers[1], answers)


def test_who_does_not_read():
    """The answers of one who does not take them are bounded."""
    with setup(1) as host:
        client = host.connect()
        line = b'{"execute": "no", "id": "%s"}\n' % (b"x" * 60000)
        try:
            for _ in range(400):
                client.send(line)
        except TimeoutError:
            raise
        except OSError:
            client.close()
            host.connect().close()
            return
        raise AssertionError("it still has a connection")


def test_hostile_client():
    """Whatever comes, the next client is served."""
    generator = random.Random(1)
    line = json.dumps({"execute": "qom-get", "id": 1, "arguments": {
        "path": "/x", "property": "guest-working-set"}}).encode() + b"\n"
    with setup(1) as host:
        host.domains["vm0"].qemu = lambda _: {"return": {}}
        inputs = [b"\0" * 1000 + b"\n", b"[" * 60000 + b"\n", b"x" * 200000,
                  b"[1]\n1\nnull\n\"x\"\n", b"\xff\xfe\n", b"\r\n" * 40000,
                  b'{"execute": "query-name\\u0000", "id": 1}\n',
                  b'{"execute": "qom-list", "arguments": ' +
                  b'{"a": ' * 28 + b"1" + b"}" * 28 + b"}\n"]
        for _ in range(200):
            data = bytearray(line * generator.randrange(1, 4))
            for _ in range(generator.randrange(1, 8)):
                data[generator.randrange(len(data))] = generator.randrange(256)
            inputs.append(bytes(data))
        for data in inputs:
            client = host.connect(greeting=False)
            check("QMP" in client.read(), "greeting")
            with contextlib.suppress(OSError):
                if generator.randrange(4):
                    client.send({"execute": "qmp_capabilities"})
                client.send(data)
                if generator.randrange(2):
                    client.socket.shutdown(socket.SHUT_WR)
                    while client.read():
                        pass
            client.close()
        check("return" in host.connect().command("query-name"), "the next one")
        return f"{len(inputs)} inputs"


def test_nonsense_from_qemu():
    """An answer or an event that is no JSON"""
    with setup(1) as host:
        client = host.connect()
        domain = host.domains["vm0"]
        for answer in ({}, {"return": 1, "x": [None]}):
            domain.qemu = lambda _, answer=answer: answer
            got = client.command("query-name")
            check(got == ({"return": 1} if answer else {"error": {
                "class": GENERIC, "desc":
                "libvirt: the answer of QEMU makes no sense"}}), got)
        host.libvirt.monitor_event(domain, {"event": "X" * 1000, "data": 1})
        check(client.silent(), "an event whose data are no object")


def test_daemon():
    """wsrd has the domains as if they were QEMUs."""
    with setup(2) as host:
        config = {**test_wsrd.QUICK, "host": {
            "memory": "1500M", "qmp": host.sockets / "*"}}
        (host.directory / "wsrd").mkdir()
        daemon = test_wsrd.Daemon(host.directory / "wsrd", config)
        try:
            def moved():
                sizes = [domain.memory and domain.memory[-1][0]
                         for domain in host.domains.values()]
                return all(sizes) and sum(sizes) <= 1500 * 1024
            wait_for(moved, "balloons")
            check(daemon.vm("vm0")["state"] == "reporting", daemon.vm("vm0"))
            host.domains["vm1"].stop()
            wait_for(lambda: not daemon.vm("vm1"), "end of vm1 in wsrd")
            daemon.stop()
            wait_for(lambda: host.fleet["vm0"].actual == 1024 * MIB,
                     "all memory back")
        finally:
            daemon.process.kill()
            daemon.process.wait()


if __name__ == "__main__":
    if not (pathlib.Path(sys.argv[1]) / "wsr-libvirt").exists():
        print("TAP version 13\n1..0 # SKIP wsr-libvirt was not built: there is "
              "no libvirt-dev")
        sys.exit(0)
    test_wsrd.main({name: value for name, value in globals().items()
                    if name.startswith("test_") and callable(value)}, "libvirt")
