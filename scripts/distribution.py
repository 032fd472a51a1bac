# SPDX-License-Identifier: GPL-2.0
"""Distributions of idle ages, and how far a measured one is from the truth.

A distribution says how many bytes are younger than a bound: a dictionary from
bounds in ms to [anon, file] in bytes; the key None stands for all bytes.

ks is the largest distance between the measured and the true distribution over
the bounds, in shares of the workload's bytes, the worse of anon and file. It is
strict, or tolerant: then at bound b the measured value may lie anywhere between
the true values at b - r and b + r, where r is one refresh and 200 ms, since an
access is known at most that much later. For the same reason it may be as if what
was accessed in the last r had not been. Misplaced is the share of bytes in a
wrong bin, without tolerance.
"""

import dataclasses
import math

MORE_TOLERANCE_MS = 200
COLUMNS = (0, 1)


def accumulate(bins):
    """The distribution of a histogram as vm.parse_histogram() returns it."""
    below = [0, 0]
    distribution = {}
    for bound, *column_bytes in bins:
        below = [a + b for a, b in zip(below, column_bytes)]
        distribution[bound] = below
    return distribution


def subtract(distribution, other):
    """What is in a distribution beyond another one with the same bounds."""
    return {bound: [a - b for a, b in zip(below, other[bound])]
            for bound, below in distribution.items()}


def sum_columns(distribution):
    """For means that do not tell anon and file apart: all is anon."""
    return {bound: [sum(below), 0] for bound, below in distribution.items()}


def truth_bounds(bounds, tolerance_ms):
    """For which bounds the truth has to be known to score a measurement."""
    return sorted({max(bound + shift, 0) for bound in bounds
                   for shift in (-tolerance_ms, 0, tolerance_ms)})


def of_generations(generations, bounds):
    """The distribution of MGLRU's generations, oldest first, each as (ms since
    its birth, anon, file). What is in one was accessed between its birth and
    that of the next one, at any time in between with the same likelihood."""
    distribution = {bound: [0, 0] for bound in [*bounds, None]}
    youngest_ms = 0
    for birth_ms, *column_bytes in reversed(generations):
        for bound, below in distribution.items():
            if bound is None or bound >= birth_ms:
                share = 1
            elif bound <= youngest_ms:
                share = 0
            else:
                share = (bound - youngest_ms) / (birth_ms - youngest_ms)
            for column in COLUMNS:
                below[column] += share * column_bytes[column]
        youngest_ms = birth_ms
    return distribution


def of_percentiles(percentiles, total_bytes, bounds):
    """The distribution of DAMON_STAT's percentiles of idle time, in ms, which
    are negative for what was just accessed."""
    step = total_bytes / (len(percentiles) - 1)
    distribution = {bound: [step * sum(ms < bound for ms in percentiles[1:]), 0]
                    for bound in bounds}
    distribution[None] = [total_bytes, 0]
    return distribution


@dataclasses.dataclass
class Score:
    """How far one measurement is from the truth, in shares of its bytes"""

    ks: float
    tolerant: float
    misplaced: float
    total_error: float


def _outside(value, low, high):
    return max(low - value, value - high, 0)


def score(measured, before, after, tolerance_ms, blind=None):
    """Compares a measurement with the truth before and after it; blind is the
    truth without what was accessed in the last tolerance_ms."""
    blind = blind or after
    total = [(a + b) / 2 for a, b in zip(before[None], after[None])]
    workload_bytes = sum(total)
    bounds = [bound for bound in measured if bound is not None]
    ks = tolerant = wrong_bytes = 0
    for column in COLUMNS:
        last_difference = 0
        for bound in bounds:
            value = measured[bound][column]
            low, high = (max(bound + shift, 0)
                         for shift in (-tolerance_ms, tolerance_ms))
            exact = (before[bound][column] + after[bound][column]) / 2
            difference = value - exact
            ks = max(ks, abs(difference))
            tolerant = max(tolerant, _outside(
                value, min(truth[low][column]
                           for truth in (before, after, blind)),
                max(before[high][column], after[high][column])))
            wrong_bytes += abs(difference - last_difference)
            last_difference = difference
        difference = measured[None][column] - total[column]
        wrong_bytes += abs(difference - last_difference)
    # What changes meanwhile was read somewhere in between.
    totals = sorted((sum(before[None]), sum(after[None])))
    total_error = _outside(sum(measured[None]), *totals)
    # A byte in a wrong bin is missing in the right one.
    return Score(*(value / workload_bytes for value in
                   (ks, tolerant, wrong_bytes / 2, total_error)))


def percentile(values, share):
    """The smallest value that is not exceeded by this share of all."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
