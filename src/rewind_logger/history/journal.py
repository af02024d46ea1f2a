"""The journal: where a row lies between `log()` and the store.

A journal is a folder named by the nonce of its writer:

```
{nonce}/journal.json        who writes it; locked as long as the writer lives
{nonce}/claimed-{n:08d}     the writer has made claim n
{nonce}/{i:09d}.part        the rows of one flush batch, as frames; the first frame says which flushes they become
```

One `os.write` a row, no fsync: what was written survives the process, not the power supply.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rewind_logger.errors import CorruptError
from rewind_logger.format import frames
from rewind_logger.format.names import RunPaths
from rewind_logger.history import locks
from rewind_logger.storage.base import Storage
from rewind_logger.types import STREAMS, Row, RunRef

LOG = logging.getLogger("rewind_logger")

_PART = re.compile(r"([0-9]{9,})\.part")
_CLAIMED = re.compile(r"claimed-([0-9]{8,})")
_OWNER = "journal.json"


def journal_root(storage: Storage, run: RunRef) -> Path | None:
    """Return the folder that holds the journals of a run, None where they are kept in memory.

    A local store holds them itself, so that they move with it; those of a remote store are spooled on this machine. A
    store in memory does not outlive the process, and neither need its journals.
    """
    if storage.local_path is not None:
        return storage.local_path / RunPaths(run).journals
    if storage.url.startswith("memory://"):
        return None
    return spool_root() / hashlib.sha256(storage.url.encode()).hexdigest()[:16] / str(run)


def spool_root() -> Path:
    """Return the folder for the journals of remote stores: `REWIND_LOGGER_SPOOL`, or one in the user's cache."""
    if named := os.environ.get("REWIND_LOGGER_SPOOL"):
        return Path(named)
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "rewind-logger" / "spool"


class Batch(NamedTuple):
    """The rows of one flush."""

    flushes: dict[str, int]
    """Per stream the number of the flush that its rows become."""
    rows: dict[str, list[Row]]
    """Of each stream that has any."""


class Part:
    """The rows of one flush batch, closed."""

    def __init__(self, path: Path | None, rest: bytes) -> None:
        """Take the file, if there is one, and what could not be written to it."""
        self._path = path
        self._rest = rest

    def read(self, start: int) -> Batch:
        """Return what is in it; rows whose clock was not known when they were logged get `start`."""
        data = b"" if self._path is None else self._path.read_bytes()
        return parse_part(data + self._rest, start)

    def drop(self) -> None:
        """Let it go: its rows are in the store."""
        self._rest = b""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()


def parse_part(data: bytes, start: int) -> Batch:
    """Return the batch in the bytes of a part, up to a torn tail."""
    payloads, _ = frames.read_frames(data)
    flushes: dict[str, int] = {}
    rows: dict[str, list[Row]] = {}
    keys: dict[int, list[str]] = {}
    for payload in payloads:
        decoded = frames.decode(payload)
        if isinstance(decoded, dict):
            flushes = {str(stream): int(flush) for stream, flush in decoded["flush"].items()}
        elif isinstance(decoded, frames.Keys):
            keys[decoded.stream_index] = decoded.keys
        else:
            index, row = decoded
            rows.setdefault(STREAMS[index], []).append(row.at(start, keys.get(index, ())))
    return Batch(flushes, rows)


