"""What may happen in a schedule of the model, and whose time and names it has."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from rewind_logger.history.opening import Opened, OpenRequest
from rewind_logger.history.writer import Writer

NONCES = random.Random()
"""Makes the names of claims and journals, so that a seed gives the same schedule again (but that wall time counts)."""


class Clock:
    """The wall time, for the store and for who writes to it."""

    now = 0.0
    """In seconds."""

    def time(self) -> float:
        """Return it, as the module `time` does."""
        return self.now


CLOCK = Clock()


class Killed(BaseException):
    """The writer was killed; not an `Exception`, so that nothing handles it."""


@dataclass
class Rules:
    """What may happen in a schedule."""

    writers: int = 4
    """That run at the same time."""
    turns: int = 10
    """Writers in all."""
    kill: float = 0.01
    """Chance of a kill at each stop …"""
    lose: float = 0.01
    """… of the loss of a request or a reply, which its writer outlives …"""
    land: float = 0.02
    """… and that a request which was lost comes through now."""
    look: float = 0.004
    """Chance at each stop that everything is read and compared."""
    sync: float = 0.08
    """Chance that a turn is a sync of the journals of a machine, and not a writer …"""
    collect: float = 0.05
    """… or a collection …"""
    remove: float = 0.05
    """… or the removal of an archived revision …"""
    erase: float = 0.02
    """… or of a run …"""
    copy: float = 0.02
    """… or a fork into another store."""
    adopt: float = 0.3
    """Chance that writers open a run that a sync made."""
    pause: float = 0.08
    """Chance at each turn that everybody comes to an end first, and that a week goes by."""
    blob: float = 0.3
    """Chance that an event refers to a blob."""
    machines: int = 2
    """Writers of one machine find each other's journals."""
    summaries: float = 0.25
    """Chance that a schedule keeps summaries, which take a quarter of its time."""
    rescue: float = 0.25
    """Chance that in the end every journal is brought in, and every row that was ever logged looked for."""
    clear: float = 0.3
    """Chance that in the end everything is collected, a run removed, and all looked at again."""
    verify: float = 0.1
    """Chance that in the end everything is verified."""
    unflushed_counts: bool = False
    """Whether a row must be kept as soon as it was logged."""
    opening: Callable[[Writer, OpenRequest], Opened] = Writer.open
