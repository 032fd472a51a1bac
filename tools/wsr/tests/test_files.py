#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What comes with the programs: do example, manual pages, completion and unit
say what the programs do?

usage: test_files.py DIRECTORY [NAME]...

DIRECTORY has the programs. Prints TAP.
"""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import test_wsrd
from test_wsrd import check

HERE = pathlib.Path(__file__).resolve().parent.parent


def run(*command, **options):
    """Output of a command that has to succeed"""
    done = subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False,
                          **options)
    check(done.returncode == 0, f"{command}: {done.stdout}")
    return done.stdout


def built(*programs):
    """Those of them that are there: wsr-libvirt needs libvirt's library."""
    return [program for program in programs if program != "wsr-libvirt" or
            (test_wsrd.PROGRAMS / program).exists()]


def keys():
    """Of the configuration, out of its tables"""
    text = (HERE / "wsrd/config.c").read_text()
    found = re.findall(r'^\t(?:HOST|POLICY)\("([\w-]+)"|'
                       r'^\t\{ "(?:host|policy|reports|vm)", "([\w-]+)"',
                       text, re.M)
    names = {first or second for first, second in found}
    check(len(names) > 40, f"{names}")
    return names


def commands():
    """Of wsrctl, out of its help"""
    output = run(test_wsrd.PROGRAMS / "wsrctl", "--help")
    return set(re.findall(r"^  ([a-z][a-z-]+)", output, re.M))


def test_example_configuration():
    """Every key, with values that are accepted"""
    example = HERE / "wsrd/wsrd.conf"
    text = example.read_text()
    given = set(re.findall(r"^#([\w-]+) = ", text, re.M))
    check(given == keys(), f"differ: {given ^ keys()}")
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "wsrd.conf"
        for content in (text, re.sub(r"^#([\w-]+ = |\[)", r"\1", text,
                                     flags=re.M)):
            path.write_text(content)
            output = run(test_wsrd.PROGRAMS / "wsrd", "--check", "-c", path)
            check("no errors" in output, output)
    return f"{len(given)} keys"


def test_manual_pages():
    """All keys, commands and options are described; no page has errors."""
    config = (HERE / "wsrd/wsrd.conf.5").read_text().replace("\\-", "-")
    described = set(re.findall(r'^\.BI ([\w-]+) " = ', config, re.M))
    check(described == keys(), f"differ: {described ^ keys()}")
    control = (HERE / "wsrctl/wsrctl.1").read_text().replace("\\-", "-")
    described = set(re.findall(r"^\.B[IR]? ([a-z][a-z-]+)", control.partition(
        ".SH COMMANDS")[2].partition(".SH OPTIONS")[0], re.M))
    check(commands() <= described, f"missing: {commands() - described}")
    top = (HERE / "wsrtop.1").read_text().replace("\\-", "-")
    pages = {"wsrctl": control, "wsrtop": top,
             "wsrd": (HERE / "wsrd/wsrd.8").read_text(),
             "wsr-libvirt": (HERE / "wsr-libvirt/wsr-libvirt.8").read_text()}
    for program in built(*pages):
        page = pages[program]
        for option in re.findall(r"--[a-z-]+", run(
                test_wsrd.PROGRAMS / program, "--help")):
            check(option in page.replace("\\-", "-"), f"{program}: {option}")
    if not shutil.which("man"):
        return "without man"
    for page in ("wsrtop.1", "wsrctl/wsrctl.1", "wsrd/wsrd.8",
                 "wsrd/wsrd.conf.5", "wsr-libvirt/wsr-libvirt.8"):
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", HERE / page],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
            check=False)
        check(not done.stderr, f"{page}: {done.stderr}")
    return None


def test_completion():
    """All commands and options are offered."""
    text = (HERE / "completion/wsrctl").read_text()
    for word in commands():
        check(re.search(rf"\b{word}\b", text), f"wsrctl {word}")
    for program in built("wsrctl", "wsrd", "wsrtop", "wsr-libvirt"):
        path = HERE / "completion" / program
        run("bash", "-n", path)
        for option in re.findall(r"--[a-z-]+", run(
                test_wsrd.PROGRAMS / program, "--help")):
            check(option in path.read_text(), f"{program}: {option}")


def test_install_and_unit():
    """make install puts all in place, and systemd accepts the unit."""
    with tempfile.TemporaryDirectory() as directory:
        output = test_wsrd.PROGRAMS.parent
        run("make", "-s", "-C", HERE, "install", f"O={output}",
            f"DESTDIR={directory}", "PREFIX=/usr", env={
                name: value for name, value in os.environ.items()
                if not name.startswith(("MAKE", "MFLAGS"))})
        root = pathlib.Path(directory)
        for name in ("usr/sbin/wsrd", "usr/bin/wsrctl", "usr/bin/wsrtop",
                     "etc/wsr/wsrd.conf", "usr/share/wsr/alerts.yml",
                     "usr/share/man/man8/wsrd.8",
                     "usr/share/man/man5/wsrd.conf.5",
                     "usr/share/man/man1/wsrctl.1",
                     "usr/share/bash-completion/completions/wsrctl",
                     "usr/share/bash-completion/completions/wsrtop",
                     "usr/lib/systemd/system/wsrd.service"):
            check((root / name).is_file(), f"{name} is missing")
        for name in ("sbin/wsr-libvirt", "share/man/man8/wsr-libvirt.8",
                     "share/bash-completion/completions/wsr-libvirt",
                     "lib/systemd/system/wsr-libvirt.service"):
            check((root / "usr" / name).is_file() == ("wsr-libvirt" in
                  built("wsr-libvirt")), f"{name}")
        if not shutil.which("systemd-analyze"):
            return "without systemd-analyze"
        return "exposure " + ", ".join(
            f"{program} {exposure(root, program)}"
            for program in built("wsrd", "wsr-libvirt"))


def exposure(root, program):
    """Of an installed unit, as systemd sees it"""
    unit = root / f"usr/lib/systemd/system/{program}.service"
    # What verify looks for is in another directory.
    unit.write_text(unit.read_text().replace("/usr/sbin/",
                                             f"{root}/usr/sbin/"))
    run("systemd-analyze", "--man=no", "verify", unit)
    output = run("systemd-analyze", "security", "--offline=yes", unit)
    score = re.search(r"exposure level for \S+: ([\d.]+)", output)
    check(float(score[1]) < 3.5, output)
    return score[1]


if __name__ == "__main__":
    test_wsrd.main({name: value for name, value in globals().items()
                    if name.startswith("test_") and callable(value)}, "files")
