"""Small segments are put together, and nobody notices but by the number of requests."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rewind_logger.errors import CorruptError, StorageError, TransientStorageError
from rewind_logger.format import names
from rewind_logger.format.names import SegmentName
from rewind_logger.history import compact, reader
from rewind_logger.history.cumulative import Cumulative
from rewind_logger.history.damage import report
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
    failed = 0

    def fail(request: Request) -> Fault | None:
        nonlocal failed
        name = SegmentName.parse(request.path.rpartition("/")[2])
        if request.verb == "put" and name is not None and name.first != name.last and failed < 2:
            failed += 1
            return Fault("before", TransientStorageError("Slow down."))
        return None

    writer = opened(FaultyStorage(memory, fail))
    log_and_flush(writer, range(4))
    assert segments_read(memory) == 4
    log_and_flush(writer, range(4, 6))
    assert failed == 2, "the first time it is tried again at once, then it rests"
    assert segments_read(memory) == 6
    log_and_flush(writer, range(6, 7))
    assert segments_read(memory) == 1
    assert read(memory) == line(range(7))


class Withholding(FaultyStorage):
    """A store that does not give some segments, as where one was moved to an archive, and counts what is asked for."""

    def __init__(self, inner: Storage, error: StorageError) -> None:
        super().__init__(inner, self._answer)
        self.error = error
        self.withheld = "nothing as yet"
        self.tried = self.reads = 0

    def _answer(self, request: Request) -> Fault | None:
        if request.verb != "read" or "/s/" not in request.path:
            return None
        self.reads += 1
        if self.withheld not in request.path:
            return None
        self.tried += 1
        return Fault("before", self.error)


WITHHELD = [
    pytest.param(StorageError("The operation is not valid for the object's storage class."), 1, id="refused"),
    pytest.param(TransientStorageError("It timed out."), 7, id="away"),
]
"""Of 64 times that it could be asked for, how often it is: once, or after ever more flushes."""


@pytest.mark.parametrize(("error", "times"), WITHHELD)
def test_an_ancestor_that_the_store_does_not_give_keeps_nothing_else_from_being_put_together(
    error: StorageError, times: int, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "FAN_IN", 8)
    for step in range(3):
        writer = opened(memory)
        log_and_flush(writer, range(step, step + 1))
        end(writer)
    monkeypatch.setattr("rewind_logger.history.view.LONG_LINEAGE", 1)
    monkeypatch.setattr(Cumulative, "tidy", lambda *_, **__: None)  # which reads ancestors, too
    store = Withholding(memory, error)
    writer = opened(store)
    assert writer.opened is not None
    store.withheld = writer.opened.base.lineage[0].folder
    log_and_flush(writer, range(3, 67))
    assert store.tried == times
    assert (0, 63) in [(name.first, name.last) for name in segment_names(memory, writer)]
    assert read(memory) == line(range(67))


@pytest.mark.parametrize(("error", "times"), WITHHELD)
def test_a_segment_that_the_store_does_not_give_is_not_asked_for_at_each_flush(
    error: StorageError, times: int, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are those beside it, which become more and more."""
    monkeypatch.setattr(compact, "FAN_IN", 4)
    store = Withholding(memory, error)
    store.withheld = "/000000001-000000001_"
    log_and_flush(opened(store), range(3 + 64))
    assert store.tried == times
    assert store.reads < 3 * 67
    assert read(memory) == line(range(67))


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


@pytest.fixture
def archived(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> tuple[View, str, str]:
    """A view whose base names a segment that was merged twice over; where that lies, and one of its parts."""
    monkeypatch.setattr(compact, "FAN_IN", 3)
    writer = opened(memory)
    log_and_flush(writer, range(9))
    end(writer)
    end(opened(memory))
    view = resolve(memory, RUN)
    folder = view.entries[0].folder
    assert [name for name, _ in view.plan[folder]["metrics"]] == ["000000000-000000008_0_8.parquet"]
    wide, narrow = (names.SegmentName(0, 8, 0, 8), names.SegmentName(3, 5, 3, 5))
    report.cache_clear()
    return view, names.segment(folder, "metrics", wide), names.segment(folder, "metrics", narrow)


def spoil(storage: Storage, path: str, what: str) -> None:
    """Damage or remove an object."""
    data = storage.read(path)
    storage.delete(path)
    if what == "damaged":
        storage.put(path, data[:-1])


def steps(storage: Storage, view: View, strict: bool = False) -> list[int]:
    """Return the steps that a reader of whole segments finds, or one of a single metric."""
    wanted = reader.files(storage, view, "metrics")
    tables = [table for _, table in reader.visible_tables(storage, wanted, strict=strict)]
    found = [clock for table in tables for clock in table.column("clock").to_pylist()]
    assert reader.read(storage, view, "metrics", keys=["a"]).column("clock").to_pylist() == found
    assert [row.clock for row in reader.read_rows(storage, view, "metrics")] == found
    return found


@pytest.mark.parametrize("what", ["damaged", "missing"])
def test_of_a_merged_segment_that_cannot_be_read_the_parts_are(
    what: str, memory: MemoryStorage, archived: tuple[View, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    view, wide, _ = archived
    spoil(memory, wide, what)
    assert steps(memory, view, strict=True) == list(range(9))
    (said,) = caplog.messages
    assert said.startswith(f"The segment {wide} in {memory.url} is {what}")
    assert "its rows are read from the segments that it was put together from" in said
    assert said.endswith("Delete it.") == (what == "damaged")


@pytest.mark.parametrize("what", ["damaged", "missing"])
@pytest.mark.parametrize("part", ["damaged", "missing"])
def test_and_of_a_part_that_cannot_be_read_either_its_own_parts(
    what: str, part: str, memory: MemoryStorage, archived: tuple[View, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    view, wide, narrow = archived
    spoil(memory, wide, what)
    spoil(memory, narrow, part)
    assert steps(memory, view, strict=True) == list(range(9))
    assert "left out" not in caplog.text


@pytest.mark.parametrize("what", ["damaged", "missing"])
@pytest.mark.parametrize("part", ["damaged", "missing"])
def test_only_the_flush_is_lost_of_which_nothing_can_be_read(
    what: str, part: str, memory: MemoryStorage, archived: tuple[View, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    view, wide, narrow = archived
    single = f"{wide.rpartition('/')[0]}/000000004-000000004_4_4.parquet"
    spoil(memory, wide, what)
    spoil(memory, narrow, what)
    spoil(memory, single, part)
    assert steps(memory, view) == [0, 1, 2, 3, 5, 6, 7, 8]
    (lost,) = (said for said in caplog.messages if "left out" in said)
    if part == "damaged":
        named, rows = single, "its rows, of flushes 4 to 4 and steps 4 to 4, are left out"
    else:  # of what is missing no listing tells
        named = narrow if what == "damaged" else wide
        within = "3 to 5" if what == "damaged" else "0 to 8"
        rows = f"those of its rows of flushes 4 to 4, within steps {within}, are left out, the others"
    assert lost.startswith(f"The segment {named} in {memory.url} is ")
    assert rows in lost and lost.endswith("Restore it from a backup.")
    with pytest.raises(CorruptError, match="flushes 4 to 4"):
        steps(memory, view, strict=True)


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
