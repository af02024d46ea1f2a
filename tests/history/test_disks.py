"""Disks that are full, read-only or gone under the journal: no row is lost as long as any disk takes it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from rewind_logger.errors import FencedError, StorageError, TransientStorageError
from rewind_logger.history.journals import outbox, roots
from rewind_logger.history.journals.part import parse_part
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.writer import Writer
from rewind_logger.storage.faults import Fault, FaultyStorage, every
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from tests.disks import Disk, disk, use_no_other
from tests.figures import count
from tests.history.lines import RUN, Line, end, line, log, opened, read
from tests.history.machine import BROUGHT_IN, Machine, die
from tests.history.test_journal import warnings


@pytest.fixture(autouse=True)
def second_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the journal goes when its own disk refuses."""
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "spool"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path / "small") as found:
        yield found


@pytest.fixture
def on_it(memory: MemoryStorage, small: Disk) -> Machine:
    """A store elsewhere whose journal is on the small disk."""
    return Machine(memory, small.path)


@pytest.fixture
def store_on_it(small: Disk) -> LocalStorage:
    """A store on the small disk, and so is its journal."""
    return LocalStorage(small.path / "store")


def checked(found: Line, expected: Line) -> None:
    """See that every row is there, once and in order."""
    count("rows checked", len(expected))
    count("rows lost", len(set(expected) - set(found)))
    assert found == expected


