"""What a summary asks of the store, counted, at every kind of place: it does not grow with the run."""

from __future__ import annotations

import functools
import secrets
from typing import NamedTuple

import pytest

from rewind_logger.history import reader, snapshots
from rewind_logger.history.cumulative import DUE_BYTES, DUE_SEGMENTS
from rewind_logger.history.view import View, resolve
from rewind_logger.storage.faults import CountingStorage, Traffic
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.history.bulk import long_run
from tests.history.lines import RUN, end, forked, log, rewound

CHILD = RunRef("p", "b")


class Length(NamedTuple):
    """How long a run is."""

    flushes: int
    rows_a_flush: int

    @property
    def cut(self) -> int:
        """A step in the midst of the seventeenth flush after a snapshot, about the middle of the run."""
        flush = self.flushes // 2 // DUE_SEGMENTS * DUE_SEGMENTS + DUE_SEGMENTS + 16
        return flush * self.rows_a_flush + self.rows_a_flush // 2


SHORT, LONG = Length(2 * DUE_SEGMENTS + 36, 6), Length(3 * DUE_SEGMENTS + 36, 4386)
"""A thousand rows and a million."""

FEW_FLUSHES, MANY_FLUSHES = Length(2 * DUE_SEGMENTS + 36, 50), Length(6 * DUE_SEGMENTS + 36, 50)

PLACES = ["head", "as of", "archived", "rewound", "forked", "as of a fork"]


@functools.cache
def costs(length: Length) -> dict[str, Traffic]:
    """Make a long run, and return what its summary takes at each place, once it is known what is visible there."""
    memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
    long_run(memory, RUN, length.flushes * length.rows_a_flush, length.rows_a_flush, summarized=True)
    found = {
        "head": cost(memory, resolve(memory, RUN)),
        "as of": cost(memory, resolve(memory, RUN, None, length.cut)),
    }
    for writer in (forked(memory, "b", length.cut), rewound(memory, length.cut)):
        log(writer, [length.cut, length.cut + 1])
        end(writer)
    found |= {
        "archived": cost(memory, resolve(memory, RUN, 1)),
        "rewound": cost(memory, resolve(memory, RUN)),
        "forked": cost(memory, resolve(memory, CHILD)),
        "as of a fork": cost(memory, resolve(memory, CHILD, None, length.cut + 1)),
    }
    return found


def cost(memory: MemoryStorage, view: View) -> Traffic:
    """Return what the aggregates of a view take, which are those of its rows."""
    storage = CountingStorage(memory)
    found = snapshots.aggregates(storage, view).get(["a"])["a"]
    assert found.count == len(reader.read(memory, view, "metrics"))
    return storage.traffic


@pytest.mark.parametrize("place", PLACES)
def test_a_summary_costs_the_same_for_a_thousand_rows_and_a_million(place: str) -> None:
    short, long = costs(SHORT)[place], costs(LONG)[place]
    print(f"{place}: {short} for 10³ rows, {long} for 10⁶")
    assert dict(short.requests) == dict(long.requests)
    assert short.requests["list"] <= 3
    assert short.requests["read"] <= 1 + DUE_SEGMENTS + 1
    assert long.bytes_read < DUE_BYTES, "one snapshot and the flushes since"


@pytest.mark.parametrize("place", PLACES)
def test_and_for_thousands_of_flushes_but_for_a_listing_a_thousand(place: str) -> None:
    few, many = costs(FEW_FLUSHES)[place], costs(MANY_FLUSHES)[place]
    print(f"{place}: {few} for {FEW_FLUSHES.flushes} flushes, {many} for {MANY_FLUSHES.flushes}")
    assert few.requests["read"] == many.requests["read"]
    # Of a term with so many files no base says the names; one listing says those of a thousand.
    assert many.requests["list"] <= few.requests["list"] + 1 + MANY_FLUSHES.flushes // 1000 + 1
    # Larger steps and sums have more digits.
    assert abs(few.bytes_read - many.bytes_read) < few.requests["read"] * 64


def test_without_snapshots_it_would_grow() -> None:
    memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
    long_run(memory, RUN, 100 * 10, 10)
    storage = CountingStorage(memory)
    view = resolve(memory, RUN)
    assert snapshots.aggregates(storage, view).get(["a"])["a"].count == 1000
    assert storage.traffic.requests["read"] == 100
