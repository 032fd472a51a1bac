# SPDX-License-Identifier: GPL-2.0
"""tools/testing/selftests/wsr in the guest."""

import re

from e2e import Skip, check

KSFT_SKIP = 4


def run_selftest(guest, command, timeout=180):
    """Returns a note about the subtests and all of the output."""
    status, output = guest.run(f"cd /kselftest/wsr && ./{command}", timeout)
    results = re.findall(r"^(ok|not ok) \d+ (.*)", output, re.MULTILINE)
    skipped = [text for _, text in results if "# SKIP" in text]
    if status == KSFT_SKIP:
        raise Skip(output.split("# SKIP")[-1].strip())
    failed = [text for result, text in results if result == "not ok"]
    check(status == 0 and results and not failed,
          f"exit status {status}\n{output}")
    note = f"{len(results) - len(skipped)} subtests"
    if skipped:
        note += f", {len(skipped)} skipped"
    return note, output


def test_node_files(env):
    return run_selftest(env.guest("plain"), "node_files")[0]


def test_memcg_files(env):
    """On two nodes, which have to add up to a cgroup."""
    guest = env.start("memcg", memory="512M", nodes=2, swap="64M", disk=True)
    try:
        note, _ = run_selftest(guest, "memcg_files /mnt", timeout=400)
        guest.check_logs()
    finally:
        env.close_guest("memcg")
    return note


def test_poll(env):
    return run_selftest(env.guest("plain"), "poll /mnt")[0]


def test_hot_memory_stays_young(env):
    """In a guest with little memory: a small set has more samples there."""
    guest = env.start("small", memory="128M")
    try:
        note, _ = run_selftest(guest, "hot")
        guest.check_logs()
    finally:
        env.close_guest("small")
    return note


def accuracy(env, bands):
    """In a guest of its own, where nothing happened before."""
    guest = env.start("accuracy", memory="512M", disk=True)
    try:
        _, output = run_selftest(guest, f"accuracy -t 0.05 -d /mnt {bands}")
        guest.check_logs()
    finally:
        env.close_guest("accuracy")
    return re.search(r"worst (ks=\S+)", output).group(1)


def test_accuracy_of_anonymous_bands(env):
    return accuracy(env, "32M:0.2 32M:3 32M:8 32M:never")


def test_accuracy_of_all_kinds_of_bands(env):
    return accuracy(env, "16M:0.2 16M:3 16M:never 16M:0.2:shmem 16M:8:shmem "
                         "16M:never:shmem 16M:0.2:read 16M:3:read "
                         "16M:never:read")
