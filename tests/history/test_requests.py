"""What opening, flushing and reading a run asks of its store, counted; it does not grow with the run."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rewind_logger.history import compact, reader
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import CountingStorage, Traffic
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.s3 import S3Storage
from rewind_logger.types import STREAMS, Position, RunRef
from tests.conftest import Bucket
from tests.history.bulk import long_run
from tests.history.lines import RUN, end, log, opened
from tests.storage.test_requests import Wire

CHILD = RunRef("p", "b")


class Length(NamedTuple):
    """How long a run is."""

    rows: int
    rows_a_flush: int


SHORT = Length(10**3, 63)
LONG = Length(10**6, 62_501)
"""As many flushes as in `SHORT`, each a thousand times as large."""
MANY_FLUSHES = Length(10**6, 999)


def opening(kind: str, length: Length) -> tuple[RunRef, OpenRequest]:
    """Return the run to open and how."""
    middle = Position(RUN, None, length.rows // 2)
    return {
        "new": (RunRef("p", "new"), OpenRequest()),
        "resume": (RUN, OpenRequest()),
        "rewind": (RUN, OpenRequest(at=middle)),
        "rewind, typed": (RUN, OpenRequest(at=middle, typed=True)),
        "fork": (CHILD, OpenRequest(at=middle)),
        "fork, typed": (CHILD, OpenRequest(at=middle, typed=True)),
    }[kind]


def cost(storage: Storage, kind: str, length: Length) -> Traffic:
    """Return what an opening of a long run takes."""
    long_run(storage, RUN, *length)
    counting = CountingStorage(storage)
    run, request = opening(kind, length)
    writer = Writer(counting, run, background=False)
    writer.open(request)
    writer.close()
    return counting.traffic


COSTS = {
    "new": {"list": 1, "create": 1, "put": 1, "read": 1},
    "resume": {"list": 4, "create": 1, "put": 1, "read": 3},
    "rewind": {"list": 4, "create": 1, "put": 1, "read": 3},
    # One of the reads sees that the parent was not removed before the pin was put.
    "fork": {"list": 5, "create": 1, "put": 2, "read": 4},
    # To know whether the step exists, the end of the run is looked up before the fence as well.
    "rewind, typed": {"list": 7, "create": 1, "put": 1, "read": 3},
    "fork, typed": {"list": 5, "create": 1, "put": 2, "read": 4},
}


@pytest.mark.parametrize("backend", [MemoryStorage, LocalStorage])
@pytest.mark.parametrize("kind", COSTS)
def test_an_opening_costs_the_same_for_a_thousand_rows_and_a_million(
    kind: str, backend: type[MemoryStorage] | type[LocalStorage], tmp_path: Path
) -> None:
    def fresh() -> Storage:
        name = secrets.token_hex(6)
        return MemoryStorage(f"memory://test-{name}") if backend is MemoryStorage else LocalStorage(tmp_path / name)

    short, long = cost(fresh(), kind, SHORT), cost(fresh(), kind, LONG)
    print(f"{kind}, {backend.__name__}: {short} for 10³ rows, {long} for 10⁶")
    assert dict(short.requests) == dict(long.requests) == COSTS[kind]
    # A step of a longer run has more digits.
    assert abs(long.bytes_read - short.bytes_read) < 32
    assert abs(long.bytes_written - short.bytes_written) < 16 * 32


@pytest.mark.parametrize("kind", ["rewind", "fork"])
def test_nor_do_thousands_of_flushes_make_it_dearer(kind: str, memory: MemoryStorage) -> None:
    many = cost(memory, kind, MANY_FLUSHES)
    assert dict(many.requests) == COSTS[kind]
    assert many.bytes_read + many.bytes_written < 4096, "names of that many files are in no base"


@pytest.mark.parametrize(("flushes", "limit"), [(1, 1_000), (256, 20_000), (257, 1_000)])
def test_a_base_stays_small_however_many_files_it_could_name(flushes: int, limit: int, memory: MemoryStorage) -> None:
    traffic = cost(memory, "rewind", Length(flushes * 10, 10))
    assert dict(traffic.requests) == COSTS["rewind"]
    assert traffic.bytes_written < limit


class OnTheWire(NamedTuple):
    """What went to an S3 server."""

    requests: list[str]
    received: int


@pytest.mark.parametrize("kind", ["resume", "rewind", "fork"])
def test_on_s3_an_opening_costs_the_same_for_a_thousand_rows_and_a_million(
    kind: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))

    def on_the_wire(length: Length) -> OnTheWire:
        storage = S3Storage(f"{bucket.url}/{length.rows}", bucket.storage_options)
        long_run(storage, RUN, *length)
        wire = Wire(storage)
        run, request = opening(kind, length)
        writer = Writer(storage, run, background=False)
        writer.open(request)
        writer.close()
        # A name says the nonce of its writer; a listing's name is in its query.
        return OnTheWire([" ".join(anonymous(sent)) for sent in wire.requests], wire.bytes_received)

    short, long = on_the_wire(SHORT), on_the_wire(LONG)
    print(f"{kind}: {short} for 10³ rows, {long} for 10⁶")
    assert [sent.replace(f"{SHORT.rows}/", "") for sent in short.requests] == [
        sent.replace(f"{LONG.rows}/", "") for sent in long.requests
    ]
    expected = COSTS[kind]
    verbs = [sent.partition(" ")[0] for sent in long.requests]
    assert verbs.count("PUT") == expected["create"] + expected["put"]
    assert verbs.count("GET") == expected["list"] + expected["read"]
    assert len(verbs) == sum(expected.values())
    assert abs(long.received - short.received) < 64


def test_on_s3_a_flush_is_one_put_and_one_get(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    storage = S3Storage(bucket.url, bucket.storage_options)
    writer = opened(storage)
    wire = Wire(storage)
    for step in range(5):
        log(writer, [step])
        writer.flush()
    assert [sent.partition(" ")[0] for sent in wire.requests] == ["PUT", "GET"] * 5
    end(writer)


def anonymous(sent: str) -> list[str]:
    """Return a request without the nonces in it."""
    verb, _, path = sent.partition(" ")
    return [verb, "/".join(part.partition("-")[0] if len(part) == 25 else part for part in path.split("/")[:-1])]


def test_a_flush_is_a_put_for_each_stream_that_has_rows_and_one_look_at_the_owner(memory: MemoryStorage) -> None:
    storage = CountingStorage(memory)
    writer = opened(storage)

    def flush() -> dict[str, int]:
        before = storage.traffic
        writer.flush()
        return dict((storage.traffic - before).requests)

    assert flush() == {}, "nothing was logged"
    log(writer, range(1000))
    assert flush() == {"put": 1, "read": 1}
    for stream in STREAMS:
        writer.append(stream, {"x": "1"}, 1000)
    assert flush() == {"put": len(STREAMS), "read": 1}
    for step in range(1001, 1050):
        log(writer, [step])
        assert flush() == {"put": 1, "read": 1}, "however many there were before"


def test_logging_asks_nothing_of_the_store(memory: MemoryStorage) -> None:
    storage = CountingStorage(memory)
    writer = Writer(storage, RUN, background=False)
    log(writer, range(1000))
    assert storage.traffic.total == 0


@pytest.mark.parametrize("segments", [1, 8, 60])
def test_reading_takes_one_request_a_segment(segments: int, memory: MemoryStorage) -> None:
    long_run(memory, RUN, segments * 100, 100)
    storage = CountingStorage(memory)
    view = resolve(storage, RUN)
    assert dict(storage.traffic.requests) == {"list": 4, "read": 2}
    before = storage.traffic
    assert len(reader.read(storage, view, "metrics")) == segments * 100
    assert dict((storage.traffic - before).requests) == {"read": segments}


def test_of_an_ancestor_the_base_says_which_files_there_are(memory: MemoryStorage) -> None:
    long_run(memory, RUN, 2000, 100)
    end(opened(memory, at=Position(RUN, None, 950)))
    storage = CountingStorage(memory)
    view = resolve(storage, RUN)
    before = storage.traffic
    assert len(reader.read(storage, view, "metrics")) == 950
    assert dict((storage.traffic - before).requests) == {"read": 10}, "no listing, and none behind the cut"


def test_a_window_of_steps_reads_only_what_it_needs(memory: MemoryStorage) -> None:
    long_run(memory, RUN, 10_000, 100)
    storage = CountingStorage(memory)
    view = resolve(storage, RUN)
    before = storage.traffic
    assert len(reader.read(storage, view, "metrics", start=5050, stop=5150)) == 100
    assert dict((storage.traffic - before).requests) == {"read": 2}


def test_one_metric_of_many_is_read_by_ranges(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "FAN_IN", 10)
    writer = opened(memory)
    chance = np.random.default_rng(0)
    keys = [f"metric {i}" for i in range(200)]
    for step in range(3300):  # in eleven flushes, which are then put together
        writer.append_metrics(keys, chance.normal(size=len(keys)).tolist(), step, None)
    end(writer)
    storage = CountingStorage(memory)
    view = resolve(storage, RUN)
    [file] = reader.files(storage, view, "metrics")
    assert file.segment.size > 5_000_000
    before = storage.traffic
    assert len(reader.read(storage, view, "metrics", keys=["metric 77"])) == 3300
    spent = storage.traffic - before
    print(f"one metric of 200: {spent}, of {file.segment.size} bytes")
    assert dict(spent.requests) == {"read_range": 2}, "the footer, and one row group"
    assert spent.bytes_read < 1_200_000
