"""The signs of life that a writer gives, and what they do not touch."""

from __future__ import annotations

import json
import queue

import pytest

from rewind_logger.errors import StorageError
from rewind_logger.format import names
from rewind_logger.history import heartbeat
from rewind_logger.history.heartbeat import INTERVAL_S, Heartbeat, last_beat
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import CountingStorage
from rewind_logger.storage.memory import MemoryStorage
from tests.history.lines import end, log, opened, read, rewound

FOLDER = "p/a/t/00000000-9f86d081884c7d65"


class Listening(MemoryStorage):
    """A store in memory that tells of each sign of life, and of the closing mark."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.heard: queue.Queue[str] = queue.Queue()
        self.broken = False

    def put(self, path: str, data: bytes) -> None:
        name = path.rpartition("/")[2]
        if name == "alive.json" and self.broken:
            self.heard.put("failure")
            raise StorageError("The disk is full.")
        super().put(path, data)
        if name in ("alive.json", "end.json"):
            self.heard.put(name)


@pytest.fixture
def listening(memory: MemoryStorage) -> Listening:
    return Listening(memory.url)


def test_a_sign_of_life_is_given_once_a_minute_and_not_at_the_opening(memory: MemoryStorage) -> None:
    storage, now = CountingStorage(memory), 1000.0
    heart = Heartbeat(storage, FOLDER, lambda: now)
    assert heart.beat() == now + INTERVAL_S
    assert storage.traffic.total == 0 and last_beat(memory, FOLDER) is None
    now += INTERVAL_S - 0.001
    heart.beat()
    assert storage.traffic.total == 0
    now += 0.001
    assert heart.beat() == now + INTERVAL_S
    heart.beat()
    assert dict(storage.traffic.requests) == {"put": 1}
    first = last_beat(memory, FOLDER)
    assert first is not None
    now += 10 * INTERVAL_S
    heart.beat()
    assert dict(storage.traffic.requests) == {"put": 2}, "one, however many were missed"
    assert storage.traffic.bytes_written < 200
    assert (last_beat(memory, FOLDER) or 0) >= first


def test_a_run_that_logs_nothing_gives_signs_of_life(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.001)
    writer = opened(listening, background=True)
    assert [listening.heard.get(timeout=60) for _ in range(3)] == ["alive.json"] * 3
    writer.close()


def test_none_follows_the_closing_mark_until_the_run_goes_on(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.001)
    writer = opened(listening, background=True)
    for turn in range(3):
        log(writer, range(10 * turn, 10 * turn + 10))
        writer.flush()
        while not listening.heard.empty():
            listening.heard.get()
        assert listening.heard.get(timeout=60) == "alive.json"
        assert writer.finish("finished", 60)
        told = []
        while not listening.heard.empty():
            told.append(listening.heard.get())
        assert told[-1] == "end.json"
    writer.close()
    assert listening.heard.empty()


def test_a_store_that_refuses_it_stops_nothing(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.001)
    listening.broken = True
    writer = opened(listening, background=True)
    assert [listening.heard.get(timeout=60) for _ in range(2)] == ["failure"] * 2
    log(writer, range(5))
    assert writer.flush(60)
    listening.broken = False
    while listening.heard.get(timeout=60) == "failure":
        pass
    end(writer)
    assert len(read(listening)) == 5


def test_that_of_a_dead_writer_is_none_of_the_next(storage: Storage) -> None:
    first = opened(storage)
    log(first, range(5))
    first.flush()
    assert first.opened is not None
    second = rewound(storage, 3)
    assert second.opened is not None
    Heartbeat(storage, first.opened.folder, iter([0.0, 1e9]).__next__).beat()
    assert last_beat(storage, second.opened.folder) is None
    assert last_beat(storage, first.opened.folder) is not None
    end(second)
    assert len(read(storage)) == 3


def test_it_says_the_time_and_is_checked(memory: MemoryStorage) -> None:
    Heartbeat(memory, FOLDER, iter([0.0, 1e9]).__next__).beat()
    fields = json.loads(memory.read(names.alive(FOLDER)))
    assert set(fields) == {"nonce", "at_ms", "acknowledged", "format", "crc32"}


def test_a_finished_run_is_asked_for_none_before_its_next_row_is_stored(memory: MemoryStorage) -> None:
    writer = opened(memory)
    assert writer._delivery.beat() is not None
    log(writer, range(3))
    writer.finish("finished")
    assert writer._delivery.beat() is None
    log(writer, range(3, 5))
    assert writer._delivery.beat() is None
    writer.flush()
    assert writer._delivery.beat() is not None
    writer.close()
    assert writer._delivery.beat() is None
