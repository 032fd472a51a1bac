#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Unit tests of scripts/overlay, on a small tree and a series of three steps."""

import os
import subprocess
import sys
import tempfile
import textwrap
import unittest

SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

VMSCAN = "".join(f"int line{i};\n" for i in range(20))

HOOK_ONE = """\
--- a/mm/Makefile
+++ b/mm/Makefile
@@ -1 +1,2 @@
 obj-y += vmscan.o
+obj-$(CONFIG_WSR) += wsr/
--- a/mm/Kconfig
+++ b/mm/Kconfig
@@ -1 +1,2 @@
 # mm
+source "mm/wsr/Kconfig"
"""

HOOK_TWO = """\
--- a/mm/vmscan.c
+++ b/mm/vmscan.c
@@ -9,4 +9,5 @@
 int line8;
 int line9;
+int hooked;
 int line10;
 int line11;
"""

MAKEFILE = """\
# SPDX-License-Identifier: GPL-2.0
obj-$(CONFIG_WSR) += core.o late.o
obj-$(CONFIG_WSR) += \\
\tlate.o
obj-$(CONFIG_WSR_LATE) += late.o
obj-y += sub/
"""

KCONFIG = """\
# SPDX-License-Identifier: GPL-2.0

config WSR
\tbool "first"
\thelp
\t  Text.

\t  More text.

# About late.
config WSR_LATE
\tbool "second"

endmenu
"""


ADDITIONS = """\
--- a/mm/wsr/core.c
+++ b/mm/wsr/core.c
@@ -1 +1,2 @@
 int core;
+int added;
"""


