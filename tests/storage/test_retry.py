"""Requests are made again when that may help, a bounded number of times, and not otherwise."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rewind_logger.errors import StorageError, TransientStorageError
from rewind_logger.storage import ObjectInfo, Storage
from rewind_logger.storage.faults import CountingStorage, Fault, FaultyStorage, Request, by_chance, every, script
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.retry import RetryingStorage

LOST = Fault("before", TransientStorageError("The request was lost."))
REPLY_LOST = Fault("after", TransientStorageError("The reply was lost."))
REFUSED = Fault("before", StorageError("Access was denied."))

REQUESTS: Sequence[Callable[[Storage], object]] = [
    lambda storage: storage.create("new", b"x"),
    lambda storage: storage.put("new", b"x"),
    lambda storage: storage.put_file("new", Path(__file__)),
    lambda storage: storage.read("f/a"),
    lambda storage: storage.read_range("f/a", 0, 2),
    lambda storage: list(storage.read_chunks("f/a")),
    lambda storage: storage.size("f/a"),
    lambda storage: storage.list("f"),
    lambda storage: storage.delete("f/a"),
    lambda storage: storage.read_many(["f/a"]),
    lambda storage: storage.map_lists(["f"]),
]


class Waits:
    """Stands for waiting, and keeps how long."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def memory() -> Storage:
    storage = MemoryStorage(f"memory://{secrets.token_hex(8)}")
    storage.put("f/a", b"abc")
    return storage


