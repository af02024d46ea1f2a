"""The wrappers that tests and measurements rely on say the truth."""

from __future__ import annotations

import pickle
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rewind_logger.errors import TransientStorageError
from rewind_logger.storage import Storage
from rewind_logger.storage.faults import CountingStorage, Fault, FaultyStorage, Request, Traffic, by_chance, script
from rewind_logger.storage.memory import MemoryStorage


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def memory() -> Storage:
    return MemoryStorage(f"memory://{secrets.token_hex(8)}")


def test_requests_and_bytes_are_counted_by_verb(memory: Storage, tmp_path: Path) -> None:
    storage = CountingStorage(memory)
    storage.create("f/a", b"12345")
    storage.create("f/a", b"12345")
    storage.put("f/b", b"123")
    storage.read("f/a")
    storage.read_range("f/a", 1, 3)
    storage.read_many(["f/a", "f/b"])
    storage.read_each(["f/b", "missing"])
    storage.list("f")
    storage.map_lists(["f", "g", "h"])
    storage.put_many([("f/d", b"12"), ("f/e", b"3")])
    storage.size("f/a")
    storage.delete("f/a")
    (tmp_path / "seven").write_bytes(b"1234567")
    storage.put_file("f/c", tmp_path / "seven")
    assert list(storage.read_chunks("f/c", 3)) == [b"123", b"456", b"7"]
    with pytest.raises(FileNotFoundError):
        storage.read("f/a")
    assert storage.traffic == Traffic(
        {"create": 2, "put": 3, "put_file": 1, "read": 6, "read_range": 4, "list": 4, "size": 1, "delete": 1},
        bytes_read=5 + 2 + 8 + 3 + 7,
        bytes_written=16 + 7,
    )
    assert storage.traffic.total == 22


def test_traffic_of_a_while(memory: Storage) -> None:
    storage = CountingStorage(memory)
    storage.put("a", b"123")
    before = storage.traffic
    assert storage.read("a") == b"123"
    assert storage.traffic - before == Traffic({"read": 1}, bytes_read=3)
    assert storage.traffic - storage.traffic == Traffic()


def test_no_count_is_lost_among_threads(memory: Storage) -> None:
    storage = CountingStorage(memory)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: storage.put(str(n), b"12"), range(400)))
    assert storage.traffic == Traffic({"put": 400}, bytes_written=800)


def test_a_fault_before_has_no_effect_and_one_after_has(memory: Storage) -> None:
    storage = FaultyStorage(memory, script({0: Fault("before", Crash()), 2: Fault("after", Crash())}))
    with pytest.raises(Crash):
        storage.put("a", b"x")
    assert storage.list("") == []
    with pytest.raises(Crash):
        storage.create("a", b"x")
    assert memory.read("a") == b"x"


def test_a_plan_sees_each_request_with_its_number(memory: Storage) -> None:
    seen: list[Request] = []
    storage = FaultyStorage(memory, seen.append)
    storage.put("a", b"x")
    storage.read_many(["a", "a"])
    storage.map_lists(["", "f"])
    assert seen == [
        Request(0, "put", "a"),
        Request(1, "read", "a"),
        Request(2, "read", "a"),
        Request(3, "list", ""),
        Request(4, "list", "f"),
    ]


def test_a_crash_among_many_reads_stops_them(memory: Storage) -> None:
    memory.put("a", b"x")
    storage = FaultyStorage(memory, script({1: Fault("before", Crash())}))
    with pytest.raises(Crash):
        storage.read_each(["a", "a", "a"])


def test_latency_is_waited_for_once_a_request(memory: Storage) -> None:
    waited: list[float] = []
    storage = FaultyStorage(memory, latency=0.03, sleep=waited.append)
    storage.put("a", b"x")
    storage.read_many(["a", "a"])
    assert waited == [0.03] * 3


def test_chance_is_the_same_for_the_same_seed() -> None:
    requests = [Request(n, "put", "a") for n in range(1000)]

    def drawn(seed: int) -> list[str | None]:
        plan = by_chance(seed, before=0.1, after=0.2)
        return [fault.when if (fault := plan(request)) else None for request in requests]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 50 < drawn(1).count("before") < 150
    assert 150 < drawn(1).count("after") < 250


def test_wrappers_keep_what_is_known_of_the_store(memory: Storage) -> None:
    storage = CountingStorage(FaultyStorage(memory))
    assert (storage.url, storage.local_path, storage.conditional) == (memory.url, None, True)
    assert repr(storage) == f"<CountingStorage around <FaultyStorage around <MemoryStorage {memory.url}>>>"


def test_wrappers_go_on_counting_after_a_pickle(memory: Storage) -> None:
    storage = CountingStorage(FaultyStorage(memory))
    storage.put("a", b"x")
    reopened = pickle.loads(pickle.dumps(storage))
    assert reopened.read("a") == b"x"
    assert reopened.traffic.requests == {"put": 1, "read": 1}
    assert storage.traffic.requests == {"put": 1}


def test_a_transient_fault_among_many_reads_is_the_outcome_of_one(memory: Storage) -> None:
    memory.put("a", b"x")
    lost = TransientStorageError("lost")
    storage = FaultyStorage(memory, script({1: Fault("after", lost)}))
    assert storage.read_each(["a", "a", "a"]) == [b"x", lost, b"x"]