class Overlay(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.repo = os.path.join(temporary.name, "repo")
        self.tree = os.path.join(temporary.name, "tree")
        self.write(self.tree, "mm/vmscan.c", VMSCAN)
        self.write(self.tree, "mm/Makefile", "obj-y += vmscan.o\n")
        self.write(self.tree, "mm/Kconfig", "# mm\n")
        self.write(self.repo, "Kconfig.wsr", KCONFIG)
        self.write(self.repo, "mm/wsr/Makefile", MAKEFILE)
        self.write(self.repo, "mm/wsr/core.c", "int core;\n")
        self.write(self.repo, "mm/wsr/late.c", "int late;\n")
        self.write(self.repo, "mm/wsr/sub/Makefile", "obj-y += x.o\n")
        self.step("01-first", "mm/wsr/Kconfig < Kconfig.wsr\nmm/wsr/Makefile\n"
                  "mm/wsr/core.c  # the core\n", HOOK_ONE)
        self.step("02-second", "mm/wsr/late.c\n", HOOK_TWO)
        self.step("03-third", "mm/wsr/sub/Makefile\n", None)
        self.write(self.repo, "patches/linux/cover-letter",
                   "A series\n\nIts text.\n")

    def write(self, top, path, text):
        path = os.path.join(top, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def read_file(self, *parts):
        with open(os.path.join(*parts)) as f:
            return f.read()

    def read(self, path):
        return self.read_file(self.tree, path)

    def step(self, name, files, hooks, base="6.12"):
        top = f"patches/linux/{name}/"
        self.write(self.repo, top + "message",
                   f"mm: {name}\n\nWhy.\n\nSigned-off-by: A <a@localhost>\n")
        if files:
            self.write(self.repo, top + "files", files)
        if hooks:
            self.write(self.repo, top + f"hooks-{base}.patch", hooks)

    def overlay(self, *arguments, status=0):
        result = subprocess.run(
            [sys.executable, os.path.join(SCRIPTS, "overlay"), "--repo",
             self.repo, *arguments], text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(result.returncode, status, result.stdout)
        return result.stdout

    def apply(self, *arguments, base="6.12", status=0):
        return self.overlay("apply", "--series", "linux", "--base", base,
                            *arguments, self.tree, status=status)

    def test_apply_all(self):
        self.apply()
        self.assertEqual(self.read("mm/wsr/Makefile"), MAKEFILE)
        self.assertEqual(self.read("mm/wsr/Kconfig"), KCONFIG)
        self.assertIn("int hooked;", self.read("mm/vmscan.c"))

    def test_second_apply_writes_nothing(self):
        self.apply()
        before = os.stat(self.tree + "/mm/vmscan.c").st_mtime_ns
        self.assertIn("0 changed", self.apply())
        self.assertEqual(os.stat(self.tree + "/mm/vmscan.c").st_mtime_ns, before)

    def test_only_the_edited_file_is_written(self):
        self.apply()
        self.write(self.repo, "mm/wsr/core.c", "int changed;\n")
        output = self.apply()
        self.assertIn("1 changed", output)
        self.assertIn("overlay: mm/wsr/core.c\n", output)

    def test_hard_links_stay_pristine(self):
        os.link(self.tree + "/mm/vmscan.c", self.tree + "/../vmscan.c")
        self.apply()
        self.assertEqual(self.read("../vmscan.c"), VMSCAN)

    def test_dropped_step_is_undone(self):
        self.apply()
        self.apply("--upto", "1")
        self.assertEqual(self.read("mm/vmscan.c"), VMSCAN)
        self.assertFalse(os.path.exists(self.tree + "/mm/wsr/late.c"))
        self.assertFalse(os.path.exists(self.tree + "/mm/wsr/sub"))

    def test_remove(self):
        self.apply()
        self.overlay("remove", self.tree)
        self.assertEqual(self.read("mm/vmscan.c"), VMSCAN)
        self.assertFalse(os.path.exists(self.tree + "/mm/wsr"))
        self.assertFalse(os.path.exists(self.tree + "/.wsr"))

    def test_states_between(self):
        self.apply("--upto", "1")
        self.assertEqual(self.read("mm/wsr/Makefile"), textwrap.dedent("""\
            # SPDX-License-Identifier: GPL-2.0
            obj-$(CONFIG_WSR) += core.o
            """))
        kconfig = self.read("mm/wsr/Kconfig")
        self.assertIn("config WSR\n", kconfig)
        self.assertIn("\n\t  More text.\n", kconfig)
        self.assertNotIn("WSR_LATE", kconfig)
        self.assertNotIn("About late", kconfig)
        self.assertIn("endmenu", kconfig)
        self.apply("--upto", "2")
        self.assertIn("WSR_LATE", self.read("mm/wsr/Kconfig"))
        self.assertNotIn("sub/", self.read("mm/wsr/Makefile"))

    def test_additions(self):
        core = "int core;\nint added;\n"
        self.write(self.repo, "mm/wsr/core.c", core)
        self.write(self.repo, "patches/linux/03-third/additions.patch",
                   ADDITIONS)
        self.apply("--upto", "2")
        self.assertEqual(self.read("mm/wsr/core.c"), "int core;\n")
        self.apply()
        self.assertEqual(self.read("mm/wsr/core.c"), core)
        self.assertIn("0 findings", self.overlay("check"))
        self.write(self.repo, "mm/wsr/core.c", "int core;\n")
        self.assertIn("03-third/additions.patch does not apply",
                      self.overlay("check", status=1))

    def test_hook_that_does_not_apply(self):
        self.write(self.tree, "mm/vmscan.c", VMSCAN.replace("line9", "other"))
        output = self.apply(status=1)
        self.assertIn("step 02-second", output)
        self.assertIn("mm/vmscan.c", output)
        self.assertFalse(os.path.exists(self.tree + "/mm/wsr"))

    def test_fuzz_is_refused(self):
        self.write(self.tree, "mm/vmscan.c", VMSCAN.replace("line11", "other"))
        self.assertIn("02-second", self.apply(status=1))

    def test_foreign_change_is_not_overwritten(self):
        self.apply()
        self.write(self.tree, "mm/vmscan.c", "my own work\n")
        self.assertIn("was changed", self.apply(status=1))
        self.assertEqual(self.read("mm/vmscan.c"), "my own work\n")

    def test_new_version_of_a_hooked_file(self):
        self.apply()
        self.write(self.tree, "mm/vmscan.c", "/* new */\n" + VMSCAN)
        os.unlink(self.tree + "/.wsr/orig/mm/vmscan.c")
        self.apply()
        self.assertIn("/* new */\n", self.read("mm/vmscan.c"))
        self.assertIn("int hooked;", self.read("mm/vmscan.c"))

    def test_file_that_exists_already(self):
        self.write(self.tree, "mm/wsr/core.c", "merged upstream\n")
        self.assertIn("exists in", self.apply(status=1))

    def test_step_for_one_base(self):
        compat = HOOK_TWO.replace("int hooked;", "int compat;")
        for old, new in ((8, 1), (9, 2), (10, 3), (11, 4)):
            compat = compat.replace(f"line{old};", f"line{new};")
        compat = compat.replace("-9,4 +9,5", "-2,4 +2,5")
        self.step("04-compat-6.12-x", None, compat)
        self.step("05-other", None, HOOK_TWO, base="7.2")
        self.apply()
        self.assertIn("int compat;", self.read("mm/vmscan.c"))
        self.apply("--upto", "2")
        self.assertNotIn("int compat;", self.read("mm/vmscan.c"))

    def test_missing_source(self):
        self.step("04-x", "mm/wsr/none.c\n", None)
        self.assertIn("there is no file", self.apply(status=1))

    def test_series_applies_with_git_am(self):
        out = os.path.join(self.repo, "out")
        arguments = ["series", "--series", "linux", "--base", "6.12", "--tree",
                     self.tree, out]
        self.overlay(*arguments)
        names = sorted(os.listdir(out))
        self.assertEqual(len(names), 4)
        first = {n: self.read_file(out, n) for n in names}
        self.assertIn("[PATCH 0/3] A series", first[names[0]])
        self.assertIn("Its text.", first[names[0]])
        self.overlay(*arguments)
        self.assertEqual(first, {n: self.read_file(out, n) for n in names})

        def git(*arguments):
            subprocess.run(["git", "-C", self.tree, "-c", "user.name=x", "-c",
                            "user.email=x@localhost", *arguments],
                           check=True, stdout=subprocess.DEVNULL)
        git("init", "-q")
        git("add", ".")
        git("commit", "-q", "-m", "base")
        git("am", "-q", *[os.path.join(out, n) for n in names[1:]])
        self.assertEqual(self.read("mm/wsr/Makefile"), MAKEFILE)
        self.assertIn("int hooked;", self.read("mm/vmscan.c"))

    def test_series_with_a_message_that_git_am_cuts_off(self):
        self.write(self.repo, "patches/linux/02-second/message",
                   "mm: two\n\nWhy.\n---\n\nSigned-off-by: A <a@localhost>\n")
        self.assertIn('"git am" makes other commits', self.overlay(
            "series", "--series", "linux", "--base", "6.12", "--tree", self.tree,
            os.path.join(self.repo, "out"), status=1))

    def test_check(self):
        self.assertIn("0 findings", self.overlay("check"))
        self.write(self.repo, "mm/wsr/stray.c", "\n")
        self.write(self.repo, "patches/linux/02-second/message", "x" * 76 + "\n")
        self.write(self.repo, "Kconfig.wsr", KCONFIG + "config UNUSED\n\tbool\n")
        output = self.overlay("check", status=1)
        self.assertIn("mm/wsr/stray.c: belongs to no step", output)
        self.assertIn("a line of 76 columns", output)
        self.assertIn("no Signed-off-by", output)
        self.assertIn("CONFIG_UNUSED", output)


if __name__ == "__main__":
    unittest.main()
