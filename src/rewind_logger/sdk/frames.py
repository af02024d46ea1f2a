"""What a run's history reads as: Arrow, pandas or polars, wide or long."""

from __future__ import annotations

import importlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rewind_logger.errors import ConfigError
from rewind_logger.format.columns import BOOL, FLOAT, INT, STR, array, column_of, numbers
from rewind_logger.sdk.layout import Layout, lay_out

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Column = Any  # pa.Array or pa.ChunkedArray, of any type
Ints = npt.NDArray[np.int64]

_BITS = {kind: 1 << kind for kind in (FLOAT, INT, BOOL, STR)}


class History:
    """The rows of a run, exact and never sampled.

    Wide (`to_pandas`, `to_polars`, `to_arrow`) has one row a logged row: what was logged in several calls at one
    `_step` is one row, unless the calls repeat a key. Its columns are `_step`, the training step at which the row was
    logged; `_timestamp`, seconds since 1970-01-01 UTC; where any row was given a step of its own, `step` with it
    (`_given_step` if a metric is itself called `step`), missing where it is that of training; and a column a key in the
    order in which they were first logged. Long (`to_long`) has one row a value.

    A key whose values are all ints, bools or texts keeps that type; ints mixed with floats are float64, anything mixed
    with text is text. A NaN that was logged stays NaN; Arrow and polars tell it from a value that is missing.
    """

    def __init__(self, points: pa.Table) -> None:
        """Take the points as `history.reader.read` returns them."""
        self._points = points.combine_chunks()

    def __len__(self) -> int:
        """Return the number of rows of the wide form."""
        return len(self._layout.clock)

    def __repr__(self) -> str:
        clock = self._layout.clock
        steps = f", steps {clock.min()} to {clock.max()}" if len(clock) else ""
        return f"History({len(clock):,} rows, {len(self.keys):,} keys{steps})"

    @property
    def keys(self) -> list[str]:
        """The names of the metrics, in the order in which they were first logged."""
        return list(self._encoded[0])

    def to_arrow(self) -> pa.Table:
        """Return the wide form as an Arrow table."""
        layout, (keys, _) = self._layout, self._encoded
        given = "_given_step" if "step" in keys else "step"
        columns: dict[str, Column] = {"_step": array(layout.clock), "_timestamp": array(layout.time_ms / 1000)}
        if layout.has_step.any():
            columns[given] = array(layout.step, ~layout.has_step)
        columns.update(zip(keys, self._columns(), strict=True))
        return pa.table(columns)

    def to_polars(self) -> pl.DataFrame:
        """Return the wide form as a polars frame.

        Raises:
            ConfigError: If polars is not installed.
        """
        return to_polars(self.to_arrow())

    def to_pandas(self) -> pd.DataFrame:
        """Return the wide form as a pandas frame; ints and bools with missing values have pandas' nullable types.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return to_pandas(self.to_arrow())

    @overload
    def to_long(self, kind: Literal["pandas"] = "pandas") -> pd.DataFrame: ...
    @overload
    def to_long(self, kind: Literal["polars"]) -> pl.DataFrame: ...
    @overload
    def to_long(self, kind: Literal["arrow"]) -> pa.Table: ...
    def to_long(self, kind: str = "pandas") -> Any:
        """Return one row a value: `key`, `_step`, `_timestamp`, `value` (float64), and `text`, `step` if there are any.

        Args:
            kind: "pandas", "polars" or "arrow".

        Raises:
            ConfigError: If that library is not installed.
        """
        if kind not in ("pandas", "polars", "arrow"):
            raise ConfigError(f"to_long() has no form {kind!r}: use 'pandas', 'polars' or 'arrow'.")
        points = self._points
        texts, steps = points.column("text"), points.column("step")
        columns: dict[str, Column] = {
            "key": points.column("key"),
            "_step": points.column("clock"),
            "_timestamp": array(column_of(points, "time") / 1000),
            "value": points.column("value"),
        }
        # Of an int beyond 2**53 the text holds all digits, but it is no text.
        is_text = pc.equal(points.column("kind"), pa.scalar(STR, pa.int8()))
        if pc.any(is_text).as_py():
            columns["text"] = pc.if_else(is_text, texts, pa.scalar(None, pa.string()))
        if steps.null_count < len(steps):
            columns["step"] = steps
        table = pa.table(columns)
        return table if kind == "arrow" else to_pandas(table) if kind == "pandas" else to_polars(table)

    @cached_property
    def _encoded(self) -> tuple[list[str], npt.NDArray[np.int32]]:
        """The keys in first-seen order, and for each point the number of its key."""
        encoded: Column = self._points.column("key").dictionary_encode().combine_chunks()
        return encoded.dictionary.to_pylist(), numbers(encoded.indices)

    @cached_property
    def _layout(self) -> Layout:
        keys, key_ids = self._encoded
        return lay_out(self._points, key_ids, len(keys))

    def _columns(self) -> list[Column]:
        """Return the wide column of each key."""
        keys, key_ids = self._encoded
        # numpy sorts 16 bits by radix, ten times faster than 32.
        order = np.argsort(key_ids.astype(np.uint16) if len(keys) <= 2**16 else key_ids, kind="stable")
        stops = np.cumsum(np.bincount(key_ids, minlength=len(keys)))
        starts = np.concatenate(([0], stops))[:-1]
        rows, kinds = self._layout.row_of_point[order], column_of(self._points, "kind")[order]
        values = column_of(self._points, "value")[order]
        texts: Column = self._points.column("text")
        texts = texts.take(array(order)) if texts.null_count < len(texts) else None
        bits = np.bitwise_or.reduceat(1 << kinds.astype(np.uint8), starts).tolist() if keys else []
        count = len(self._layout.clock)
        columns = []
        for start, stop, found in zip(starts.tolist(), stops.tolist(), bits, strict=True):
            part = slice(start, stop)
            text = texts.slice(start, stop - start) if texts is not None else None
            column = values[part]
            if found & _BITS[STR]:
                columns.append(_scatter_text(_texts(kinds[part], column, text), rows[part], count))
                continue
            if found == _BITS[INT]:
                column = _integers(column, text)
            scattered = _scatter(column, rows[part], count)
            columns.append(scattered.cast(pa.bool_()) if found == _BITS[BOOL] else scattered)
        return columns


def _scatter(values: npt.NDArray[Any], rows: Ints, count: int) -> Column:
    """Return a column of `count` rows with `values` in the given ones and null in the others."""
    column = np.zeros(count, values.dtype)
    column[rows] = values
    if len(rows) == count:
        return array(column)
    missing = np.ones(count, np.bool_)
    missing[rows] = False
    return array(column, missing)


def _scatter_text(texts: list[str], rows: Ints, count: int) -> Column:
    """`_scatter` for texts."""
    column: list[str | None] = [None] * count
    for row, text in zip(rows.tolist(), texts, strict=True):
        column[row] = text
    return pa.array(column, pa.string())


def _integers(values: npt.NDArray[np.float64], text: Column) -> npt.NDArray[Any]:
    """Return ints exactly: those that no float64 holds have their digits as text."""
    exact = {} if text is None else {i: int(digits) for i, digits in enumerate(text.to_pylist()) if digits is not None}
    if not len(values) or float(np.abs(values).max()) < 2.0**63:
        result = values.astype(np.int64)
    elif float(values.min()) >= 0:
        result = np.array([exact.get(i, int(value)) for i, value in enumerate(values)], np.uint64)
    else:
        low = -(2**63)
        whole = [exact.get(i, int(value)) for i, value in enumerate(values)]
        return np.array(whole, np.int64) if low <= min(whole) and max(whole) < 2**63 else values
    for i, value in exact.items():
        result[i] = value
    return result


def _texts(kinds: npt.NDArray[np.int8], values: npt.NDArray[np.float64], text: Column) -> list[str]:
    """Return the values of a key that has texts, all as text."""
    found = [None] * len(kinds) if text is None else text.to_pylist()
    shown = {FLOAT: float, INT: int, BOOL: bool}
    return [
        given if given is not None else str(shown[kind](value))
        for kind, value, given in zip(kinds.tolist(), values.tolist(), found, strict=True)
    ]


def to_polars(table: pa.Table) -> pl.DataFrame:
    """Convert to polars."""
    frame: pl.DataFrame = _library("polars").from_arrow(table)
    return frame


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Convert to pandas; ints and bools with missing values would else become floats and objects."""
    pandas = _library("pandas")
    nullable = {pa.int64(): pandas.Int64Dtype(), pa.uint64(): pandas.UInt64Dtype(), pa.bool_(): pandas.BooleanDtype()}
    with_missing = [
        name
        for name, column in zip(table.column_names, table.columns, strict=True)
        if column.null_count and column.type in nullable
    ]
    if not with_missing:
        return table.to_pandas()
    parts = [
        table.drop_columns(with_missing).to_pandas(),
        table.select(with_missing).to_pandas(types_mapper=nullable.get),
    ]
    frame: pd.DataFrame = pandas.concat(parts, axis=1)[table.column_names]
    return frame


def _library(name: str) -> Any:
    """Import a library that only some need."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"{name} is not installed: `pip install 'rewind-logger[{name}]'`, or use to_arrow(), which needs nothing."
        ) from None