class Journal:
    """The journal of one writer. Not for use by two threads at once: the writer has a lock around it."""

    def __init__(self, root: Path | None, nonce: str, about: Mapping[str, Any]) -> None:
        """Begin a journal.

        Args:
            root: The folder that holds the journals of the run; None keeps this one in memory.
            nonce: Its name.
            about: What a person who finds it should know.
        """
        self._folder = None if root is None else root / nonce
        self._owner_fd: int | None = None
        self._fd: int | None = None
        self._number = -1
        self._memory = bytearray()
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True)
                self._owner_fd = locks.acquire(self._folder / _OWNER)
                assert self._owner_fd is not None  # the name is new
                who = {"host": socket.gethostname(), "pid": os.getpid(), "created_ms": int(time.time() * 1000)}
                os.write(self._owner_fd, json.dumps({**who, **about}).encode())
            except OSError as error:
                self._fall_back(error)

    @property
    def where(self) -> str | None:
        """The folder, None for a journal in memory."""
        return None if self._folder is None else str(self._folder)

    def begin(self, flushes: Mapping[str, int]) -> None:
        """Open the next part; `flushes` says which flush the rows of each stream become."""
        self._number += 1
        self._memory.clear()
        if self._folder is not None:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
                self._fd = os.open(self._part_path(), flags, 0o666)
            except OSError as error:
                self._fall_back(error)
        self.append(frames.frame(frames.encode_header({"flush": dict(flushes)})))

    def append(self, data: bytes) -> None:
        """Write one frame."""
        if self._fd is None:
            self._memory += data
            return
        written = 0
        try:
            written = os.write(self._fd, data)
            if written == len(data):
                return
            raise OSError(errno.ENOSPC, "only a part of a row was written")
        except OSError as error:
            if written:  # take the torn frame back, or the rows after it could not be read
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            self._fall_back(error)
            self._memory += data

    def close_part(self) -> Part:
        """Close the present part and return it; `begin` must come before the next row."""
        path = None
        if self._fd is not None:
            path = self._part_path()
            os.close(self._fd)
            self._fd = None
        elif self._folder is not None and self._part_path().exists():
            path = self._part_path()
        return Part(path, bytes(self._memory))

    def move(self, root: Path | None) -> None:
        """Move it into another run's folder of journals, on the same disk; the lock and what is open move with it."""
        if self._folder is None or root is None:
            return
        target = root / self._folder.name
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._folder.rename(target)
        except OSError as error:
            LOG.warning("The journal %s could not be moved to %s: %s", self._folder, target, error)
            return
        locks.moved(self._folder / _OWNER, target / _OWNER)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()
        self._folder = target

    def claimed(self, n: int) -> None:
        """Note that the writer has made claim `n`: from here on its rows may be in the store."""
        if self._folder is not None:
            try:
                (self._folder / f"claimed-{n:08d}").touch()
            except OSError as error:
                self._fall_back(error)

    def discard(self) -> None:
        """Remove the journal: everything in it is in the store."""
        self.leave()
        if self._folder is not None:
            remove(self._folder)

    def leave(self) -> None:
        """Stop writing and unlock the journal, keeping what is in it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._owner_fd is not None and self._folder is not None:
            locks.release(self._owner_fd, self._folder / _OWNER)
            self._owner_fd = None

    def _part_path(self) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._number:09d}.part"

    def _fall_back(self, error: OSError) -> None:
        """Go on in memory where the disk refuses; the next part tries the disk again, if there is a folder."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        LOG.warning(
            "The journal %s cannot be written (%s): rows are held in memory until they are in the store, and a crash "
            "would lose those. Make room or set REWIND_LOGGER_SPOOL to a folder that can be written.",
            self._folder,
            error.strerror or error,
        )
        if self._owner_fd is None:
            self._folder = None


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A journal whose writer is gone; locked by us while it is looked at."""

    folder: Path
    nonce: str
    claimed: int | None
    """The number of the claim that the writer made, None if it made none."""

    def batches(self, start: int) -> Iterator[Batch]:
        """Yield the batches in order; damaged ones are named and passed over."""
        for path in sorted(p for p in self.folder.iterdir() if _PART.fullmatch(p.name)):
            try:
                yield parse_part(path.read_bytes(), start)
            except (CorruptError, LookupError, ValueError) as error:
                LOG.error("The journal part %s is damaged and passed over: %s", path, error)


@contextlib.contextmanager
def abandoned(root: Path | None) -> Iterator[list[Abandoned]]:
    """Give the journals of a run whose writers are gone, oldest first, locked as long as the context lasts."""
    held: list[tuple[int, Path]] = []
    found: list[tuple[float, Abandoned]] = []
    try:
        for folder in sorted(root.iterdir()) if root is not None and root.is_dir() else []:
            owner = folder / _OWNER
            try:
                created = owner.stat().st_mtime
                fd = locks.acquire(owner, create=False)
            except OSError:
                continue
            if fd is None:
                continue  # its writer lives
            held.append((fd, owner))
            claims = [match for path in folder.iterdir() if (match := _CLAIMED.fullmatch(path.name))]
            claimed = max((int(match[1]) for match in claims), default=None)
            found.append((created, Abandoned(folder, folder.name, claimed)))
        yield [journal for _, journal in sorted(found, key=lambda item: item[0])]
    finally:
        for fd, path in held:
            locks.release(fd, path)


def remove(folder: Path) -> None:
    """Remove a journal's folder: the files that a journal has, and nothing else that may lie there."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _PART.fullmatch(path.name) or _CLAIMED.fullmatch(path.name):
                path.unlink()
        (folder / _OWNER).unlink()
        folder.rmdir()
        folder.parent.rmdir()  # only if this was the last one
