"""Small segments are put together, and nobody notices but by the number of requests."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rewind_logger.errors import StorageError
from rewind_logger.format import names
from rewind_logger.format.names import SegmentName
from rewind_logger.history import compact, reader
from rewind_logger.history.view import View, resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import Fault, FaultyStorage, Request
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from tests.history.lines import RUN, end, exact, line, log, opened, read
from tests.history.machine import Killed, Machine, die, dying, requests_of
from tests.history.processes import HEAD, running


def segments_read(storage: Storage) -> int:
    """Return how many segments a reader reads."""
    return len(reader.files(storage, resolve(storage, RUN), "metrics"))


def segment_names(storage: Storage, writer: Writer) -> list[SegmentName]:
    """Return the names of all segments of a writer's term."""
    assert writer.opened is not None
    infos = storage.list(names.group(writer.opened.folder, "metrics", 0))
    return [found for info in infos if (found := SegmentName.parse(info.name)) is not None]


def log_and_flush(writer: Writer, steps: range) -> None:
    for step in steps:
        log(writer, [step])
        writer.flush()


def test_64_small_segments_become_one(memory: MemoryStorage) -> None:
    writer = opened(memory)
    log_and_flush(writer, range(63))
    assert segments_read(memory) == 63
    log_and_flush(writer, range(63, 64))
    assert segments_read(memory) == 1
    log_and_flush(writer, range(64, 130))
    assert segments_read(memory) == 4
    assert read(memory) == line(range(130))


def test_and_64_of_those_become_one_again(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "FAN_IN", 4)
    writer = opened(memory)
    log_and_flush(writer, range(4**4))
    assert segments_read(memory) == 1
    assert read(memory) == line(range(4**4))


def test_the_end_of_a_run_puts_a_tail_of_small_segments_together(memory: MemoryStorage) -> None:
    writer = opened(memory)
    log_and_flush(writer, range(70))
    assert segments_read(memory) == 7
    log_and_flush(writer, range(70, 73))
    writer.finish("finished")
    assert segments_read(memory) == 2
    log_and_flush(writer, range(73, 75))
    assert read(memory) == line(range(75))


