# SPDX-License-Identifier: GPL-2.0
"""A small cgroup on a node so large that one look can't search all of it."""

from e2e import check, near
from vm import Bands, parse_histogram, wait_for

MIB = 1 << 20
CGROUPS = "/sys/fs/cgroup"
SMALL = f"{CGROUPS}/small"
FILES = f"{SMALL}/memory.working_set"
# A look visits 2^17 page frames at most, see mm/wsr/ages.c.
MEMORY = "2560M"
LOOKS = 4


def stat(guest):
    lines = guest.sh(f"cat {FILES}.stat").splitlines()
    return {key: int(value) for key, value in map(str.split, lines)}


def swap_backed(guest):
    """Bytes in each bin"""
    return [anon for _, anon, _ in
            parse_histogram(guest.sh(f"cat {FILES}.histogram"))]


def complete(guest):
    now = stat(guest)
    return None if now["warming_up"] else now


def test_takes_several_looks(env):
    """What was there before is found; until then, the report says so. The
    memory is hardly used, so the search must not wait for accesses."""
    guest = env.start("large", memory=MEMORY)
    try:
        guest.sh(f"echo +memory >{CGROUPS}/cgroup.subtree_control")
        bands = Bands(guest, f"cgroup={SMALL} 8M:never")
        guest.sh(f"echo 60000 >{FILES}.refresh_ms; "
                 f"echo 2000,1000000 >{FILES}.intervals_ms")
        check(stat(guest)["warming_up"], "the first look was the last")
        found = wait_for(lambda: complete(guest), 60, "the search to end", 0.2)
        check(found["refreshes"] >= LOOKS,
              f"only {found['refreshes']} looks to search {MEMORY}")
        near(found["sampled_folios"], 8 * MIB / 4096, 100, "samples")

        # A second cgroup and a search for it change nothing for the first.
        guest.sh(f"mkdir {CGROUPS}/other; "
                 f"echo 1000 >{CGROUPS}/other/memory.working_set.intervals_ms; "
                 f"rmdir {CGROUPS}/other; echo 500 >{FILES}.refresh_ms")
        wait_for(lambda: swap_backed(guest)[0] < MIB, 60,
                 "the cold memory to be old", 0.5)
        bands.quit()
        guest.check_logs()
    finally:
        env.close_guest("large")
    return f"{found['refreshes']} looks"
