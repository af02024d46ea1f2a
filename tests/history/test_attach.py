"""Bytes that rows refer to are in the store before these rows are, whatever happens in between."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Iterable
from pathlib import Path

import pytest

from rewind_logger.errors import FencedError, StorageError, TransientStorageError
from rewind_logger.format import names, segment
from rewind_logger.history import reader, uploads
from rewind_logger.history.journals import outbox, place
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Object, Storage, outcome_of
from rewind_logger.storage.faults import CountingStorage, Fault, FaultyStorage, by_chance, every
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.s3 import S3Storage
from rewind_logger.storage.wrapper import WrapperStorage
from tests.conftest import Bucket
from tests.history.lines import RUN, end, opened
from tests.history.machine import Killed, Machine, die, dying, journals, release, requests_of
from tests.history.processes import HEAD, running
from tests.history.test_interrupted import interrupt_a_row, interrupted_at


def show(writer: Writer, step: int, *pictures: bytes) -> None:
    """Log rows that name pictures."""
    for picture in pictures:
        writer.append("media", {"picture": writer.attach(picture)}, step)


def shown(storage: Storage, revision: int | None = None) -> list[tuple[int, bytes]]:
    """Read the pictures that the rows of a run name; all must be there."""
    rows = reader.read_rows(storage, resolve(storage, RUN, revision), "media")
    return [(row.clock, storage.read(names.blob(str(row.values["picture"])))) for row in rows]


def blobs(storage: Storage) -> list[str]:
    folders = [info.name for info in storage.list("blobs")]
    return [info.name for folder in folders for info in storage.list(f"blobs/{folder}")]


def files(storage: Storage) -> list[Path]:
    """The blobs that lie in the journals."""
    return [path for folder in journals(storage) for path in folder.glob("*.blob*")]


def test_what_a_row_refers_to_is_in_the_store_with_it(storage: Storage) -> None:
    writer = opened(storage)
    show(writer, 0, b"a", b"b")
    show(writer, 1, b"a", b"")
    end(writer)
    assert shown(storage) == [(0, b"a"), (0, b"b"), (1, b"a"), (1, b"")]


def test_until_then_it_is_in_the_journal_and_afterwards_no_more(local: LocalStorage) -> None:
    writer = opened(local)
    digest = writer.attach(b"a")
    assert [path.read_bytes() for path in files(local)] == [b"a"]
    assert blobs(local) == [], "training does not wait for the store"
    writer.flush()
    assert blobs(local) == [digest], "the row may come later"
    assert files(local) == []
    end(writer)
    assert journals(local) == []


def test_what_is_attached_before_the_run_is_open_moves_with_it(local: LocalStorage) -> None:
    writer = Writer(local, RUN, background=False)
    writer.append("media", {"picture": writer.attach(b"a")}, None)
    writer.retarget(type(RUN)("p", "b"))
    writer.retarget(RUN)
    writer.open(OpenRequest())
    end(writer)
    assert shown(local) == [(0, b"a")]


class OneByOne(WrapperStorage):
    """Puts objects one after the other, as a test wants to see them."""

    def put_each(self, objects: Iterable[Object]) -> list[Exception | None]:
        return [outcome_of(lambda one: self.put(*one), one) for one in objects]


class OnlyWithItsBlobs(OneByOne):
    """Refuses a segment of media that names what the store does not have."""

    def put(self, path: str, data: bytes) -> None:
        self.inner.put(path, data)
        if "/s/media/" in path:
            for digest in segment.decode(data)["text"].to_pylist():
                assert self.inner.size(names.blob(str(digest))) > 0, "a row is there before what it refers to"


@pytest.mark.parametrize("seed", range(8))
def test_no_row_comes_before_what_it_refers_to_however_the_store_fails(seed: int, memory: MemoryStorage) -> None:
    faulty = FaultyStorage(OnlyWithItsBlobs(memory))
    writer = opened(faulty)
    faulty.plan = by_chance(seed, before=0.3, after=0.3)
    expected = []
    for step in range(30):
        picture = f"{step % 7}".encode()
        show(writer, step, picture)
        expected.append((step, picture))
        if step % 3 == 0:
            with_failures(writer)
    faulty.plan = None
    end(writer)
    assert shown(memory) == expected


def with_failures(writer: Writer) -> None:
    try:
        writer.flush()
    except StorageError as error:
        assert isinstance(error, TransientStorageError)


def test_a_flush_puts_each_blob_once(memory: MemoryStorage) -> None:
    storage = CountingStorage(memory)
    writer = opened(storage)

    def flush(*pictures: bytes) -> dict[str, int]:
        show(writer, 0, *pictures)
        before = storage.traffic
        writer.flush()
        return dict((storage.traffic - before).requests)

    assert flush(b"a") == {"put": 2, "read": 1}, "the blob, the segment, and a look at the owner"
    assert flush(b"a") == {"put": 1, "read": 1}
    assert flush(b"a", b"b", b"c", b"b") == {"put": 3, "read": 1}
    large = secrets.token_bytes(uploads.ASK_BYTES)
    assert flush(large) == {"put": 2, "read": 1, "info": 1}
    again = opened(storage)
    show(again, 0, large)
    before = storage.traffic
    again.flush()
    assert (storage.traffic - before).requests == {"put": 1, "read": 1, "info": 1, "touch": 1}, (
        "a large one is not sent again"
    )


def test_what_failed_half_way_is_not_sent_again(memory: MemoryStorage) -> None:
    faulty = FaultyStorage(memory)
    counting = CountingStorage(faulty)
    writer = opened(counting)
    show(writer, 0, b"a", b"b")
    faulty.plan = every("read", Fault("before", TransientStorageError("away")))  # the look at the owner
    with pytest.raises(TransientStorageError):
        writer.flush()
    faulty.plan = None
    before = counting.traffic
    writer.flush()
    assert (counting.traffic - before).requests == {"put": 1, "read": 1}
    assert shown(memory) == [(0, b"a"), (0, b"b")]


def test_a_batch_is_closed_before_it_holds_too_much(
    local: LocalStorage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FLUSH_POINTS", 100)
    writer = opened(local)
    for step in range(10):
        show(writer, step, bytes([step]) * 40 * outbox.BLOB_BYTES)
    assert writer._outbox is not None and len(writer._outbox._closed) == 3
    for step in range(10, 20):
        writer.append("console", {"stdout": "x" * 40 * outbox.TEXT_BYTES}, step)
    assert len(writer._outbox._closed) == 6, "and likewise for texts"
    end(writer)
    assert len(shown(local)) == 10


KILLED = (
    HEAD
    + """
