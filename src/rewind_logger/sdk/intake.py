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
        self._append = writer.append
        self._known: set[str] = set()  # keys that the careful path has let pass
        self._unfit: set[str] = set()  # keys whose value was not kept, which is said once
        # Rows repeat the same few sets of keys. As long as one does, it takes the place of the row before, and the
        # last value of each key need not be looked for: for 1,000 keys that saves 14 of 40 µs.
        self._row: dict[str, Scalar] = {}
        self._shape: frozenset[str] = frozenset()  # the keys of that row
        self._last: dict[str, Scalar] = {}  # the last values of the rows before it

    def put(self, values: Any, clock: int | None, step: int | None) -> None:
        """Append one row; without any value that can be kept there is none.

        Raises:
            LogValueError: If `values` is no mapping, or the row is too large for a journal.
        """
        plain = type(values) is dict and PLAIN_TYPES.issuperset(map(type, values.values()))
        if plain and len(values) == len(self._shape) and self._shape.issuperset(values):
            row = values.copy()  # the caller may change its dict
        else:
            row = self._take(values, plain)
        if not row:
            return
        try:
            self._append("metrics", row, clock, step)
        except (OverflowError, UnicodeEncodeError):  # which on the short way only the encoder notices
            row = self._take(values, plain=False)
            if not row:
                return
            self._append("metrics", row, clock, step)
        self._row = row

    def last_values(self) -> dict[str, Scalar]:
        """Return the last value of each key, in the order in which they first came."""
        return {**self._last, **self._row}

    def forget(self) -> None:
        """Begin anew with the last values: what was logged was left behind by a rewind."""
        self._row, self._shape, self._last = {}, frozenset(), {}

    def _take(self, values: Any, plain: bool) -> dict[str, Scalar]:
        """Return what can be kept of values whose keys are not those of the row before."""
        row: dict[str, Scalar] = values.copy() if plain and self._known.issuperset(values) else self._flatten(values)
        if row:
            self._last.update(self._row)
            self._row, self._shape = {}, frozenset(row)
        return row

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
