# SPDX-License-Identifier: GPL-2.0
"""The tests that scripts/check runs, and what they share."""

import traceback

import vm

MAX_REASON_LINES = 60

# Guests that tests share; each is started when the first test asks for it.
GUESTS = {
    # Less memory than a file that is read, and nothing to swap to
    "plain": {"memory": "512M", "disk": True,
              "append": "kunit.enable=1 kunit.autorun=1"},
    "nodes": {"memory": "512M", "nodes": 2, "disk": True},
    "swap": {"memory": "512M", "swap": "200M"},
    # All virtqueues that can come before ours
    "queues": {"memory": "256M",
               "balloon": f"{vm.BALLOON},free-page-reporting=on,"
                          "free-page-hint=on,iothread=hint,page-poison=on",
               "extra": ("-object", "iothread,id=hint")},
}


class Skip(Exception):
    """The test cannot run here; says why."""


class Environment:
    """What a test gets: the base and the guests."""

    def __init__(self, base):
        self.base = base
        self._guests = {}

    def guest(self, name):
        """The running guest of this name, with the device's settings as they
        are when QEMU starts."""
        guest = self._guests.get(name)
        if guest and guest.alive():
            guest.set("guest-working-set-request-id", 0)
            guest.configure(
                idle_age_ms=[1000, 5000, 15000, 60000, 300000, 1800000],
                refresh_ms=1000, report_ms=0)
            return guest
        return self.start(name, **GUESTS[name])

    def start(self, name, **options):
        """A guest for tests that need one of their own kind. It runs until the
        next test fails, or to the end, or until close_guest()."""
        self.close_guest(name)
        self._guests[name] = vm.VM(self.base, name, **options)
        return self._guests[name]

    def close_guest(self, name):
        if name in self._guests:
            self._guests.pop(name).close()

    def close_guests(self):
        for name in list(self._guests):
            self.close_guest(name)

    def check_logs(self):
        for guest in self._guests.values():
            guest.check_logs()

    def console_tails(self):
        return "\n".join(f"console of guest {name}:\n{guest.console_tail()}"
                         for name, guest in self._guests.items())


def run_test(function, environment):
    """Returns ("ok", note), ("skip", reason) or ("not ok", reason)."""
    try:
        note = function(environment)
        environment.check_logs()
        return "ok", note
    except Skip as skip:
        return "skip", str(skip)
    except (AssertionError, vm.VMError) as error:
        reason = str(error) or traceback.format_exc()
    except Exception:  # pylint: disable=broad-except
        reason = traceback.format_exc()
    tails = environment.console_tails()
    environment.close_guests()
    return "not ok", f"{reason}\n{tails}"


def one_line(number, name, outcome, text, seconds):
    """A test's result in TAP"""
    took = f"({seconds:.1f} s)"
    if outcome == "skip":
        return f"ok {number} - {name} {took} # SKIP {text}"
    if outcome == "ok":
        note = f": {text}" if text else ""
        return f"ok {number} - {name}{note} {took}"
    lines = text.splitlines()[:MAX_REASON_LINES]
    return "\n".join([f"not ok {number} - {name} {took}"] +
                     [f"#   {line}" for line in lines])


class Report:
    """Writes lines to the terminal and to the result file."""

    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "w", encoding="utf-8")

    def line(self, text):
        print(text, flush=True)
        self._file.write(text + "\n")
        self._file.flush()


def check(condition, message):
    """assert that cannot be switched off"""
    if not condition:
        raise AssertionError(message)


def near(value, expected, tolerance, what):
    check(abs(value - expected) <= tolerance,
          f"{what}: {value}, expected {expected} +- {tolerance}")


def node_sum(node):
    """All that has to add up to total-bytes."""
    return (node["free-bytes"] + node["unevictable-bytes"] +
            node["kernel-bytes"] +
            sum(b["swap-backed-bytes"] + b["file-backed-bytes"]
                for b in node["bins"]))


def swap_backed(report, first_bin=0, last_bin=None):
    """Bytes in bins first_bin to last_bin (without) of all nodes."""
    return sum(b["swap-backed-bytes"] for node in report["nodes"]
               for b in node["bins"][first_bin:last_bin])


class Pressure:
    """Page cache that nobody needs fills the guest's memory, so that kswapd
    runs again and again. The file has no blocks. Needs a guest with a disk."""

    def __init__(self, guest):
        self._guest = guest
        guest.sh("[ -e /mnt/large ] || truncate -s 768M /mnt/large")
        self._pid = guest.background(
            "while :; do cat /mnt/large >/dev/null; done", "pressure")

    def __enter__(self):
        before = self._scanned()
        vm.wait_for(lambda: self._scanned() > before, 60, "kswapd to run")
        return self

    def _scanned(self):
        return int(self._guest.sh(
            "sed -n 's/^pgscan_kswapd //p' /proc/vmstat"))

    def __exit__(self, *exception):
        if self._guest.alive():
            self._guest.sh(f"kill {self._pid}; killall cat; "
                           "echo 1 >/proc/sys/vm/drop_caches")
