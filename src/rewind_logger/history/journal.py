"""The journal: where a row lies between `log()` and the store.

A journal is a folder named by the nonce of its writer:

```
{nonce}/journal.json        who writes it; locked as long as the writer lives
{nonce}/claimed-{n:08d}     the writer has made claim n
{nonce}/{i:09d}.part        the rows of one flush batch, as frames; the first frame says which flushes they become
{nonce}/{SHA-256}.blob      bytes that rows refer to, until they are in the store as a blob
{nonce}/noted               somebody was told that these rows are kept
```

One `os.write` a row and a file a blob, no fsync: what was written survives the process, not the power supply.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rewind_logger.errors import CorruptError
from rewind_logger.format import frames
from rewind_logger.format.names import RunPaths
from rewind_logger.history import locks
from rewind_logger.storage.base import Storage
from rewind_logger.storage.descriptor import open_file
from rewind_logger.types import STREAMS, Row, RunRef

LOG = logging.getLogger("rewind_logger")

PART = re.compile(r"([0-9]{9,})\.part")
CLAIMED = re.compile(r"claimed-([0-9]{8,})")
BLOB = re.compile(r"([0-9a-f]{64})\.blob")
_HALF_BLOB = re.compile(rf"{BLOB.pattern}\.tmp")
OWNER = "journal.json"
NOTED = "noted"

PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What keeps a file from being read that is there, and whole: it is tried again."""


def journal_root(storage: Storage, run: RunRef) -> Path | None:
    """Return the folder that holds the journals of a run, None where they are kept in memory.

    A local store holds them itself, so that they move with it; those of a remote store are spooled on this machine. A
    store in memory does not outlive the process, and neither need its journals.
    """
    if storage.local_path is not None:
        return storage.local_path / RunPaths(run).journals
    if storage.url.startswith("memory://"):
        return None
    return spool_folder(storage.url) / str(run)


def spool_folder(store: str) -> Path:
    """Return the folder for the journals of a remote store."""
    return spool_root() / hashlib.sha256(store.encode()).hexdigest()[:16]


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
    damaged: bool = False
    """Whether more rows were there, which cannot be read."""


class Part:
    """The rows of one flush batch, closed."""

    def __init__(self, journal: Journal, name: str | None, rest: bytes, blobs: Mapping[str, bytes | None]) -> None:
        """Take what a batch consists of.

        Args:
            journal: The journal.
            name: The file with its rows, if there is one.
            rest: Rows that could not be written to it.
            blobs: By digest what they refer to; None where it is in a file of the journal.
        """
        self._journal = journal
        self._name = name
        self._rest = rest
        self._blobs = blobs

    @property
    def in_memory(self) -> bool:
        """Whether something of it would be lost with this process."""
        return bool(self._rest) or any(data is not None for data in self._blobs.values())

    @property
    def blobs(self) -> dict[str, bytes | Path]:
        """By digest the blobs that its rows may refer to, or the files that hold them."""
        path_of = self._journal.blob_path
        return {digest: path_of(digest) if data is None else data for digest, data in self._blobs.items()}

    def holds(self, digest: str) -> bool:
        """Whether it has a blob."""
        return digest in self._blobs

    def read(self, start: int) -> Batch:
        """Return what is in it; rows whose clock was not known when they were logged get `start`.

        Raises:
            CorruptError: If it is damaged.
            OSError: If the disk gives it back no more.
        """
        path = self._path
        return parse_part(start, b"" if path is None else path.read_bytes(), self._rest)

    def peek(self, start: int) -> Batch | None:
        """Return what is in it by now; None if it was let go meanwhile, or cannot be read: `read` says why."""
        try:
            batch = self.read(start)
        except (CorruptError, OSError):
            return None
        return batch if batch.flushes else None

    def drop(self) -> None:
        """Let it go: its rows are in the store."""
        self._rest = b""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def drop_blobs(self) -> None:
        """Let its blobs go: they are in the store."""
        for source in self.blobs.values():
            if isinstance(source, Path):
                with contextlib.suppress(OSError):
                    source.unlink()

    @property
    def _path(self) -> Path | None:
        """Where it is now: a journal may have been moved since it was closed."""
        where = self._journal.where
        return None if self._name is None or where is None else Path(where) / self._name


