"""Snapshots of aggregates: when they are written, which can be used, and that nothing but the cost depends on them."""

from __future__ import annotations

import logging
import random
import secrets
import struct
import zlib
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from rewind_logger.errors import FencedError, StorageError
from rewind_logger.format import names
from rewind_logger.format.aggregates import Aggregates
from rewind_logger.format.names import SegmentName, SnapshotName
from rewind_logger.history import compact, cumulative, reader, snapshots, view
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.segments import Segment
from rewind_logger.history.view import LONG_LINEAGE, resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Listing, Storage
from rewind_logger.storage.faults import CountingStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import Position, Row, RunRef, Scalar
from tests.format.fresh import check
from tests.format.strategies import SCALARS
from tests.format.test_aggregates import NEIGHBOURS
from tests.history.lines import RUN, end, forked, log, opened, rewound


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a snapshot after every two flushes."""
    write_often(monkeypatch)


def write_often(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cumulative, "DUE_SEGMENTS", 2)
    patch.setattr(cumulative, "CLOSING_SEGMENTS", 1)
    patch.setattr(cumulative, "DUE_SHARE", 0.0)


def of(storage: Storage, revision: int | None = None, next_step: int | None = None, run: RunRef = RUN) -> Aggregates:
    """Return what a reader makes of a place."""
    return snapshots.aggregates(storage, resolve(storage, run, revision, next_step))


def check_everywhere(storage: Storage, *runs: RunRef) -> None:
    """See that at every revision and step of these runs the aggregates are those that the rows give."""
    for run in runs:
        head = resolve(storage, run)
        for revision in range(1, head.revision + 1):
            whole = resolve(storage, run, revision)
            for next_step in (None, *range(0, (whole.next_step or 0) + 2)):
                seen = whole.cut_at(next_step)
                rows = [row.values for row in reader.read_rows(storage, seen, "metrics")]
                check(snapshots.aggregates(storage, seen), rows)


def written(storage: Storage, folder: str) -> list[SnapshotName]:
    """Return the snapshots of a term."""
    found = (SnapshotName.parse(info.name) for info in storage.list(names.snapshots(folder)))
    return [name for name in found if name is not None]


def flush_each(writer: Writer, steps: Any) -> None:
    """Log a row a step, each in a flush of its own."""
    for step in steps:
        log(writer, [step])
        writer.flush()


def folder_of(writer: Writer) -> str:
    assert writer.opened is not None
    return writer.opened.folder


CLOCKS = st.integers(0, 12)
ROWS = st.dictionaries(
    st.sampled_from(["a", "b", "val/c"]), st.one_of(SCALARS, st.sampled_from(NEIGHBOURS)), min_size=1
)
OPERATIONS = st.one_of(
    st.tuples(st.just("log"), CLOCKS, ROWS),
    st.tuples(st.just("log"), CLOCKS, ROWS),
    st.tuples(st.just("flush")),
    st.tuples(st.just("flush")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("kill")),
    st.tuples(st.just("rewind"), CLOCKS, st.integers(0, 3)),
    st.tuples(st.just("fork"), CLOCKS),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(OPERATIONS, min_size=5, max_size=40))
def test_at_every_place_the_aggregates_are_those_of_a_fresh_computation(operations: list[Any]) -> None:
    check_a_life(operations)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@settings(deadline=None, max_examples=1000)
@given(st.lists(OPERATIONS, min_size=5, max_size=60))
def test_at_every_place_of_many_lives(operations: list[Any]) -> None:
    check_a_life(operations)


def check_a_life(operations: list[Any]) -> None:
    """Do these things to a run whose clock runs as it likes, and compare after each opening and at the end."""
    MemoryFileSystem.store.clear()  # of the life before: to list a folder takes a look at every object
    memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
    runs = [RUN]
    with pytest.MonkeyPatch.context() as patch:
        write_often(patch)
        patch.setattr(compact, "FAN_IN", 3)
        patch.setattr(compact, "CLOSING_PARTS", 2)
        patch.setattr(view, "LONG_LINEAGE", 4)
        writer = opened(memory)
        waiting: list[dict[str, Scalar]] = []
        for operation, *arguments in operations:
            if operation == "log":
                clock, values = arguments
                writer.append("metrics", values, clock)
                waiting.append(values)
                continue
            before = [row.values for row in reader.read_rows(memory, resolve(memory, runs[-1]), "metrics")]
            check(writer.aggregates(), [*before, *waiting])
            if operation == "flush":
                writer.flush()
                waiting.clear()
                continue
            if operation != "kill":
                writer.finish("finished")
            waiting.clear()
            last = resolve(memory, runs[-1])
            writer.close()
            if operation in ("reopen", "kill"):
                writer = opened(memory, runs[-1])
            elif operation == "rewind":
                clock, back = arguments
                writer = rewound(memory, clock, max(1, last.revision - back), run=runs[-1])
            else:
                runs.append(RunRef("p", f"fork{len(runs)}"))
                writer = forked(memory, runs[-1].id, arguments[0], of=runs[-2])
            rows = [row.values for row in reader.read_rows(memory, resolve(memory, runs[-1]), "metrics")]
            check(writer.aggregates(), rows)
        end(writer)
    check_everywhere(memory, *runs)


def test_one_is_written_after_64_flushes_and_at_the_end(memory: MemoryStorage) -> None:
    writer = opened(memory)
    flush_each(writer, range(63))
    assert written(memory, folder_of(writer)) == []
    flush_each(writer, range(63, 150))
    assert written(memory, folder_of(writer)) == [SnapshotName(63, 63), SnapshotName(127, 127)]
    end(writer)
    assert written(memory, folder_of(writer))[-1] == SnapshotName(149, 149)


def test_or_after_two_megabytes(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cumulative, "DUE_BYTES", 20_000)
    writer = opened(memory)
    log(writer, range(20_000))
    writer.flush()
    assert written(memory, folder_of(writer)) == [SnapshotName(0, 19_999)]


def test_a_short_run_has_none(memory: MemoryStorage) -> None:
    writer = opened(memory)
    flush_each(writer, range(5))
    end(writer)
    assert memory.list(names.snapshots(folder_of(writer))) == []


def test_no_snapshot_is_larger_than_the_rows_since_the_last(memory: MemoryStorage) -> None:
    """Thirty thousand metrics that are logged once, and then one of them again and again."""
    chance = random.Random(0)
    writer = opened(memory)
    writer.append("metrics", {f"k{i}": chance.random() for i in range(30_000)}, 0)
    writer.flush()
    flush_each(writer, range(1, 400))
    end(writer)
    sizes = {info.name: info.size or 0 for info in memory.list(names.snapshots(folder_of(writer)))}
    assert len(sizes) == 1
    assert len(of(memory)) == 30_001


def test_many_short_terms_write_one_together(memory: MemoryStorage) -> None:
    """Rewinds in a row, each killed after two flushes, do not make reading grow."""
    for turn in range(150):
        writer = rewound(memory, turn, run=RUN) if turn else opened(memory)
        flush_each(writer, [turn, turn + 1])
        writer.close()
    storage = CountingStorage(memory)
    seen = resolve(storage, RUN)
    before = storage.traffic
    found = snapshots.aggregates(storage, seen)
    spent = storage.traffic - before
    print(spent)
    assert found.get("a")["a"].count == 151
    assert snapshots.unread(memory, seen).newest is not None
    assert spent.requests["read"] <= 2 * LONG_LINEAGE + 2
    assert spent.requests["list"] <= LONG_LINEAGE + 2


def test_many_short_terms_that_end_well_write_one_now_and_then(memory: MemoryStorage) -> None:
    for turn in range(30):
        writer = rewound(memory, turn, run=RUN) if turn else opened(memory)
        flush_each(writer, [turn, turn + 1])
        end(writer)
    left = snapshots.unread(memory, resolve(memory, RUN))
    assert left.newest is not None
    assert len(left.files) < cumulative.CLOSING_SEGMENTS


def test_a_zombie_cannot_spoil_the_summary(memory: MemoryStorage, often: None) -> None:
    """What a writer still puts after it was superseded lies beyond its seal, its snapshots too."""
    zombie = opened(memory)
    flush_each(zombie, [0, 1])
    heir = opened(memory)
    assert zombie._delivery.term is not None
    log(zombie, [2], turn=9)
    with pytest.raises(FencedError):
        zombie.flush()
    late = Row(2, 2, None, 0, {"a": 9002})
    zombie._delivery.term.cumulative.add(Segment(SegmentName(2, 2, 2, 2), 100), [late], 1)
    zombie._delivery.term.cumulative.tidy(closing=True)
    assert written(memory, folder_of(zombie))[-1] == SnapshotName(2, 2)
    flush_each(heir, [2])
    check_everywhere(memory, RUN)
    assert of(memory).get("a")["a"].last == 2
    end(heir)
    zombie.close()


def test_one_that_a_cut_goes_through_is_not_used_and_an_earlier_one_is(memory: MemoryStorage, often: None) -> None:
    writer = opened(memory)
    flush_each(writer, range(20))
    end(writer)
    seen = resolve(memory, RUN, None, 11)
    newest = snapshots.unread(memory, seen).newest
    assert newest is not None and newest.name == SnapshotName(9, 9)
    end(rewound(memory, 11))
    newest = snapshots.unread(memory, resolve(memory, RUN)).newest
    assert newest is not None and newest.name == SnapshotName(9, 9)
    check_everywhere(memory, RUN)


class Gone(MemoryStorage):
    """A store in which an object is listed, and gone when it is read."""

    gone = ""

    def read(self, path: str) -> bytes:
        if path == self.gone:
            raise FileNotFoundError(path)
        return super().read(path)


def newer(whole: bytes) -> bytes:
    """Return a snapshot as a later version of this package might write it, with its checksum."""
    at = whole.index(b"RWND")
    footer = whole[at + 8 :].replace(b'"format":1', b'"format":9')
    return whole[:at] + struct.pack("<4sI", b"RWND", zlib.crc32(footer)) + footer


def test_one_whose_rows_ran_back_in_time_knows_its_newest_clock(memory: MemoryStorage, often: None) -> None:
    writer = opened(memory)
    flush_each(writer, [9, 1, 2, 3])
    end(writer)
    assert of(memory, None, 5).get("a")["a"].count == 3
    check_everywhere(memory, RUN)


@pytest.mark.parametrize("trouble", ["damaged", "empty", "newer", "missing"])
def test_one_that_cannot_be_read_costs_reading_and_nothing_else(
    trouble: str, memory: MemoryStorage, often: None, caplog: pytest.LogCaptureFixture
) -> None:
    writer = opened(memory)
    flush_each(writer, range(8))
    end(writer)
    newest = snapshots.unread(memory, resolve(memory, RUN)).newest
    assert newest is not None
    whole, storage = memory.read(newest.path), Gone(memory.url)
    if trouble == "missing":  # by the time that it is to be read
        storage.gone = newest.path
    elif trouble == "damaged":
        memory.put(newest.path, whole[:50] + b"x" + whole[51:])
    elif trouble == "empty":
        memory.put(newest.path, b"")
    else:
        memory.put(newest.path, newer(whole))
    with caplog.at_level(logging.WARNING, "rewind_logger"):
        for _ in range(3):
            assert of(storage).get("a")["a"].count == 8
    said = [record for record in caplog.records if newest.path in record.getMessage()]
    assert len(said) == (0 if trouble == "missing" else 1), "once"
    again = opened(memory)
    assert again.aggregates().get("a")["a"].count == 8
    end(again)


def test_a_store_that_fails_at_a_snapshot_fails_nothing_else(memory: MemoryStorage, often: None) -> None:
    class Refusing(MemoryStorage):
        refuse = True

        def put(self, path: str, data: bytes) -> None:
            if "/summary/" in path and self.refuse:
                raise StorageError("no room")
            super().put(path, data)

    store = Refusing(memory.url)
    writer = opened(store)
    flush_each(writer, range(6))
    assert written(memory, folder_of(writer)) == []
    store.refuse = False
    flush_each(writer, range(6, 12))
    end(writer)
    assert written(memory, folder_of(writer)) != []
    check_everywhere(memory, RUN)


def test_an_opening_reads_nothing_for_the_summary_and_neither_does_logging(memory: MemoryStorage, often: None) -> None:
    writer = opened(memory)
    flush_each(writer, range(6))
    end(writer)

    class Watching(MemoryStorage):
        def list(self, folder: str) -> Listing:
            assert "summary" not in folder
            return super().list(folder)

    again = Writer(Watching(memory.url), RUN, background=False)
    again.open(OpenRequest(at=Position(RUN, None, 3)))
    log(again, [3])
    again.close()


def test_a_fork_into_another_store_takes_the_snapshot_along(memory: MemoryStorage) -> None:
    writer = opened(memory)
    flush_each(writer, range(70))
    writer.close()
    other = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
    child = forked(other, "b", 68, source=memory)
    left = snapshots.unread(other, resolve(other, RunRef("p", "b")))
    assert left.newest is not None and left.newest.name == SnapshotName(63, 63)
    flush_each(child, [68])
    end(child)
    check_everywhere(other, RunRef("p", "b"))
