"""The way of a row from `log()` into the journal."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rewind_logger.errors import LogValueError
from rewind_logger.format.values import PLAIN_TYPES, flatten
from rewind_logger.history.writer import Writer
from rewind_logger.types import Scalar

LOG = logging.getLogger("rewind_logger")


class Intake:
    """Takes rows of metrics: at once those that are flat and plain, the others by a careful path."""

    def __init__(self, writer: Writer) -> None:
        """Take the writer that rows go to."""
        self.last: dict[str, Scalar] = {}
        """The last value of each key."""
        self._append = writer.append
        self._known: set[str] = set()  # keys that the careful path has let pass
        self._unfit: set[str] = set()  # keys whose value was not kept, which is said once

    def put(self, values: Any, clock: int | None, step: int | None) -> None:
        """Append one row; without any value that can be kept there is none.

        Raises:
            LogValueError: If `values` is no mapping, or the row is too large for a journal.
        """
        if not (
            type(values) is dict and values.keys() <= self._known and PLAIN_TYPES.issuperset(map(type, values.values()))
        ):
            values = self._flatten(values)
        if not values:
            return
        try:
            self._append("metrics", values, clock, step)
        except (OverflowError, UnicodeEncodeError):  # which on the short way only the encoder notices
            values = self._flatten(values)
            if not values:
                return
            self._append("metrics", values, clock, step)
        self.last.update(values)

    def _flatten(self, values: Any) -> dict[str, Scalar]:
        """Return what can be kept, and report once for each key what cannot."""
        if not isinstance(values, Mapping):
            raise LogValueError(f"log() takes a dict of values by name, not a {type(values).__name__}: {values!r:.80}")
        good, bad = flatten(values)
        for key in bad.keys() - self._unfit:
            self._unfit.add(key)
            LOG.error("A value was not logged: %s", bad[key])
        self._known.update(good)
        return good
