"""A run's summary: the last value of each metric, as the visible rows have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from rewind_logger.format import segment
from rewind_logger.types import Scalar


class Summary(Mapping[str, Scalar]):
    """The last value of each metric, to read.

    After a rewind or in a fork these are the values at the cut, until new ones are logged.

    Example:
        >>> Summary({"loss": 0.25, "epoch": 3})["loss"]
        0.25
    """

    def __init__(
        self, own: dict[str, Scalar] | None = None, inherited: Callable[[], Mapping[str, Scalar]] | None = None
    ) -> None:
        """Take the values.

        Args:
            own: The later values; what is put into this dict afterwards is seen.
            inherited: Called once, at the first look, for the values of earlier rows.
        """
        self._own = {} if own is None else own
        self._look_up = inherited
        self._inherited: Mapping[str, Scalar] = {}

    def __getitem__(self, key: str) -> Scalar:
        own = self._own.get(key)
        return self._before()[key] if own is None else own

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())

    def __repr__(self) -> str:
        return f"Summary({self.as_dict()!r})"

    def as_dict(self) -> dict[str, Any]:
        """Return a copy, in the order in which the metrics were first logged."""
        return {**self._before(), **self._own.copy()}

    def _rebase(self, inherited: Callable[[], Mapping[str, Scalar]]) -> None:
        """Look the inherited values up anew: the run went to another position."""
        self._look_up = inherited

    def _before(self) -> Mapping[str, Scalar]:
        """Return the inherited values."""
        if self._look_up is not None:
            self._inherited, self._look_up = self._look_up(), None
        return self._inherited


def last_values(points: pa.Table) -> dict[str, Scalar]:
    """Return the last value of each key of a table as `history.reader.read` returns it, in first-seen order."""
    keys: Any = points.column("key").dictionary_encode().combine_chunks()
    names = keys.dictionary.to_pylist()
    last = np.zeros(len(names), np.int64)
    last[keys.indices.to_numpy()] = np.arange(len(points))  # of several assignments to one place the last one stays
    chosen = points.take(last)
    numbered = chosen.set_column(chosen.column_names.index("row"), "row", pa.array(np.arange(len(names))))
    return {key: value for row in segment.to_rows(numbered) for key, value in row.values.items()}
