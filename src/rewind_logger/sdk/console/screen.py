"""A screen: what a terminal shows of the text that is written to it, as lines that may still change."""

from __future__ import annotations

import re
from typing import NamedTuple

HEIGHT = 64
"""Lines that the cursor can come back to; older ones never change again."""

MAX_LINE = 1 << 16
"""Characters of a line, its colours included; a longer one goes on in the next."""

MAX_ESCAPE = 1 << 12
"""Characters of an escape sequence that may be cut in two by the end of a write."""

MAX_COLOURS = 256
"""Characters of colour that may stand between two others."""

_TEXT = r"[^\n\x00-\x08\x0b-\x1f\x7f]"
_COLOUR = r"\x1b\[[0-9;:]*m"
_LINES = r"[^\x00-\x08\x0b-\x1f\x7f]*"
_PLAIN = re.compile(rf"{_LINES}(?:{_COLOUR}{_LINES})*")
_CELL = re.compile(rf"(?:{_COLOUR})*{_TEXT}(?:{_COLOUR})*")
_TOKEN = re.compile(
    rf"(?P<text>{_TEXT}+)|(?P<colour>{_COLOUR})|\x1b\[(?P<number>[0-9]*)[0-?]*[ -/]*(?P<move>[@-~])"
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|(?P<control>[\s\S])"
)
_CUT_OFF = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z")


class Stamp(NamedTuple):
    """When something was written."""

    clock: int | None
    """The training step; None before it is known."""
    time_ms: int
    """Wall time in milliseconds since 1970-01-01 UTC."""


class State(NamedTuple):
    """A line as it stands."""

    number: int
    text: str
    stamp: Stamp
    """Of the last change."""


class _Line:
    """A line."""

    __slots__ = ("edited", "finished", "number", "seen", "stamp", "text")

    def __init__(self, number: int) -> None:
        self.number = number
        self.text = ""
        self.seen = ""  # what was returned last
        self.stamp = Stamp(None, 0)
        self.finished = False
        self.edited = False

    @property
    def shown(self) -> str:
        # A bar is overwritten with spaces by a shorter one, or by nothing.
        return self.text.rstrip(" ") if self.edited else self.text

    def state(self) -> State:
        self.seen = self.shown
        return State(self.number, self.seen, self.stamp)


