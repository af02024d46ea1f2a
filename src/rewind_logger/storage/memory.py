"""A storage in the memory of this process."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rewind_logger.storage.base import Listing, ObjectInfo, Storage, check_content, check_path
from rewind_logger.storage.redact import public_url
from rewind_logger.storage.translate import from_os

_lock = threading.RLock()
"""One for all: `create` looks and then writes, and every `memory://` storage shares one content."""


def _enter_child() -> None:
    """Give a forked child a lock of its own: the parent's may have been held by a thread that is not here."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_enter_child)


class MemoryStorage(Storage):
    """Objects in fsspec's memory file system, which every storage and every `fsspec.open` in the process shares.

    A forked or started process has a content of its own.

    Args:
        url: `memory://` and a path.
    """

    conditional = True
    cheap_touch = True

    def __init__(self, url: str = "memory://") -> None:
        from fsspec.implementations.memory import MemoryFileSystem

        self.url = public_url(url)
        self._root: str = MemoryFileSystem._strip_protocol(url)
        self._filesystem: Any = MemoryFileSystem()

    def create(self, path: str, data: bytes) -> bool:
        """See `Storage.create`."""
        key = self._locate(path)
        with _lock:
            if key in self._filesystem.store:
                return False
            self._write("create", path, data)
            return True

    def put(self, path: str, data: bytes) -> None:
        """See `Storage.put`."""
        with _lock:
            self._write("write", path, data)

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        """See `Storage.put_file`."""
        data = source.read_bytes()
        check_content(source, sha256, hashlib.sha256(data).hexdigest() if sha256 else None)
        self.put(path, data)

    def read(self, path: str) -> bytes:
        """See `Storage.read`."""
        return self._read(path, slice(None))

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """See `Storage.read_range`."""
        return self._read(path, slice(start, None if start < 0 else stop))

    def size(self, path: str) -> int:
        """See `Storage.size`."""
        return len(self._read(path, slice(None)))

    def info(self, path: str) -> ObjectInfo:
        """See `Storage.info`."""
        return _line(path, self._file(path))

    def touch(self, path: str) -> bool:
        """See `Storage.touch`."""
        self._file(path).modified = datetime.now(timezone.utc)
        return True

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        with _lock:
            self._filesystem.store.pop(self._locate(path), None)

    def list(self, folder: str) -> Listing:
        """See `Storage.list`."""
        key = self._locate(folder) if folder else self._root
        with _lock:
            if key in self._filesystem.store:
                return []
            try:
                infos = self._filesystem.ls(key, detail=True)
            except FileNotFoundError:
                return []
            files = {info["name"]: self._filesystem.store.get(info["name"]) for info in infos}
        lines = [_line(name, file) for name, file in files.items()]
        return sorted((line for line in lines if not line.name.startswith(".")), key=lambda line: line.name)

    def _locate(self, path: str) -> str:
        """Return the name under which the file system knows a path."""
        return f"{self._root}/{check_path(path)}"

    def _write(self, action: str, path: str, data: bytes) -> None:
        """Write an object; the lock is held."""
        try:
            self._filesystem.pipe_file(self._locate(path), data)
        except OSError as error:  # There is a folder of that name, or an object of the name of one of its folders.
            raise from_os(error, action, f"{self.url}/{path}") from error

    def _read(self, path: str, part: slice) -> bytes:
        """Return a part of an object; other threads may replace it meanwhile, not change it."""
        with self._file(path).getbuffer() as data:
            return bytes(data[part])

    def _file(self, path: str) -> Any:
        """Return what fsspec keeps of an object."""
        try:
            return self._filesystem.store[self._locate(path)]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "There is no such object", f"{self.url}/{path}") from None


def _line(name: str, file: Any) -> ObjectInfo:
    """Describe an object, or a folder, of which fsspec keeps nothing."""
    last = name.rpartition("/")[2]
    return ObjectInfo(last, None) if file is None else ObjectInfo(last, file.size, file.modified.timestamp())
