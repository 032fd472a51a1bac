# SPDX-License-Identifier: GPL-2.0
"""The reclaim request: memory that is not used goes, memory in use stays."""

import time

import vm
from e2e import check
from e2e.selftests import run_selftest

IDLE_MS = 8000
MIB = 1 << 20


def vmstat(guest):
    lines = guest.sh("cat /proc/vmstat").splitlines()
    return {key: int(value) for key, value in map(str.split, lines)}


def grown_mib(before, after, *keys):
    return sum(after[key] - before[key] for key in keys) * 4096 / MIB


class Swapping:
    """A guest with swap space and a disk that runs bands and is watched."""

    def __init__(self, env, *bands):
        self._env = env
        self.guest = env.start("reclaim", memory="768M", disk=True, swap="400M")
        self.bands = vm.Bands(self.guest, "-d /mnt", *bands)
        self.guest.sh(f"cd {self.guest.node_file('')} && "
                      f"echo 1000 >refresh_ms && echo {IDLE_MS} >intervals_ms")

    def wait_idle(self, mib):
        """Until so much is idle, and ages are known, not estimated."""
        def idle():
            return self.guest.read_stat()["refreshes"] >= 4 and \
                sum(self.guest.read_histogram()[-1][1:]) >= mib * MIB

        vm.wait_for(idle, 90, f"{mib} MiB idle for {IDLE_MS} ms", 0.5)

    def request(self, words):
        """(exit status, seconds)"""
        start = time.monotonic()
        status, _ = self.guest.run(
            f"echo {words} >{self.guest.node_file('reclaim')}", timeout=180)
        return status, time.monotonic() - start

    def __enter__(self):
        return self

    def __exit__(self, kind, *exception):
        if kind is None:
            self.guest.check_logs()
            self._env.close_guest("reclaim")


def test_selftest(env):
    return run_selftest(env.guest("plain"), "reclaim /mnt")[0]


def test_cold_memory_goes_hot_memory_stays(env):
    with Swapping(env, "96M:1", "128M:never", "64M:1:read",
                  "96M:never:read") as test:
        test.wait_idle(210)
        before = vmstat(test.guest)
        status, seconds = test.request(f"600M {IDLE_MS}")
        stat = test.guest.read_stat()
        time.sleep(5)  # what was hot is back by then
        after = vmstat(test.guest)
        reclaimed = stat["reclaimed"] / MIB
        check(status == 0, f"status {status}, {stat}")
        check(reclaimed >= 210, f"only {reclaimed:.0f} MiB were reclaimed")
        anon = grown_mib(before, after, "pswpin")
        cache = grown_mib(before, after, "workingset_refault_file")
        note = (f"{reclaimed:.0f} MiB in {seconds:.1f} s, of these hot: "
                f"{anon:.1f} of 96 MiB anonymous, {cache:.1f} of 64 MiB file")
        check(anon <= 5 and cache <= 4, note)
    return note


def test_signal_ends_a_request(env):
    with Swapping(env, "64M:never") as test:
        test.wait_idle(60)
        start = time.monotonic()
        # The first request waits until the LRU knows what is used.
        test.guest.run("timeout 2 sh -c 'echo 1G "
                       f"{IDLE_MS} >{test.guest.node_file('reclaim')}'")
        seconds = time.monotonic() - start
        stat = test.guest.read_stat()
        check(seconds < IDLE_MS / 1000, f"it went on for {seconds:.1f} s")
        check(stat["reclaim_requests"] == 1 and
              stat["reclaimed"] < stat["reclaim_requested"],
              f"it was over before the signal: {stat}")
    return f"{seconds:.1f} s"
