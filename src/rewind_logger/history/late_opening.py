"""A late opening: that of a run whose store is away when it is to be opened.

What is logged meanwhile waits in the journal, with clocks that are counted from 0, and gets its place once it is known
where the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rewind_logger.errors import CorruptError, FormatVersionError, StorageError
from rewind_logger.history.opening import Opened, OpenRequest
from rewind_logger.types import OPENING_CLOCK


class LateOpening(NamedTuple):
    """An opening that waits for its store."""

    request: OpenRequest
    """What is wanted of the run: to begin it, or to go on with it."""
    opened: Callable[[Opened], None]
    """Called when it was made, while no row can come."""
    afterwards: Callable[[], None]
    """Called then, when rows can."""

    def attempt(self, claim: Callable[[OpenRequest], Opened]) -> Opened:
        """Make it, if the store answers by now.

        Args:
            claim: Opens the run.

        Raises:
            FencedError: If another writer opened the run at this moment.
            StorageError: If the store is still away, or what it holds cannot be read: both may pass.
        """
        try:
            return claim(self.request)
        except (CorruptError, FormatVersionError) as error:
            raise StorageError(str(error)) from error


def place(clock: int, start: int, steps_given: bool) -> int:
    """Return where a clock that was counted from 0 belongs in a run that goes on at `start`.

    Where steps were counted by the run they go on from there, as they would have. Where they were given they are what
    they are, and those that lie before `start` stand there. What belongs to the opening itself stays with it.
    """
    if clock == OPENING_CLOCK:
        return clock
    return max(clock, start) if steps_given else clock + start
