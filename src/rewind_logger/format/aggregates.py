"""Aggregates: count, sum, extremes, first and last value of each metric; those of two parts give those of the whole.

A line a key, in the order in which the keys were first logged. Everything is laid out by numpy: a hundred thousand keys
are as many lines.

NaN is no number: it is left out of count, sum, min and max, as text is; bools are 0 and 1. First and last show whatever
was logged. Of equal values the one that was logged first is the extreme, as Python's `min` and `max` have it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rewind_logger.format.columns import (
    STR,
    array,
    column_of,
    empty,
    is_valid,
    narrowest,
    number_keys,
    numbers,
    split_values,
    strings,
    to_scalar,
)
from rewind_logger.types import Row, Scalar

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SUM_SCALE = 2**64
"""Sums are kept divided by this, so that none of fewer than 2**64 numbers overflows."""

_TOGETHER = 1 << 14
"""Lines that `Running` puts together at once, or more."""

_ENDS = ("min", "max", "first", "last")

_FIELDS: list[pa.Field[Any]] = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("count", pa.int64(), nullable=False),
    pa.field("sum", pa.float64(), nullable=False),
    pa.field("sum_low", pa.float64(), nullable=False),
]
for _end in _ENDS:
    _FIELDS += [
        pa.field(f"{_end}_kind", pa.int8()),
        pa.field(f"{_end}_value", pa.float64()),
        pa.field(f"{_end}_text", pa.string()),
    ]
SCHEMA = pa.schema(_FIELDS)
"""The columns; `docs/format.md` says what they mean."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What is known of one metric."""

    count: int
    """How many numbers, NaN not among them."""
    mean: float | None
    """Of the numbers; None without any."""
    min: Scalar | None
    max: Scalar | None
    first: Scalar
    """The first value, whatever it is."""
    last: Scalar


class Aggregates:
    """The aggregates of some rows, a line a key.

    Example:
        >>> rows = [Row(0, 0, None, 0, {"loss": 0.5}), Row(1, 1, None, 0, {"loss": 0.25, "epoch": 1})]
        >>> found = combine([of_rows(rows[:1]), of_rows(rows[1:])]).get(["loss"])["loss"]
        >>> found.mean, found.min, found.last
        (0.375, 0.25, 0.25)
    """

    __slots__ = ("table",)

    def __init__(self, table: pa.Table | None = None) -> None:
        """Take a table of `SCHEMA`, with one line a key; none: of no rows."""
        self.table = empty(SCHEMA) if table is None else table

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self.table)

    def last_values(self) -> dict[str, Scalar]:
        """Return the last value of each key, in the order in which they were first logged."""
        columns = [self.table.column(name).to_pylist() for name in ("key", "last_kind", "last_value", "last_text")]
        return {key: to_scalar(key, kind, value, text) for key, kind, value, text in zip(*columns, strict=True)}

    def get(self, keys: Collection[str]) -> dict[str, Aggregate]:
        """Return what is known of these keys; those that were never logged are missing."""
        wanted = set(keys)
        at = [i for i, key in enumerate(self.table.column("key").to_pylist()) if key in wanted]
        lines = self.table.take(array(np.array(at, np.int64))).to_pylist()
        return {line["key"]: _aggregate(line) for line in lines}


class _Values(NamedTuple):
    """Values of any kind, one a line, as the columns of a segment have them."""

    kind: npt.NDArray[np.int8]
    value: Floats
    text: pa.Array[Any] | None
    """None: there is no text."""

    def columns(self, lines: Ints) -> list[pa.Array[Any]]:
        """Return the values of some lines as columns; of line -1 there is none."""
        missing = lines < 0
        at = np.where(missing, 0, lines)
        if not len(self.kind):
            return [pa.nulls(len(lines), kind) for kind in (pa.int8(), pa.float64(), pa.string())]
        kind, value = self.kind[at], self.value[at]
        text = pa.nulls(len(lines), pa.string()) if self.text is None else self.text.take(array(lines, missing))
        return [array(kind, missing), array(value, missing | (kind == STR)), text]


class _Lines(NamedTuple):
    """Aggregates that are to be combined, in the order of their rows; a point is the aggregate of itself."""

    key_ids: npt.NDArray[Any]
    """For each line the number of its key."""
    counts: Ints
    sums: tuple[Floats, Floats]
    min: _Values
    max: _Values
    first: _Values
    last: _Values


