#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""wsrd and control groups, in a directory that looks like a hierarchy of them.

usage: test_cgroup.py DIRECTORY [NAME]...

DIRECTORY has the programs. Prints TAP.
"""
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time

import test_wsrd
from fleet import MIB, Fleet
from test_wsrd import QUICK, Daemon, check, wait_for, wsrctl

GIB = 1 << 30
LRU_GEN_HEAD = "memcg     1 /\n node     0\n          0      90000" \
    "          7          9 \n"


class Group:
    """A control group that can be looked at, written to and shrunk."""

    def __init__(self, tree, path, hot=256 * MIB, cold=512 * MIB):
        self.path = tree / path
        self.hot = hot
        self.cold = cold
        self.reclaimed = 0
        self.follow = True      # do what memory.reclaim says
        self.create()

    def create(self):
        """As mkdir does"""
        self.path.mkdir(parents=True)
        for name, text in (("high", "max"), ("max", "max"), ("reclaim", ""),
                           ("swap.max", "max"), ("swap.current", "0")):
            self.write(name, text + "\n" if text else "")
        self.pressure(0)
        self.update()

    def remove(self):
        """As rmdir does"""
        shutil.rmtree(self.path)

    def write(self, name, text):
        """A file as the kernel shows it, at once"""
        temporary = self.path / (".new." + name)
        temporary.write_text(text)
        temporary.replace(self.path / ("memory." + name))

    def read(self, name):
        """The first line: a file does not shrink when it is written to."""
        return (self.path / ("memory." + name)).read_text().split("\n")[0]

    def pressure(self, percent):
        """Part of the time that it waits for memory"""
        self.write("pressure", f"some avg10={percent:.2f} avg60=0.00 "
                   "avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 "
                   "avg300=0.00 total=0\n")

    def update(self):
        """Numbers from hot and cold"""
        self.write("current", f"{self.hot + self.cold}\n")
        self.write("stat", f"anon {self.hot}\nfile {self.cold}\nkernel 0\n"
                   f"inactive_anon 0\nactive_anon {self.hot}\n"
                   f"inactive_file {self.cold}\nactive_file 0\n"
                   "unevictable 0\nslab_reclaimable 0\n"
                   "workingset_refault_anon 0\nworkingset_refault_file 0\n")

    def work(self):
        """What the kernel would do"""
        with contextlib.suppress(OSError, ValueError):
            wanted = int(self.read("reclaim") or 0) if self.follow else 0
            if wanted:
                self.write("reclaim", "")
                self.reclaimed += wanted
                self.cold = max(self.cold - wanted, 0)
                self.update()

    def high(self):
        """memory.high in bytes, or None"""
        text = self.read("high")
        return None if text == "max" else int(text)


class Tree:
    """Groups below a directory"""

    def __init__(self, directory):
        self.path = pathlib.Path(directory) / "tree"
        self.path.mkdir()
        self.groups = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def add(self, path, **options):
        """Another group"""
        group = Group(self.path, path, **options)
        self.groups.append(group)
        return group

    def _work(self):
        while not self.ended.wait(0.02):
            for group in list(self.groups):
                group.work()

    def close(self):
        """No more changes"""
        self.ended.set()
        self.thread.join()


@contextlib.contextmanager
def setup(names, memory, config=None, nr_guests=0, **attributes):
    """Containers and guests, and the configuration of a wsrd for them:
    yields (groups by name, fleet, function that starts it)"""
    with tempfile.TemporaryDirectory(prefix="wsrd-") as directory, \
            Fleet(directory, nr_guests, **attributes) as fleet:
        tree = Tree(directory)
        groups = {name: tree.add("pods/" + name) for name in names}
        sections = {f"cgroup {name}": {"cgroup": f"pods/{name}"}
                    for name in names if name != "qemu"}
        config = config or {}
        sections = {**QUICK, **sections, **config,
                    "host": {"memory": memory, "cgroup-root": tree.path,
                             "lru-gen": "", **config.get("host", {})}}
        daemons = []

        def start(*options):
            daemons.append(Daemon(directory, sections, *options))
            return daemons[-1]

        try:
            yield groups, fleet, start
        except BaseException:
            sys.stderr.write("".join(d.messages() for d in daemons[-1:]))
            raise
        finally:
            for daemon in daemons:
                if daemon.process.poll() is None:
                    daemon.kill()
            tree.close()


def children(pid):
    """Process ids"""
    return [int(child) for child in pathlib.Path(
        f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    """Whether a process runs"""
    with contextlib.suppress(OSError):
        state = pathlib.Path(f"/proc/{pid}/stat").read_text()
        return state.rpartition(")")[2].split()[0] != "Z"
    return False


def limited(*groups):
    """Whether all have a memory.high for less than they began with"""
    return all((group.high() or GIB) < 700 * MIB for group in groups)


def test_containers_share():
    """Cold memory is reclaimed until all fits, then it is limited."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        daemon = start()
        wait_for(lambda: limited(*groups.values()), "limits")
        for name, group in groups.items():
            check(group.reclaimed > 100 * MIB, f"{name}: {group.reclaimed}")
            status = daemon.vm(name)
            check(status["source"] == "memory.stat", f"{status}")
            check(group.hot <= status["target-bytes"] < group.high(),
                  f"{status}, high {group.high()}")
        total = sum(daemon.vm(name)["target-bytes"] for name in groups)
        check(total <= 1024 * MIB, f"targets: {total >> 20} MiB")
        output = wsrctl(daemon, "explain", "a")
        check("memory.reclaim" in output and "page cache that was used once"
              in output, output)


