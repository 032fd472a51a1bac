# SPDX-License-Identifier: GPL-2.0
"""What an operator does with the Debian packages: runs as root in the Debian of
scripts/check-systemd, whose disk is thrown away. The tests follow one another.

usage: systemd_guest.py

Writes a line of JSON for each test, and switches the machine off.
"""
import contextlib
import json
import os
import pathlib
import pwd
import re
import signal
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request

from fleet import MIB, Fleet
from test_wsrd import QUICK, Daemon, check, wait_for

DONE = pathlib.Path("/var/lib/tests/done")
FILES = pathlib.Path("/var/lib/tests/files")
REBOOTED = pathlib.Path("/var/lib/tests/rebooted")
CONFIG = pathlib.Path("/etc/wsr/wsrd.conf.d/test.conf")
DROP_IN = pathlib.Path("/etc/systemd/system/wsrd.service.d/test.conf")
STATE = pathlib.Path("/var/lib/wsr")
GROUP = pathlib.Path("/sys/fs/cgroup/machine.slice/builder.service")
SOCKETS = pathlib.Path("/run/qemu")
LRU_GEN = pathlib.Path("/sys/kernel/mm/lru_gen/enabled")
URL = "http://127.0.0.1:9911"
NR_GUESTS = 2
SIZE = 1024 * MIB
# Guests use 288 MiB and have 512 MiB of cold memory each, the container has
# 200 MiB of it.
MEMORY = 1200 * MIB
CONTAINER = """\
[Service]
Slice=machine.slice
ExecStart=/bin/sh -c 'dd if=/dev/zero of=/var/tmp/builder bs=1M count=200; \
sync; cat /var/tmp/builder >/dev/null; sleep infinity'
"""


def run(*command, **options):
    """(exit status, all output)"""
    done = subprocess.run(command, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, **options)
    return done.returncode, done.stdout.strip()


def sh(*command, **options):
    """Output of a command that has to succeed"""
    status, output = run(*command, **options)
    check(status == 0, f"{' '.join(command)}: status {status}: {output}")
    return output


def systemctl(*words):
    """Output of systemctl, which has to succeed"""
    return sh("systemctl", *words)


def apt(*words):
    """apt-get without questions or complaints"""
    output = sh("apt-get", "-y", *words, env={
        **os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    complaints = re.findall(r"^(?:W|E|dpkg: (?:warning|error)).*", output, re.M)
    check(not complaints, output)
    return output


def properties(unit, *names):
    """{name: value} of a unit"""
    return dict(line.split("=", 1) for line in systemctl(
        "show", "-p", ",".join(names), unit).splitlines())


def main_pid(unit="wsrd"):
    """0 if it does not run"""
    return int(properties(unit, "MainPID")["MainPID"])


def is_active(unit="wsrd"):
    """Whether it runs"""
    return run("systemctl", "is-active", unit)[1] == "active"


class Service(Daemon):
    """wsrd as a service; test_wsrd.Daemon asks it."""

    # pylint: disable=super-init-not-called
    def __init__(self, unit="wsrd"):
        self.unit = unit
        self.control = "/run/wsr/control"
        # With a part of a second: the journal's times are exact.
        self.since = time.time()

    def write_config(self, config):
        """config: {section: {key: value}}"""
        CONFIG.parent.mkdir(exist_ok=True)
        CONFIG.write_text("".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in
                                       keys.items())
            for section, keys in config.items()))

    def answers(self):
        """Whether it is up"""
        with contextlib.suppress(OSError):
            return self.ask("status")
        return None

    def restart(self):
        """Until it answers"""
        systemctl("restart", self.unit)
        wait_for(self.answers, "answer")

    def messages(self, *options):
        """Of the service and of systemd about it, since the test began"""
        sh("journalctl", "--sync")
        return sh("journalctl", "-q", "-o", "cat", f"--since=@{self.since:.3f}",
                  f"--unit={self.unit}", *options)

    def no_complaints(self):
        """Neither of the service nor of systemd"""
        found = self.messages("-p", "warning")
        check(not found, found)


