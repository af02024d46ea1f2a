"""How much of what is printed is recorded: all of it, but for what a runaway loop prints."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from rewind_logger.sdk.console.screen import Stamp

BURST_LINES = 20_000
"""Lines that are recorded however fast they come; one of more than 1,024 characters counts as several."""

LINES_PER_S = 100
"""How many of these become free again in a second; and of what comes beyond them, the last lines of each second."""


class Printed(NamedTuple):
    """A line, or how it stands, to be recorded."""

    source: str
    """stdout or stderr."""
    number: int | None
    """The line's; None for a line that says something of the others."""
    text: str
    stamp: Stamp


class Allowance:
    """Lets lines pass as long as there are not too many; of those it keeps back it keeps the last ones."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Begin with the whole burst.

        Args:
            now: Seconds, on a clock that is monotonic.
        """
        self._now = now
        self._left = float(BURST_LINES)
        self._at = now()
        self._kept: deque[Printed] = deque(maxlen=LINES_PER_S)
        self._left_out = 0

    @property
    def holds(self) -> bool:
        """Whether lines are kept back."""
        return bool(self._kept)

    def passes(self, line: Printed) -> bool:
        """Say whether a line may be recorded now; else it is kept back for `release`, or left out."""
        if not self._kept:
            cost = 1 + (len(line.text) >> 10)
            if cost > self._left:
                now = self._now()
                self._left = min(float(BURST_LINES), self._left + (now - self._at) * LINES_PER_S)
                self._at = now
            if cost <= self._left:
                self._left -= cost
                return True
        self._left_out += len(self._kept) == LINES_PER_S
        self._kept.append(line)
        return False

    def release(self) -> list[Printed]:
        """Return what was kept back, with a word on what was left out before it."""
        kept, left_out = list(self._kept), self._left_out
        self._kept.clear()
        self._left_out = 0
        if left_out:
            words = f"[rewind-logger: {left_out:,} lines that came too fast were not recorded]"
            kept.insert(0, Printed(kept[0].source, None, words, kept[0].stamp))
        return kept
