# SPDX-License-Identifier: GPL-2.0
"""Draws true and measured distributions of idle ages, a small diagram for each
row of the table of scripts/accuracy: an SVG document without dependencies."""

import math
from xml.sax.saxutils import escape

COLUMNS = 4  # diagrams side by side
WIDTH, HEIGHT = 300, 220  # of a diagram with its labels
LEFT, RIGHT, TOP, BOTTOM = 38, 10, 48, 30
KINDS = (("anon", "#1f6fb4"), ("file", "#d9730d"))
HEADER_HEIGHT = 50
MIN_AGE_MS = 200  # where the axis of ages begins


class Diagram:
    """The last reading of a row"""

    def __init__(self, row, left, top):
        self._row = row
        self._reading = row.readings[-1]
        self._bounds = [b for b in self._reading.measured if b is not None]
        self._bytes = sum(self._reading.truth[None])
        self._left, self._top = left, top
        self._largest_ms = 2 * self._bounds[-1]

    def _x(self, age_ms):
        age_ms = min(max(age_ms, MIN_AGE_MS), self._largest_ms)
        share = (math.log(age_ms / MIN_AGE_MS) /
                 math.log(self._largest_ms / MIN_AGE_MS))
        return self._left + LEFT + share * (WIDTH - LEFT - RIGHT)

    def _y(self, share):
        share = min(max(share, 0), 1.05)
        return self._top + HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def _text(self, x, y, text, attributes=""):
        return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}' \
            "</text>"

    def _axes(self):
        left, right = self._x(0), self._x(math.inf)
        lines = []
        for percent in (0, 50, 100):
            y = self._y(percent / 100)
            lines += [f'<line class="axis" x1="{left:.1f}" x2="{right:.1f}" '
                      f'y1="{y:.1f}" y2="{y:.1f}"/>',
                      self._text(left - 4, y + 3, f"{percent} %",
                                 'text-anchor="end"')]
        for bound in self._bounds:
            x = self._x(bound)
            lines += [f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" '
                      f'y1="{self._y(0):.1f}" y2="{self._y(0) + 4:.1f}"/>',
                      self._text(x, self._y(0) + 14, age_label(bound),
                                 'text-anchor="middle"')]
        return lines

    def _series(self, column, color):
        """The true distribution as a line, with a bar at each bound for what
        counts as right; the measured one as points."""
        truth = self._reading.truth
        tolerance_ms = self._reading.tolerance_ms
        points = " ".join(
            f"{self._x(bound):.1f},"
            f"{self._y(truth[bound][column] / self._bytes):.1f}"
            for bound in sorted(b for b in truth if b is not None))
        lines = [f'<polyline points="{points}" fill="none" stroke="{color}"/>']
        for bound in self._bounds:
            x = self._x(bound)
            low, high = (truth[max(bound + shift, 0)][column] / self._bytes
                         for shift in (-tolerance_ms, tolerance_ms))
            measured = self._reading.measured[bound][column] / self._bytes
            lines += [f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self._y(low):.1f}"'
                      f' y2="{self._y(high):.1f}" stroke="{color}" '
                      'stroke-width="5" stroke-opacity="0.3"/>',
                      f'<circle cx="{x:.1f}" cy="{self._y(measured):.1f}" '
                      f'r="3.5" fill="{color}"/>']
        return lines

    def draw(self):
        case, score = self._row.case, self._reading.score
        lines = [self._text(self._left + 6, self._top + 14, case.workload,
                            'class="title"'),
                 self._text(self._left + 6, self._top + 27, case.condition),
                 self._text(self._left + 6, self._top + 40,
                            f"{self._row.method}, {self._row.scope}: "
                            f"ks {score.tolerant:.3f}")]
        lines += self._axes()
        for column, (_, color) in enumerate(KINDS):
            if self._reading.truth[None][column] or \
                    self._reading.measured[None][column]:
                lines += self._series(column, color)
        return lines


def age_label(age_ms):
    for unit_ms, unit in ((3600000, "h"), (60000, "min"), (1000, "s")):
        if age_ms >= unit_ms:
            return f"{age_ms / unit_ms:g} {unit}"
    return f"{age_ms} ms"


def plot(rows):
    rows = [row for row in rows if row.readings]
    width = COLUMNS * WIDTH
    height = HEADER_HEIGHT + -(-len(rows) // COLUMNS) * HEIGHT
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
             f'height="{height}" font-family="sans-serif" font-size="10">',
             "<style>.axis { stroke: #bbb } .title { font-weight: bold; "
             "font-size: 12px }</style>",
             f'<rect width="{width}" height="{height}" fill="white"/>',
             '<text x="6" y="18" class="title">Share of the workload that is '
             "younger than an idle age, last read of each row</text>",
             '<text x="6" y="36">Line: the truth. Bar: what the tolerance '
             "allows. Point: measured. " +
             " ".join(f'<tspan fill="{color}" font-weight="bold">{name}</tspan>'
                      for name, color in KINDS) + "</text>"]
    for number, row in enumerate(rows):
        lines += Diagram(row, number % COLUMNS * WIDTH,
                         HEADER_HEIGHT + number // COLUMNS * HEIGHT).draw()
    return "\n".join(lines + ["</svg>", ""])
