#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""wsrd and wsrctl as an operator meets them, with guests out of fleet.py.

usage: test_wsrd.py DIRECTORY [NAME]...

DIRECTORY has the programs. Prints TAP.
"""
import contextlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

from fleet import MIB, Fleet

PROGRAMS = None
PATIENCE_S = 60


def wait_for(condition, what, timeout=PATIENCE_S):
    """Returns the first true value of a condition."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {timeout} s")
        time.sleep(0.05)


def check(condition, what):
    """As assert, with a text"""
    if not condition:
        raise AssertionError(what)


class Daemon:
    """A running wsrd, with a configuration of its own"""

    def __init__(self, directory, config, *options):
        self.directory = pathlib.Path(directory)
        self.config = self.directory / "wsrd.conf"
        self.control = self.directory / "control"
        self.options = options
        self.log = open(self.directory / "log", "ab")
        self.write_config(config)
        self.process = None
        self.start()

    def write_config(self, config):
        """config: {section: {key: value}}"""
        host = {"control": self.control, "pressure": "off",
                "state": self.directory / "state.json",
                "qmp": self.directory / "*.qmp"}
        sections = {**config, "host": {**host, **config.get("host", {})}}
        self.config.write_text("".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in
                                       keys.items())
            for section, keys in sections.items()))

    def start(self):
        """Starts it and waits until it answers."""
        self.process = subprocess.Popen(
            [PROGRAMS / "wsrd", "-c", self.config, *self.options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_for(self.answers, "answer from wsrd", 30)

    def answers(self):
        """Whether it is up"""
        check(self.process.poll() is None, f"wsrd has ended: {self.messages()}")
        with contextlib.suppress(OSError):
            return self.ask("status")
        return None

    def ask(self, command, **fields):
        """What it answers over its control socket"""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.control))
            client.sendall(json.dumps({"command": command, **fields}).encode()
                           + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                part = client.recv(1 << 16)
                if not part:
                    raise OSError("closed")
                data += part
        return json.loads(data)

    def vm(self, name):
        """The VM's part of the status, or None"""
        for vm in self.ask("status")["vms"]:
            if vm["name"] == name:
                return vm
        return None

    def reload(self):
        """SIGHUP"""
        self.process.send_signal(signal.SIGHUP)

    def messages(self):
        """What it has written so far"""
        return (self.directory / "log").read_text()

    def kill(self):
        """As a crash"""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """As systemctl stop"""
        self.process.terminate()
        check(self.process.wait(10) == 0, f"exit status of wsrd: "
              f"{self.process.returncode}: {self.messages()}")


# Fast decisions, for tests
QUICK = {"policy": {"grace": "1ms", "shrink-rate": "50%", "shrink-block": "1ms",
                    "grow-block": "1ms", "smooth-up": "1ms",
                    "smooth-down": "1ms"},
         "reports": {"interval": "500ms"}}


def cpu_ticks(pid):
    """CPU time of a process so far, in 1/SC_CLK_TCK s"""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return sum(map(int, fields.rsplit(")")[1].split()[11:13]))


@contextlib.contextmanager
def low_limit():
    """What is started meanwhile may have few descriptors, but may ask for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def killed_at_the_end(daemon):
    """With its messages if the test fails"""
    try:
        yield daemon
    except BaseException:
        sys.stderr.write(daemon.messages())
        raise
    finally:
        if daemon.process.poll() is None:
            daemon.kill()


@contextlib.contextmanager
def setup(nr, host, config=None, options=(), **attributes):
    """nr guests and a wsrd that has them all"""
    with tempfile.TemporaryDirectory(prefix="wsrd-") as directory, \
            Fleet(directory, nr, **attributes) as fleet:
        daemon = Daemon(directory, {**QUICK, **(config or {}),
                                    "host": {**host}}, *options)
        with killed_at_the_end(daemon):
            wait_for(lambda: sum("report-age-s" in vm for vm in
                                 daemon.ask("status")["vms"]) >=
                     sum(guest.feature for guest in fleet.guests.values()),
                     "report of each guest")
            yield fleet, daemon


def wsrctl(daemon, *arguments, status=0):
    """Output of wsrctl"""
    done = subprocess.run([PROGRAMS / "wsrctl", "-s", daemon.control,
                           *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    check(done.returncode == status,
          f"wsrctl {arguments}: {done.returncode}: {done.stdout}")
    return done.stdout


def total(fleet):
    """Memory of all guests"""
    return sum(guest.actual for guest in fleet.guests.values())


def test_enough_memory():
    """Nothing is taken from anybody."""
    with setup(2, {"memory": "4G"}) as (fleet, daemon):
        wait_for(lambda: daemon.vm("vm1").get("reason") == "enough", "decision")
        check(total(fleet) == 2048 * MIB, "memory was taken")
        check(not any(guest.balloon_commands() for guest in
                      fleet.guests.values()), "a balloon command")


def test_shortage():
    """Cold memory goes until all fits, with the buffer."""
    with setup(3, {"memory": "2G"}) as (fleet, daemon):
        wait_for(lambda: total(fleet) <= 2048 * MIB * 0.96, "room for all")
        for guest in fleet.guests.values():
            check(guest.actual >= guest.hot + guest.kernel,
                  f"{guest.name}: hot memory was taken")
        output = wsrctl(daemon, "status")
        check("vm2" in output and "equal-age" in output, output)
        output = wsrctl(daemon, "explain", "vm2")
        check("Not all VMs can have" in output and "balloon" in output, output)


def test_used_fits():
    """From whom only free memory is taken is told so."""
    with setup(2, {"memory": "1900M"}) as (_, daemon):
        wait_for(lambda: daemon.vm("vm0").get("reason") == "used-fits",
                 "decision")
        check("cut-age-s" not in daemon.vm("vm0"), f"{daemon.vm('vm0')}")
        check("used-fits" in wsrctl(daemon, "status"), "word not shown")
        check("keeps all that it uses, and gets" in
              wsrctl(daemon, "explain", "vm0"), "words not shown")


def test_deflate_on_oom():
    """The balloon is not taken for memory that the kernel needs."""
    with setup(3, {"memory": "1500M"}, deflate_on_oom=True) as (fleet, daemon):
        wait_for(lambda: total(fleet) <= 1500 * MIB * 0.96, "room for all")
        # Not for a moment only: some reports later they are as small.
        seen = fleet["vm0"].sequence
        wait_for(lambda: fleet["vm0"].sequence > seen + 5, "reports")
        check(total(fleet) <= 1500 * MIB and
              daemon.vm("vm0")["reason"] == "equal-age", f"{daemon.vm('vm0')}")


def test_shares():
    """In need, the double share gets the double."""
    with setup(2, {"memory": "1200M"}, {"vm vm1": {"shares": 2}},
               hot=900 * MIB, cold=0) as (fleet, daemon):
        wait_for(lambda: daemon.vm("vm0").get("reason") == "deficit",
                 "decision")
        desired = [daemon.vm(name)["desired-bytes"] for name in ("vm0", "vm1")]
        check(1.9 < desired[1] / desired[0] < 2.1, f"{desired}")
        check("missing" in wsrctl(daemon, "status"), "deficit not shown")
        wait_for(lambda: abs(fleet["vm0"].actual - desired[0]) < 32 * MIB,
                 "less memory for vm0")


def test_dry_run():
    """Decides, tells, and does nothing."""
    with setup(3, {"memory": "2G"}, options=["--dry-run"]) as (fleet, daemon):
        wait_for(lambda: daemon.ask("actions")["actions"], "actions")
        time.sleep(1)
        check(not any(guest.balloon_commands() for guest in
                      fleet.guests.values()), "a balloon command")
        check("dry run" in wsrctl(daemon, "status"), "not said")


def test_swap_of_the_host():
    """No more is counted on than there is."""
    text = pathlib.Path("/proc/meminfo").read_text()
    swap = int(re.search(r"SwapTotal: *(\d+)", text).group(1)) << 10
    with setup(2, {"memory": "1200M", "swap": "1T"}) as (_, daemon):
        counted = daemon.ask("status")["host"]["swap-bytes"]
        check(counted <= swap and bool(counted) == bool(swap),
              f"{counted} of {swap}")


def test_min_is_kept():
    """Even in the worst need"""
    with setup(2, {"memory": "512M"}, {"defaults": {"min": "700M"}}) as \
            (fleet, daemon):
        wait_for(lambda: daemon.vm("vm0").get("target-bytes", 1 << 40) <=
                 701 * MIB, "target at its min")
        time.sleep(2)
        for guest in fleet.guests.values():
            check(min(value for _, value in guest.balloon_commands()) >=
                  700 * MIB, f"{guest.balloon_commands()}")


def test_stuck_balloon():
    """It is left alone; the others give more."""
    with setup(3, {"memory": "2G"}, {"policy": {
            **QUICK["policy"], "stall-time": "2s"}}) as (fleet, daemon):
        fleet["vm0"].stuck = True
        wait_for(lambda: daemon.vm("vm0")["reason"] == "stuck", "stuck VM")
        check(fleet["vm0"].balloon_commands()[-1][1] >=
              fleet["vm0"].actual - MIB, "it still has a target to reach")
        wait_for(lambda: total(fleet) <= 2048 * MIB, "room for all")
        check("did not follow" in wsrctl(daemon, "explain", "vm0"), "words")


def test_pressure():
    """A guest that is short gets memory at once."""
    with setup(2, {"memory": "1200M"}, {"policy": {
            **QUICK["policy"], "buffer": "300M"}}) as (fleet, daemon):
        guest = fleet["vm0"]
        wait_for(lambda: total(fleet) <= 900 * MIB, "room for the buffer")
        before = guest.actual
        guest.hot = before
        guest.refaulted += 200 * MIB
        start = time.monotonic()
        guest.report()
        wait_for(lambda: [when for when, value in guest.balloon_commands()
                          if when > start and value > before + 100 * MIB],
                 "more memory", 10)
        took = min(when for when, value in guest.balloon_commands()
                   if when > start and value > before) - start
        check(took < 1, f"it took {took:.3f} s")
        return f"{took * 1000:.0f} ms"


# Relief comes from the buffer, and is not taken back at once.
RELIEF = {"policy": {**QUICK["policy"], "buffer": "1000M",
                     "shrink-block": "60s", "pressure-again": "5s"}}


def shrunk(guest):
    """A guest as small as the buffer of RELIEF makes it"""
    wait_for(lambda: guest.actual <= 600 * MIB, "room for the buffer")
    guest.commands.clear()
    return guest


def given(guest, more_than, what):
    """Waits until it is given so much: (time, bytes)"""
    return wait_for(lambda: [command for command in guest.balloon_commands()
                             if command[1] > more_than], what)[0]


def refaults(guest):
    """From now on it reads back a lot from one report to the next."""
    def mangle(report):
        guest.refaulted += 50 * MIB
        report["nodes"][0]["refaulted-bytes"] = guest.refaulted

    guest.mangle = mangle


def seconds_to_all(calls_again):
    """A guest uses more than it has, and tells so whenever it is asked. Returns
    the time from the first step until it has all."""
    with setup(1, {"memory": "1600M"}, RELIEF) as (fleet, daemon):
        guest = shrunk(fleet["vm0"])
        guest.hot = guest.size
        refaults(guest)
        start, step = given(guest, 700 * MIB, "step")
        check(step < 900 * MIB, f"{step >> 20} MiB at once")
        wait_for(lambda: guest.actual >= step, "more memory")
        if calls_again:
            guest.report()
        end, _ = given(guest, 1000 * MIB, "all of its memory")
        check(daemon.ask("actions")["actions"][-1]["reason"] == "pressure",
              "another reason")
        return end - start


def test_pressure_again():
    """Being asked again is no second call for help, but calling again is."""
    asked = seconds_to_all(False)
    check(asked > 4, f"all after {asked:.1f} s")
    calls = seconds_to_all(True)
    check(calls < 4, f"all after {calls:.1f} s")


def test_no_pressure():
    """Who reads back and has free memory is not short of it."""
    with setup(1, {"memory": "1600M"}, RELIEF, cold=0) as (fleet, daemon):
        guest = shrunk(fleet["vm0"])
        refaults(guest)
        seen = guest.sequence
        wait_for(lambda: guest.sequence > seen + 6, "reports")
        check(not guest.balloon_commands(), f"{guest.balloon_commands()}")
        check(daemon.vm("vm0")["refault-bytes-per-s"] > 10 * MIB, "no refaults")


def test_pressure_without_reports():
    """The statistics of a balloon tell that a guest swaps."""
    with setup(1, {"memory": "1600M"}, RELIEF, feature=False,
               statistics={"stat-total-memory": 1024 * MIB,
                           "stat-free-memory": 600 * MIB,
                           "stat-disk-caches": 0, "stat-swap-in": 0}) as \
            (fleet, daemon):
        guest = shrunk(fleet["vm0"])
        guest.statistics = {"stat-total-memory": 560 * MIB,
                            "stat-free-memory": 4 * MIB,
                            "stat-disk-caches": 0, "stat-swap-in": 500 * MIB}
        given(guest, 700 * MIB, "more memory")
        check(daemon.ask("actions")["actions"][-1]["reason"] == "pressure",
              "another reason")


def test_lying_guest():
    """Reports that can't be true are refused, and the guest keeps what it has
    without harm to others."""
    def mangle(report):
        report["nodes"][0]["total-bytes"] = 1 << 60

    with setup(2, {"memory": "4G"}) as (fleet, daemon):
        fleet["vm0"].mangle = mangle
        wait_for(lambda: daemon.ask("explain", vm="vm0").get("refused-reports"),
                 "refused report")
        check("refused" in daemon.messages(), daemon.messages())
        fleet["vm0"].mangle = None
        wait_for(lambda: daemon.vm("vm0")["report-age-s"] < 1, "good report")


def test_guest_comes_and_goes():
    """Its memory is for the others then."""
    with setup(2, {"memory": "1500M"}) as (fleet, daemon):
        wait_for(lambda: total(fleet) <= 1500 * MIB, "room for all")
        fleet["vm1"].stop()
        wait_for(lambda: fleet["vm0"].actual == 1024 * MIB, "all for one")
        wait_for(lambda: daemon.vm("vm1") is None, "end of vm1")
        fleet["vm1"].start()
        wait_for(lambda: (daemon.vm("vm1") or {}).get("report-age-s"),
                 "vm1 again")
        wait_for(lambda: total(fleet) <= 1500 * MIB, "room for all")


def test_migrating_guest():
    """It is left alone."""
    with setup(2, {"memory": "4G"}) as (fleet, daemon):
        fleet["vm0"].migration = "active"
        fleet["vm0"].event("MIGRATION", {"status": "active"})
        wait_for(lambda: daemon.vm("vm0")["reason"] == "migrating", "decision")
        daemon.write_config({**QUICK, "host": {"memory": "1G"}})
        daemon.reload()
        wait_for(lambda: fleet["vm1"].actual < 700 * MIB, "less for vm1")
        check(not fleet["vm0"].balloon_commands(), "it was changed")


def test_guest_without_feature():
    """It keeps what it has, and what it has counts."""
    with setup(2, {"memory": "1700M"}) as (fleet, daemon):
        fleet.add("old", feature=False, size=512 * MIB)
        wait_for(lambda: (daemon.vm("old") or {}).get("reason") == "no-data",
                 "decision")
        wait_for(lambda: total(fleet) <= 1700 * MIB, "room for all")
        check(not fleet["old"].balloon_commands(), "it was changed")


def test_reload():
    """A good configuration is taken over, a bad one is not."""
    with setup(1, {"memory": "4G"}) as (fleet, daemon):
        good = daemon.config.read_text()
        daemon.config.write_text(good + "[host]\nmemroy = 1G\n")
        daemon.reload()
        wait_for(lambda: "memroy" in daemon.messages(), "error")
        line = good.count("\n") + 2
        check(f"{daemon.config}:{line}: " in daemon.messages(),
              daemon.messages())
        check(daemon.ask("status")["host"]["total-bytes"] == 4096 * MIB,
              "another configuration")
        daemon.config.write_text(good.replace("4G", "3G"))
        connections = fleet["vm0"].connections
        daemon.reload()
        wait_for(lambda: daemon.ask("status")["host"]["total-bytes"] ==
                 3072 * MIB, "new configuration")
        check(fleet["vm0"].connections == connections, "it connected anew")


def test_set():
    """Settings at run time, and errors that say what to do"""
    with setup(1, {"memory": "4G"}) as (_, daemon):
        wsrctl(daemon, "set", "vm0", "shares=3.5")
        check(daemon.ask("explain", vm="vm0")["config"]["shares"] == 3.5, "lost")
        for arguments, words in ((("vm0", "shares=-1"), "0.001 to 1000"),
                                 (("vm0", "share=1"), "unknown setting"),
                                 (("vm0", "min=much"), "such as 512M"),
                                 (("nobody", "shares=1"), "no VM called")):
            output = wsrctl(daemon, "set", *arguments, status=1)
            check(words in output, output)


def test_record_and_replay():
    """The same facts lead to the same decisions; other settings to others."""
    with setup(2, {"memory": "4G"}) as (fleet, daemon):
        trace = daemon.directory / "trace"
        recorder = subprocess.Popen([PROGRAMS / "wsrctl", "-s", daemon.control,
                                     "record", trace],
                                    stderr=subprocess.DEVNULL)
        wait_for(lambda: trace.exists() and trace.stat().st_size, "trace")
        daemon.write_config({**QUICK, "host": {"memory": "1500M"}})
        daemon.reload()
        wait_for(lambda: total(fleet) <= 1500 * MIB, "room for all")
        fleet["vm0"].report()
        time.sleep(1)
        recorder.send_signal(signal.SIGINT)
        check(recorder.wait(10) == 0, "exit status of wsrctl record")
        settings = [f"--set={key}={value}" for key, value in
                    QUICK["policy"].items()]
        output = wsrctl(daemon, "replay", *settings, trace)
        actions, taken = [int(output.split(words)[0].split()[-1])
                          for words in (" actions", ")")]
        check(taken > 2 and abs(actions - taken) <= 1, output)
        slow = wsrctl(daemon, "replay", *settings, "--set=shrink-rate=0.1%",
                      trace)
        check(int(slow.split(" actions")[0].split()[-1]) < actions, slow)
        output = wsrctl(daemon, "replay", "--policy=best", trace, status=2)
        check("equal idle age" in output, output)
        with open(trace, "a", encoding="utf-8") as file:
            file.write("{\"t\": 5, \"vm\": 7}\n")
        output = wsrctl(daemon, "replay", trace, status=1)
        check(f"{trace}:{len(trace.read_text().splitlines())}: " in output,
              output)


def test_stop_releases():
    """After systemctl stop, all have what they had without wsrd."""
    with setup(3, {"memory": "2G"}) as (fleet, daemon):
        wait_for(lambda: total(fleet) <= 2000 * MIB, "room for all")
        daemon.stop()
        wait_for(lambda: total(fleet) == 3072 * MIB, "all memory back")
        check(not daemon.control.exists(), "the socket is still there")


def test_unreadable_state():
    """It begins anew, and says so; without a state there is nothing to say."""
    with setup(1, {"memory": "4G"}) as (_, daemon):
        check("the state of before" not in daemon.messages(), "a complaint")
        daemon.kill()
        (daemon.directory / "state.json").write_text("{ \"vms\": ")
        daemon.start()
        check("the state of before can't be read" in daemon.messages(),
              daemon.messages())


def test_only_one():
    """Two would fight for the balloons."""
    with setup(1, {"memory": "4G"}) as (_, daemon):
        done = subprocess.run([PROGRAMS / "wsrd", "-c", daemon.config],
                              stderr=subprocess.PIPE, text=True, check=False,
                              timeout=30)
        check(done.returncode and "another wsrd" in done.stderr, done.stderr)


def test_no_descriptors():
    """A client is refused, at once; nobody spins."""
    with low_limit(), setup(1, {"memory": "2G"}) as (fleet, daemon):
        pid = daemon.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        check(soft == hard, f"{soft} of {hard} descriptors")

        with socket.socket(socket.AF_UNIX) as client:
            # When it is answered, clients before it are gone.
            client.connect(str(daemon.control))
            client.sendall(b'{"command": "status"}\n')
            client.recv(1)
            used = len(os.listdir(f"/proc/{pid}/fd")) - 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, hard))
        wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) == used, "end")
        before = cpu_ticks(pid)
        for _ in range(3):
            try:
                daemon.ask("status")
                check(False, "an answer without descriptors")
            except OSError:
                pass
        reports = fleet["vm0"].sequence
        wait_for(lambda: fleet["vm0"].sequence > reports + 2, "reports")
        check(cpu_ticks(pid) - before < os.sysconf("SC_CLK_TCK") / 2,
              "it is busy")
        check(daemon.messages().count("is refused") == 3, "messages")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        check(daemon.vm("vm0"), "it does not answer again")


def test_bad_configurations():
    """Each names file and line."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "c"
        for text, words in (
                ("memory = 1G\n", ":1: a section such as [host]"),
                ("[host]\n\nmemory = 1X\n", ":3: memory = 1X: this must be a"),
                ("[host]\nmemory = 1G\nmemory = 2G\n", ":3: 'memory' is given "
                 "twice"),
                ("[hots]\nmemory = 1G\n", ":2: unknown section"),
                ("[policy]\nplan = best\n", "no such policy"),
                ("[policy]\nbuffer = 120%\n", ":2: buffer"),
                ("[defaults]\nqmp = /x\n", ":2: unknown key"),
                ("[vm a*]\nqmp = /x\n", "pattern can't have a socket"),
                ("[vm a]\nshares = 0\n", "shares must be"),
                ("[vm a]\nmin = 2G\nmax = 1G\n", "max must not be less"),
                ("[cgroup web]\nshares = 2\n", "'cgroup' is missing"),
                ("[host]\n" + "x" * 300 + " = 1\n", ":2: the line is too long"),
                ("[host]\nnonsense\n", ":2: neither a [section]"),
                ("[host]\npressure = 2s/1s\n", ":2: pressure"),
                ("[reports]\nbins = 17\n", "bins must be 2 to 16")):
            path.write_text(text)
            done = subprocess.run([PROGRAMS / "wsrd", "--check", "-c", path],
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True,
                                  check=False)
            check(done.returncode == 2 and words in done.stdout and
                  str(path) in done.stdout, f"{text!r}: {done.stdout}")
        path.write_text("[host]\nmemory = 1G\n")
        drop_in = pathlib.Path(directory) / "c.d/10-more.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("[host]\nmemory = 2G\n[vm web*]\nshares = 2\n")
        done = subprocess.run([PROGRAMS / "wsrd", "--check", "-c", path],
                              stdout=subprocess.PIPE, text=True, check=False)
        check("no errors" in done.stdout, done.stdout)


def main(functions, title):
    """Runs the tests among them that the command line names."""
    global PROGRAMS
    PROGRAMS = pathlib.Path(sys.argv[1]).resolve()
    os.environ["ASAN_OPTIONS"] = "detect_leaks=0"
    tests = [(name, function) for name, function in functions.items()
             if name.startswith("test_") and
             (not sys.argv[2:] or any(n in name for n in sys.argv[2:]))]
    failed = 0
    print(f"TAP version 13\n1..{len(tests)}")
    for number, (name, function) in enumerate(tests, 1):
        start = time.monotonic()
        try:
            note = function()
            result = "ok"
        except Exception:
            result, note = "not ok", None
            failed += 1
            for line in traceback.format_exc().splitlines():
                print("# " + line)
        print(f"{result} {number} - {title}: {name[5:].replace('_', ' ')}"
              + (f": {note}" if note else "") +
              f" ({time.monotonic() - start:.1f} s)", flush=True)
    print(f"# {len(tests) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main(globals(), "wsrd")
