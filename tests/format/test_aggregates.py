"""Aggregates of parts, put together, are those that all rows give at once."""

from __future__ import annotations

import random
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format import segment, snapshot
from rewind_logger.format.aggregates import Aggregates, Running, combine, of_points, of_rows
from rewind_logger.format.snapshot import Snapshot
from rewind_logger.types import Row, Scalar
from tests.format.fresh import check, fresh
from tests.format.strategies import SCALARS, VALUES

NEIGHBOURS: list[Scalar] = [2**53 - 1, 2**53, 2**53 + 1, 2.0**53, 2**64 - 1, 2**64 - 2, 2.0**64, -(2**63), -(2**63) + 1]
"""Ints that are the same as floats, and are not the same."""

MIXED = st.one_of(
    VALUES,
    st.dictionaries(st.sampled_from("abc"), st.one_of(SCALARS, st.sampled_from(NEIGHBOURS)), min_size=1),
    st.dictionaries(st.sampled_from("abc"), st.floats(-1, 1), min_size=1),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from([0.0, -0.0, 0, False, True, 1, 1.0]), min_size=1),
)

LOGS = st.lists(st.lists(MIXED, max_size=8), max_size=5)
"""Rows in several parts."""


def rows_of(values: list[dict[str, Scalar]], first: int = 0) -> list[Row]:
    return [Row(first + i, i, None, 0, one) for i, one in enumerate(values)]


@settings(deadline=None)
@given(LOGS)
def test_however_the_rows_are_grouped_the_aggregates_are_those_of_all(log: list[list[dict[str, Scalar]]]) -> None:
    everything = [row for part in log for row in part]
    check(of_rows(rows_of(everything)), everything)
    parts = [of_rows(rows_of(part)) for part in log]
    check(combine(parts), everything)
    left = Aggregates()
    for part in parts:
        left = combine([left, part])
    check(left, everything)
    running = Running()
    for part in parts:
        running.add(part)
    check(running.result(), everything)


@settings(deadline=None)
@given(LOGS)
def test_points_of_segments_give_the_same_as_rows(log: list[list[dict[str, Scalar]]]) -> None:
    everything = [row for part in log for row in part]
    tables = []
    for i, part in enumerate(log):
        points = segment.decode(segment.encode(rows_of(part, 100 * i), stream="metrics", first=i, last=i))
        tables.append(points.sort_by("row"))
    found = of_points(pa.concat_tables(tables) if tables else segment.SCHEMA.empty_table())
    check(found, everything)
    assert found.table["key"].to_pylist() == of_rows(rows_of(everything)).table["key"].to_pylist()


@settings(deadline=None)
@given(LOGS)
def test_a_snapshot_reads_back_as_it_was(log: list[list[dict[str, Scalar]]]) -> None:
    found = combine([of_rows(rows_of(part)) for part in log])
    read = snapshot.decode(snapshot.encode(Snapshot(flush=3, last_row=7, newest_clock=-1, aggregates=found)))
    assert (read.flush, read.last_row, read.newest_clock) == (3, 7, -1)
    check(read.aggregates, [row for part in log for row in part])


def test_keys_come_in_the_order_in_which_they_were_first_logged() -> None:
    rows: list[dict[str, Scalar]] = [{"z": 1.0, "b": 1.0}, {"a": 1.0}, {"z": 1.0, "c": 1.0}]
    parts = [of_rows(rows_of(rows[:1])), of_rows(rows_of(rows[1:]))]
    assert list(combine(parts).last_values()) == ["b", "z", "a", "c"], "of one row by their names"


def test_a_mean_survives_cancellation_and_overflow() -> None:
    rows: list[dict[str, Scalar]] = [{"a": x} for x in (1e16, 1.0, -1e16, 1.7e308, 1.7e308, -1.7e308, -1.7e308)]
    chance = random.Random(0)
    for _ in range(20):
        chance.shuffle(rows)
        check(combine([of_rows(rows_of([row])) for row in rows]), rows)
    assert fresh([{"a": 1.7e308}] * 3)["a"].mean == 1.7e308
    assert combine([of_rows(rows_of([{"a": 1.7e308}] * 3))]).get("a")["a"].mean == 1.7e308


def test_a_million_small_numbers_are_not_lost_beside_a_large_one() -> None:
    rows: list[dict[str, Scalar]] = [{"a": 0.1}] * 100_000
    found = combine([of_rows(rows_of([{"a": 1e15}])), *[of_rows(rows_of(rows))] * 10, of_rows(rows_of([{"a": -1e15}]))])
    assert found.get("a")["a"].mean == float(1_000_000 * 0.1 / 1_000_002)


def test_a_hundred_thousand_keys() -> None:
    wide: dict[str, Scalar] = {f"layer {i}/norm": i / 7 for i in range(100_000)}
    began = time.perf_counter()
    one = of_rows(rows_of([wide]))
    both = combine([one, one])
    data = snapshot.encode(Snapshot(flush=0, last_row=0, newest_clock=0, aggregates=both))
    print(f"10⁵ keys: {time.perf_counter() - began:.2f} s, {len(data) / len(both):.0f} B a key")
    assert len(snapshot.decode(data).aggregates) == 100_000
    assert both.get(["layer 7/norm"])["layer 7/norm"].mean == 1.0


@pytest.fixture
def stored() -> bytes:
    found = of_rows(rows_of([{"loss": 0.5, "phase": "warm-up", "n": 2**60 + 1}] * 3))
    return snapshot.encode(Snapshot(flush=3, last_row=2, newest_clock=2, aggregates=found))


def test_any_damaged_bit_is_noticed_or_does_no_harm(stored: bytes) -> None:
    whole, noticed = snapshot.decode(stored), 0
    for at in range(len(stored)):
        broken = bytearray(stored)
        broken[at] ^= 1 << at % 8
        try:
            found = snapshot.decode(bytes(broken))
        except (CorruptError, FormatVersionError):
            noticed += 1
        else:
            assert found.aggregates.table.equals(whole.aggregates.table)
    assert noticed > 0.9 * len(stored)


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_snapshot_that_was_cut_off_is_damaged(stored: bytes, length: int) -> None:
    with pytest.raises(CorruptError):
        snapshot.decode(stored[:length])


def test_a_segment_is_no_snapshot() -> None:
    with pytest.raises(CorruptError, match="no snapshot"):
        snapshot.decode(segment.encode(rows_of([{"a": 1.0}]), stream="metrics", first=0, last=0))