def of_points(points: pa.Table) -> Aggregates:
    """Return the aggregates of the points of a segment, or of several.

    Args:
        points: A table with the columns `key`, `kind`, `value` and `text` of a segment, ordered by row.
    """
    keys: Any = points.column("key").combine_chunks()
    encoded: Any = keys if pa.types.is_dictionary(keys.type) else keys.dictionary_encode()
    texts: Any = points.column("text")
    kind, value = (column_of(points, name) for name in ("kind", "value"))
    text = None if texts.null_count == len(texts) else texts.combine_chunks()
    return _combine(encoded.dictionary, _of_values(numbers(encoded.indices), _Values(kind, value, text)))


def of_rows(rows: Sequence[Row]) -> Aggregates:
    """Return the aggregates of rows, which are in the order in which they were logged."""
    keys, key_ids, sizes = number_keys(rows)
    kind, value, texts = split_values(list(chain.from_iterable(row.values.values() for row in rows)))
    lines = _of_values(key_ids, _Values(kind, value, None if texts is None else strings(texts)))
    return _combine(strings(keys), lines, np.repeat(np.arange(len(rows)), sizes))


def combine(parts: Sequence[Aggregates]) -> Aggregates:
    """Return the aggregates of all rows of several parts, in the order of their rows."""
    parts = [part for part in parts if len(part)]
    if len(parts) <= 1:
        return parts[0] if parts else Aggregates()
    table = pa.concat_tables([part.table for part in parts]).combine_chunks()
    encoded: Any = table.column("key").combine_chunks().dictionary_encode()

    def values(end: str) -> _Values:
        texts: Any = table.column(f"{end}_text").combine_chunks()
        text = None if texts.null_count == len(texts) else texts
        return _Values(column_of(table, f"{end}_kind"), column_of(table, f"{end}_value"), text)

    lines = _Lines(
        numbers(encoded.indices),
        column_of(table, "count"),
        (column_of(table, "sum"), column_of(table, "sum_low")),
        *(values(end) for end in _ENDS),
    )
    return _combine(encoded.dictionary, lines)


class Running:
    """Aggregates that grow part by part, put together now and then: so many small parts cost as much as few large."""

    def __init__(self) -> None:
        self._parts: list[Aggregates] = []
        self._lines = 0  # of all but the first

    def add(self, part: Aggregates) -> None:
        """Take the part that follows."""
        if self._parts:
            self._lines += len(part)
        self._parts.append(part)
        if self._lines > max(_TOGETHER, len(self._parts[0])):
            self.result()

    def result(self) -> Aggregates:
        """Return those of all parts."""
        self._parts, self._lines = [combine(self._parts)], 0
        return self._parts[0]


def _of_values(key_ids: npt.NDArray[Any], values: _Values) -> _Lines:
    """Return for each value the aggregate of it alone."""
    is_number = (values.kind != STR) & ~np.isnan(values.value)
    # That of infinities is told by the extremes.
    scaled = np.where(is_number & np.isfinite(values.value), values.value, 0.0) / SUM_SCALE
    return _Lines(key_ids, is_number.astype(np.int64), (scaled, np.zeros(len(scaled))), values, values, values, values)


def _combine(keys: pa.Array[Any], lines: _Lines, rows: Ints | None = None) -> Aggregates:
    """Return the aggregates of lines, one for each of the keys that they have.

    Args:
        keys: By their numbers.
        lines: In the order of their rows.
        rows: For each line the number of its row, if the keys within a row are not in order yet.
    """
    if not len(lines.key_ids):
        return Aggregates()
    # numpy sorts 16 bits by radix, ten times faster than 32.
    order = np.argsort(lines.key_ids.astype(narrowest(len(keys)), copy=False), kind="stable")
    key_ids = lines.key_ids[order]
    starts = _starts(key_ids)
    stops = np.append(starts[1:], len(order))
    first, last = order[starts], order[stops - 1]
    counts = lines.counts[order]
    count = np.add.reduceat(counts, starts)
    high, low = _sums(lines.sums[0][order], lines.sums[1][order], starts, stops - starts)
    numeric = counts > 0
    order_of_numbers, ids_of_numbers = order[numeric], np.repeat(np.arange(len(starts)), stops - starts)[numeric]
    least = _extreme(lines.min, order_of_numbers, ids_of_numbers, len(starts), sign=1)
    most = _extreme(lines.max, order_of_numbers, ids_of_numbers, len(starts), sign=-1)
    # The order in which the keys were first logged; of keys that came in one row that of their names.
    seen = np.argsort(first if rows is None else rows[first], kind="stable")
    named = keys.take(array(np.asarray(key_ids[starts][seen], np.int64)))
    columns = [named, array(count[seen]), array(high[seen]), array(low[seen])]
    for values, chosen in zip(lines[3:], (least, most, first, last), strict=True):
        columns += values.columns(np.asarray(chosen[seen], np.int64))
    return Aggregates(pa.Table.from_arrays(columns, schema=SCHEMA))


