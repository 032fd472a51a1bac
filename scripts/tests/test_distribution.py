#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Unit tests of scripts/distribution.py."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import distribution  # noqa: E402
from distribution import accumulate, score  # noqa: E402

TOLERANCE_MS = 1200


def truth(*ages_ms, column=0):
    """The distribution of pages of 1 byte with these ages, for the bounds 1 s,
    5 s and 10 s."""
    result = {}
    for bound in distribution.truth_bounds([1000, 5000, 10000], TOLERANCE_MS):
        result[bound] = [0, 0]
        result[bound][column] = sum(age < bound for age in ages_ms)
    result[None] = [0, 0]
    result[None][column] = len(ages_ms)
    return result


class Distribution(unittest.TestCase):
    def test_accumulate(self):
        self.assertEqual(
            accumulate([(1000, 1, 10), (5000, 2, 20), (None, 4, 40)]),
            {1000: [1, 10], 5000: [3, 30], None: [7, 70]})

    def test_subtract(self):
        self.assertEqual(
            distribution.subtract({1000: [5, 6], None: [7, 8]},
                                  {1000: [1, 1], None: [2, 3]}),
            {1000: [4, 5], None: [5, 5]})

    def test_truth_bounds(self):
        self.assertEqual(distribution.truth_bounds([1000, 3000], 1200),
                         [0, 1000, 1800, 2200, 3000, 4200])

    def test_percentile(self):
        values = list(range(20))
        self.assertEqual(distribution.percentile(values, 0.95), 18)
        self.assertEqual(distribution.percentile(values, 0.5), 9)
        self.assertEqual(distribution.percentile(values, 1), 19)
        self.assertEqual(distribution.percentile([7], 0.95), 7)

    def test_generations(self):
        """The oldest was born 9 s ago, the next 5 s, the youngest 1 s."""
        result = distribution.of_generations(
            [(9000, 100, 0), (5000, 40, 0), (1000, 10, 4)],
            [500, 1000, 2000, 5000, 8000])
        self.assertEqual(result, {500: [5, 2], 1000: [10, 4], 2000: [20, 4],
                                  5000: [50, 4], 8000: [125, 4],
                                  None: [150, 4]})

    def test_percentiles(self):
        percentiles = [-100] * 11 + [2000] * 40 + [30000] * 50
        self.assertEqual(
            distribution.of_percentiles(percentiles, 1000, [1000, 5000]),
            {1000: [100, 0], 5000: [500, 0], None: [1000, 0]})


class Score(unittest.TestCase):
    def score(self, bins, *ages_ms, column=0):
        exact = truth(*ages_ms, column=column)
        return score(accumulate(bins), exact, exact, TOLERANCE_MS)

    def test_right(self):
        self.assertEqual(
            self.score([(1000, 1, 0), (5000, 1, 0), (10000, 1, 0),
                        (None, 1, 0)], 500, 3000, 8000, 20000),
            distribution.Score(0, 0, 0, 0))

    def test_late_by_less_than_the_tolerance(self):
        """An age of 900 ms is taken for 1100 ms."""
        result = self.score([(1000, 0, 0), (5000, 4, 0), (10000, 0, 0),
                             (None, 0, 0)], 900, 2500, 2500, 2500)
        self.assertEqual(result, distribution.Score(0.25, 0, 0.25, 0))

    def test_late_by_more_than_the_tolerance(self):
        result = self.score([(1000, 0, 0), (5000, 0, 0), (10000, 4, 0),
                             (None, 0, 0)], 3700, 3700, 4000, 4500)
        self.assertEqual(result, distribution.Score(1, 0.5, 1, 0))

    def test_too_young(self):
        result = self.score([(1000, 4, 0), (5000, 0, 0), (10000, 0, 0),
                             (None, 0, 0)], 2100, 2100, 2300, 2500)
        self.assertEqual(result, distribution.Score(1, 0.5, 1, 0))

    def test_file(self):
        result = self.score([(1000, 0, 0), (5000, 0, 0), (10000, 0, 0),
                             (None, 0, 2)], 500, 20000, column=1)
        self.assertEqual(result, distribution.Score(0.5, 0.5, 0.5, 0))

    def test_wrong_column(self):
        result = self.score([(1000, 2, 0), (5000, 0, 0), (10000, 0, 0),
                             (None, 0, 0)], 100, 100, column=1)
        self.assertEqual(result, distribution.Score(1, 1, 1, 0))

    def test_total(self):
        result = self.score([(1000, 3, 0), (5000, 0, 0), (10000, 0, 0),
                             (None, 0, 0)], 100, 100, 100, 100)
        self.assertEqual(result, distribution.Score(0.25, 0.25, 0.125, 0.25))

    def test_truth_moves_during_the_measurement(self):
        """Whatever lies between the truth before and after it is right."""
        before, after = truth(900, 900), truth(9000, 9000)
        for young in (0, 1, 2):
            measured = accumulate([(1000, young, 0), (5000, 0, 0),
                                   (10000, 2 - young, 0), (None, 0, 0)])
            result = score(measured, before, after, TOLERANCE_MS)
            self.assertEqual(result.tolerant, 0)

    def test_total_moves_during_the_measurement(self):
        before, after = truth(9000, 9000, 9000, 9000), truth(9000, 9000)
        for total, error in ((1, 1 / 3), (2, 0), (4, 0), (5, 1 / 3)):
            measured = accumulate([(1000, 0, 0), (5000, 0, 0),
                                   (10000, total, 0), (None, 0, 0)])
            result = score(measured, before, after, TOLERANCE_MS)
            self.assertAlmostEqual(result.total_error, error)


if __name__ == "__main__":
    unittest.main()