def test_enough_memory():
    """Nothing is reclaimed, nothing is limited."""
    with setup(["a", "b"], "4G", {"cgroup a": {"cgroup": "pods/a", "max": "1G"},
                                  "cgroup b": {"cgroup": "pods/b",
                                               "max": "1G"}}) as \
            (groups, _, start):
        daemon = start()
        wait_for(lambda: daemon.vm("a").get("reason") == "enough" and
                 daemon.vm("b").get("reason") == "enough", "decision")
        time.sleep(3)
        for group in groups.values():
            check(not group.reclaimed and group.high() is None,
                  f"{group.reclaimed}, {group.high()}")


def test_dry_run():
    """Decides, tells, and does nothing."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        for group in groups.values():
            group.write("working_set.intervals_ms", "\n")
        daemon = start("--dry-run")
        wait_for(lambda: daemon.ask("actions")["actions"], "actions")
        time.sleep(3)
        for group in groups.values():
            check(not group.reclaimed and group.high() is None and
                  not group.read("working_set.intervals_ms"),
                  f"{group.reclaimed}, {group.high()}")


def test_stop_restores():
    """memory.high is what it was before, and was never larger."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        groups["a"].write("high", f"{2 * GIB}\n")
        groups["b"].write("high", f"{300 * MIB}\n")
        daemon = start()
        wait_for(lambda: groups["a"].high() < GIB, "limit of a")
        check(groups["b"].high() == 300 * MIB, f"{groups['b'].high()}")
        daemon.stop()
        check(groups["a"].high() == 2 * GIB, f"{groups['a'].high()}")
        check(groups["b"].high() == 300 * MIB, f"{groups['b'].high()}")


def test_limit_is_lost():
    """Somebody has written to memory.high: it is set again."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        daemon = start()
        wait_for(lambda: limited(*groups.values()), "limits")
        groups["a"].write("high", "max\n")
        wait_for(lambda: limited(*groups.values()), "limit again", 10)
        daemon.stop()
        check(groups["a"].high() is None, f"{groups['a'].high()}")


def stays(condition, what, seconds=5):
    """For longer than wsrd needs to look twice"""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        check(condition(), what)
        time.sleep(0.05)


def test_stop_without_answer():
    """A QEMU that does not answer does not bring limits back."""
    with setup(["a", "b"], "1500M", nr_guests=1) as (groups, fleet, start):
        daemon = start()
        wait_for(lambda: limited(*groups.values()), "limits")
        wait_for(lambda: fleet["vm0"].actual < 1000 * MIB, "balloon")
        fleet["vm0"].silent = True
        daemon.process.terminate()
        check(daemon.process.wait(30) == 0, daemon.messages())
        check(not any(group.high() for group in groups.values()),
              [group.high() for group in groups.values()])


def test_group_without_qemu():
    """The next one there begins without a limit."""
    with setup(["qemu"], "700M", {"vm vm0": {"cgroup": "pods/qemu"}},
               nr_guests=1) as (groups, fleet, start):
        daemon = start()
        wait_for(groups["qemu"].high, "limit")
        fleet["vm0"].stop()
        wait_for(lambda: not groups["qemu"].high(), "end of the limit")
        stays(lambda: not groups["qemu"].high(), "a limit for nobody")
        daemon.stop()


def test_dry_run_later():
    """What was set stays, and is no more defended."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        daemon = start()
        wait_for(lambda: limited(*groups.values()), "limits")
        daemon.config.write_text(daemon.config.read_text().replace(
            "[host]\n", "[host]\ndry-run = yes\n"))
        daemon.reload()
        wait_for(lambda: daemon.ask("status")["host"]["dry-run"], "dry run")
        check(limited(groups["b"]), "the limit of b is gone")
        groups["a"].write("high", "max\n")
        stays(lambda: not groups["a"].high(), "a limit in a dry run")


