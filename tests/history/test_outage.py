"""Of an outage two sentences are said, however long it takes and however often a request gets through."""

from __future__ import annotations

import pytest

from rewind_logger.errors import TransientStorageError
from rewind_logger.history.outage import Outage, duration
from rewind_logger.storage.base import Retries
from rewind_logger.storage.faults import Fault, FaultyStorage, Request, by_chance
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.retry import RetryingStorage
from tests.figures import count
from tests.history.lines import line, log, opened, read

SLOW_DOWN = TransientStorageError("SlowDown: Please reduce your request rate.")


class Store:
    """What an outage sees of a store, and of time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = Retries()
        self.outage = Outage("p/a", lambda: self.asked, lambda: self.now)

    def fail(self, requests: int = 5) -> None:
        self.asked = Retries(self.asked.requests + requests, self.asked.bytes + 1000 * requests)
        self.outage.failed(SLOW_DOWN)

    def succeed(self, retried: int = 0) -> None:
        self.asked = Retries(self.asked.requests + retried, self.asked.bytes)
        self.outage.succeeded()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_ten_minutes_of_throttling_are_one_outage(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.succeed()
    for second in range(0, 600, 30):
        store.now = float(second)
        if second % 90:
            store.succeed(retried=2)
        else:
            store.fail(20)
    store.now = 615.0
    store.succeed()
    store.now = 630.0
    store.succeed()
    assert said(caplog) == [
        "Run p/a goes on in its journal: SlowDown: Please reduce your request rate.",
        "Run p/a is in its store again after 10 min 15 s: everything that waited has arrived."
        " 166 requests (0.1 MB) had failed and were made again.",
    ]


def test_two_outages_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    for _ in range(2):
        store.fail()
        store.now += 7300
        store.succeed()
        store.succeed()
    assert said(caplog)[1] == said(caplog)[3]
    assert "again after 2 h 1 min: everything that waited has arrived. 5 requests had failed" in said(caplog)[3]


def test_an_end_in_an_outage_says_nothing_unless_everything_arrived(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.fail()
    store.outage.end()
    assert len(said(caplog)) == 1
    store.succeed(retried=1)
    assert len(said(caplog)) == 1, "it may not be over"
    store.outage.end()
    assert len(said(caplog)) == 2, "but nothing is missing"


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0, 59.9, 60, 3599, 3600)] == [
        "0 s",
        "59 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
    ]


def test_a_store_that_throttles_for_ten_minutes_gets_everything(memory: MemoryStorage) -> None:
    """As its client sees them: waits are what they would be, and nobody waits."""
    waited: list[float] = []
    faulty = FaultyStorage(memory)
    storage = RetryingStorage(faulty, sleep=waited.append)
    writer = opened(storage)
    throttled = by_chance(3, before=0.8, after=0.1)

    def plan(request: Request) -> Fault | None:
        fault = throttled(request) if sum(waited) < 600 else None
        count("faults injected", fault is not None)
        return fault

    faulty.plan = plan
    step = 0
    while sum(waited) < 600:
        log(writer, [step])
        step += 1
        try:
            writer.flush()
        except TransientStorageError:
            waited.append(10.0)  # as the thread that flushes does
    assert writer.flush()
    writer.close()
    found = read(memory)
    count("rows checked", step)
    count("rows lost", step - len(set(found)))
    assert found == line(range(step))
    assert storage.retries.requests > 100
    assert storage.retries.bytes > 100_000


def test_what_is_asked_in_vain_is_counted(memory: MemoryStorage) -> None:
    lost = Fault("before", SLOW_DOWN)
    storage = RetryingStorage(
        FaultyStorage(memory, lambda request: lost if request.number in (0, 2, 4) else None), sleep=lambda seconds: None
    )
    assert storage.retries == Retries()
    storage.put("a", 100 * b"x")
    storage.read("a")
    storage.put_many([("b", 10 * b"x"), ("c", 7 * b"x")])
    assert storage.retries == Retries(3, 110)
    assert str(storage.retries) == "3 requests had failed and were made again"
    with pytest.raises(TransientStorageError):
        RetryingStorage(FaultyStorage(memory, lambda request: lost), 2, sleep=lambda seconds: None).put("a", b"")
