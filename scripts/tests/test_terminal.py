#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of terminal.py"""

import pathlib
import sys
import time
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(SCRIPTS))
from terminal import Screen, Terminal  # noqa: E402


class Sequences(unittest.TestCase):
    """What each of them does"""

    def drawn(self, *texts, columns=8, rows=3):
        screen = Screen(columns, rows)
        for text in texts:
            screen.write(text)
        return screen.lines()

    def test_text(self):
        self.assertEqual(self.drawn("ab\r\ncd\be"), ["ab", "ce", ""])
        self.assertEqual(self.drawn("12345678", "9"), ["12345678", "9", ""])
        self.assertEqual(self.drawn("1\r\n2\r\n3\r\n4"), ["2", "3", "4"])

    def test_moves(self):
        self.assertEqual(self.drawn("\x1b[2;3Hx\x1b[Ay\x1b[3dz\x1b[2Gu"),
                         ["   y", "  x", " u  z"])
        self.assertEqual(self.drawn("a\x1b[2Cb\x1b[3D.\x1b[Bc\x1b[Hd"),
                         ["d. b", "  c", ""])
        self.assertEqual(self.drawn("\x1b[99;99Hx\x1b[99A\x1b[99Dy"),
                         ["y", "", "       x"])

    def test_erase(self):
        full = "abcdefgh" * 2 + "abcdefg\x1b[2;4H"
        for sequence, lines in (
                ("[2X", ["abcdefgh", "abc  fgh", "abcdefg"]),
                ("[99X", ["abcdefgh", "abc", "abcdefg"]),
                ("[K", ["abcdefgh", "abc", "abcdefg"]),
                ("[1K", ["abcdefgh", "    efgh", "abcdefg"]),
                ("[2K", ["abcdefgh", "", "abcdefg"]),
                ("[J", ["abcdefgh", "abc", ""]),
                ("[1J", ["", "    efgh", "abcdefg"]),
                ("[2J", ["", "", ""])):
            with self.subTest(sequence=sequence):
                self.assertEqual(self.drawn(full + "\x1b" + sequence), lines)

    def test_delete_and_insert(self):
        text = "abcdefgh\r\n12\x1b[1;3H\x1b"
        for sequence, line in (("[P", "abdefgh"), ("[2P", "abefgh"),
                               ("[99P", "ab"), ("[@", "ab cdefg"),
                               ("[4@", "ab    cd"), ("[99@", "ab")):
            with self.subTest(sequence=sequence):
                self.assertEqual(self.drawn(text + sequence), [line, "12", ""])

    def test_repeat(self):
        self.assertEqual(self.drawn("\u2588\x1b[3b."), ["\u2588" * 4 + ".", "",
                                                       ""])

    def test_cut_in_two(self):
        text = "\x1b(B\x1b[?25l\x1b[1;33mab\x1b[2;2Hc"
        for cut in range(len(text)):
            self.assertEqual(self.drawn(text[:cut], text[cut:]),
                             ["ab", " c", ""])

    def test_unknown(self):
        for text in ("\x1b[3Z", "\x1b[7m", "\x1b[2;3r", "\x02",
                     "\x1b]0;title" + "x" * 40):
            with self.subTest(text=text), self.assertRaises(ValueError):
                self.drawn(text)

    def test_html(self):
        screen = Screen(6, 2)
        screen.write("\x1b[1ma\x1b[0m<\x1b[31mb c\x1b[39md")
        html = screen.html("a & b")
        self.assertIn('<span style="font-weight: bold">a</span>&lt;'
                      '<span style="color: #f2777a">b c</span>d\n      <',
                      html)
        self.assertIn("<title>a &amp; b</title>", html)


class Program(unittest.TestCase):
    """A real one"""

    def test_program(self):
        command = "stty size; read x; echo \"got $x \u2588\"; cat"
        with Terminal(["sh", "-c", command], 20, 5) as terminal:
            terminal.type("\u00e9\n")
            end = time.monotonic() + 30
            while "got" not in "".join(terminal.lines()):
                self.assertLess(time.monotonic(), end, terminal.lines())
                time.sleep(0.05)
            self.assertIn("5 20", terminal.lines())
            self.assertIn("got \u00e9 \u2588", terminal.lines())
        self.assertIsNotNone(terminal.process.poll())


if __name__ == "__main__":
    unittest.main()