def test_the_parts_stay(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """For readers that looked up their names before."""
    monkeypatch.setattr(compact, "FAN_IN", 5)
    writer = opened(memory)
    log_and_flush(writer, range(4))
    view = resolve(memory, RUN)
    log_and_flush(writer, range(4, 10))
    assert [row.clock for row in reader.read_rows(memory, view, "metrics")] == list(range(4))
    found = segment_names(memory, writer)
    assert [name.first for name in found if name.first == name.last] == list(range(10))
    assert [(name.first, name.last) for name in found if name.first != name.last] == [(0, 4), (5, 9)]


def test_readers_see_the_same_rows_at_any_moment(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader looks between any two requests of the writer."""
    monkeypatch.setattr(compact, "FAN_IN", 3)
    acknowledged = 0
    views: list[View] = []

    def look(request: Request) -> Fault | None:
        view = resolve(memory, RUN)
        rows = reader.read_rows(memory, view, "metrics")
        assert len(rows) in (acknowledged, acknowledged + 1)
        assert [row.clock for row in rows] == list(range(len(rows)))
        views.append(view)
        return None

    faulty = FaultyStorage(memory)
    writer = opened(faulty)
    faulty.plan = look
    for step in range(20):
        log_and_flush(writer, range(step, step + 1))
        acknowledged = step + 1
    assert len(views) > 50
    for view in views:  # and slow ones read what they looked up long ago
        assert len(reader.read_rows(memory, view, "metrics")) == view.next_step


@pytest.mark.parametrize("seed", range(6))
def test_large_segments_between_small_ones_keep_their_rows(
    seed: int, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is too large for its neighbours is left alone, and no range goes over it."""
    monkeypatch.setattr(compact, "FAN_IN", 3)
    monkeypatch.setattr(compact, "MAX_POINTS", 12)
    monkeypatch.setattr(compact, "CLOSING_PARTS", 2)
    chance = random.Random(seed)
    writer = opened(memory)
    step = 0
    for _ in range(60):
        rows = chance.choice([1, 1, 2, 5, 11, 13, 20])
        log(writer, range(step, step + rows))
        writer.flush()
        step += rows
        if chance.random() < 0.1:
            writer.finish("finished")
    end(writer)
    assert read(memory) == line(range(step))
    assert segments_read(memory) < 60


def test_a_kill_within_a_compaction_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "FAN_IN", 3)
    monkeypatch.setattr(compact, "CLOSING_PARTS", 2)

    def live(storage: Storage) -> None:
        writer = opened(storage)
        try:
            log_and_flush(writer, range(11))
            writer.finish("finished")
        except Killed:
            pass
        die(writer)

    count = requests_of(MemoryStorage(f"memory://{tmp_path.name}"), live)
    assert count > 30
    for number in range(4, count):
        memory = MemoryStorage(f"memory://{tmp_path.name}/{number}")
        machine = Machine(memory, tmp_path / str(number))
        live(dying(machine, number, after=number % 2 == 0))
        before = read(memory)
        assert before == line(range(len(before)))
        die(opened(machine))
        rows = read(memory)
        assert rows[: len(before)] == before
        assert rows == line(range(len(rows)))


def test_a_compaction_that_fails_fails_nothing_else_and_comes_later(
    memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "FAN_IN", 4)
    refused = 0

    def refuse(request: Request) -> Fault | None:
        nonlocal refused
        name = SegmentName.parse(request.path.rpartition("/")[2])
        if request.verb == "put" and name is not None and name.first != name.last and refused < 2:
            refused += 1
            return Fault("before", StorageError("The bucket's policy forbids it."))
        return None

    writer = opened(FaultyStorage(memory, refuse))
    log_and_flush(writer, range(4))
    assert segments_read(memory) == 4
    log_and_flush(writer, range(4, 6))
    assert refused == 2
    assert segments_read(memory) == 1
    assert read(memory) == line(range(6))


def test_damaged_segments_are_left_as_they_are(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "FAN_IN", 4)
    writer = opened(memory)
    log_and_flush(writer, range(3))
    assert writer.opened is not None
    path = names.segment(writer.opened.folder, "metrics", segment_names(memory, writer)[1])
    whole = memory.read(path)
    memory.put(path, whole[:-100] + bytes(100))
    log_and_flush(writer, range(3, 9))
    assert [(name.first, name.last) for name in segment_names(memory, writer) if name.first != name.last] == [(4, 7)]
    memory.put(path, whole)  # from a backup
    assert read(memory) == line(range(9))


def test_a_bug_in_it_ends_neither_training_nor_flushing(
    memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(compact.Compactor, "run", fail)
    writer = opened(memory, background=True)
    for step in range(3):
        log(writer, [step])
        assert writer.flush()
    end(writer)
    assert read(memory) == line(range(3))
    assert "could not be put together" in caplog.text


def test_all_streams_and_values_come_through(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "FAN_IN", 64)
    writer = opened(memory)
    for step in range(12):
        writer.append("metrics", {"nan": float("nan"), "inf": float("-inf"), "text": "ü" * step}, step, step // 2)
        writer.append("events", {"config": f'{{"step":{step}}}'}, step)
        writer.append("checkpoints", {"mark": "{}"}, step)
        writer.flush()
    before = exact(memory)
    end(writer)
    assert segments_read(memory) == 1
    assert exact(memory) == before


LIVE = (
    HEAD
    + """
from rewind_logger.history import compact
compact.FAN_IN = 3
writer.open(OpenRequest())
for step in range(20):
    log(step)
    writer.flush()
    say(step)
    input()
writer.close()
"""
)


def test_a_reader_in_another_process_sees_what_was_flushed(local: LocalStorage, tmp_path: Path) -> None:
    with running(LIVE, tmp_path, local.url) as script:
        for step in range(20):
            script.hear(str(step))
            assert read(local) == line(range(step + 1))
            script.go_on()
        script.end()
    assert segments_read(local) < 8