def parts(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.part") if path.is_file())


def test_a_journal_on_a_full_disk_goes_on_on_another_and_a_kill_costs_nothing(
    on_it: Machine, memory: MemoryStorage, small: Disk, second_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small.must_be_alone()
    writer = opened(on_it)
    log(writer, range(10))
    keys = ["a"]
    with small.full():
        for step in range(10, 300):
            writer.append_metrics(keys, [step], step, None)
        [first], [second] = parts(small.path), parts(second_disk)
    assert first.name == second.name, "one part, in two files"
    alone = parse_part(0, second.read_bytes()).rows["metrics"]
    assert [row.values["a"] for row in alone] == list(range(300 - len(alone), 300)), "each can be read alone"
    [warning] = warnings(caplog)
    assert "cannot be written (No space left on device): rows wait in" in warning and str(second_disk) in warning
    die(writer)
    again = opened(on_it)
    assert again.opened is not None and again.opened.notes == (BROUGHT_IN.format(300),)
    checked(read(memory), line(range(300)))
    end(again)
    assert parts(small.path) == parts(second_disk) == []


def test_a_journal_returns_to_its_disk_when_there_is_room(
    on_it: Machine, memory: MemoryStorage, small: Disk, second_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small.must_be_alone()
    writer = opened(on_it)
    for turn in range(4):
        if turn % 2:
            log(writer, range(100 * turn, 100 * turn + 100))
        else:
            with small.full():
                log(writer, range(100 * turn, 100 * turn + 100))
        assert writer._outbox is not None
        writer._outbox.close_batch()
    assert ["cannot be written" in text for text in warnings(caplog)] == [True, False, True, False]
    assert ["can be written again" in text for text in warnings(caplog)] == [False, True, False, True]
    die(writer)
    end(opened(on_it))
    checked(read(memory), line(range(400)))


@pytest.mark.parametrize("left", [0, 1, 50, 4096, 4300])
def test_rows_in_memory_are_written_to_disk_at_the_end_if_there_is_room_again(
    left: int, on_it: Machine, memory: MemoryStorage, small: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is away all the time, and the disk is full in between."""
    use_no_other(monkeypatch)
    faulty = FaultyStorage(on_it)
    writer = opened(faulty)
    log(writer, range(20))
    with small.full(left):
        log(writer, range(20, 400))
        faulty.plan = every("put", Fault("before", TransientStorageError("It is away.")))
        with pytest.raises(StorageError):
            writer.flush()
    writer.close()
    assert writer.kept is not None and str(small.path) in writer.kept
    end(opened(on_it))
    checked(read(memory), line(range(400)))


def test_a_store_on_a_full_disk_gets_every_row_when_there_is_room(
    store_on_it: LocalStorage, small: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_no_other(monkeypatch)
    writer = opened(store_on_it)
    log(writer, range(50))
    assert writer.flush()
    with small.full():
        for turn in range(5):
            log(writer, range(50 + 50 * turn, 100 + 50 * turn))
            with pytest.raises(StorageError, match=r"no space is left|too large"):
                writer.flush()
    assert writer.flush()
    checked(read(store_on_it), line(range(300)))
    end(writer)
    assert [path for path in small.path.rglob("*") if path.name.endswith((".tmp", ".new"))] == []


def test_a_run_is_opened_once_its_full_disk_has_room(store_on_it: LocalStorage, small: Disk) -> None:
    """What was logged before is kept."""
    writer = Writer(store_on_it, RUN, background=False)
    with small.full():
        log(writer, range(10))
        with pytest.raises(StorageError):
            writer.open(OpenRequest())
    writer.open(OpenRequest())
    log(writer, range(10, 20))
    assert writer.flush()
    checked(read(store_on_it), line(range(20)))
    end(writer)


def test_memory_stays_bounded_while_no_disk_takes_anything(
    on_it: Machine,
    memory: MemoryStorage,
    small: Disk,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Then rows are dropped, the newest ones, and one message at the end says how many."""
    use_no_other(monkeypatch)
    monkeypatch.setattr(outbox, "HELD_BYTES", 20_000)
    monkeypatch.setattr(outbox, "FLUSH_POINTS", 50)
    faulty = FaultyStorage(on_it)
    writer = opened(faulty)
    faulty.plan = every("put", Fault("before", TransientStorageError("It is away.")))
    with small.full():
        log(writer, range(5_000))
        assert writer._outbox is not None and 20_000 <= writer._outbox.held < 30_000
    faulty.plan = None
    assert writer.flush()
    log(writer, range(5_000, 5_010))
    assert writer.flush()
    found = read(memory)
    kept = len(found) - 10
    assert 200 < kept < 1_000
    checked(found, line([*range(kept), *range(5_000, 5_010)]))
    said = [text for text in warnings(caplog) if "drop" in text]
    assert len(said) == 2
    assert "rows are dropped until there is room" in said[0]
    assert f"{5_000 - kept:,} rows were dropped" in said[1]
    end(writer)


def test_a_journal_that_is_removed_under_its_writer_is_made_again(
    on_it: Machine, memory: MemoryStorage, small: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    writer = opened(on_it)
    log(writer, range(100))
    shutil.rmtree(small.path / "p")
    count("faults injected")
    log(writer, range(100, 200))
    assert writer.flush()
    checked(read(memory), line(range(200)))
    assert any("was removed while its run was written" in text for text in warnings(caplog))
    log(writer, range(200, 300))
    die(writer)
    end(opened(on_it))
    checked(read(memory), line(range(300)))


def test_waiting_rows_that_were_removed_are_named_and_the_others_go_on(
    on_it: Machine, memory: MemoryStorage, small: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    writer = opened(on_it)
    log(writer, range(100))
    assert writer._outbox is not None
    writer._outbox.close_batch()
    shutil.rmtree(small.path / "p")
    log(writer, range(100, 200))
    assert writer.flush()
    assert any("was removed" in text and "lost" in text for text in warnings(caplog))
    assert read(memory) == line(range(100, 200))
    end(writer)


def test_a_disk_that_becomes_read_only_stops_nothing(
    store_on_it: LocalStorage, small: Disk, caplog: pytest.LogCaptureFixture, second_disk: Path
) -> None:
    writer = opened(store_on_it)
    log(writer, range(10))
    assert writer.flush()
    log(writer, range(10, 20))
    assert writer._outbox is not None
    writer._outbox.close_batch()
    small.must_be_alone()
    with small.read_only():
        log(writer, range(20, 30))
        with pytest.raises(StorageError, match="read-only"):
            writer.flush()
        writer.close()
        assert parts(second_disk)
        assert read(store_on_it) == line(range(10)), "it can be read"
    end(opened(store_on_it))
    checked(read(store_on_it), line(range(30)))


@pytest.mark.parametrize("error", [errno.EIO, errno.EDQUOT, errno.ENOSPC, errno.EROFS, errno.ESTALE])
def test_an_error_of_the_disk_within_any_row_costs_none(
    error: int, on_it: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the disk has taken a part of it."""
    written = os.write
    calls = 0

    def fail(fd: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls % 7 == 3:
            count("faults injected")
            written(fd, bytes(data)[: calls % len(data)])
            raise OSError(error, os.strerror(error))
        return written(fd, data)

    writer = opened(on_it)
    monkeypatch.setattr(os, "write", fail)
    for turn in range(20):
        log(writer, range(10 * turn, 10 * turn + 10))
        if turn % 4 == 3:
            monkeypatch.setattr(os, "write", written)
            if turn % 8 == 3:
                assert writer.flush()
            monkeypatch.setattr(os, "write", fail)
    monkeypatch.undo()
    assert writer.flush()
    checked(read(memory), line(range(200)))
    end(writer)


def test_a_folder_for_temporary_files_is_used_only_if_it_is_ours_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody may write beside it, and what is found there comes into runs."""
    found = roots.temporary_root(make=True)
    assert found is not None and stat.S_IMODE(found.stat().st_mode) == 0o700
    found.chmod(0o777)
    assert roots.temporary_root(make=True) is None
    found.rmdir()
    assert roots.temporary_root(make=False) is None
    (tmp_path / "of somebody else").mkdir()
    found.symlink_to(tmp_path / "of somebody else")
    assert roots.temporary_root(make=True) is None


def test_a_run_that_is_deleted_while_it_is_written_is_not_called_stored(
    store_on_it: LocalStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """Its later rows would lie where nobody looks: they are kept in the journal, and the next opening has them."""
    writer = opened(store_on_it)
    log(writer, range(10))
    assert writer.flush()
    shutil.rmtree(store_on_it.local_path)
    count("faults injected")
    log(writer, range(10, 20))
    with pytest.raises(FencedError, match=r"was deleted in .* are kept in"):
        writer.flush()
    log(writer, range(20, 30))
    writer.close()
    assert writer.kept is not None and "was deleted in" in caplog.text
    end(opened(store_on_it))
    checked(read(store_on_it), line(range(10, 30)))


def test_a_remote_run_that_is_deleted_is_not_called_finished(memory: MemoryStorage) -> None:
    """There it is asked at the end only."""
    writer = opened(memory)
    log(writer, range(10))
    assert writer.flush()
    MemoryFileSystem.store.clear()
    with pytest.raises(FencedError, match="was deleted in"):
        writer.finish("finished")
    writer.close()