def test_group_is_hidden():
    """What memory.high was is known even if the group can't be opened now."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        group = groups["a"]
        daemon = start()
        wait_for(lambda: limited(*groups.values()), "limits")
        daemon.kill()
        elsewhere = group.path.rename(group.path.with_name("elsewhere"))
        group.path.symlink_to(elsewhere)
        daemon.start()
        wait_for(lambda: daemon.vm("a").get("why"), "the reason")
        group.path.unlink()
        elsewhere.rename(group.path)
        wait_for(lambda: "size-bytes" in daemon.vm("a"), "a again")
        daemon.stop()
        check(group.high() is None, f"{group.high()}")


def test_stop_keeps():
    """on-stop = keep: for the next start, which still knows what was before"""
    with setup(["a", "b"], "1G", {"host": {"on-stop": "keep"}}) as \
            (groups, _, start):
        daemon = start()
        wait_for(lambda: limited(*groups.values()), "limits")
        daemon.stop()
        check(limited(*groups.values()), "limits are gone")
        daemon.start()
        wait_for(lambda: daemon.vm("a").get("high-bytes"), "limit of before")
        daemon.write_config({**QUICK, "host": {"memory": "1G", "lru-gen": "",
                             "cgroup-root": groups["a"].path.parent.parent}})
        daemon.reload()
        wait_for(lambda: not limited(groups["a"]) and not limited(groups["b"]),
                 "end of limits when the configuration names them no more")


def test_kill_and_restart():
    """What memory.high was before is not lost."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        groups["a"].write("high", f"{2 * GIB}\n")
        daemon = start()
        for _ in range(5):
            wait_for(lambda: limited(groups["b"]) and groups["a"].high() < GIB,
                     "limits")
            daemon.kill()
            daemon.start()
            wait_for(lambda: daemon.vm("b").get("high-bytes"), "known limit")
        daemon.kill()
        # One that is not watched any more is restored as well.
        daemon.write_config({**QUICK, "host": {
            "memory": "1G", "lru-gen": "",
            "cgroup-root": groups["a"].path.parent.parent}})
        daemon.start()
        daemon.stop()
        check(groups["a"].high() == 2 * GIB, f"{groups['a'].high()}")
        check(groups["b"].high() is None, f"{groups['b'].high()}")


def test_vanishes_and_returns():
    """Another group of the same name is a new one."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        group = groups["a"]
        group.write("high", f"{700 * MIB}\n")
        daemon = start()
        wait_for(lambda: limited(groups["b"]), "limits")
        group.remove()
        wait_for(lambda: "size-bytes" not in daemon.vm("a"), "end of a")
        wait_for(lambda: daemon.vm("a").get("why") ==
                 "there is no control group pods/a", "the reason")
        wait_for(lambda: not limited(groups["b"]) or
                 groups["b"].high() > 900 * MIB, "more for b")
        group.hot, group.cold = 256 * MIB, 512 * MIB
        group.create()
        group.write("high", f"{2 * GIB}\n")
        wait_for(lambda: daemon.vm("a").get("report-age-s") is not None,
                 "a again")
        check("why" not in daemon.vm("a"), "the reason stays")
        wait_for(lambda: group.high() < GIB, "limit of a")

        # While wsrd was not there to see it
        daemon.kill()
        old = group.path.rename(group.path.with_name("old"))
        group.create()
        group.write("high", f"{3 * GIB}\n")
        shutil.rmtree(old)
        daemon.start()
        wait_for(lambda: group.high() < GIB, "limit of a")
        daemon.stop()
        check(group.high() == 3 * GIB, f"{group.high()}")


def test_not_a_group():
    """Whatever keeps it from being opened is told."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        group = groups["a"]
        elsewhere = group.path.rename(group.path.with_name("elsewhere"))
        group.path.symlink_to(elsewhere)
        daemon = start()
        wait_for(lambda: "pods/a can't be opened: " in
                 daemon.vm("a").get("why", ""), "the reason")
        check("can't be opened" in wsrctl(daemon, "status"), "not in status")
        check(daemon.messages().count("pods/a can't be opened") == 1, "log")
        group.path.unlink()
        elsewhere.rename(group.path)
        wait_for(lambda: limited(group), "limit of a")