def _starts(sorted_ids: npt.NDArray[Any]) -> Ints:
    """Return where each id begins."""
    begins = np.ones(len(sorted_ids), np.bool_)
    begins[1:] = sorted_ids[1:] != sorted_ids[:-1]
    return np.flatnonzero(begins)


def _sums(high: Floats, low: Floats, starts: Ints, sizes: Ints) -> tuple[Floats, Floats]:
    """Sum up lines that are sorted by key, each a sum of two floats, exactly to some 90 bits: as two floats again.

    Only so it hardly matters how the rows were grouped. Of each key twice the leading bits are split off, so few that
    numpy adds them up without rounding; what is left is too small for its rounding to matter.
    """
    bits = int(sizes.max()).bit_length()
    exponent = np.frexp(np.maximum.reduceat(np.abs(high), starts))[1].astype(np.int32)
    total, rest = np.zeros(len(starts)), np.add.reduceat(low, starts)
    for _ in range(2):
        exponent = exponent + bits - 51  # of the smallest bit that is split off
        # Added to a number, it leaves no room for smaller bits; where it underflows to 0, all are split off.
        large = np.repeat(np.ldexp(1.5 * 2.0**52, exponent), sizes)
        leading = (high + large) - large
        high = high - leading
        total, error = _two_sum(total, np.add.reduceat(leading, starts))
        rest += error
    return _two_sum(total, rest + np.add.reduceat(high, starts))


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return a + b and its rounding error, which is a float itself (Knuth)."""
    total = a + b
    taken = total - a
    return total, (a - (total - taken)) + (b - taken)


def _extreme(values: _Values, order: npt.NDArray[Any], key_ids: npt.NDArray[Any], keys: int, *, sign: int) -> Ints:
    """Return for each key the line of its smallest (sign 1) or largest (-1) number, -1 where it has none.

    Args:
        values: Of all lines.
        order: The lines that have numbers, sorted by key and then as they were logged.
        key_ids: Of these lines.
        keys: How many keys there are.
        sign: Which extreme.
    """
    chosen = np.full(keys, -1, np.int64)
    if not len(order):
        return chosen
    found = sign * values.value[order]
    starts = _starts(key_ids)
    best = np.minimum.reduceat(found, starts)
    sizes = np.diff(np.append(starts, len(order)))
    candidates = np.flatnonzero(found == np.repeat(best, sizes))
    chosen[key_ids[starts]] = order[candidates[_starts(key_ids[candidates])]]
    if values.text is not None:
        _settle_ties(values, order[candidates], key_ids[candidates], chosen, sign)
    return chosen


def _settle_ties(values: _Values, lines: npt.NDArray[Any], key_ids: npt.NDArray[Any], chosen: Ints, sign: int) -> None:
    """Compare ints beyond 2**53 by their digits, where as floats they are the same."""
    text = cast("pa.Array[Any]", values.text)
    has_digits = is_valid(text.take(array(lines)))
    exact: dict[int, int | float] = {}
    for key in np.unique(key_ids[has_digits]).tolist():
        chosen[key] = -1
    for line, key in zip(lines.tolist(), key_ids.tolist(), strict=True):
        if chosen[key] != -1 and key not in exact:
            continue
        digits = text[line].as_py()
        number = sign * (float(values.value[line]) if digits is None else int(digits))
        if key not in exact or number < exact[key]:
            exact[key], chosen[key] = number, line


def _aggregate(line: Mapping[str, Any]) -> Aggregate:
    """Return one line as values."""
    ends: Iterator[Any] = (
        None
        if line[f"{end}_kind"] is None
        else to_scalar(line["key"], line[f"{end}_kind"], line[f"{end}_value"], line[f"{end}_text"])
        for end in _ENDS
    )
    least, most, first, last = ends
    return Aggregate(line["count"], _mean(line), least, most, first, last)


def _mean(line: Mapping[str, Any]) -> float | None:
    count, least, most = line["count"], line["min_value"], line["max_value"]
    if not count:
        return None
    if math.isinf(least) or math.isinf(most):
        return float(least + most) if math.isinf(least) and math.isinf(most) else least if math.isinf(least) else most
    # Exactly, and rounded once: however the rows were grouped, the mean is the same.
    mean = (Fraction(line["sum"]) + Fraction(line["sum_low"])) * SUM_SCALE / count
    return float(min(max(mean, Fraction(least)), Fraction(most)))
