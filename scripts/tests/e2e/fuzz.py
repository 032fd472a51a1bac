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
