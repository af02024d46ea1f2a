"""When rows go to the store: for their number, for their age, on demand, and again after a failure."""

from __future__ import annotations

import threading

import pytest

from rewind_logger.errors import StorageError, TransientStorageError
from rewind_logger.format import segment
from rewind_logger.history import age, flusher, reader
from rewind_logger.history.journals import outbox
from rewind_logger.history.journals.outbox import FLUSH_POINTS
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import Fault, FaultyStorage, Plan, Request, every
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from tests.figures import count
from tests.history.lines import RUN, end, line, log, opened, read

NEVER = 3600.0


class Watched(MemoryStorage):
    """A store in memory that tells when a segment has come."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.arrived = threading.Semaphore(0)

    def put(self, path: str, data: bytes) -> None:
        super().put(path, data)
        if path.endswith(".parquet"):
            self.arrived.release()

    def wait(self) -> None:
        assert self.arrived.acquire(timeout=60), "nothing came"


@pytest.fixture
def watched(memory: MemoryStorage) -> Watched:
    return Watched(memory.url)


def segment_sizes(storage: Storage) -> list[int]:
    """Return the number of rows of each segment."""
    view = resolve(storage, RUN)
    return [len(segment.decode(storage.read(file.path))) for file in reader.files(storage, view, "metrics")]


def test_rows_go_to_the_store_once_there_are_65536_points(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FLUSH_POINTS == 1 << 16
    monkeypatch.setattr(age, "REMOTE_AGE_S", (NEVER, NEVER))
    writer = opened(watched, background=True)
    log(writer, range(FLUSH_POINTS - 1))
    assert writer._outbox is not None and not writer._outbox.full
    log(writer, [FLUSH_POINTS - 1])
    watched.wait()
    log(writer, [FLUSH_POINTS])
    writer.flush()
    assert segment_sizes(watched) == [FLUSH_POINTS, 1]
    writer.close()


def test_a_row_of_so_many_points_goes_at_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age, "REMOTE_AGE_S", (NEVER, NEVER))
    writer = opened(watched, background=True)
    writer.append("metrics", {f"metric {i}": i for i in range(FLUSH_POINTS)}, 0)
    watched.wait()
    writer.close()


def test_a_row_goes_to_the_store_by_itself_once_it_is_old(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age, "REMOTE_AGE_S", (0.01, 0.01))
    writer = opened(watched, background=True)
    for step in range(3):
        log(writer, [step])
        watched.wait()
    writer.close()
    assert read(watched) == line(range(3))


def waits(writer: Writer, *, open_for: float) -> float:
    """Return for how many seconds a row waits that comes when the run has been open for so long."""
    log(writer, [0])
    assert writer._outbox is not None and writer._outbox.since is not None
    writer._opened_at = writer._outbox.since - open_for
    due = writer._due()
    assert due is not None
    return due - writer._outbox.since


@pytest.mark.parametrize("open_for", [0.0, 60.0, 86_400.0])
def test_on_a_local_store_a_row_waits_one_second(open_for: float, local: LocalStorage) -> None:
    assert waits(opened(local), open_for=open_for) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("open_for", "seconds"), [(0.0, 1.0), (10.0, 1.0), (60.0, 3.0), (300.0, 15.0), (600.0, 30.0), (86_400.0, 30.0)]
)
def test_on_a_remote_store_it_waits_longer_the_longer_the_run(
    open_for: float, seconds: float, memory: MemoryStorage
) -> None:
    assert waits(opened(memory), open_for=open_for) == pytest.approx(seconds)


@pytest.mark.parametrize(("kind", "seconds"), [(LocalStorage, 60), (MemoryStorage, 300)])
def test_measures_of_the_machine_go_by_themselves_seldom(
    kind: type[LocalStorage] | type[MemoryStorage], seconds: float, local: LocalStorage, memory: MemoryStorage
) -> None:
    """An idle process has them too, and each flush costs requests."""
    writer = opened(local if kind is LocalStorage else memory)
    for _ in range(3):
        writer.append("system", {"machine/cpu_percent": 1.0}, 0)
    outbox, due = writer._outbox, writer._due()
    assert outbox is not None and outbox.since is not None and due is not None
    assert due - outbox.since == pytest.approx(seconds)
    log(writer, [0])
    sooner = writer._due()
    assert sooner is not None and outbox.pressing is not None
    assert sooner - outbox.pressing == pytest.approx(1.0), "they go with others"
    writer.close()


def test_nothing_is_due_where_nothing_waits(memory: MemoryStorage) -> None:
    writer = opened(memory)
    assert writer._due() is None
    log(writer, [0])
    assert writer._due() is not None and writer.waiting
    writer.flush()
    assert writer._due() is None and not writer.waiting


def test_flush_brings_everything_that_was_logged_before_it(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age, "LOCAL_AGE_S", NEVER)
    monkeypatch.setattr(age, "REMOTE_AGE_S", (NEVER, NEVER))
    writer = opened(storage, background=True)
    for step in range(5):
        log(writer, [step])
        assert writer.flush()
        assert read(storage) == line(range(step + 1))
    writer.close()


def test_rows_of_the_opening_go_with_it(storage: Storage) -> None:
    """What is logged before a run is opened gets the step at which it is."""
    end(opened(storage))
    writer = Writer(storage, RUN, background=False)
    writer.append("metrics", {"a": 0}, None)
    assert not writer.flush()
    writer.open(OpenRequest())
    log(writer, [1])
    end(writer)
    assert read(storage) == line(range(2))


def test_a_store_that_is_away_stops_nothing_and_is_tried_again(
    memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flusher, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(flusher, "LAST_RETRY_S", 0.002)
    faulty = FaultyStorage(memory)
    writer = opened(faulty, background=True)
    away = every("put", Fault("before", TransientStorageError("It is away.")))
    attempts = threading.Semaphore(0)

    def plan(request: Request) -> Fault | None:
        attempts.release()
        return away(request)

    faulty.plan = plan
    for step in range(10):
        log(writer, [step])
        with pytest.raises(TransientStorageError):
            writer.flush()
    assert not writer.flush(0.01), "the time runs out, and the rows wait"
    for _ in range(20):
        assert attempts.acquire(timeout=60)
    assert read(memory) == []
    faulty.plan = None
    assert writer.flush(60)
    assert read(memory) == line(range(10))
    writer.close()
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "goes on in its journal" in text]) == 1
    assert said[-1] == "Run p/a is in its store again after 0 s: everything that waited has arrived."


class Hanging(MemoryStorage):
    """A store in memory that does not answer requests of one kind until it is let."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.hangs = ""
        self.reached, self.released = threading.Event(), threading.Event()

    def put(self, path: str, data: bytes) -> None:
        self._answer("put")
        super().put(path, data)

    def read(self, path: str) -> bytes:
        self._answer("read")
        return super().read(path)

    def _answer(self, verb: str) -> None:
        if verb == self.hangs:
            self.reached.set()
            self.released.wait()  # without an end: one that came by itself would let a `log` go on that waits for it