def retrying(inner: Storage, waits: Waits, **options: float) -> RetryingStorage:
    return RetryingStorage(inner, sleep=waits, uniform=lambda: 1.0, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_that_failed_twice_succeeds(
    memory: Storage, waits: Waits, request_: Callable[[Storage], object]
) -> None:
    untroubled = request_(MemoryStorage(_copy_of(memory)))
    counted = CountingStorage(FaultyStorage(memory, script({0: LOST, 1: LOST})))
    assert request_(retrying(counted, waits)) == untroubled
    assert counted.traffic.total == 3
    assert waits.seconds == [0.2, 0.4]


def _copy_of(storage: Storage) -> str:
    copy = MemoryStorage(f"memory://{secrets.token_hex(8)}")
    copy.put("f/a", storage.read("f/a"))
    return copy.url


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_that_keeps_failing_is_given_up(
    memory: Storage, waits: Waits, request_: Callable[[Storage], object]
) -> None:
    counted = CountingStorage(FaultyStorage(memory, lambda request: LOST))
    with pytest.raises(TransientStorageError, match=r"^The request was lost\. \(It was tried 5 times\.\)$"):
        request_(retrying(counted, waits))
    assert counted.traffic.total == 5
    assert waits.seconds == [0.2, 0.4, 0.8, 1.6]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_that_fails_for_good_is_made_once(
    memory: Storage, waits: Waits, request_: Callable[[Storage], object]
) -> None:
    counted = CountingStorage(FaultyStorage(memory, lambda request: REFUSED))
    with pytest.raises(StorageError, match="denied") as raised:
        request_(retrying(counted, waits))
    assert not isinstance(raised.value, TransientStorageError)
    assert counted.traffic.total == 1
    assert waits.seconds == []


def test_what_is_missing_is_asked_for_once(memory: Storage, waits: Waits) -> None:
    counted = CountingStorage(memory)
    with pytest.raises(FileNotFoundError):
        retrying(counted, waits).read("missing")
    assert counted.traffic.requests == {"read": 1}


def test_a_crash_is_not_caught(memory: Storage, waits: Waits) -> None:
    class Crash(BaseException):
        pass

    with pytest.raises(Crash):
        retrying(FaultyStorage(memory, script({0: Fault("before", Crash())})), waits).put("f/b", b"x")
    assert waits.seconds == []


def test_waits_grow_to_a_limit_and_are_drawn_by_chance(memory: Storage) -> None:
    waits = Waits()
    drawn = iter([1.0, 0.5, 0.0, 0.25, 1.0])
    storage = RetryingStorage(
        FaultyStorage(memory, lambda request: LOST),
        6,
        first_wait=1.0,
        longest_wait=4.0,
        sleep=waits,
        uniform=lambda: next(drawn),
    )
    with pytest.raises(TransientStorageError, match="tried 6 times"):
        storage.read("f/a")
    assert waits.seconds == [1.0, 1.0, 0.0, 1.0, 4.0]


def test_one_attempt_is_no_retry(memory: Storage, waits: Waits) -> None:
    with pytest.raises(TransientStorageError, match="tried once"):
        retrying(FaultyStorage(memory, script({0: LOST})), waits, attempts=1).read("f/a")
    assert waits.seconds == []
    with pytest.raises(ValueError, match="attempts is 0"):
        RetryingStorage(memory, 0)


def test_of_many_reads_only_the_lost_ones_are_made_again(memory: Storage, waits: Waits) -> None:
    for n in range(6):
        memory.put(f"g/{n}", bytes([n]))
    counted = CountingStorage(FaultyStorage(memory, script({1: LOST, 4: LOST, 7: LOST})))
    storage = retrying(counted, waits)
    assert storage.read_many(f"g/{n}" for n in range(6)) == [bytes([n]) for n in range(6)]
    assert counted.traffic.requests == {"read": 6 + 2 + 1}
    assert waits.seconds == [0.2, 0.4]


def test_of_many_writes_only_the_lost_ones_are_made_again(memory: Storage, waits: Waits) -> None:
    counted = CountingStorage(FaultyStorage(memory, script({1: LOST, 2: LOST, 4: LOST})))
    retrying(counted, waits).put_many((f"g/{n}", bytes([n])) for n in range(4))
    assert memory.read_many(f"g/{n}" for n in range(4)) == [bytes([n]) for n in range(4)]
    assert counted.traffic.requests == {"put": 4 + 2 + 1}


def test_of_many_reads_each_has_its_own_outcome(memory: Storage, waits: Waits) -> None:
    def lose(request: Request) -> Fault | None:
        return LOST if request.path == "f/lost" else None

    counted = CountingStorage(FaultyStorage(memory, lose))
    found, lost, missing = retrying(counted, waits).read_each(["f/a", "f/lost", "f/missing"])
    assert found == b"abc"
    assert isinstance(missing, FileNotFoundError)
    assert isinstance(lost, TransientStorageError)
    assert str(lost) == "The request was lost. (It was tried 5 times.)"
    assert counted.traffic.requests == {"read": 3 + 4}


def test_a_create_whose_reply_was_lost_meets_its_own_object(memory: Storage, waits: Waits) -> None:
    """What `Storage.create` says of False: whose the object is stands in it."""
    storage = retrying(FaultyStorage(memory, script({0: REPLY_LOST})), waits)
    assert storage.create("claim", b"nonce-of-this-writer") is False
    assert storage.read("claim") == b"nonce-of-this-writer"


def test_a_put_whose_reply_was_lost_is_done_again(memory: Storage, waits: Waits) -> None:
    storage = retrying(FaultyStorage(memory, script({0: REPLY_LOST, 1: REPLY_LOST})), waits)
    storage.put("f/b", b"x")
    assert storage.list("f") == [ObjectInfo("a", 3), ObjectInfo("b", 1)]


def test_no_acknowledged_write_is_lost_in_bad_weather(memory: Storage, waits: Waits) -> None:
    storage = retrying(FaultyStorage(memory, by_chance(7, before=0.2, after=0.2)), waits, attempts=50)
    mine = [n for n in range(200) if storage.create(f"w/{n:03d}", b"mine") or storage.read(f"w/{n:03d}") == b"mine"]
    assert mine == list(range(200))
    assert [line.name for line in storage.list("w")] == [f"{n:03d}" for n in range(200)]
    assert len(waits.seconds) > 50


def test_faults_of_one_verb(memory: Storage) -> None:
    storage = FaultyStorage(memory, every("put", LOST))
    assert storage.read("f/a") == b"abc"
    with pytest.raises(TransientStorageError):
        storage.put("f/b", b"x")
