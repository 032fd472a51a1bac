# SPDX-License-Identifier: GPL-2.0
"""A minute of fuzzing; check-full does more."""

import re
import shutil

import vm
from e2e import Skip
from e2e.host import run

SECONDS = 60


def test_report_parser(_env):
    if not shutil.which("clang") or not shutil.which("llvm-cov"):
        raise Skip("there is no clang or llvm-cov; run scripts/packages fuzz")
    output = run([vm.ROOT / "scripts/fuzz", "--seconds", SECONDS, "report"])
    runs, parser = re.search(r"^report +(\d+) .* (\d+/\d+) +- +- +ok$", output,
                             re.MULTILINE).groups()
    return f"{runs} reports, {parser} lines of the parser"


def test_host_tools(_env):
    """All that wsrd and wsrtop read, side by side"""
    if not shutil.which("clang"):
        raise Skip("there is no clang; run scripts/packages fuzz")
    output = run(["make", "-C", vm.ROOT / "tools/wsr", "-s", f"O={vm.OUT}",
                  "fuzz", f"SECONDS={SECONDS}"], timeout=1500)
    return ", ".join(re.findall(r"^ok \d+ - wsr fuzz: (.*)$", output,
                                re.MULTILINE))
