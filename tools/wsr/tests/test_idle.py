#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""wsrd and idle pages, with files that look like those of a kernel.

usage: test_idle.py DIRECTORY [NAME]...

DIRECTORY has the programs. Prints TAP.
"""
import contextlib
import os
import pathlib
import signal
import struct
import sys
import tempfile
import threading

import test_wsrd
from fleet import GREETING, MIB, Fleet
from test_wsrd import (QUICK, Daemon, check, killed_at_the_end, wait_for,
                       wsrctl)

PAGE = 4096
START = 0x10000000
FIRST_FRAME = 4096
PRESENT, SWAPPED = 1 << 63, 1 << 62
LRU = 1 << 5


class Kernel:
    """/proc and /sys of a host with one QEMU, which this process is. Its memory
    is hot, cold, swapped out, and never touched, in this order."""

    def __init__(self, directory, hot, cold, swapped, empty):
        self.root = pathlib.Path(directory) / "kernel"
        process = self.root / "proc" / str(os.getpid())
        process.mkdir(parents=True)
        idle = self.root / "sys/kernel/mm/page_idle"
        idle.mkdir(parents=True)
        pages = (hot + cold) // PAGE
        size = hot + cold + swapped + empty
        (process / "maps").write_text(
            "00400000-00401000 r-xp 00000000 00:00 0 /qemu\n"
            f"{START:08x}-{START + size:08x} rw-p 00000000 00:00 0 \n")
        with open(process / "pagemap", "wb") as pagemap:
            pagemap.seek(START // PAGE * 8)
            pagemap.write(b"".join(struct.pack("Q", PRESENT | frame)
                                   for frame in range(FIRST_FRAME,
                                                      FIRST_FRAME + pages)))
            pagemap.write(struct.pack("Q", SWAPPED) * (swapped // PAGE))
            pagemap.write(bytes(empty // PAGE * 8))
        (self.root / "proc/kpageflags").write_bytes(
            struct.pack("Q", LRU) * (FIRST_FRAME + pages))
        self.bitmap = idle / "bitmap"
        self.bitmap.write_bytes(bytes((FIRST_FRAME + pages) // 8))
        self.hot = hot
        self.maps = process / "maps"
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        """What is hot is used all the time."""
        with open(self.bitmap, "r+b", buffering=0) as bitmap:
            while not self.ended.wait(0.05):
                bitmap.seek(FIRST_FRAME // 8)
                bitmap.write(bytes(self.hot // PAGE // 8))

    def close(self):
        """No more use"""
        self.ended.set()
        self.thread.join()


@contextlib.contextmanager
def setup(config=None, memory="1200M", **attributes):
    """A guest of 1536 MiB: yields (kernel, guest, wsrd)"""
    with tempfile.TemporaryDirectory(prefix="wsrd-") as directory, \
            Fleet(directory, 1, size=1536 * MIB, **attributes) as fleet:
        kernel = Kernel(directory, 600 * MIB, 512 * MIB, 128 * MIB, 296 * MIB)
        daemon = Daemon(directory, {
            **QUICK, "policy": {**QUICK["policy"], "working-set-age": "3s",
                                "min-age": "2s", "active-age": "2s"},
            "host": {"memory": memory, "idle-pages": kernel.root,
                     "lru-gen": "", **(config or {})}})
        try:
            with killed_at_the_end(daemon):
                yield kernel, fleet["vm0"], daemon
        finally:
            kernel.close()


def near(value, expected, what):
    """Three sigma of 1024 samples are 5 % at most."""
    check(abs(value - expected) < 0.05 * 1536 * MIB,
          f"{what}: {value >> 20} MiB, not {expected >> 20} MiB")


def test_guest_without_reports():
    """Its ages are those of its pages."""
    with setup(feature=False) as (_, guest, daemon):
        wait_for(lambda: daemon.vm("vm0").get("source") == "idle-pages",
                 "source")
        # What was never touched can go at once; then what gets cold.
        wait_for(lambda: guest.actual < 1240 * MIB, "smaller balloon")
        wait_for(lambda: daemon.vm("vm0")["working-set-bytes"] < 680 * MIB,
                 "smaller working set")
        facts = daemon.vm("vm0")["idle-pages"]
        near(facts["resident-bytes"], 1112 * MIB, "resident")
        near(facts["swapped-bytes"], 128 * MIB, "swapped")
        near(facts["empty-bytes"], 296 * MIB, "empty")
        check(facts["untracked-bytes"] == 0 and facts["since-s"] >= 3,
              f"{facts}")
        near(daemon.vm("vm0")["working-set-bytes"], 600 * MIB, "working set")
        check(guest.actual > 560 * MIB, f"{guest.actual >> 20} MiB left")
        output = wsrctl(daemon, "explain", "vm0")
        check("sample of its pages" in output and "never touched" in output,
              output)


def test_page_cache_is_known():
    """Statistics of the balloon do not take the place of ages."""
    statistics = {"stat-total-memory": 1536 * MIB,
                  "stat-free-memory": 296 * MIB,
                  "stat-disk-caches": 400 * MIB}
    with setup(memory="4G", feature=False, statistics=statistics) as \
            (_, _guest, daemon):
        wait_for(lambda: daemon.vm("vm0").get("source") == "idle-pages",
                 "source")
        wait_for(lambda: daemon.vm("vm0")["free-bytes"] == 296 * MIB, "free")
        wait_for(lambda: 520 * MIB < daemon.vm("vm0")["working-set-bytes"] <
                 680 * MIB, "working set")
        check(daemon.vm("vm0")["source"] == "idle-pages", "source")


def test_report_is_checked():
    """A guest that calls used memory idle is noticed."""
    def mangle(report):
        bins = report["nodes"][0]["bins"]
        bins[-1]["swap-backed-bytes"] += bins[0]["swap-backed-bytes"]
        bins[0]["swap-backed-bytes"] = 0

    with setup(memory="4G", hot=600 * MIB, cold=512 * MIB) as \
            (_, guest, daemon):
        wait_for(lambda: daemon.vm("vm0").get("cross-check") == "agrees",
                 "agreement")
        check(daemon.vm("vm0")["source"] == "guest", "source")
        guest.mangle = mangle
        wait_for(lambda: daemon.vm("vm0")["cross-check"] == "uses-more",
                 "contradiction")


def rights(pid):
    """CAP_SYS_ADMIN and CAP_SYS_PTRACE of a process"""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    return effective & (1 << 21 | 1 << 19)


def children(pid):
    """Processes that it has started"""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, rest = path.read_text().rsplit(")", 1)
            if int(rest.split()[1]) == pid:
                found.append((int(path.parent.name), name.split("(")[1]))
    return found


def since(daemon):
    """For how long its VM was sampled, in seconds"""
    return daemon.vm("vm0").get("idle-pages", {}).get("since-s", 0)


def test_processes():
    """One child samples. It ends with wsrd, which has fewer rights."""
    with setup(feature=False) as (_, _guest, daemon):
        wait_for(lambda: daemon.vm("vm0").get("source") == "idle-pages",
                 "source")
        (helper, name), = children(daemon.process.pid)
        check(name == "wsrd-privileged", name)
        (sampler, name), = children(helper)
        check(name == "wsrd-idle", name)
        check(not rights(daemon.process.pid), "wsrd has kept its rights")
        check(os.geteuid() or rights(sampler), "the child has no rights")
        wait_for(lambda: since(daemon) > 1, "time")
        daemon.reload()
        wait_for(lambda: "read again" in daemon.messages(), "reload")
        check(since(daemon) > 1, "what was known is lost")
        wait_for(lambda: since(daemon) > 3, "more time")
        check(children(helper) == [(sampler, name)], "another child")

        # It ends with its socket.
        on = daemon.config.read_text()
        daemon.config.write_text(on.replace("idle-pages = /", "#"))
        daemon.reload()
        wait_for(lambda: not pathlib.Path(f"/proc/{sampler}").exists(),
                 "end of the child")
        check(not since(daemon), "samples of nobody")
        daemon.config.write_text(on)
        daemon.reload()
        wait_for(lambda: children(helper), "another child")
        wait_for(lambda: 0 < since(daemon) < 3, "samples of the new child")
        (sampler, _), = children(helper)
        daemon.kill()
        wait_for(lambda: not pathlib.Path(f"/proc/{sampler}").exists(),
                 "end of the child")


def test_child_is_killed():
    """Until the configuration is read again there are no ages."""
    with setup(feature=False) as (_, _guest, daemon):
        wait_for(lambda: since(daemon) > 1, "time")
        (helper, _), = children(daemon.process.pid)
        (sampler, _), = children(helper)
        os.kill(sampler, signal.SIGKILL)
        wait_for(lambda: "until wsrd reads its configuration again" in
                 daemon.messages(), "message")
        wait_for(lambda: not since(daemon), "end of old numbers")
        daemon.reload()
        wait_for(lambda: 0 < since(daemon) < 3, "samples of the new child")
        (other, _), = children(helper)
        check(other != sampler, "the same child")


def test_process_of_others():
    """A proxy tells the process of QEMU, but a QEMU can't name another one."""
    with setup(memory="4G", feature=False, greeting={**GREETING, "pid": 1},
               statistics={"stat-total-memory": 1536 * MIB,
                           "stat-free-memory": 400 * MIB,
                           "stat-disk-caches": 300 * MIB}) as \
            (_, guest, daemon):
        wait_for(lambda: "process 1: no idle pages" in daemon.messages(),
                 "the process that was told")
        if os.geteuid():
            return
        guest.stop()
        wait_for(lambda: "vm0: gone" in daemon.messages(), "end of the guest")
        # Who listens is noted, not who has made the socket.
        os.chmod(os.path.dirname(guest.path), 0o777)
        os.seteuid(65534)
        try:
            guest.start()
        finally:
            os.seteuid(0)
        wait_for(lambda: (daemon.vm("vm0") or {}).get("source") ==
                 "idle-pages", "ages of its own pages")


