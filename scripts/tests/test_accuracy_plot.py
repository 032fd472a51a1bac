#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Unit tests of scripts/accuracy_plot.py."""

import os
import sys
import types
import unittest
import xml.etree.ElementTree

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import accuracy_plot  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"


def row(workload, measured):
    """A row with one reading: half of the bytes are younger than 1 s."""
    truth = {0: [0, 0], 1000: [50, 0], 2200: [100, 0], 3800: [100, 0],
             5000: [100, 0], 6200: [100, 0], None: [100, 0]}
    return types.SimpleNamespace(
        case=types.SimpleNamespace(workload=workload, condition="a & b"),
        method="wsr", scope="memcg",
        readings=[types.SimpleNamespace(
            measured=measured, truth=truth, tolerance_ms=1200,
            score=types.SimpleNamespace(tolerant=0.25))])


class Plot(unittest.TestCase):
    def plot(self, *rows):
        return xml.etree.ElementTree.fromstring(accuracy_plot.plot(rows))

    def test_a_point_for_each_bound(self):
        drawn = self.plot(row("one", {1000: [50, 0], 5000: [100, 0],
                                      None: [100, 0]}))
        points = drawn.findall(f"{SVG}circle")
        self.assertEqual(len(points), 2)
        # larger shares are further up, larger ages further to the right
        first, second = ({name: float(point.get(name)) for name in ("cx", "cy")}
                         for point in points)
        self.assertGreater(first["cy"], second["cy"])
        self.assertLess(first["cx"], second["cx"])

    def test_a_diagram_for_each_row_with_readings(self):
        nothing_read = row("none", {})
        nothing_read.readings = []
        measured = {1000: [0, 0], 5000: [100, 0], None: [100, 0]}
        drawn = self.plot(row("one", measured), nothing_read,
                          row("two", measured))
        texts = [text.text for text in drawn.findall(f"{SVG}text")]
        self.assertIn("one", texts)
        self.assertIn("two", texts)
        self.assertNotIn("none", texts)

    def test_labels(self):
        self.assertEqual([accuracy_plot.age_label(ms) for ms in
                          (500, 1000, 90000, 3600000)],
                         ["500 ms", "1 s", "1.5 min", "1 h"])


if __name__ == "__main__":
    unittest.main()
