# SPDX-License-Identifier: GPL-2.0
"""Memcgs, tasks, settings and blocks of memory come and go while they are
watched; and allocations fail.

scripts/check-full makes it longer: WSR_CHURN_ROUNDS, WSR_CHURN_MEMCGS.
"""

import os
import re

from e2e import check
from e2e.selftests import run_selftest

ROUNDS = int(os.environ.get("WSR_CHURN_ROUNDS", "300"))
MEMCGS = int(os.environ.get("WSR_CHURN_MEMCGS", "20"))
WARM_UP_ROUNDS = 150
# With a debug kernel in an emulated guest
SECONDS_PER_ROUND = 0.5

# After an oops the guest restarts, which ends the test. Otherwise all would
# wait for locks that a dead task holds.
STOP_AT_ONCE = "oops=panic"

# A leak of one object in a round would be ROUNDS of them; dentries and inodes
# differ by up to a hundred anyway.
LEAK_OBJECTS = max(ROUNDS // 2, 150)
# Caches of the means of debugging themselves
UNRELATED = re.compile("kmemleak|debug_objects")


def slab_objects(guest):
    """{name of a slab cache: (objects in use, what they may differ by)}

    All objects of the slabs that CPUs work with count as in use: some slabs."""
    guest.sh("echo 3 >/proc/sys/vm/drop_caches; "
             "for file in /sys/kernel/slab/*/shrink; do echo 1 >$file; done",
             timeout=120)
    lines = guest.sh("cat /proc/slabinfo").splitlines()[2:]
    fields = [line.split() for line in lines]
    return {words[0]: (int(words[1]), 4 * int(words[4])) for words in fields}


def check_slab(before, after):
    leaks = {}
    for name, (count, noise) in after.items():
        old = before.get(name, (0, 0))[0]
        if count - old >= LEAK_OBJECTS + noise and not UNRELATED.search(name):
            leaks[name] = f"{old} -> {count}"
    check(not leaks, f"objects left behind in slab caches: {leaks}")


def check_kmemleak(guest):
    """Fails if there is memory that nobody refers to. Returns a note; without
    CONFIG_DEBUG_KMEMLEAK there is nothing to see."""
    path = "/sys/kernel/debug/kmemleak"
    # It is there even if it was switched off because it ran out of memory.
    if guest.run(f"echo scan >{path}", timeout=300)[0]:
        return ""
    # What is younger than 5 s is not reported: it may just be passed on.
    guest.sh(f"sleep 6; echo scan >{path}", timeout=300)
    found = guest.sh(f"cat {path}")
    check("unreferenced object" not in found, f"kmemleak:\n{found}")
    return ", no leak for kmemleak"


def churn(guest, rounds):
    """Returns what happened."""
    _, output = run_selftest(
        guest, f"wsr_churn -m {MEMCGS} -r {rounds}",
        timeout=300 + SECONDS_PER_ROUND * rounds + MEMCGS)
    return re.search(r"^# (\d+ memcgs removed.*)", output, re.M).group(1)


def test_all_comes_and_goes(env):
    """In a guest whose last blocks of memory can go offline."""
    guest = env.start("churn", memory="1G",
                      append=f"movablecore=256M {STOP_AT_ONCE}")
    try:
        churn(guest, WARM_UP_ROUNDS)
        before = slab_objects(guest)
        note = churn(guest, ROUNDS)
        check_slab(before, slab_objects(guest))
        note += check_kmemleak(guest)
        guest.check_logs()
    finally:
        env.close_guest("churn")
    return note


def test_allocations_fail(env):
    """Skipped unless the kernel has fault injection."""
    guest = env.start("faults", memory="512M", append=STOP_AT_ONCE)
    try:
        note, _ = run_selftest(guest, "wsr_faults", timeout=600)
        note += check_kmemleak(guest)
        check(guest.request_report()["status"] == "ok",
              "no report afterwards")
        guest.check_logs()
    finally:
        env.close_guest("faults")
    return note
