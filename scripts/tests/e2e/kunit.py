# SPDX-License-Identifier: GPL-2.0
"""KUnit suites, which run while the guest's kernel boots."""

import re

from e2e import Skip, check


def test_suites_pass(env):
    guest = env.guest("plain")
    suites = guest.sh("ls /sys/kernel/debug/kunit 2>/dev/null || true").split()
    suites = [suite for suite in suites if suite.startswith("wsr")]
    if not suites:
        raise Skip("the kernel is built without the KUnit suites of WSR")
    cases = 0
    for suite in suites:
        results = guest.sh(f"cat /sys/kernel/debug/kunit/{suite}/results")
        failed = re.findall(r"^ *not ok .*", results, re.MULTILINE)
        check(not failed, f"{suite}:\n{results}")
        check(re.search(rf"^ok \d+ {suite}\b", results, re.MULTILINE),
              f"{suite} did not finish:\n{results}")
        # Cases are indented once, parameters of a case twice.
        cases += len(re.findall(r"^ {4}ok ", results, re.MULTILINE))
    return f"{len(suites)} suites, {cases} cases"
