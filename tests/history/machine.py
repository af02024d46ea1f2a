"""A machine that dies: the store outlives it, and so does its disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from rewind_logger.history.journals import locks, roots
from rewind_logger.history.journals.part import parse_part
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import Fault, FaultyStorage, Request
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.wrapper import WrapperStorage
from rewind_logger.types import RunRef
from tests.history.lines import RUN

BROUGHT_IN = "Rows that a killed writer had left in its journal were brought in: {}."
"""What an opening says of rows that it found."""


class Killed(BaseException):
    """The process was killed; not an `Exception`, so that nothing handles it."""


class Machine(WrapperStorage):
    """A store, in memory for speed, as a machine sees it whose disk holds its journals."""

    def __init__(self, inner: Storage, disk: Path) -> None:
        super().__init__(inner)
        self.local_path = disk


class HaltingStorage(MemoryStorage):
    """A store in memory whose segments arrive only once they are let through."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.halted = threading.Event()
        """Set once a segment is on its way."""
        self.let_through = threading.Event()

    def put(self, path: str, data: bytes) -> None:
        """Put an object; a segment when it is let through."""
        if path.endswith(".parquet"):
            self.halted.set()
            assert self.let_through.wait(60)
        super().put(path, data)


def die(writer: Writer) -> None:
    """Do to a writer without a thread what the kernel does to a process: close its files and drop its locks."""
    if writer._outbox is not None:
        writer._outbox._journal.leave()


def release(folder: Path) -> None:
    """Let go of every lock below a folder, as the kernel does for a process that was killed within its work."""
    for path, fd in [(Path(path), fd) for path, fd in locks._held.items()]:
        if path.is_relative_to(folder.resolve()):
            locks.release(fd, path)


def dying(storage: Storage, number: int, *, after: bool) -> FaultyStorage:
    """A store whose user is killed within a request, before or after its effect."""
    return FaultyStorage(storage, lambda request: _kill(request, number, after))


def _kill(request: Request, number: int, after: bool) -> Fault | None:
    return Fault("after" if after else "before", Killed()) if request.number == number else None


def requests_of(storage: Storage, work: Callable[[Storage], object]) -> int:
    """Return how many requests some work takes."""
    faulty = FaultyStorage(storage)
    work(faulty)
    return faulty._number


def journals(storage: Storage, run: RunRef = RUN) -> list[Path]:
    """Return the journals of a run on this machine."""
    root = roots.journal_root(storage, run)
    assert root is not None
    return sorted(root.iterdir()) if root.is_dir() else []


def waiting(storage: Storage) -> list[int]:
    """Return the steps of the rows that the journals of the run still hold."""
    parts = [path.read_bytes() for folder in journals(storage) for path in sorted(folder.glob("*.part"))]
    return [row.clock for part in parts for rows in parse_part(0, part).rows.values() for row in rows]