@pytest.mark.timeout(60)
@pytest.mark.parametrize("verb", ["put", "read"])
def test_rows_are_logged_while_a_request_hangs(
    verb: str, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store answers only after every row was logged: a `log` that waited for it would wait for ever."""
    monkeypatch.setattr(age, "REMOTE_AGE_S", (0.0, 0.0))
    monkeypatch.setattr(outbox, "FLUSH_POINTS", 1_000)  # so that batches are full meanwhile, one after the other
    hanging = Hanging(memory.url)
    writer = opened(hanging, background=True)
    hanging.hangs = verb
    try:
        log(writer, [0])
        assert hanging.reached.wait(60), "for its age"
        log(writer, range(1, 10_001))
        assert read(memory) == (line([0]) if verb == "read" else [])
        assert writer.rows_waiting == 10_001
        assert not writer.flush(0.01), "the time runs out, and the rows wait"
    finally:
        hanging.released.set()
    assert writer.flush(60)
    found = read(memory)
    count("rows checked", 10_001)
    count("rows lost", 10_001 - len(set(found)))
    assert found == line(range(10_001))
    writer.close()


def test_a_flush_is_not_told_of_a_failure_that_began_before_it(
    memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(age, "REMOTE_AGE_S", (0.0, 0.0))
    begun, asked = threading.Event(), threading.Event()

    def refuse_once(request: Request) -> Fault | None:
        if begun.is_set() or request.verb != "put":
            return None
        begun.set()
        assert asked.wait(60)
        return Fault("before", TransientStorageError("It is away."))

    faulty = FaultyStorage(memory)
    writer = opened(faulty, background=True)
    faulty.plan = refuse_once
    log(writer, [0])
    outcomes: list[bool | type[Exception]] = []

    def flush() -> None:
        try:
            outcomes.append(writer.flush())
        except TransientStorageError as error:
            outcomes.append(type(error))

    assert begun.wait(60), "for its age"
    log(writer, [1])
    thread = threading.Thread(target=flush)
    thread.start()
    assert writer._flusher is not None
    while writer._flusher._asked == 0:
        thread.join(0.001)
    asked.set()
    thread.join(60)
    assert outcomes == [True], "it was served by an attempt of its own"
    assert read(memory) == line(range(2))
    writer.close()


def test_a_store_that_refuses_is_not_waited_for(memory: MemoryStorage) -> None:
    faulty = FaultyStorage(memory)
    writer = opened(faulty, background=True)
    faulty.plan = every("put", Fault("before", StorageError("Access denied.")))
    log(writer, [0])
    with pytest.raises(StorageError, match="Access denied"):
        writer.flush(NEVER)
    faulty.plan = None
    assert writer.flush(60)
    writer.close()


@pytest.mark.parametrize(
    "plan",
    [
        every("put", Fault("after", TransientStorageError("The reply was lost."))),
        every("read", Fault("before", TransientStorageError("Who owns the run could not be asked."))),
    ],
)
def test_a_segment_that_was_put_and_not_acknowledged_is_put_again_and_not_doubled(
    plan: Plan, memory: MemoryStorage
) -> None:
    faulty = FaultyStorage(memory)
    writer = opened(faulty)
    log(writer, [0])
    faulty.plan = plan
    with pytest.raises(TransientStorageError):
        writer.flush()
    log(writer, [1])
    faulty.plan = None
    assert writer.flush()
    assert read(memory) == line(range(2))