def test_slow_reclaim():
    """One that blocks holds nobody up, and ends when memory is given."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        slow = groups["a"]
        slow.follow = False
        os.unlink(slow.path / "memory.reclaim")
        # Opening it for writing blocks as long as nobody reads.
        os.mkfifo(slow.path / "memory.reclaim")
        daemon = start()
        helper = wait_for(lambda: children(daemon.process.pid), "process")[0]
        wait_for(lambda: children(helper), "blocked write")
        wait_for(lambda: groups["b"].reclaimed > 100 * MIB, "reclaim of b")
        began = time.monotonic()
        daemon.ask("status")
        check(time.monotonic() - began < 1, "no answer")
        wait_for(lambda: len(children(helper)) == 1, "end of all other writes")
        wait_for(lambda: limited(groups["b"]), "limit of b")
        daemon.stop()
        check(groups["b"].high() is None, "limit of b stays")
        wait_for(lambda: not alive(helper), "end of the process")


def test_process_ends():
    """With wsrd, however that ends; and wsrd with it."""
    with setup(["a"], "1G") as (groups, _, start):
        os.unlink(groups["a"].path / "memory.reclaim")
        os.mkfifo(groups["a"].path / "memory.reclaim")
        groups["a"].follow = False
        groups["a"].cold = GIB
        groups["a"].update()
        daemon = start()
        helper = wait_for(lambda: children(daemon.process.pid), "process")[0]
        # Signals to the whole service are not for it.
        os.kill(helper, signal.SIGTERM)
        writer = wait_for(lambda: children(helper), "blocked write")[0]
        daemon.kill()
        wait_for(lambda: not alive(helper) and not alive(writer), "end")
        daemon.start()
        os.kill(children(daemon.process.pid)[0], signal.SIGKILL)
        check(daemon.process.wait(10) == 1, f"{daemon.process.returncode}")


def test_no_way_out():
    """Not by dots, not by links: only what lies below the root is touched."""
    with setup(["a", "b", "c"], "1G") as (groups, _, start):
        root = groups["a"].path.parent.parent
        outside = Group(root.parent, "outside")
        groups["b"].remove()
        groups["b"].path.symlink_to(outside.path)
        os.unlink(groups["c"].path / "memory.high")
        (groups["c"].path / "memory.high").symlink_to(
            outside.path / "memory.high")
        os.unlink(groups["c"].path / "memory.reclaim")
        (groups["c"].path / "memory.reclaim").symlink_to(
            outside.path / "memory.reclaim")
        daemon = start()
        daemon.write_config({
            **QUICK, "host": {"memory": "512M", "cgroup-root": root,
                              "lru-gen": ""},
            "cgroup a": {"cgroup": root / "pods/a"},
            "cgroup b": {"cgroup": "/pods/b"},
            "cgroup c": {"cgroup": "/pods/c"},
            "cgroup d": {"cgroup": "../outside"},
            "cgroup e": {"cgroup": outside.path}})
        daemon.reload()
        wait_for(lambda: limited(groups["a"]), "limit of a")
        wait_for(lambda: "c: memory.reclaim: Too many levels" in
                 daemon.messages(), "refused link")
        check(outside.high() is None and not outside.read("reclaim"),
              f"{outside.high()}, {outside.read('reclaim')}")
        check("the control group pods/b can't be opened: Too many levels" in
              daemon.messages(), daemon.messages())
        for name in "bde":
            check("size-bytes" not in daemon.vm(name), f"{daemon.vm(name)}")


def test_pressed_container():
    """Who waits for memory is not shrunk."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        groups["a"].pressure(30)
        daemon = start()
        wait_for(lambda: daemon.vm("a").get("hold") == "stalls", "hold")
        wait_for(lambda: groups["b"].reclaimed, "reclaim of b")
        check(not groups["a"].reclaimed, "a was shrunk")
        groups["a"].pressure(0)
        wait_for(lambda: groups["a"].reclaimed, "reclaim of a")


