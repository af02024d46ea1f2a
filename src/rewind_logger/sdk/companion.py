"""What accompanies an open run: parts that write rows on their own, beside what is logged."""

from __future__ import annotations

from typing import Protocol


class Companion(Protocol):
    """Something that lives as long as a run is open. Nothing that it does may raise."""

    def begin(self) -> None:
        """Go to work: the run was opened, opened anew at another position, or goes on after it had come to rest."""

    def rest(self, timeout: float) -> None:
        """Hand over what is still to be written, and stop: the run comes to rest, and is about to be flushed.

        Args:
            timeout: Seconds that this may take at most.
        """

    def disown(self) -> None:
        """Let go, in a forked child: the run stays the parent's."""