def test_memory_is_not_found():
    """Then there are no ages, and wsrd says so once."""
    with setup(memory="4G", feature=False, statistics={
            "stat-total-memory": 1536 * MIB, "stat-free-memory": 400 * MIB,
            "stat-disk-caches": 300 * MIB}) as (kernel, _guest, daemon):
        wait_for(lambda: daemon.vm("vm0").get("source") == "idle-pages",
                 "source")
        kernel.maps.write_text(
            "00400000-00401000 r-xp 00000000 00:00 0 /qemu\n")
        wait_for(lambda: daemon.vm("vm0")["source"] == "balloon-statistics",
                 "other source")
        check("no memory of the VM's size" in daemon.messages(),
              daemon.messages())
        check("idle-pages" not in daemon.vm("vm0"), "old numbers")


def test_kernel_without():
    """wsrd goes on, and says what is missing."""
    with tempfile.TemporaryDirectory() as directory, \
            setup({"idle-pages": directory}, feature=False) as \
            (_, _guest, daemon):
        wait_for(lambda: "CONFIG_IDLE_PAGE_TRACKING" in daemon.messages(),
                 "message")
        check(daemon.vm("vm0") is not None, "no VM")


if __name__ == "__main__":
    test_wsrd.main({name: value for name, value in globals().items()
                    if name.startswith("test_") and callable(value)}, "idle")
