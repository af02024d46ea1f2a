"""Outages: what is said of a store that is away, or throttles, and of its return: one sentence each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from rewind_logger.storage.base import Retries

LOG = logging.getLogger("rewind_logger")


class Outage:
    """Tells when a run's store fails and when it is well again.

    A store that throttles lets some requests through: it is well again only when a whole flush went through and not one
    of its requests had to be made twice, and so an outage is said once however often it seems to end.
    """

    def __init__(
        self,
        run: str,
        retries: Callable[[], Retries],
        now: Callable[[], float] = time.monotonic,
        *,
        failure: Exception | None = None,
    ) -> None:
        """Watch a store.

        Args:
            run: Whose store it is, for messages.
            retries: Returns what was asked of the store in vain until now.
            now: Seconds, on a clock that is monotonic.
            failure: Why it is known to be away from the start.
        """
        self._run = run
        self._retries = retries
        self._now = now
        self._since: float | None = None
        self._before = Retries()  # when the outage began
        self._last = Retries() if failure is not None else retries()  # when the last flush ended
        self._arrived = False  # whether the last flush went through
        if failure is not None:
            self.failed(failure)

    @property
    def since(self) -> float | None:
        """When it began, on that clock; None if the store is well."""
        return self._since

    def failed(self, error: Exception) -> None:
        """Note that a flush failed."""
        self._arrived = False
        if self._since is None:
            self._since, self._before = self._now(), self._last
            LOG.warning("Run %s goes on in its journal: %s", self._run, error)
        self._last = self._retries()

    def succeeded(self) -> None:
        """Note that a flush went through."""
        before, self._last = self._last, self._retries()
        self._arrived = True
        if self._last == before:
            self.end()

    def end(self) -> None:
        """Say that it is over, if all that waited has arrived."""
        if self._since is None or not self._arrived:
            return
        away, self._since = self._now() - self._since, None
        again = self._last - self._before
        LOG.warning(
            "Run %s is in its store again after %s: everything that waited has arrived.%s",
            self._run,
            duration(away),
            f" {again}." if again.requests else "",
        )


def duration(seconds: float) -> str:
    """Return a time span as people say it.

    Example:
        >>> duration(0.2), duration(75), duration(3 * 3600 + 125)
        ('0 s', '1 min 15 s', '3 h 2 min')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