def test_working_set_files():
    """A kernel with working set reporting is asked, and left as it was."""
    with setup(["a", "b"], "1G") as (groups, _, start):
        for group in groups.values():
            group.write("working_set.intervals_ms", "\n")
            group.write("working_set.histogram",
                        f"1000 anon={group.hot} file=0\n"
                        f"30000 anon=0 file=0\nmax anon=0 file={group.cold}\n")
            group.write("working_set.stat", f"total {group.hot + group.cold}\n"
                        "unevictable 0\nkernel 0\nslab_reclaimable 0\n"
                        "swap_free 0\nrefaulted 0\nage_ms 5\nwarming_up 0\n")
        groups["b"].write("working_set.intervals_ms", "5000\n")
        daemon = start()
        wait_for(lambda: groups["a"].read("working_set.intervals_ms"), "bounds")
        bounds = groups["a"].read("working_set.intervals_ms").split(",")
        check(bounds[:3] == ["1000", "2000", "4000"] and len(bounds) == 15,
              f"{bounds}")
        wait_for(lambda: daemon.vm("a").get("source") == "memory.working_set",
                 "source")
        check("kernel knows the ages" in wsrctl(daemon, "explain", "a"), "words")
        daemon.stop()
        check(not groups["a"].read("working_set.intervals_ms"), "still on")
        check(groups["b"].read("working_set.intervals_ms") == "5000",
              "somebody else's bounds")


def lru_gen(directory, *generations):
    """Writes the file: generations of /pods/a/below, and a strange group"""
    path = pathlib.Path(directory) / "lru_gen"
    lines = "".join(f" {number:10} {age:10} {anon >> 12:10}  {file >> 12:10} \n"
                    for number, age, anon, file in generations)
    path.write_text(LRU_GEN_HEAD + "memcg    42 /pods/a/below\n node     0\n" +
                    lines + "memcg    43 /pods/ab\n node     0\n" + lines)
    return path


def test_generations():
    """Without those files, ages are the multi-gen LRU's, which is told to
    age."""
    with tempfile.TemporaryDirectory() as directory:
        path = lru_gen(directory, (4, 900000, 0, 512 * MIB), (5, 800000, 0, 0),
                       (6, 700000, 0, 0), (7, 100000, 256 * MIB, 0))
        with setup(["a", "b"], "1G", {"host": {"lru-gen": path}}) as \
                (groups, _, start):
            daemon = start()
            wait_for(lambda: daemon.vm("a").get("source") == "lru_gen",
                     "source")
            wait_for(lambda: path.read_text().startswith("+ 42 0 7\n"),
                     "new generation")
            check(daemon.vm("b")["source"] == "memory.stat",
                  f"{daemon.vm('b')}")
            check("generations" in wsrctl(daemon, "explain", "a"), "words")
            lru_gen(directory, (4, 900000, 0, 512 * MIB), (5, 800000, 0, 0),
                    (6, 700000, 0, 0), (7, 10, 256 * MIB, 0))
            wait_for(lambda: groups["a"].reclaimed, "reclaim")


def test_high_follows_balloon():
    """Of a guest whose QEMU has a control group"""
    with setup(["qemu"], "700M", {"vm vm0": {"cgroup": "pods/qemu"}},
               nr_guests=1) as (groups, fleet, start):
        daemon = start()
        wait_for(lambda: fleet["vm0"].actual < 700 * MIB, "balloon")
        high = wait_for(groups["qemu"].high, "limit")
        target = daemon.vm("vm0")["target-bytes"]
        check(target < high < 1.2 * target + 128 * MIB,
              f"target {target >> 20}, high {high >> 20} MiB")
        check(not groups["qemu"].reclaimed, "reclaimed")
        daemon.stop()
        check(groups["qemu"].high() is None, "limit stays")
        check(fleet["vm0"].target == fleet["vm0"].size, "balloon stays")


