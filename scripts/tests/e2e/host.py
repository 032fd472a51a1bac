# SPDX-License-Identifier: GPL-2.0
"""Tests that need no guest."""

import os
import re
import subprocess
import sys

import vm
from e2e import Skip, check


def run(arguments, **options):
    """Output of a command that has to succeed."""
    done = subprocess.run(
        [str(a) for a in arguments], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        errors="replace", check=False, **options)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise AssertionError(f"exit status {done.returncode} from "
                             f"{' '.join(map(str, arguments))}\n{tail}")
    return done.stdout


def count_ok(output):
    """Note about TAP output that contains at least one passed test."""
    number = len(re.findall(r"^ *ok \d+", output, re.MULTILINE))
    check(number, f"no test ran:\n{output}")
    return f"{number} subtests"


def test_overlay_tool(_env):
    output = run([sys.executable, "-B",
                  vm.ROOT / "scripts/tests/test_overlay.py"])
    return f"{re.search(r'Ran ([0-9]+) tests?', output).group(1)} subtests"


def test_what_measures_and_draws(_env):
    tests = 0
    for name in ("distribution", "accuracy_plot", "bench_reports", "terminal"):
        output = run([sys.executable, "-B",
                      vm.ROOT / f"scripts/tests/test_{name}.py"])
        tests += int(re.search(r"Ran ([0-9]+) tests?", output).group(1))
    return f"{tests} subtests"


def test_wire_format_is_the_same_everywhere(_env):
    output = run([sys.executable, "-B",
                  vm.ROOT / "scripts/tests/test_virtio_spec.py"])
    skipped = ", without pdflatex" if "skipped" in output else ""
    return f"{re.search(r'Ran ([0-9]+) tests?', output).group(1)} subtests" \
           f"{skipped}"


def test_patches_are_complete(_env):
    run([vm.ROOT / "scripts/overlay", "check"])


def test_disabled_changes_no_code(env):
    run([vm.ROOT / "scripts/check-disabled", env.base])


def qtest(name):
    qemu = vm.qemu_binary()
    binary = qemu.with_name("qtest") / name
    if not binary.exists():
        raise Skip(f"no {binary}")
    environment = dict(os.environ, QTEST_QEMU_BINARY=str(qemu),
                       G_TEST_DBUS_DAEMON="")
    return count_ok(run([binary, "--tap"], env=environment, timeout=300))


def test_qtest_of_working_set(_env):
    return qtest("virtio-balloon-working-set-test")


def test_qtest_of_balloon(_env):
    return qtest("virtio-balloon-test")


def test_host_tools(_env):
    return count_ok(run(["make", "-C", vm.ROOT / "tools/wsr", "-s",
                         f"O={vm.OUT}", "check"], timeout=1500))
