"""A run's summary: the last value of each metric, as the visible rows have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from rewind_logger.format.columns import array, numbers, to_scalar
from rewind_logger.types import Scalar


class Summary(Mapping[str, Scalar]):
    """The last value of each metric, to read.

    After a rewind or in a fork these are the values at the cut, until new ones are logged.

    Example:
        >>> Summary({"loss": 0.25, "epoch": 3})["loss"]
        0.25
    """

    def __init__(
        self, values: Mapping[str, Scalar] | None = None, later: Callable[[], Mapping[str, Scalar]] | None = None
    ) -> None:
        """Take the values.

        Args:
            values: They lie below the later ones.
            later: Called at each look, for the values that were logged meanwhile.
        """
        self._values: Mapping[str, Scalar] = values or {}
        self._look_up: Callable[[], Mapping[str, Scalar]] | None = None
        self._later = later

    def __getitem__(self, key: str) -> Scalar:
        later = {} if self._later is None else self._later()
        return later[key] if key in later else self._before()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())

    def __repr__(self) -> str:
        return f"Summary({self.as_dict()!r})"

    def as_dict(self) -> dict[str, Any]:
        """Return a copy, in the order in which the metrics were first logged."""
        return {**self._before(), **(self._later() if self._later is not None else {})}

    def _rebase(self, inherited: Callable[[], Mapping[str, Scalar]]) -> None:
        """Take other values below the later ones, at the first look: the run went to another position."""
        self._look_up = inherited

    def _before(self) -> Mapping[str, Scalar]:
        """Return the inherited values."""
        if self._look_up is not None:
            self._values, self._look_up = self._look_up(), None
        return self._values


def last_values(points: pa.Table) -> dict[str, Scalar]:
    """Return the last value of each key of a table as `history.reader.read` returns it, in first-seen order."""
    keys: Any = points.column("key").dictionary_encode().combine_chunks()
    names = keys.dictionary.to_pylist()
    last = np.zeros(len(names), np.int64)
    last[numbers(keys.indices)] = np.arange(len(points))  # of several assignments to one place the last one stays
    chosen = points.take(array(last)).select(["key", "kind", "value", "text"])
    return {key: to_scalar(key, kind, value, text) for key, kind, value, text in _lines(chosen)}


def _lines(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Yield the lines of a table."""
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
