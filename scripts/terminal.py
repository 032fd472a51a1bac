# SPDX-License-Identifier: GPL-2.0
"""A program on a terminal that nobody sees, and what it has drawn there.

    with Terminal(["wsrtop"], columns=100, rows=30) as terminal:
        time.sleep(10)
        terminal.type("q")
        html = terminal.html("what wsrtop draws")

Knows the control sequences that curses uses for TERM=xterm-256color. After one
that it does not know nothing can be looked at any more: that is an error.
"""

import codecs
import fcntl
import html as html_text
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading

SEQUENCE = re.compile(r"\x1b(?:\[([?>]?)([\d;]*)([@-~])|[()][A-Z0-9]|[=>78M])")
# The colours of ncurses' eight, as a dark terminal has them
COLOURS = ["#000", "#f2777a", "#99cc99", "#ffcc66", "#6699cc", "#cc99cc",
           "#66cccc", "#d3d0c8"]
PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ margin: 0; background: #1d2129; color: #d3d0c8; }}
/* Exactly as high as the full block: blocks meet. */
pre {{ display: inline-block; margin: 0; padding: 10px; font: 14px/1.164 "DejaVu Sans Mono", monospace; }}
</style>
<pre>{text}</pre>
"""


class Screen:
    """The cells of a terminal; takes what a program writes."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.cells = []
        self.style = (False, None)      # bold, number of colour
        self.row = self.column = 0
        self.last = " "                 # for REP
        self.rest = ""                  # a sequence that has not ended
        self.erase(0, columns * rows)

    def erase(self, start, end):
        """Blanks; places are counted from the upper left corner."""
        if not self.cells:
            self.cells = [(" ", (False, None))] * (self.columns * self.rows)
        for place in range(start, end):
            self.cells[place] = (" ", (False, None))

    def place(self):
        """Of the cursor"""
        return self.row * self.columns + min(self.column, self.columns - 1)

    def put(self, character):
        """A printable one"""
        if self.column == self.columns:
            self.column = 0
            self.line_feed()
        self.cells[self.place()] = (character, self.style)
        self.column += 1
        self.last = character

    def line_feed(self):
        """Scrolls at the last line."""
        if self.row + 1 < self.rows:
            self.row += 1
            return
        del self.cells[:self.columns]
        self.cells += [(" ", (False, None))] * self.columns

    def control(self, character):
        """A control character"""
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.line_feed()
        elif character == "\b":
            self.column = max(min(self.column, self.columns - 1) - 1, 0)
        elif character not in "\x07\x0e\x0f":
            raise ValueError(f"control character {character!r}")

    def set_style(self, numbers):
        """SGR"""
        bold, colour = self.style
        for number in numbers or [0]:
            if number == 0:
                bold, colour = False, None
            elif number in (1, 22):
                bold = number == 1
            elif 30 <= number <= 37:
                colour = number - 30
            elif number == 39:
                colour = None
            elif number != 49:
                raise ValueError(f"SGR {number}")
        self.style = (bold, colour)

    def move(self, row, column):
        """The cursor, but not beyond the edges"""
        self.row = max(0, min(row, self.rows - 1))
        self.column = max(0, min(column, self.columns - 1))

    def sequence(self, private, parameters, final):
        """A control sequence (CSI)"""
        numbers = [int(number or 0) for number in parameters.split(";")] \
            if parameters else []
        first = max(numbers[0], 1) if numbers else 1
        place, line = self.place(), self.row * self.columns
        moves = {
            "H": (first - 1, (numbers[1] if numbers[1:] else 1) - 1),
            "A": (self.row - first, self.column),
            "B": (self.row + first, self.column),
            "C": (self.row, self.column + first),
            "D": (self.row, self.column - first),
            "G": (self.row, first - 1),
            "d": (first - 1, self.column),
        }
        if private or final in "hlrtn":
            if final == "r" and numbers not in ([], [1, self.rows]):
                raise ValueError("a scroll region")
        elif final in moves:
            self.move(*moves[final])
        elif final == "m":
            self.set_style(numbers)
        elif final == "X":
            self.erase(place, min(place + first, line + self.columns))
        elif final in "P@":             # delete, insert: the rest moves
            end = line + self.columns
            shift = min(first, end - place)
            rest = self.cells[place:end]
            blanks = [(" ", (False, None))] * shift
            self.cells[place:end] = rest[shift:] + blanks \
                if final == "P" else blanks + rest[:len(rest) - shift]
        elif final == "b":
            for _ in range(first):
                self.put(self.last)
        elif final == "K":
            what = numbers[0] if numbers else 0
            self.erase(place if what == 0 else line,
                       place + 1 if what == 1 else line + self.columns)
        elif final == "J":
            what = numbers[0] if numbers else 0
            self.erase(place if what == 0 else 0,
                       place + 1 if what == 1 else self.columns * self.rows)
        else:
            raise ValueError(f"control sequence {parameters}{final}")

    def write(self, text):
        """What a program has written; may end within a sequence"""
        text, at = self.rest + text, 0
        self.rest = ""
        while at < len(text):
            if text[at] == "\x1b":
                found = SEQUENCE.match(text, at)
                if not found:
                    self.rest = text[at:]
                    if len(self.rest) > 32:
                        raise ValueError(f"sequence {self.rest[:32]!r}")
                    return
                if found[3]:
                    self.sequence(*found.groups())
                at = found.end()
                continue
            if text[at] < " ":
                self.control(text[at])
            else:
                self.put(text[at])
            at += 1

    def lines(self):
        """As plain text"""
        return ["".join(character for character, _ in self.cells[
            row * self.columns:(row + 1) * self.columns]).rstrip()
            for row in range(self.rows)]

    def html(self, title):
        """As a page, with its colours"""
        parts, before = [], (False, None)
        for place, (character, style) in enumerate(self.cells):
            if place and place % self.columns == 0:
                parts.append("\n")
            if character == " ":
                style = before          # it looks the same
            if style != before:
                bold, colour = style
                if before != (False, None):
                    parts.append("</span>")
                if style != (False, None):
                    rules = ["font-weight: bold"] * bold
                    if colour is not None:
                        rules.append(f"color: {COLOURS[colour]}")
                    parts.append(f'<span style="{"; ".join(rules)}">')
                before = style
            parts.append(html_text.escape(character))
        if before != (False, None):
            parts.append("</span>")
        return PAGE.format(title=html_text.escape(title), text="".join(parts))


class Terminal:
    """A running program, and its screen"""

    def __init__(self, command, columns, rows):
        self.screen = Screen(columns, rows)
        self.error = None
        self.master, slave = pty.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ,
                    struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, env={**os.environ, "LC_ALL": "C.UTF-8",
                                         "TERM": "xterm-256color"})
        os.close(slave)
        self.lock = threading.Lock()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        decoder = codecs.getincrementaldecoder("utf-8")()
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:             # nobody has the other end
                return
            # After an error, too: the program must not wait for us.
            with self.lock:
                try:
                    self.screen.write(decoder.decode(data))
                except ValueError as error:
                    self.error = self.error or error

    def _look(self, function, *arguments):
        with self.lock:
            if self.error:
                raise self.error
            return function(*arguments)

    def type(self, keys):
        """Press keys."""
        os.write(self.master, keys.encode())

    def lines(self):
        """What is to be seen"""
        return self._look(self.screen.lines)

    def html(self, title):
        """The same as a page"""
        return self._look(self.screen.html, title)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the program."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)
        self.reader.join(10)
        os.close(self.master)
