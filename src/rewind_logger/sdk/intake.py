"""The way of a row from `log()` into the journal."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rewind_logger.errors import LogValueError
from rewind_logger.format.values import PLAIN_TYPES
from rewind_logger.history.writer import Writer
from rewind_logger.sdk.media.logged import encode, sort
from rewind_logger.types import Scalar

LOG = logging.getLogger("rewind_logger")


class Intake:
    """Takes rows of metrics: at once those that are plain and have the keys of the row before, others with care.

    Rows repeat the same few sets of keys. As long as one does, its keys need neither be checked nor written again, and
    the last value of each need not be looked for.
    """

    def __init__(self, writer: Writer) -> None:
        """Take the writer that rows go to."""
        self._writer = writer
        self._append = writer.append_metrics
        self._known: set[str] = set()  # keys that the careful path has let pass
        self._unfit: set[str] = set()  # keys whose value was not kept, which is said once
        self._keys: list[str] = []  # of the row before
        self._values: list[Scalar] = []  # of the row before
        self._last: dict[str, Scalar] = {}  # the last values of the rows before it

    def put(self, values: Any, clock: int | None, step: int | None) -> None:
        """Append one row; without any value that can be kept there is none. Media become a row of their own stream.

        Raises:
            LogValueError: If `values` is no mapping, or the row is too large for a journal.
        """
        keys = self._keys
        if type(values) is dict and [*values] == keys and values:
            row = [*values.values()]
            try:
                self._append(keys, row, clock, step)
            except (TypeError, OverflowError, UnicodeEncodeError):  # a value that cannot be kept as it is
                pass
            else:
                if keys is self._keys:
                    self._values = row
                else:  # a signal's handler has logged in between
                    self._keep(keys, row)
                return
        self._put_with_care(values, clock, step)

    def last_values(self) -> dict[str, Scalar]:
        """Return the last value of each key, in the order in which they first came."""
        return {**self._last, **dict(zip(self._keys, self._values, strict=True))}

    @property
    def untouched(self) -> bool:
        """Whether nothing was logged since the opening."""
        return not self._keys and not self._last

    def forget(self) -> None:
        """Begin anew with the last values: what was logged was left behind by a rewind."""
        self._keys, self._values, self._last = [], [], {}

    def _put_with_care(self, values: Any, clock: int | None, step: int | None) -> None:
        """Append what can be kept of a row of any kind, and report once for each key what cannot."""
        if not isinstance(values, Mapping):
            raise LogValueError(f"log() takes a dict of values by name, not {values!r:.80} ({type(values).__name__})")
        if self._is_plain(values):
            try:
                self._append_row(dict(values), clock, step)
                return
            except (OverflowError, UnicodeEncodeError):  # which only the encoder notices
                pass
        good, media, bad = sort(values)
        self._known.update(good)
        if good:
            self._append_row(good, clock, step)
        if media:
            texts, unfit = encode(media, self._writer.attach)
            bad.update(unfit)
            if texts:
                self._writer.append("media", texts, clock, step)
        for key in bad.keys() - self._unfit:
            self._unfit.add(key)
            LOG.error("A value was not logged: %s", bad[key])

    def _is_plain(self, values: Mapping[str, Any]) -> bool:
        """Say whether a row can be kept as it is."""
        return bool(values) and self._known.issuperset(values) and PLAIN_TYPES.issuperset(map(type, values.values()))

    def _append_row(self, row: dict[str, Scalar], clock: int | None, step: int | None) -> None:
        keys, values = list(row), list(row.values())
        self._append(keys, values, clock, step)
        self._keep(keys, values)

    def _keep(self, keys: list[str], values: list[Scalar]) -> None:
        """Remember a row with other keys than the one before."""
        self._last.update(zip(self._keys, self._values, strict=True))
        self._keys, self._values = keys, values
