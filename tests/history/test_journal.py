"""The journal on a disk that fails, is full, or gives back less than it took."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rewind_logger.errors import StorageError, TransientStorageError
from rewind_logger.format import frames
from rewind_logger.history.journals import locks, roots
from rewind_logger.history.journals.part import parse_part
from rewind_logger.history.writer import Writer
from rewind_logger.storage.faults import Fault, FaultyStorage, every
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.figures import count
from tests.history.lines import RUN, end, line, log, opened, read
from tests.history.machine import BROUGHT_IN, Machine, die, journals


def left_behind(machine: Machine, rows: int = 3) -> Path:
    """Leave some rows, of more than one kind, in the journal of a dead writer."""
    writer = opened(machine)
    writer.append("metrics", {"a": 0, "text": "ü"}, 0)
    for step in range(1, rows):
        writer.append_metrics(KEYS, [step], step, None)
    die(writer)
    [folder] = journals(machine)
    return folder


KEYS = ["a"]


def whole_frames(data: bytes) -> list[int]:
    """Return where each frame ends."""
    ends = [0]
    while ends[-1] < len(data):
        ends.append(ends[-1] + 8 + int.from_bytes(data[ends[-1] : ends[-1] + 4], "little"))
    return ends[1:]


def test_a_journal_that_is_torn_anywhere_gives_all_whole_rows(machine: Machine, memory: MemoryStorage) -> None:
    folder = left_behind(machine)
    [part] = folder.glob("*.part")
    data = part.read_bytes()
    ends = whole_frames(data)  # a header, a row, keys, a row, a row
    assert ends[-1] == len(data) and len(ends) == 5
    for cut in range(len(data) + 1):
        run = RunRef("p", f"torn{cut}")
        writer = opened(machine, run)
        log(writer, [0])
        die(writer)
        [torn] = journals(machine, run)
        [torn_part] = torn.glob("*.part")
        torn_part.write_bytes(data[:cut])
        again = opened(machine, run)
        rows = sum(cut >= ends[i] for i in (1, 3, 4))
        assert read(memory, run=run) == line(range(rows)), f"cut at byte {cut}"
        assert again.opened is not None
        assert again.opened.notes == ((BROUGHT_IN.format(rows),) if rows else ())
        die(again)
        assert torn not in journals(machine, run), "what was torn off was never logged: nothing is left of it"


def test_nothing_behind_a_damaged_byte_is_made_up(machine: Machine, memory: MemoryStorage) -> None:
    folder = left_behind(machine)
    [part] = folder.glob("*.part")
    data = part.read_bytes()
    ends = whole_frames(data)
    for at in range(ends[0], len(data)):
        run = RunRef("p", f"hit{at}")
        writer = opened(machine, run)
        log(writer, [0])
        die(writer)
        [damaged] = [path for folder in journals(machine, run) for path in folder.glob("*.part")]
        damaged.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        die(opened(machine, run))
        found = read(memory, run=run)
        before = sum(at >= ends[i] for i in (1, 3, 4))
        assert found[:before] == line(range(before)), f"hit at byte {at}: the rows before it are whole"
        assert set(found) <= set(line(range(3)))


def hit(data: bytes, bit: int) -> bytes:
    """Turn one bit around."""
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


@pytest.mark.parametrize(
    "behind",
    [b"", bytes(100), frames.frame(b"\x96torn")[:-1]],
    ids=["at the end", "before zeros", "before a torn write"],
)
def test_no_wrong_bit_of_a_part_is_taken_for_a_torn_write(machine: Machine, behind: bytes) -> None:
    """Not in a length either, which then may go beyond the end of the file as that of a torn write does."""
    [part] = left_behind(machine, rows=6).glob("*.part")
    data = part.read_bytes()
    ends = whole_frames(data)  # a header, a row, keys, five rows
    assert len(ends) == 8 and not parse_part(0, data + behind).damaged
    for bit in range(8 * len(data)):
        batch = parse_part(0, hit(data, bit) + behind)
        count("bytes flipped")
        before = sum(bit >= 8 * ends[i] for i in (1, 3, 4, 5, 6, 7))
        assert batch.damaged, f"bit {bit}"
        assert [(row.clock, row.values["a"]) for row in batch.rows.get("metrics", ())] == line(range(before))


@pytest.mark.parametrize("alive", [False, True])
def test_a_part_in_which_any_bit_is_wrong_is_named_and_kept(
    alive: bool, machine: Machine, memory: MemoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """The header too, without which nothing of it can be read. Each bit of each length, and one of each other byte."""
    [part] = left_behind(machine, rows=6).glob("*.part")
    data = part.read_bytes()
    ends = whole_frames(data)
    lengths = {at + i for at in (0, *ends[:-1]) for i in range(4)}
    for bit in (8 * at + i for at in range(len(data)) for i in (range(8) if at in lengths else [at % 8])):
        caplog.clear()
        run = RunRef("p", f"{alive}{bit}")
        writer = opened(machine, run)
        log(writer, [0])
        [part] = [path for folder in journals(machine, run) for path in folder.glob("*.part")]
        part.write_bytes(hit(data, bit))
        count("bytes flipped")
        if alive:
            assert writer.flush()
            writer.close()
        else:
            die(writer)
            die(opened(machine, run))
        said = [warning for warning in warnings(caplog) if "is damaged: it is kept" in warning]
        assert len(said) == 1 and str(part.parent) in said[0], f"bit {bit}"
        assert part.read_bytes() == hit(data, bit)
        assert read(memory, run=run) == line(range(sum(bit >= 8 * ends[i] for i in (1, 3, 4, 5, 6, 7))))


@pytest.mark.parametrize("alive", [False, True])
def test_damage_within_a_journal_is_named_and_its_file_is_kept(
    alive: bool, machine: Machine, memory: MemoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """What lies behind it cannot be brought in, but whoever reads the message may still have it read."""
    writer = opened(machine)
    log(writer, range(5))
    [part] = [path for folder in journals(machine) for path in folder.glob("*.part")]
    data = part.read_bytes()
    part.write_bytes(hit(data, 8 * (whole_frames(data)[3] - 1)))
    if alive:
        assert writer.flush()
        log(writer, [5])
        end(writer)
    else:
        die(writer)
        end(opened(machine))
    [warning] = warnings(caplog)
    assert "is damaged: it is kept" in warning and str(part.parent) in warning
    assert part.exists()
    assert read(memory) == line([0, 1, 5] if alive else [0, 1])
    end(opened(machine))
    assert part.exists()
    assert read(memory) == line([0, 1, 5] if alive else [0, 1]), "nothing of it is brought in twice"


def test_a_batch_that_cannot_be_read_for_want_of_descriptors_is_tried_again(
    machine: Machine, memory: MemoryStorage
) -> None:
    writer = opened(machine)
    log(writer, range(5))
    assert writer._outbox is not None
    writer._outbox.close_batch()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    taken = [os.dup(0) for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(*taken, used) + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        with pytest.raises(TransientStorageError, match="was not read back"):
            writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert writer.flush()
    assert read(memory) == line(range(5))
    end(writer)


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Refuse what would make a file larger than that; the system then writes what still fits, as on a full disk."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN  # Python sees to that
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine without a second disk that a journal could go to."""
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", "/proc/none")
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said, above all details."""
    return [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_on_a_full_disk_training_goes_on_and_every_row_comes_into_the_store(
    machine: Machine, memory: MemoryStorage, caplog: pytest.LogCaptureFixture, nowhere_else: None
) -> None:
    writer = opened(machine)
    with small_files(200):
        log(writer, range(50))  # the disk is full within a row
    log(writer, range(50, 60))
    assert len(warnings(caplog)) == 1
    assert "cannot be written (No space left on device): rows are held in memory" in warnings(caplog)[0]
    assert "Make room there" in warnings(caplog)[0]
    assert writer.flush()
    assert read(memory) == line(range(60))
    log(writer, [60])
    assert writer.flush()
    assert [" can be written again." in said for said in warnings(caplog)] == [False, True]
    log(writer, [61])
    die(writer)
    assert opened(machine).opened.notes == (BROUGHT_IN.format(1),), "the next batch is on disk again"  # type: ignore[union-attr]
    assert read(memory) == line(range(62))


def test_a_row_that_was_cut_by_a_full_disk_does_not_hide_those_before(
    machine: Machine, memory: MemoryStorage, nowhere_else: None
) -> None:
    """Killed then, what had been held in memory only is lost, as was said."""
    writer = opened(machine)
    with small_files(200):
        log(writer, range(50))
        die(writer)
    end(opened(machine))
    rows = read(memory)
    assert 1 <= len(rows) < 50
    assert rows == line(range(len(rows)))


@pytest.mark.parametrize("background", [False, True])
def test_without_a_place_for_a_journal_rows_go_through_memory(
    local: LocalStorage, background: bool, caplog: pytest.LogCaptureFixture, nowhere_else: None
) -> None:
    (local.local_path / "p/a").mkdir(parents=True)
    (local.local_path / "p/a/j").write_bytes(b"in the way")
    writer = opened(local, background=background)
    assert len(warnings(caplog)) == 1
    assert "rows are held in memory until they are in the store, and a crash would lose those" in warnings(caplog)[0]
    for step in range(5):
        log(writer, [step])
        assert writer.flush()
    end(writer)
    assert read(local) == line(range(5))
    assert len(warnings(caplog)) == 1


def test_rows_in_memory_that_never_came_into_their_store_are_named(
    memory: MemoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    storage = FaultyStorage(memory)
    writer = opened(storage)
    log(writer, [0])
    storage.plan = every("put", Fault("before", TransientStorageError("It is away.")))
    with pytest.raises(StorageError):
        writer.flush()
    writer.close()
    assert warnings(caplog) == ["Rows that were held in memory only never came into their store, and are lost."]


def test_where_files_cannot_be_locked_rows_go_through_memory(
    machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on some network file systems."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    writer = opened(machine)
    log(writer, range(3))
    end(writer)
    assert "No locks available" in warnings(caplog)[0]
    assert read(memory) == line(range(3))
    monkeypatch.undo()
    die(opened(machine))


def test_a_writer_leaves_no_open_file_behind(local: LocalStorage) -> None:
    def descriptors() -> list[str]:
        targets = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return [target for target in targets if target.startswith(str(local.local_path))]

    left = opened(local)
    log(left, [0])
    assert descriptors(), "they are seen"
    end(left)
    for turn in range(20):
        writer = opened(local, background=turn % 2 == 0)
        log(writer, range(3))
        writer.flush()
        log(writer, [3])
        if turn % 3 == 0:
            opened(local).close()  # which stops it
        writer.close()
        Writer(local, RUN).close()
    assert descriptors() == []


def test_one_that_is_being_made_is_not_taken_for_abandoned(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment before it is locked another process looks for journals whose writers are gone."""
    root, lock, seen = roots.journal_root(machine, RUN), locks._try_lock, []
    look = "import sys, pathlib; from rewind_logger.history.journals.abandoned import abandoned\n"
    look += "with abandoned(pathlib.Path(sys.argv[1])) as found: print(len(found), end='')"

    def look_and_lock(fd: int) -> bool:
        seen.append(subprocess.run([sys.executable, "-c", look, str(root)], capture_output=True, check=True).stdout)
        return lock(fd)

    monkeypatch.setattr(locks, "_try_lock", look_and_lock)
    writer = opened(machine)
    monkeypatch.undo()
    assert seen == [b"0"]
    log(writer, [0])
    end(writer)
    assert read(machine) == line([0])