writer = Writer(storage, run, background=False)
writer.open(OpenRequest())
def show(step, picture):
    writer.append("media", {"picture": writer.attach(picture)}, step)
show(0, b"flushed")
writer.flush()
show(1, b"a" * 100_000)
show(2, b"b")
writer.attach(b"that no row refers to")
say("ready")
input()
"""
)
LEFT = [(0, b"flushed"), (1, b"a" * 100_000), (2, b"b")]


def test_after_a_kill_the_next_opening_brings_it_in(local: LocalStorage, tmp_path: Path) -> None:
    with running(KILLED, tmp_path, local.url) as script:
        script.hear("ready")
        script.kill()
    assert shown(local) == LEFT[:1]
    end(opened(local))
    assert shown(local) == LEFT
    assert journals(local) == []


def test_after_a_kill_it_is_brought_from_the_spool_of_a_remote_store(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    storage = S3Storage(f"{bucket.url}/x", bucket.storage_options)
    code = KILLED.replace("open_storage(sys.argv[1])", f"open_storage(sys.argv[1], {bucket.storage_options!r})")
    with running(code, tmp_path, storage.url) as script:
        script.hear("ready")
        script.kill()
    end(opened(storage))
    assert shown(storage) == LEFT
    assert not list((tmp_path / "spool").rglob("*.blob"))


def test_several_are_sent_to_a_remote_store_at_the_same_time(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    storage = S3Storage(f"{bucket.url}/x", bucket.storage_options)
    writer = opened(storage)
    pictures = [b"%d" % number for number in range(40)]
    show(writer, 0, *pictures)
    end(writer)
    assert shown(storage) == [(0, picture) for picture in pictures]


def shown_and_flushed(storage: Storage) -> Writer:
    """A short life of a writer, of which each request may be the last."""
    writer = Writer(storage, RUN, background=False)
    try:
        writer.open(OpenRequest())
        show(writer, 0, b"a", b"b")
        writer.flush()
        show(writer, 1, b"a", b"c")
        writer.finish("finished")
    except Killed:
        die(writer)
    return writer


def test_a_kill_within_any_request_loses_none(tmp_path: Path) -> None:
    count = requests_of(MemoryStorage(f"memory://test-{secrets.token_hex(6)}"), shown_and_flushed)
    for number in range(count):
        for after in (False, True):
            memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
            machine = Machine(memory, tmp_path / f"{number}{after}")
            writer = shown_and_flushed(dying(machine, number, after=after))
            assert writer._outbox is not None
            logged = writer._outbox._rows[outbox._INDEX["media"]]
            die(opened(machine))
            expected = [(0, b"a"), (0, b"b"), (1, b"a"), (1, b"c")][:logged]
            assert shown(memory) == expected, f"killed in request {number}, {after=}"
            assert files(machine) == []


def test_a_kill_while_it_is_brought_in_loses_none(tmp_path: Path) -> None:
    def left(name: str) -> tuple[MemoryStorage, Machine]:
        memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
        machine = Machine(memory, tmp_path / name)
        writer = opened(machine)
        show(writer, 0, b"a", b"b")
        die(writer)
        return memory, machine

    def bring_in(storage: Storage) -> None:
        try:
            die(opened(storage))
        except Killed:
            release(tmp_path)

    for number in range(requests_of(left("count")[1], bring_in)):
        for after in (False, True):
            memory, machine = left(f"{number}{after}")
            bring_in(dying(machine, number, after=after))
            die(opened(machine))
            assert shown(memory) == [(0, b"a"), (0, b"b")], f"killed in request {number}, {after=}"


def test_a_superseded_writer_keeps_what_its_rows_refer_to(local: LocalStorage) -> None:
    writer = opened(local)
    end(opened(local))
    show(writer, 0, b"a")
    with pytest.raises(FencedError):
        writer.flush()
    writer.close()
    assert [path.read_bytes() for path in files(local)] == [b"a"]


def refuse(*arguments: object) -> Iterable[int]:
    raise OSError(28, "No space left on device")


def test_where_the_disk_refuses_it_is_held_in_memory(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = opened(local)
    with monkeypatch.context() as context:
        context.setattr(place, "open_file", refuse)
        show(writer, 0, b"a", b"b")
    assert "No space left" in caplog.text and files(local) == []
    end(writer)
    assert shown(local) == [(0, b"a"), (0, b"b")]


def test_what_was_damaged_on_the_disk_is_not_stored_under_its_name(
    local: LocalStorage, caplog: pytest.LogCaptureFixture
) -> None:
    writer = opened(local)
    show(writer, 0, b"a", b"b")
    damaged, gone = files(local)
    damaged.write_bytes(b"x")
    gone.unlink()
    with caplog.at_level(logging.ERROR):
        end(writer)
    assert blobs(local) == []
    assert "is damaged: they refer to nothing" in caplog.text and "could not be read back" in caplog.text
    assert len(reader.read_rows(local, resolve(local, RUN), "media")) == 2, "the rows are kept"


def test_a_second_thread_that_attaches_the_same_while_it_is_sent_loses_nothing(local: LocalStorage) -> None:
    """What is found to wait already must not be removed before the store has it."""

    class AttachesMeanwhile(OneByOne):
        def put(self, path: str, data: bytes) -> None:
            if path.startswith("blobs/"):
                show(writer, 1, data)
            self.inner.put(path, data)

    writer = opened(AttachesMeanwhile(local))
    show(writer, 0, b"a")
    writer.flush()
    end(writer)
    assert shown(local) == [(0, b"a"), (1, b"a")]


@pytest.mark.parametrize("before", [False, True])
def test_a_signals_handler_that_shows_something_within_a_row(
    before: bool, machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened(machine)
    interrupt_a_row(monkeypatch, lambda: show(writer, 1, b"a", b"b"), before=before)
    show(writer, 0, b"b")
    end(writer)
    assert sorted(shown(memory)) == [(0, b"b"), (1, b"a"), (1, b"b")]


@pytest.mark.parametrize("rests", [True, False])
def test_a_ctrl_c_at_any_moment_costs_nothing_that_is_shown_later(
    rests: bool, memory: MemoryStorage, tmp_path: Path
) -> None:
    for number in itertools.count(1):
        machine = Machine(memory, tmp_path / str(number))
        writer, picture = opened(machine), b"%d" % number
        last = not interrupted_at(number, lambda writer=writer, picture=picture: show(writer, 0, picture))  # type: ignore[misc]
        if rests:
            writer.finish("finished")  # which puts away a journal that holds nothing
        show(writer, 1, picture)
        end(writer)
        assert shown(memory)[-1] == (1, picture), f"pressed at call {number}"
        if last:
            break
    assert number > 20
