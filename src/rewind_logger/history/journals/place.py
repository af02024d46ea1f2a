"""The folder of a journal, on one disk."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from rewind_logger.format import frames
from rewind_logger.history.journals import locks
from rewind_logger.storage import within
from rewind_logger.storage.descriptor import open_file

PART = re.compile(r"([0-9]{9,})\.part")
CLAIMED = re.compile(r"claimed-([0-9]{8,})")
BLOB = re.compile(r"([0-9a-f]{64})\.blob")
_HALF = re.compile(rf"{BLOB.pattern}\.tmp|journal\.json\.new")
OWNER = "journal.json"
NOTED = "noted"
RECOVERING = "recovering"
"""Beside the other files while somebody who is not its writer has a journal locked."""

_BINARY = getattr(os, "O_BINARY", 0)


class Place:
    """A folder that a journal may lie in, which is made and locked when it is first written to."""

    def __init__(self, root: Path, nonce: str, about: Mapping[str, Any]) -> None:
        """Take the folder that holds the journals of the run, the journal's name, and what people should know of it."""
        self.folder = root / nonce
        self._about = about
        self._owner_fd: int | None = None

    @property
    def settled(self) -> bool:
        """Whether it is made and locked."""
        return self._owner_fd is not None

    def settle(self, claims: Iterable[int]) -> None:
        """Make it and lock it, unless that was done.

        Args:
            claims: The numbers of the claims that the writer has made.

        Raises:
            OSError: If that fails.
        """
        if self._owner_fd is not None:
            return
        who = {"host": socket.gethostname(), "pid": os.getpid(), "created_ms": int(time.time() * 1000)}
        try:
            _make(self.folder)
            self._owner_fd = locks.create(self.folder / OWNER, json.dumps({**who, **self._about}).encode())
            for n in claims:
                self.claimed(n)
        except OSError:
            remove(self.folder)
            self.leave()
            raise

    def claimed(self, n: int) -> None:
        """Note that the writer has made claim `n`.

        Raises:
            OSError: If that fails.
        """
        (self.folder / f"claimed-{n:08d}").touch()

    def create(self, name: str, claims: Iterable[int], data: bytes) -> int:
        """Make a file that begins with some data, and return the descriptor that it is written and read by.

        Raises:
            OSError: If that fails; then there is no such file.
        """
        fd = self._open_new(name, os.O_RDWR | os.O_APPEND | os.O_EXCL, claims)
        try:
            _write(fd, data)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
            raise
        return fd

    def write_on(self, name: str, data: bytes) -> None:
        """Add data to a file, in place of a frame at its end that the disk took in part.

        Raises:
            OSError: If that fails; then nothing was added.
        """
        fd = open_file(self.folder / name, os.O_RDWR | os.O_APPEND | _BINARY)
        try:
            there = os.pread(fd, os.fstat(fd).st_size, 0)
            _, size = frames.read_frames(there)
            if frames.is_damaged(there, size):
                raise OSError(errno.EIO, "it is damaged")
            os.ftruncate(fd, size)
            _write(fd, data)
        finally:
            os.close(fd)

    def keep(self, digest: str, data: bytes, claims: Iterable[int]) -> None:
        """Write a blob.

        Raises:
            OSError: If that fails.
        """
        path = self.blob_path(digest)
        half = path.with_name(f"{path.name}.tmp")
        try:
            with os.fdopen(self._open_new(half.name, os.O_WRONLY | os.O_TRUNC, claims), "wb") as file:
                file.write(data)
            half.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                half.unlink()
            raise

    def _open_new(self, name: str, flags: int, claims: Iterable[int]) -> int:
        """Open a file that may be made for that."""
        self.settle(claims)
        try:
            return open_file(self.folder / name, flags | os.O_CREAT | _BINARY)
        except FileNotFoundError:  # somebody has removed the folder
            self.leave()
            self.settle(claims)
            return open_file(self.folder / name, flags | os.O_CREAT | _BINARY)

    def blob_path(self, digest: str) -> Path:
        """Return the file of a blob."""
        return self.folder / f"{digest}.blob"

    def move(self, root: Path) -> None:
        """Move it into another run's folder of journals, on the same disk; the lock and what is open move with it.

        Raises:
            OSError: If that fails.
        """
        target = root / self.folder.name
        if self._owner_fd is not None:
            root.mkdir(parents=True, exist_ok=True)
            self.folder.rename(target)
            locks.moved(self.folder / OWNER, target / OWNER)
            with contextlib.suppress(OSError):
                self.folder.parent.rmdir()
        self.folder = target

    def discard(self) -> None:
        """Remove it: everything in it is in the store."""
        if self._owner_fd is not None:
            remove(self.folder)
        self.leave()

    def leave(self) -> None:
        """Unlock it, keeping what is in it."""
        fd, self._owner_fd = self._owner_fd, None
        if fd is not None:
            locks.release(fd, self.folder / OWNER)


def files(folder: Path) -> list[Path]:
    """Return the files of a journal that may be read, in order: whoever looks into one that is not its own asks here.

    No links, for a store may come from somebody else; and no pipes, for to open one waits for ever. Nothing where there
    is no folder, or no more.

    Raises:
        OSError: If it cannot be looked into.
    """
    try:
        return sorted(filter(within.is_file, folder.iterdir()))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _make(folder: Path) -> None:
    """Make a folder; the writer of the last journal beside it may be removing the one above at this very moment."""
    for attempt in range(3):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:
            if attempt == 2:
                raise
        else:
            return


def remove(folder: Path, keep: Collection[Path] = ()) -> None:
    """Remove a journal's folder: the files that a journal has, and nothing else that may lie there.

    Args:
        folder: The journal, which is locked: nobody may look at it while it goes.
        keep: Files of it that stay, and the folder with them, and the blobs that they may refer to. It is no journal
            any more, which somebody would bring in once more.
    """
    kinds = (PART, CLAIMED) if keep else (PART, CLAIMED, BLOB, _HALF)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path not in keep and any(kind.fullmatch(path.name) for kind in kinds):
                path.unlink()
        for name in (NOTED, RECOVERING, OWNER):
            (folder / name).unlink(missing_ok=True)
        if not keep:
            folder.rmdir()
            folder.parent.rmdir()  # only if this was the last one
            folder.parent.parent.rmdir()  # only if the run was never opened


def _write(fd: int, data: bytes) -> None:
    """Write all of it, or nothing: what one disk took in part is written to another, and must not be there twice.

    Raises:
        OSError: If the disk refuses.
    """
    size = os.fstat(fd).st_size
    try:
        if os.write(fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(fd, size)
        raise