def test_stuck_balloon_is_helped():
    """The host takes what a balloon does not give."""
    with setup(["qemu"], "700M", {"vm vm0": {"cgroup": "pods/qemu"}, "policy": {
            **QUICK["policy"], "stall-time": "2s"}}, nr_guests=1) as \
            (groups, fleet, start):
        fleet["vm0"].stuck = True
        daemon = start()
        wait_for(lambda: daemon.vm("vm0").get("reason") == "stuck", "stuck VM")
        wait_for(lambda: groups["qemu"].reclaimed, "memory.reclaim")


def test_guest_with_statistics():
    """A guest without reports, but with a balloon: free memory and cache"""
    with setup([], "1G", nr_guests=1, feature=False, size=1536 * MIB,
               statistics={"stat-total-memory": 1536 * MIB,
                           "stat-free-memory": 400 * MIB,
                           "stat-disk-caches": 300 * MIB}) as \
            (_, fleet, start):
        daemon = start()
        wait_for(lambda: daemon.vm("vm0").get("source") ==
                 "balloon-statistics", "source")
        wait_for(lambda: fleet["vm0"].actual < 1024 * MIB, "balloon")
        check(fleet["vm0"].actual > 836 * MIB, "used memory was taken")
        output = wsrctl(daemon, "explain", "vm0")
        check("sends no reports" in output, output)


def test_guest_by_generations():
    """A guest without reports, whose ages the host knows"""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "lru_gen"
        path.write_text("memcg 9 /pods/qemu\n node 0\n"
                        f" 4 900000 {512 * MIB >> 12} 0 \n 5 50000 0 0 \n"
                        f" 6 10 {256 * MIB >> 12} 0 \n")
        with setup(["qemu"], "4G", {"vm vm0": {"cgroup": "pods/qemu",
                                               "actuator": "cgroup"},
                                    "host": {"lru-gen": path, "memory": "700M"}},
                   nr_guests=1, feature=False) as (groups, fleet, start):
            group = groups["qemu"]
            group.write("stat", f"inactive_anon {512 * MIB}\nactive_anon "
                        f"{256 * MIB}\ninactive_file 0\nactive_file 0\n")
            daemon = start()
            wait_for(lambda: daemon.vm("vm0").get("source") == "lru_gen",
                     "source")
            check(daemon.vm("vm0")["actual-bytes"] == 768 * MIB,
                  f"{daemon.vm('vm0')}")
            check(not fleet["vm0"].balloon_commands(), "balloon")


def test_cross_check():
    """A guest that calls used memory idle is noticed."""
    def mangle(report):
        bins = report["nodes"][0]["bins"]
        bins[-1]["swap-backed-bytes"] += bins[0]["swap-backed-bytes"]
        bins[0]["swap-backed-bytes"] = 0

    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "lru_gen"
        path.write_text("memcg 9 /pods/qemu\n node 0\n 4 900000 0 0 \n"
                        f" 6 10 {768 * MIB >> 12} 0 \n")
        with setup(["qemu"], "4G", {"vm vm0": {"cgroup": "pods/qemu"},
                                    "host": {"lru-gen": path}},
                   nr_guests=1, hot=700 * MIB, cold=64 * MIB) as \
                (groups, fleet, start):
            groups["qemu"].write("stat", "inactive_anon 0\nactive_anon "
                                 f"{768 * MIB}\ninactive_file 0\n"
                                 "active_file 0\n")
            daemon = start()
            wait_for(lambda: daemon.vm("vm0").get("cross-check") == "agrees",
                     "agreement")
            fleet["vm0"].mangle = mangle
            wait_for(lambda: daemon.vm("vm0")["cross-check"] == "uses-more",
                     "contradiction")
            check("more memory than it reports" in
                  wsrctl(daemon, "explain", "vm0"), "words")


if __name__ == "__main__":
    test_wsrd.main({name: value for name, value in globals().items()
                    if name.startswith("test_") and callable(value)}, "cgroup")
