"""From points to rows: what was logged in several calls at one step is one row of a wide table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rewind_logger.format.columns import column_of, is_valid, numbers

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows of a wide table, and for each point the row that it belongs to.

    The calls at one clock and one given step are one row, unless they repeat a key: then the call that repeats a key of
    the row begins the next one.
    """

    row_of_point: Ints
    clock: Ints
    """Of each row."""
    time_ms: Ints
    """Of each row: that of its last call."""
    step: Ints
    """Of each row that has one, 0 for others."""
    has_step: Bools


def lay_out(table: pa.Table, key_ids: npt.NDArray[Any], key_count: int) -> Layout:
    """Find the rows of a table of points.

    Args:
        table: Points as `history.reader.read` returns them, ordered by entry and row.
        key_ids: For each point the number of its key.
        key_count: How many keys there are.
    """
    entry, row = _ints(table, "entry"), _ints(table, "row")
    begins = np.ones(len(entry), np.bool_)
    begins[1:] = (entry[1:] != entry[:-1]) | (row[1:] != row[:-1])
    call_of_point = np.cumsum(begins) - 1
    clock, time_ms = _ints(table, "clock")[begins], _ints(table, "time")[begins]
    given: Any = table.column("step")
    has_step: Bools = is_valid(given.combine_chunks())[begins]
    step: Ints = numbers(given.fill_null(0).combine_chunks())[begins]

    first_call = _group(clock, step, has_step)
    first_call = _split(first_call, call_of_point, key_ids, key_count)
    heads = first_call == np.arange(len(first_call))
    row_of_call = (np.cumsum(heads) - 1)[first_call]
    last_time = np.empty(int(heads.sum()), np.int64)
    last_time[row_of_call] = time_ms  # of several assignments to one place the last one stays
    return Layout(row_of_call[call_of_point], clock[heads], last_time, step[heads], has_step[heads])


def _group(clock: Ints, step: Ints, has_step: Bools) -> Ints:
    """Return for each call the first call with the same clock and step."""
    if not has_step.any() and bool(np.all(clock[1:] >= clock[:-1])):
        begins = np.ones(len(clock), np.bool_)
        begins[1:] = clock[1:] != clock[:-1]
        first: Ints = np.flatnonzero(begins)[np.cumsum(begins) - 1]
        return first
    order = np.lexsort((step, has_step, clock))  # stable: the first of each group is the earliest
    begins = np.ones(len(order), np.bool_)
    for column in (clock, has_step, step):
        ordered = column[order]
        begins[1:] &= ordered[1:] == ordered[:-1]
    begins[1:] = ~begins[1:]
    first_call = np.empty(len(order), np.int64)
    first_call[order] = order[begins][np.cumsum(begins) - 1]
    return first_call


def _split(first_call: Ints, call_of_point: Ints, key_ids: npt.NDArray[Any], key_count: int) -> Ints:
    """Begin a new row where a call repeats a key of the row that it would belong to."""
    calls_in = np.bincount(first_call, minlength=len(first_call))
    points = np.flatnonzero(calls_in[first_call[call_of_point]] > 1)
    if not len(points):
        return first_call
    place = first_call[call_of_point[points]] * key_count + key_ids[points]
    order = points[np.argsort(place, kind="stable")]
    places = np.sort(place, kind="stable")
    again = np.flatnonzero(places[1:] == places[:-1]) + 1
    if not len(again):
        return first_call
    # For each call, the latest call of its group before it that has a key of its own.
    before = np.full(len(first_call), -1, np.int64)
    np.maximum.at(before, call_of_point[order[again]], call_of_point[order[again - 1]])
    repeating = np.zeros(len(first_call), np.bool_)
    repeating[first_call[call_of_point[order[again]]]] = True
    result = first_call.copy()
    affected = np.flatnonzero(repeating[first_call])
    heads: dict[int, int] = {}  # of each group, the first call of the row that is being filled
    for call, group, previous in zip(
        affected.tolist(), first_call[affected].tolist(), before[affected].tolist(), strict=True
    ):
        if previous >= heads.setdefault(group, group):
            heads[group] = call
        result[call] = heads[group]
    return result


def _ints(table: pa.Table, name: str) -> Ints:
    """Return a column without nulls as an array."""
    return column_of(table, name).astype(np.int64, copy=False)
