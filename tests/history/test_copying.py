"""Forks out of another store: a copy of what they need, made whole or made again."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path

import pytest

from rewind_logger.errors import RunExistsError, RunNotFoundError
from rewind_logger.history import copying, reader
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import CountingStorage
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import STREAMS, Position, RunRef
from tests.history.bulk import long_run
from tests.history.lines import RUN, end, exact, line, log, opened, read, rewound
from tests.history.machine import Killed, Machine, die, dying, requests_of

CHILD = RunRef("q", "copy")


def fresh() -> MemoryStorage:
    return MemoryStorage(f"memory://test-{secrets.token_hex(6)}")


@pytest.fixture
def source(tmp_path: Path) -> LocalStorage:
    """A store with a run of two revisions, in several terms and segments: 0 to 7, and 0 to 3 with other rows after."""
    storage = LocalStorage(tmp_path / "source")
    writer = opened(storage)
    for step in range(6):
        log(writer, [step])
        writer.append("events", {"config": f'{{"step":{step}}}'}, step)
        writer.flush()
    end(writer)
    writer = opened(storage)
    log(writer, range(6, 8))
    end(writer)
    writer = rewound(storage, 4)
    log(writer, range(4, 9), turn=1)
    end(writer)
    return storage


def copied(target: Storage, source: Storage, next_step: int | None, revision: int | None = None) -> Writer:
    return opened(target, CHILD, at=Position(RUN, revision, next_step), source=source)


def test_a_fork_out_of_another_store_is_a_copy_and_says_so(source: LocalStorage, memory: MemoryStorage) -> None:
    counting = CountingStorage(source)
    writer = copied(memory, counting, 6)
    assert writer.opened is not None
    assert (writer.opened.kind, writer.opened.start) == ("forked", 6)
    assert writer.opened.notes == (f"The rows of {source.url}/p/a@2 were copied, since they lie in another store.",)
    assert counting.traffic.requests.keys() <= {"list", "read"}, "nothing is written there"
    log(writer, [6], turn=2)
    end(writer)
    assert read(memory, run=CHILD) == line(range(4)) + line([4, 5], turn=1) + line([6], turn=2)
    assert all(entry.folder.startswith("q/copy/") for entry in resolve(memory, CHILD).entries)


@pytest.mark.parametrize(("revision", "next_step"), [(None, None), (1, None), (1, 7), (1, 3), (2, 5), (2, 0)])
def test_a_copy_has_all_streams_bit_for_bit_whatever_becomes_of_the_source(
    revision: int | None, next_step: int | None, source: LocalStorage, memory: MemoryStorage
) -> None:
    view = resolve(source, RUN, revision, next_step)
    expected = [[(row.clock, dict(row.values)) for row in reader.read_rows(source, view, stream)] for stream in STREAMS]
    end(copied(memory, source, next_step, revision))
    shutil.rmtree(source.local_path)
    copy = resolve(memory, CHILD)
    assert expected == [
        [(row.clock, dict(row.values)) for row in reader.read_rows(memory, copy, stream)] for stream in STREAMS
    ]


def test_a_copy_reads_no_more_than_it_needs(memory: MemoryStorage) -> None:
    other = fresh()
    long_run(other, RUN, 10_000, 100)
    counting = CountingStorage(other)
    end(copied(memory, counting, 950))
    assert counting.traffic.requests["read"] == 10 + 2, "the segments before the cut, a claim and its base"
    assert len(read(memory, run=CHILD)) == 950


def test_a_copy_holds_little_in_memory_at_a_time(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "TOGETHER_BYTES", 6_000)
    other = fresh()
    long_run(other, RUN, 3000, 100)
    held: list[int] = []

    class Measured(MemoryStorage):
        def read_each(self, paths: object) -> list[bytes | Exception]:
            bodies = super().read_each(paths)  # type: ignore[arg-type]
            held.append(sum(len(body) for body in bodies if isinstance(body, bytes)))
            return bodies

    end(copied(memory, Measured(other.url), None))
    assert len(held) > 4 and max(held) <= 6_000
    assert len(read(memory, run=CHILD)) == 3000


def test_the_same_copy_again_goes_on_and_another_is_refused(source: LocalStorage, memory: MemoryStorage) -> None:
    writer = copied(memory, source, 6)
    log(writer, [6], turn=2)
    end(writer)
    again = copied(memory, source, 6)
    assert again.opened is not None
    assert (again.opened.kind, again.opened.start) == ("resumed", 7)
    end(again)
    with pytest.raises(RunExistsError, match="was forked from"):
        copied(memory, source, 5)
    with pytest.raises(RunExistsError, match="was forked from"):
        opened(memory, CHILD, at=Position(RUN, None, 6))  # of a run of that name in this very store


def test_a_copy_that_was_killed_at_any_request_is_completed_by_the_same_command(
    source: LocalStorage, tmp_path: Path
) -> None:
    def copy(storage: Storage) -> None:
        writer = Writer(storage, CHILD, background=False)
        with contextlib.suppress(Killed):
            writer.open(OpenRequest(at=Position(RUN, None, 6), source=source))
        die(writer)

    expected = line(range(4)) + line([4, 5], turn=1)
    unfinished = 0
    count = requests_of(fresh(), copy)
    assert count > 10
    for number in range(count):
        memory = fresh()
        copy(dying(Machine(memory, tmp_path / str(number)), number, after=number % 2 == 0))
        if memory.list("q/copy/m"):
            with contextlib.suppress(RunNotFoundError):
                # Who does not know the source cannot finish it, and does not take it for an empty run.
                end(opened(memory, CHILD))
                assert read(memory, run=CHILD) == expected
        again = copied(Machine(memory, tmp_path / str(number)), source, 6)
        assert again.opened is not None
        unfinished += any("which was cut short, was completed" in note for note in again.opened.notes)
        assert again.opened.start == 6
        assert read(memory, run=CHILD) == expected
        die(again)
    assert unfinished > 5


def test_an_unfinished_copy_says_what_would_finish_it(source: LocalStorage, memory: MemoryStorage) -> None:
    writer = Writer(dying(memory, 2, after=False), CHILD, background=False)
    with pytest.raises(Killed):
        writer.open(OpenRequest(at=Position(RUN, None, 6), source=source))
    assert len(memory.list("q/copy/m")) == 1
    with pytest.raises(RunNotFoundError) as raised:
        opened(memory, CHILD)
    assert f"is a copy of {source.url}/p/a@2?_step=5 that was not finished: fork it from there again" in str(
        raised.value
    )
    with pytest.raises(RunNotFoundError):
        resolve(memory, CHILD)


def test_a_copy_of_a_copy(source: LocalStorage, memory: MemoryStorage) -> None:
    end(copied(memory, source, None))
    third = fresh()
    end(opened(third, RunRef("r", "again"), at=Position(CHILD, None, None), source=memory))
    assert exact(third, run=RunRef("r", "again")) == exact(source)


def test_a_segment_that_is_missing_in_the_source_is_named(
    source: LocalStorage, memory: MemoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    view = resolve(source, RUN)
    lost = reader.files(source, view, "metrics")[1]
    source.delete(lost.path)
    end(copied(memory, source, None))
    assert any(lost.path in record.getMessage() and "missing" in record.getMessage() for record in caplog.records)
    caplog.clear()
    kept = [row for row in line(range(4)) + line(range(4, 9), turn=1) if row[0] != lost.segment.name.first_clock]
    assert read(memory, run=CHILD) == kept