class Guests:
    """QEMUs of another user, in a process of that user: see serve_guests()"""

    def __init__(self):
        SOCKETS.mkdir(exist_ok=True)
        SOCKETS.chmod(0o750)
        user = pwd.getpwnam("libvirt-qemu")
        os.chown(SOCKETS, user.pw_uid, user.pw_gid)
        self.process = subprocess.Popen(
            [sys.executable, "-B", __file__, "guests"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, user=user.pw_uid,
            group=user.pw_gid, extra_groups=[], umask=0o007)
        self.actual()

    def actual(self):
        """Bytes that each has"""
        self.process.stdin.write("actual\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def have_all(self):
        """Whether no balloon is inflated"""
        return self.actual() == [SIZE] * NR_GUESTS

    def close(self):
        """Ends them"""
        self.process.communicate()


def serve_guests():
    """A line in: a line with their sizes out"""
    with Fleet(SOCKETS, NR_GUESTS) as fleet:
        for _ in sys.stdin:
            print(json.dumps([guest.actual for guest in
                              fleet.guests.values()]), flush=True)


def high():
    """The container's memory.high"""
    return (GROUP / "memory.high").read_text().strip()


def is_shared(guests):
    """Whether the cold memory of all was taken"""
    return sum(guests.actual()) < MEMORY and high() != "max"


@contextlib.contextmanager
def host(drop_in=None, policy=None, **settings):
    """Two guests of another user, a container, and a wsrd that has made them
    fit: yields (service, guests). settings: of [host], with _ for -"""
    unit = pathlib.Path("/run/systemd/system/builder.service")
    unit.write_text(CONTAINER)
    if drop_in:
        DROP_IN.parent.mkdir(parents=True, exist_ok=True)
        DROP_IN.write_text(drop_in)
    systemctl("daemon-reload")
    systemctl("start", "builder")
    guests = Guests()
    service = Service()
    service.write_config({
        **QUICK, "policy": {**QUICK["policy"], **(policy or {})}, "host": {"qmp": SOCKETS / "*.qmp", "memory": f"{MEMORY >> 20}M",
                          **{key.replace("_", "-"): value
                             for key, value in settings.items()}},
        "cgroup builder": {"cgroup": "machine.slice/builder.service",
                           "min": "16M"}})
    try:
        service.restart()
        wait_for(lambda: is_shared(guests), "memory of guests and container")
        yield service, guests
    except BaseException:
        # For the console's log
        for text in (service.messages(), run("wsrctl", "status")[1],
                     run("wsrctl", "explain", "builder")[1]):
            print(text, file=sys.stderr)
        raise
    finally:
        CONFIG.unlink()
        CONFIG.parent.rmdir()
        if drop_in:
            DROP_IN.unlink()
            DROP_IN.parent.rmdir()
            systemctl("daemon-reload")
        run("systemctl", "restart", "wsrd")
        guests.close()
        systemctl("stop", "builder")


def files():
    """All files but those of programs that were used"""
    names = sh("find", "/", "-xdev", "(", "-path", "/var/lib/dpkg", "-o",
               "-path", "/var/log", "-o", "-path", "/var/cache", "-o", "-path",
               "/var/lib/apt", "-o", "-path", "/tmp", "-o", "-path",
               "/var/tmp", "-o", "-path", "/var/lib/systemd", "-o", "-path",
               "/var/lib/tests", ")", "-prune", "-o", "-print")
    return set(names.splitlines())


def test_install():
    """Without questions; both services run, and will after a restart."""
    FILES.write_text("\n".join(files()))
    apt("update")
    apt("install", "wsr", "wsr-libvirt")
    for unit in ("wsrd", "wsr-libvirt"):
        check(systemctl("is-enabled", unit) == "enabled", unit)
        check(is_active(unit), systemctl("status", unit))
    check(not sh("dpkg", "--verify", "wsr", "wsr-libvirt"), "changed files")
    check(sh("id", "-gn", "wsr") == "wsr", "the user has no group")
    service = Service()
    service.since = 0
    service.no_complaints()
    return sh("dpkg-query", "-W", "-f", "${Package} ${Version}, ", "wsr",
              "systemd").rstrip(", ")


def test_units():
    """systemd finds no faults, little exposure, and has set what they say."""
    notes = []
    for unit in ("wsrd.service", "wsr-libvirt.service"):
        sh("systemd-analyze", "--man=no", "verify", unit)
        score = re.search(r"exposure level for \S+: ([\d.]+)",
                          sh("systemd-analyze", "security", unit))
        check(float(score[1]) < 3.5, f"{unit}: {score[0]}")
        notes.append(f"{unit} {score[1]}")
        values = properties(unit, "Type", "WatchdogUSec", "NRestarts",
                            "WatchdogTimestampMonotonic")
        check(values["Type"] == "notify" and values["NRestarts"] == "0" and
              values["WatchdogUSec"] == "30s" and
              values["WatchdogTimestampMonotonic"] != "0", f"{values}")
        process = pathlib.Path(f"/proc/{main_pid(unit)}")
        check((process / "oom_score_adj").read_text().strip() == "-900", unit)
        status = (process / "status").read_text()
        check(re.search(r"^NoNewPrivs:\t1$", status, re.M) and
              re.search(r"^Seccomp:\t2$", status, re.M), status)
    group = pathlib.Path("/sys/fs/cgroup/system.slice/wsrd.service")
    check(int((group / "memory.min").read_text()) == 32 * MIB, "memory.min")
    return "exposure " + ", ".join(notes)


def test_without_libvirt():
    """wsr-libvirt says what is missing, once, and waits for it."""
    service = Service("wsr-libvirt")
    systemctl("restart", service.unit)
    said = wait_for(lambda: service.messages("-p", "warning"), "words")
    time.sleep(5)
    check(service.messages("-p", "warning") == said, "it repeats itself")
    check("no libvirt at qemu:///system" in said and "\n" not in said, said)
    check(is_active("wsr-libvirt"), "not active")
    systemctl("stop", "wsr-libvirt")
    check(properties("wsr-libvirt", "Result")["Result"] == "success", "result")
    systemctl("start", "wsr-libvirt")
    return said


def test_guests_and_container():
    """Balloons of QEMUs of another user, memory.high and memory.reclaim"""
    with host() as (service, guests):
        service.no_complaints()
        check(all(vm["state"] == "reporting" for vm in
                  service.ask("status")["vms"] if vm["name"] != "builder"),
              f"{service.ask('status')}")
        actions = {action["kind"] for action in
                   service.ask("actions")["actions"]}
        check({"balloon", "memory.reclaim", "memory.high"} <= actions, f"{actions}")
        fds = {os.readlink(path) for path in pathlib.Path(
            f"/proc/{main_pid()}/fd").iterdir()}
        check({"/proc/pressure/memory",
               f"{GROUP}/memory.pressure"} <= fds, f"no triggers: {fds}")
        return (f"guests {[size >> 20 for size in guests.actual()]} MiB, "
                f"memory.high {int(high()) >> 20} MiB")


def test_units_read_again():
    """systemd gives groups their own limits then; wsrd sets its own again."""
    with host() as (service, guests):
        for command in ("daemon-reload", "daemon-reexec"):
            systemctl(command)
            time.sleep(1)
            wait_for(lambda: is_shared(guests), f"limits after {command}", 10)
        service.no_complaints()


def test_stop():
    """All memory is given back."""
    with host() as (service, guests):
        began = time.monotonic()
        systemctl("stop", "wsrd")
        took = time.monotonic() - began
        wait_for(guests.have_all, "balloons", 5)
        check(high() == "max", high())
        service.no_complaints()
        check(properties("wsrd", "Result")["Result"] == "success", "result")
        check(not os.path.exists("/run/wsr"), "/run/wsr is left")
        return f"{took:.1f} s"


def wait_restarted(service, pid, timeout=60):
    """Seconds until it answers as another process"""
    began = time.monotonic()
    wait_for(lambda: main_pid() not in (0, pid) and service.answers(),
             "another process", timeout)
    return time.monotonic() - began


def test_killed():
    """It comes back, and nothing that was taken is given back in between."""
    with host() as (service, guests):
        before, pid = guests.actual(), main_pid()
        os.kill(pid, signal.SIGKILL)
        took = wait_restarted(service, pid)
        for size, was in zip(guests.actual(), before):
            check(abs(size - was) < 64 * MIB, f"{was} -> {size}")
        check(high() != "max", "memory.high")
        systemctl("stop", "wsrd")
        check(high() == "max", "what was before is forgotten")
        return f"back after {took:.1f} s"


def test_killed_often():
    """Limits are in force: it is not left alone after some crashes."""
    with host() as (service, guests):
        began = time.monotonic()
        for _ in range(7):
            pid = main_pid()
            os.kill(pid, signal.SIGKILL)
            # It need not be ready.
            wait_for(lambda pid=pid: main_pid() not in (0, pid), "process")
        took = time.monotonic() - began
        wait_for(service.answers, "answer")
        wait_for(lambda: is_shared(guests), "limits")
        return f"7 times in {took:.1f} s"


def test_privileged_process_killed():
    """A new one comes with a new wsrd."""
    with host() as (service, guests):
        pid = main_pid()
        child = int(pathlib.Path(
            f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        check(pathlib.Path(f"/proc/{child}/comm").read_text().strip() ==
              "wsrd-privileged", "another process")
        os.kill(child, signal.SIGKILL)
        wait_restarted(service, pid)
        wait_for(lambda: is_shared(guests), "limits")
        check("the privileged process has ended" in service.messages(), "words")


def test_watchdog():
    """One that hangs is replaced."""
    with host() as (service, guests):
        pid = main_pid()
        os.kill(pid, signal.SIGSTOP)
        took = wait_restarted(service, pid, 120)
        check("Watchdog timeout" in service.messages(), service.messages())
        check(took < 45, f"it took {took:.1f} s")
        wait_for(lambda: is_shared(guests), "limits")
        return f"back after {took:.1f} s"


def test_reload():
    """A good configuration takes effect; of a bad one, systemctl tells where
    the error is, and that of before stays."""
    with host() as (service, guests):
        pid, text = main_pid(), CONFIG.read_text()
        CONFIG.write_text(text + "[vm vm0]\nmin = 900M\n")
        systemctl("reload", "wsrd")
        wait_for(lambda: guests.actual()[0] >= 900 * MIB, "min")
        CONFIG.write_text(text + "[vm vm0]\nmin = lots\n")
        status, output = run("systemctl", "reload", "wsrd")
        check(status, "it accepts nonsense")
        messages = service.messages("-p", "err")
        check(re.search(r"test\.conf:\d+: ", messages), messages)
        check(main_pid() == pid and is_active(), output)
        check(guests.actual()[0] >= 900 * MIB, f"{guests.actual()}")
        # By a signal, as others do it
        os.kill(pid, signal.SIGHUP)
        wait_for(lambda: "the configuration of before stays in force" in
                 service.messages(), "words")
        check(main_pid() == pid and is_active(), "gone")
        return messages.splitlines()[0]


def test_start_with_errors():
    """It fails at once, and says why."""
    service = Service()
    service.write_config({"host": {"memory": "lots"}})
    try:
        status, _ = run("systemctl", "restart", "wsrd")
        check(status, "it accepts nonsense")
        wait_for(lambda: properties("wsrd", "ActiveState")["ActiveState"] ==
                 "failed", "failure", 10)
        messages = service.messages()
        check(len(re.findall(r"test\.conf:\d+: ", messages)) == 1, messages)
    finally:
        CONFIG.unlink()
        CONFIG.parent.rmdir()
    systemctl("start", "wsrd")


def test_control_socket():
    """For root and the group that the configuration names; others are told."""
    for name, groups in (("alice", "wsr"), ("bob", "")):
        sh("useradd", "-r", "-G", groups, name)
    try:
        with host(control_group="wsr"):
            sh("wsrctl", "status")
            check("vm1" in sh("runuser", "-u", "alice", "wsrctl", "status"),
                  "no answer")
            status, output = run("runuser", "-u", "bob", "wsrctl", "status")
            check(status and "only root and the group in [host] control-group"
                  in output, output)
        with host():
            status, _ = run("runuser", "-u", "alice", "wsrctl", "status")
            check(status, "no group was given")
        return output
    finally:
        for name in ("alice", "bob"):
            sh("userdel", name)


def test_user():
    """[host] user = wsr, a member of the group of QEMU's sockets: limits and
    balloons as before, and nothing else is root's."""
    sh("usermod", "-aG", "libvirt-qemu", "wsr")
    with host(user="wsr", history=STATE / "history.db") as (service, _):
        service.no_complaints()
        pid = main_pid()
        user = pwd.getpwnam("wsr").pw_uid
        check(os.stat(f"/proc/{pid}").st_uid == user, "still root")
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        check(re.search(r"^CapEff:\t0+$", status, re.M), status)
        owners = {path: path.stat().st_uid for path in STATE.iterdir()}
        check(set(owners.values()) == {user} and owners, f"{owners}")
        os.kill(pid, signal.SIGKILL)
        wait_restarted(service, pid)
        check(high() != "max", "limits are lost")
        systemctl("stop", "wsrd")
        check(high() == "max", "what was before is forgotten")
    # And back to root
    with host(history=STATE / "history.db") as (service, _):
        service.no_complaints()


def get(path, **headers):
    """(status, text) of a page"""
    request = urllib.request.Request(URL + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_history_and_http():
    """A database in the state directory, metrics and page on loopback"""
    with host(history=STATE / "history.db", history_interval="1s",
              http="127.0.0.1:9911") as (service, _):
        status, text = get("/metrics")
        check(status == 200 and 'wsr_vm_balloon_actual_bytes{vm="vm0"}' in text, text)
        check(get("/")[0] == 200 and get("/metrics", Host="evil.example")[0] !=
              200, "page")
        wait_for(lambda: len(sh("wsrctl", "history", "vm0").splitlines()) > 4,
                 "history")
        mode = (STATE / "history.db").stat().st_mode & 0o777
        check(mode == 0o600, f"mode {mode:o}")
        check((STATE.stat().st_mode & 0o777) == 0o750, "the directory's mode")
        pid = main_pid()
        systemctl("reload", "wsrd")
        check(get("/healthz")[0] == 200 and main_pid() == pid, "after a reload")
        service.no_complaints()


def test_multi_gen_lru():
    """Generations tell ages of the container: debugfs is at hand."""
    if not LRU_GEN.exists():
        return None
    was = LRU_GEN.read_text()
    LRU_GEN.write_text("y")
    try:
        with host(policy={"working-set-age": "20s"}) as (service, _):
            wait_for(lambda: service.vm("builder").get("source") == "lru_gen",
                     "source")
            service.no_complaints()
    finally:
        LRU_GEN.write_text(was)
    return None


def test_system_calls():
    """All of it again; a forbidden system call is the end, not just EPERM."""
    with host("[Service]\nSystemCallErrorNumber=kill\n", control_group="wsr",
              history=STATE / "history.db", history_interval="1s",
              http="127.0.0.1:9911") as (service, guests):
        pid = main_pid()
        wait_for(lambda: len(sh("wsrctl", "history", "vm0").splitlines()) > 4,
                 "history")
        check(get("/metrics")[0] == 200, "no metrics")
        systemctl("reload", "wsrd")
        wait_for(lambda: "read again" in service.messages(), "reload")
        sh("wsrctl", "explain", "builder")
        check(main_pid() == pid and is_shared(guests), "another process")
        systemctl("stop", "wsrd")
        wait_for(guests.have_all, "balloons", 5)
        check(high() == "max", high())
        service.no_complaints()
        check("SYS" not in service.messages(), service.messages())


def test_idle_pages():
    """With the drop-in of the manual, on a kernel that may not have it"""
    page = sh("zcat", "/usr/share/man/man5/wsrd.conf.5.gz")
    text = re.search(r"^\.nf\n(# /etc/systemd/.*?)^\.fi", page, re.M | re.S)
    with host(text[1].replace("\\-", "-"), idle_pages="yes") as (service, _):
        messages = service.messages()
        check(pathlib.Path("/sys/kernel/mm/page_idle").exists() or
              "CONFIG_IDLE_PAGE_TRACKING" in messages, messages)
        status = pathlib.Path(f"/proc/{main_pid()}/status").read_text()
        # Neither CAP_SYS_ADMIN nor CAP_SYS_PTRACE
        rights = int(re.search(r"^CapEff:\t(\w+)$", status, re.M)[1], 16)
        check(not rights & (1 << 21 | 1 << 19), f"{rights:x}")
        return service.messages("-p", "warning").split("\n", maxsplit=1)[0]


def test_reinstall():
    """What was changed in the configuration stays, guests keep what they have,
    nearly."""
    config = pathlib.Path("/etc/wsr/wsrd.conf")
    text = config.read_text()
    config.write_text(text + "# changed\n")
    with host() as (service, guests):
        pid = main_pid()
        apt("install", "--reinstall", "wsr")
        check(config.read_text().endswith("# changed\n"), "configuration")
        wait_restarted(service, pid)
        wait_for(lambda: is_shared(guests), "limits")
        service.no_complaints()
    config.write_text(text)


def test_reboot():
    """Services are started with the machine, without complaints."""
    if not REBOOTED.exists():
        REBOOTED.touch()
        systemctl("reboot")
        time.sleep(600)
    wait_for(lambda: is_active() and is_active("wsr-libvirt"), "services")
    service = Service()
    wait_for(service.answers, "answer")
    service.since = 0
    messages = service.messages("-b", "-p", "warning")
    check(not messages, messages)
    check(not sh("systemctl", "list-units", "--failed", "--no-legend"),
          "failed units")


def test_remove():
    """Memory is given back, and the program is gone; configuration and state
    are left."""
    with host() as (service, guests):
        apt("remove", "wsr")
        wait_for(guests.have_all, "balloons", 5)
        check(high() == "max", high())
        service.no_complaints()
        check(not is_active(), "still active")
        check(os.path.exists("/etc/wsr/wsrd.conf") and
              (STATE / "state.json").exists(), "configuration or state")


def test_purge():
    """Nothing is left but the user, to whom files elsewhere could belong."""
    apt("purge", "wsr", "wsr-libvirt")
    apt("autoremove", "--purge")
    left = files() - set(FILES.read_text().splitlines())
    check(not left, "\n".join(sorted(left)))
    check(not os.path.exists("/run/wsr-libvirt"), "/run/wsr-libvirt")
    check("wsr" not in sh("systemctl", "list-units", "--all", "--no-legend"),
          "units")


TESTS = {name[5:].replace("_", " "): value for name, value in globals().items()
         if name.startswith("test_")}


def report(tests):
    """Runs tests and tells of each."""
    for name, function in tests.items():
        result = {"name": name, "outcome": "ok"}
        began = time.monotonic()
        try:
            result["text"] = function()
        except Exception as error:  # pylint: disable=broad-except
            result["outcome"] = "not ok"
            result["text"] = str(error) if isinstance(error, AssertionError) \
                else traceback.format_exc()
        result["seconds"] = time.monotonic() - began
        with open(DONE, "a", encoding="utf-8") as done:
            done.write(name + "\n")
        print(json.dumps(result), flush=True)


def main():
    """The tests that were not done before the machine was restarted"""
    DONE.parent.mkdir(parents=True, exist_ok=True)
    run("systemctl", "is-system-running", "--wait")
    if not DONE.exists():
        DONE.touch()
        sh("useradd", "-r", "libvirt-qemu")
    done = DONE.read_text().splitlines()
    report({name: function for name, function in TESTS.items()
            if name not in done})
    systemctl("poweroff")


if __name__ == "__main__":
    if sys.argv[1:] == ["guests"]:
        serve_guests()
    else:
        main()
