"""Measures: what is asked of the machine, and what becomes of an answer that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable

from rewind_logger.types import Scalar

LOG = logging.getLogger("rewind_logger")


class Measures:
    """Collects the values of a sample. What cannot be measured here is left out, and said once at debug level."""

    def __init__(self) -> None:
        """Begin without any."""
        self._failed: set[str] = set()
        self._totals: dict[str, tuple[float, float]] = {}

    def ask(self, what: str, question: Callable[[], dict[str, Scalar]]) -> dict[str, Scalar]:
        """Return what a question answers; nothing if it fails.

        Args:
            what: Of which it is, for the message.
            question: May raise anything.
        """
        try:
            return question()
        except Exception as error:
            if what not in self._failed:
                self._failed.add(what)
                LOG.debug("%s cannot be measured here: %s: %s", what, type(error).__name__, error)
            return {}

    def rates(self, now: float, totals: dict[str, int]) -> dict[str, Scalar]:
        """Return how much of each was added in a second since the question before; nothing the first time.

        Args:
            now: Seconds, on a clock that is monotonic.
            totals: By name, counted since anything. One that went down was counted anew, and is left out once.
        """
        rates: dict[str, Scalar] = {}
        for name, total in totals.items():
            at, before = self._totals.get(name, (now, 0.0))
            if now > at and total >= before:
                rates[name] = (total - before) / (now - at)
            self._totals[name] = (now, total)
        return rates