def parse_part(start: int, *data: bytes) -> Batch:
    """Return the batch in the bytes of a part, of each up to a torn tail, or up to a damage.

    Raises:
        CorruptError: If they hold what is neither a row nor a header.
    """
    flushes: dict[str, int] = {}
    keys: dict[int, list[str]] = {}
    rows: dict[str, list[Row]] = {}
    pieces = [(piece, *frames.read_frames(piece)) for piece in data]
    damaged = any(frames.is_damaged(piece, size) for piece, _, size in pieces)
    for payload in itertools.chain.from_iterable(payloads for _, payloads, _ in pieces):
        decoded = frames.decode(payload)
        try:
            if isinstance(decoded, dict):
                flushes = {str(stream): int(flush) for stream, flush in decoded["flush"].items()}
            elif isinstance(decoded, frames.Keys):
                keys[decoded.stream_index] = decoded.keys
            else:
                index, row = decoded
                rows.setdefault(STREAMS[index], []).append(row.at(start, keys.get(index, ())))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CorruptError(f"A journal holds what this version does not know ({error!r}).") from error
    if not rows.keys() <= flushes.keys():
        raise CorruptError("A journal does not say which flushes its rows become.")
    return Batch(flushes, rows, damaged)


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
        self._warned = False
        self._about = about
        self._claims: list[int] = []
        self._settle()

    @property
    def where(self) -> str | None:
        """The folder, None for a journal in memory."""
        return None if self._folder is None else str(self._folder)

    def begin(self, flushes: Mapping[str, int]) -> None:
        """Open the next part; `flushes` says which flush the rows of each stream become."""
        self._close_file()
        if self._owner_fd is None:
            self._settle()
        self._number += 1
        self._memory.clear()
        if self._folder is not None:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
                self._fd = open_file(self._part_path(), flags)
            except OSError as error:
                self._fall_back(error)
        self.append(frames.frame(frames.encode_header({"flush": dict(flushes)})))

    def append(self, data: bytes) -> None:
        """Write one frame."""
        fd = self._fd
        if fd is None:
            self._memory += data
            return
        try:
            if os.write(fd, data) == len(data):
                return
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            # What was written of the frame is a torn tail; those that follow are read on their own.
            self._fall_back(error)
            self._memory += data

    def attach(self, digest: str, data: bytes) -> bytes | None:
        """Keep bytes that rows refer to, in a file; return them if that cannot be done."""
        if self._folder is None:
            return data
        path = self.blob_path(digest)
        half = path.with_name(f"{path.name}.tmp")
        try:
            fd = open_file(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0))
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            half.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                half.unlink()
            self._warn(error)
            return data
        return None

    def blob_path(self, digest: str) -> Path:
        """Return the file of a blob that is in one."""
        assert self._folder is not None
        return self._folder / f"{digest}.blob"

    def close_part(self, blobs: Mapping[str, bytes | None]) -> Part:
        """Close the present part and return it; `begin` must come before the next row.

        Args:
            blobs: By digest what its rows refer to, as `attach` returned it.
        """
        self._close_file()
        return self.present_part(blobs)

    def present_part(self, blobs: Mapping[str, bytes | None]) -> Part:
        """Return the present part as it is by now; `close_part` says what `blobs` are."""
        name = None
        if self._folder is not None and self._part_path().exists():
            name = self._part_path().name
        return Part(self, name, bytes(self._memory), blobs)

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
        locks.moved(self._folder / OWNER, target / OWNER)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()
        self._folder = target

    def claimed(self, n: int) -> None:
        """Note that the writer has made claim `n`: from here on its rows may be in the store."""
        self._claims.append(n)
        if self._folder is not None:
            try:
                (self._folder / f"claimed-{n:08d}").touch()
            except OSError as error:
                self._fall_back(error)

    def discard(self) -> None:
        """Remove the journal: everything in it is in the store. It is there again when `begin` is called."""
        if self._folder is not None:
            remove(self._folder)
        self.leave()

    def leave(self) -> None:
        """Stop writing and unlock the journal, keeping what is in it."""
        self._close_file()
        if self._owner_fd is not None and self._folder is not None:
            locks.release(self._owner_fd, self._folder / OWNER)
            self._owner_fd = None

    def _settle(self) -> None:
        """Make the folder and lock it."""
        if self._folder is None:
            return
        try:
            _make(self._folder)
            who = {"host": socket.gethostname(), "pid": os.getpid(), "created_ms": int(time.time() * 1000)}
            self._owner_fd = locks.create(self._folder / OWNER, json.dumps({**who, **self._about}).encode())
            for n in self._claims:
                (self._folder / f"claimed-{n:08d}").touch()
        except OSError as error:
            self._fall_back(error)

    def _close_file(self) -> None:
        # Forgotten first: after a Ctrl-C in between, its number may come to be that of another file.
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _part_path(self) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._number:09d}.part"

    def _fall_back(self, error: OSError) -> None:
        """Go on in memory where the disk refuses; the next part tries the disk again, if there is a folder."""
        self._close_file()
        self._warn(error)
        if self._owner_fd is None:
            self._folder = None

    def _warn(self, error: OSError) -> None:
        """Say once that the disk refuses."""
        if not self._warned:
            self._warned = True
            LOG.warning(
                "The journal %s cannot be written (%s): rows are held in memory until they are in the store, and a "
                "crash would lose those. Make room there, or see that it can be written.",
                self._folder,
                error.strerror or error,
            )


def _make(folder: Path) -> None:
    """Make a folder; the writer of the last journal beside it may be removing the one above at this very moment."""
    for attempt in range(3):
        try:
            folder.mkdir(parents=True)
        except FileNotFoundError:
            if attempt == 2:
                raise
        else:
            return


def remove(folder: Path, keep: Collection[Path] = ()) -> None:
    """Remove a journal's folder: the files that a journal has, and nothing else that may lie there.

    Args:
        folder: The journal, which is locked: nobody may look at it while it goes.
        keep: Files of it that stay, and the folder with them, and the blobs that they may refer to.
    """
    kinds = (PART, CLAIMED) if keep else (PART, CLAIMED, BLOB, _HALF_BLOB)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path not in keep and any(kind.fullmatch(path.name) for kind in kinds):
                path.unlink()
        if not keep:
            for name in (NOTED, OWNER):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
            folder.parent.rmdir()  # only if this was the last one
            folder.parent.parent.rmdir()  # only if the run was never opened