class Screen:
    r"""Takes what is written to one stream, and says which lines it makes.

    A progress bar is one line: `\r`, `\b` and the sequences that erase or move the cursor up, down and sideways do what
    they do in a terminal. Colours are kept in the text; other sequences are left out.
    """

    def __init__(self, first: int = 0) -> None:
        """Begin with an empty line.

        Args:
            first: The number of the first line.
        """
        self._next = first
        self._lines: list[_Line] = []
        self._row = -1  # of the cursor, within `_lines`
        self._column: int | None = None  # of the cursor; None: at the end of its line
        self._cells: list[str] | None = None  # of the cursor's line, while it is edited; then its text is an old one
        self._cut_off = ""  # the beginning of an escape sequence
        self._colour = ""  # of the character to come
        self._changed: dict[int, _Line] = {}  # by number
        self._goes_on = True
        self._top = 0  # the number of the highest line that the cursor came to
        self._done: list[State] = []
        self._add()

    def feed(self, text: str, stamp: Stamp) -> list[State]:
        """Take a text; return the lines that came to their end, in order.

        A line that did so before and has changed since is among them if the text does nothing but go on, or has left
        it above what it draws anew, as rich does with what is printed while a bar is shown. The rest of what is drawn
        anew, many times a second, is among the `changes`.
        """
        line = self._lines[self._row]
        # What most is: a text without a newline, or a newline, at the end of the last line.
        at_end = self._column is None and self._cells is None and line is self._lines[-1]
        self._goes_on = not self._cut_off and _PLAIN.fullmatch(text) is not None
        if at_end and self._goes_on:
            *whole, rest = text.split("\n")
            for piece in whole:
                if piece:
                    self._put(piece, stamp)
                self._end(stamp)
            if rest:
                self._put(rest, stamp)
        else:
            self._edit(text, stamp)
        done, self._done = self._done, []
        return done

    def changes(self) -> list[State]:
        """Return the other lines that are not as they were when they were last returned, in order."""
        self._put_together()
        changed, self._changed = sorted(self._changed.items()), {}
        return [line.state() for _, line in changed if line.shown != line.seen]

    @property
    def changed(self) -> bool:
        """Whether there may be such."""
        return bool(self._changed)

    def _put(self, text: str, stamp: Stamp) -> None:
        """Add to the end of the last line."""
        line = self._lines[-1]
        while len(line.text) + len(text) > MAX_LINE:
            room = MAX_LINE - len(line.text)
            line.text, text = line.text + text[:room], text[room:]
            self._end(stamp)
            line = self._lines[-1]
        line.text += text
        self._touch(line, stamp)

    def _end(self, stamp: Stamp) -> None:
        """Go to the beginning of the line below."""
        line = self._lines[self._row]
        if not line.finished or (self._goes_on and line.number in self._changed and line.shown != line.seen):
            line.finished, line.stamp = True, stamp
            self._changed.pop(line.number, None)
            self._done.append(line.state())
        if self._row + 1 < len(self._lines):
            self._row += 1
        else:
            self._add()

    def _add(self) -> None:
        """Begin a line at the bottom."""
        self._lines.append(_Line(self._next))
        self._next += 1
        self._row = len(self._lines) - 1
        if len(self._lines) > HEIGHT:
            self._row -= 1
            oldest = self._lines.pop(0)
            if self._changed.pop(oldest.number, None) is not None and oldest.shown != oldest.seen:
                self._done.append(oldest.state())

    # With the cursor anywhere

    def _edit(self, text: str, stamp: Stamp) -> None:
        """Take a text that may do anything."""
        start = self._top = self._lines[self._row].number
        bottom = self._next
        text = self._cut_off + text
        cut_off = _CUT_OFF.search(text)
        self._cut_off = ""
        if cut_off is not None and len(cut_off[0]) <= MAX_ESCAPE:
            text, self._cut_off = text[: cut_off.start()], cut_off[0]
        for token in _TOKEN.finditer(text):
            kind = token.lastgroup
            if kind == "text":
                self._write(token[0], stamp)
            elif kind == "colour":
                self._add_colour(token[0])
            elif kind == "move":
                self._move(token["move"], token["number"], stamp)
            elif token[0] == "\n":
                self._go_down(stamp)
            elif token[0] == "\r":
                self._column = 0
            elif token[0] == "\b":
                self._column = max(0, self._at(self._take_apart()) - 1)
        if self._column == 0 and self._cells is None and not self._lines[-1].text and not self._colour:
            self._column = None if self._row == len(self._lines) - 1 else 0
        if self._top < start:
            self._leave_behind(self._next - bottom)

    def _leave_behind(self, count: int) -> None:
        """Return the first lines of what was drawn anew, which now lies so many lines further down."""
        end = min(self._top + count, self._lines[self._row].number)
        for line in self._lines:
            if self._top <= line.number < end and line.number in self._changed:
                del self._changed[line.number]
                if line.shown != line.seen:
                    self._done.append(line.state())
        self._done.sort(key=lambda state: state.number)

    def _at(self, cells: list[str]) -> int:
        return len(cells) if self._column is None else self._column

    def _take_apart(self) -> list[str]:
        """Return the cursor's line as characters, each with the colours around it."""
        if self._cells is None:
            self._cells = _CELL.findall(self._lines[self._row].text)
        return self._cells

    def _put_together(self) -> None:
        """Bring the text of the cursor's line up to date."""
        if self._cells is not None:
            self._lines[self._row].text = "".join(self._cells)

    def _go_down(self, stamp: Stamp) -> None:
        self._put_together()
        self._cells = None
        self._end(stamp)
        self._column = 0

    def _write(self, text: str, stamp: Stamp) -> None:
        """Write over what is there."""
        while text:
            cells = self._take_apart()
            at = self._at(cells)
            if at >= MAX_LINE:
                self._go_down(stamp)
                continue
            line = self._lines[self._row]
            line.edited |= at < len(cells)
            part, text = text[: MAX_LINE - at], text[MAX_LINE - at :]
            cells.extend(" " * (at - len(cells)))
            new = list(part)
            new[0], self._colour = self._colour + new[0], ""
            cells[at : at + len(new)] = new
            self._column = at + len(new)
            self._touch(line, stamp)

    def _add_colour(self, colour: str) -> None:
        cells = self._take_apart()
        at = self._at(cells)
        if 0 < at <= len(cells):
            if len(cells[at - 1]) < MAX_COLOURS:
                cells[at - 1] += colour
        elif len(self._colour) < MAX_COLOURS:
            self._colour += colour

    def _move(self, what: str, number: str, stamp: Stamp) -> None:
        """Do what a control sequence does; many do nothing here."""
        count = max(1, int(number[:4] or 1))
        cells = self._take_apart()
        at = self._at(cells)
        if what in "ABEF":
            self._put_together()
            self._cells = None
            down = count if what in "BE" else -count
            self._row = min(max(0, self._row + down), len(self._lines) - 1)
            self._top = min(self._top, self._lines[self._row].number)
            self._column = 0 if what in "EF" else at
        elif what == "C":
            self._column = min(at + count, MAX_LINE)
        elif what == "D":
            self._column = max(0, at - count)
        elif what == "G":
            self._column = count - 1
        elif what == "K" and number == "2":
            self._erase(cells, 0, stamp)
        elif what == "K" and number == "1":
            self._lines[self._row].edited = True
            cells[: min(at, len(cells))] = " " * min(at, len(cells))
            self._touch(self._lines[self._row], stamp)
        elif what in "KJ" and number in ("", "0"):
            self._erase(cells, at, stamp)
            for line in self._lines[self._row + 1 :] if what == "J" else ():
                if line.text:
                    line.text = ""
                    self._touch(line, stamp)

    def _erase(self, cells: list[str], start: int, stamp: Stamp) -> None:
        if len(cells) > start:
            self._column = self._at(cells)
            del cells[start:]
            self._touch(self._lines[self._row], stamp)

    def _touch(self, line: _Line, stamp: Stamp) -> None:
        line.stamp = stamp
        self._changed[line.number] = line
