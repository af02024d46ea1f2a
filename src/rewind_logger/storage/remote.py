"""A storage behind any other URL that fsspec knows."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rewind_logger.errors import RewindError
from rewind_logger.storage.base import Listing, Object, ObjectInfo, Storage, check_path, outcome_of
from rewind_logger.storage.redact import host_of, public_url, secrets_of, tells
from rewind_logger.storage.translate import (
    from_backend,
    is_about_credentials,
    is_failed_precondition,
    is_unsatisfiable_range,
    is_unsupported,
)

A = TypeVar("A")
T = TypeVar("T")

CONCURRENCY = 16
"""Requests that `read_each`, `list_each` and `put_each` have under way at a time. s3fs is bound by its own 2–3 ms of
CPU a request, so more bring nothing; threads measured as fast as its event loop."""

REOPENED_AFTER_S = 1.0
"""How long a file system is used at least before it is opened anew for the sake of other credentials."""

_generation = 0
"""Raised in each forked child. A process id would do but for being given again."""


def _enter_child() -> None:
    """Note that this process was forked."""
    global _generation
    _generation += 1
    # Earlier versions of fsspec wait for the parent's event loop, which does not run here; later ones for its lock.
    if (asyn := sys.modules.get("fsspec.asyn")) is not None:
        asyn.reset_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_enter_child)


def generation() -> int:
    """Return a number that differs in each process of a line of forks."""
    return _generation


UNCACHED: Mapping[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
"""For a file system: from a cached listing, an object that someone else made is missing and a replaced one has its old
size; a cached instance would be one that someone else opened with such a cache."""


class FsspecStorage(Storage):
    """Objects behind an fsspec file system.

    `create` is as atomic as the backend's `pipe_file(mode="create")` is: one conditional request on S3, Google Cloud
    Storage and Azure, nothing of the kind elsewhere, which `rewind_logger.storage.probe` finds out. Object stores
    write whole objects; on others (SFTP, SMB) a crash in the middle of a write can leave half a file.

    Args:
        url: Where the store is, as fsspec understands it; it may hold credentials, which are not shown.
        storage_options: What the file system's constructor takes.
    """

    suffix_ranges = False
    """Whether the backend reads the last n bytes of an object in one request (`cat_file(start=-n)`)."""

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.url = public_url(url)
        self._private_url = url
        self._options = dict(storage_options or {})
        self._secrets = secrets_of(url, self._options)
        self._opened: dict[int, tuple[Any, str]] = {}
        self._opened_at = 0.0
        self._conditional_writes = True

    @property
    def place(self) -> str:
        """See `Storage.place`: a digest, for URL and options hold credentials."""
        from fsspec.utils import tokenize

        return str(tokenize(self._private_url, self._options))

    @property
    def endpoint(self) -> str | None:
        """See `Storage.endpoint`: as s3fs and gcsfs take it."""
        inner = self._options.get("client_kwargs")
        found = self._options.get("endpoint_url") or (isinstance(inner, Mapping) and inner.get("endpoint_url"))
        return public_url(found) if isinstance(found, str) else None

    @property
    def filesystem(self) -> Any:
        """The fsspec file system behind this storage, for measurements and for what the seam does not offer."""
        return self._open()[0]

    def create(self, path: str, data: bytes) -> bool:
        """See `Storage.create`."""
        filesystem, key = self._locate(path)
        with self._translated("create", path):
            if self._conditional_writes:
                try:
                    filesystem.pipe_file(key, data, mode="create")
                    return True
                except Exception as error:
                    if is_failed_precondition(error):
                        return False
                    if not is_unsupported(error):
                        raise
                    # Treated like the many that ignore the condition, so that there is one way to find both out.
                    self._conditional_writes = False
            filesystem.pipe_file(key, data)
        return True

    def put(self, path: str, data: bytes) -> None:
        """See `Storage.put`."""
        filesystem, key = self._locate(path)
        with self._translated("write", path):
            filesystem.pipe_file(key, data)

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        """See `Storage.put_file`."""
        with open(source, "rb") as file:  # What is wrong with it must not be taken for what is wrong with the store.
            size = os.fstat(file.fileno()).st_size
            if size:
                file.read(1)
        filesystem, key = self._locate(path)
        with self._translated("write", path):
            self._send(filesystem, source, key, size)

    def _send(self, filesystem: Any, source: Path, key: str, size: int) -> None:
        """Write the content of a file of `size` bytes."""
        self._for_files(filesystem, size).put_file(str(source), key, **self._upload_options(size))

    def _for_files(self, filesystem: Any, size: int) -> Any:
        """Return the file system to send a file of this size with."""
        return filesystem

    def _upload_options(self, size: int) -> dict[str, Any]:
        """Say how `put_file` of the file system keeps its memory bounded, where that wants saying."""
        return {}

    def read(self, path: str) -> bytes:
        """See `Storage.read`."""
        # Without limits, s3fs asks for the size first, to split large objects.
        return self._read(path, 0, None)

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """See `Storage.read_range`."""
        if start < 0:
            if self.suffix_ranges:
                return self._read(path, start, None)
            stop = self.size(path)
            start = max(0, start + stop)
        return self._read(path, start, stop) if start < stop else b""

    def size(self, path: str) -> int:
        """See `Storage.size`."""
        filesystem, key = self._locate(path)
        with self._translated("look up", path):
            return int(self._info(filesystem, key)["size"])

    def info(self, path: str) -> ObjectInfo:
        """See `Storage.info`."""
        filesystem, key = self._locate(path)
        with self._translated("look up", path):
            return described(path.rpartition("/")[2], self._info(filesystem, key))

    def _info(self, filesystem: Any, key: str) -> Mapping[str, Any]:
        """Return what the backend says of an object."""
        info: Mapping[str, Any] = filesystem.info(key)
        if info["type"] == "directory":
            raise FileNotFoundError(key)
        return info

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        filesystem, key = self._locate(path)
        try:
            with self._translated("delete", path):
                # Not `rm`, which takes `*` and `[` in a name for a pattern.
                filesystem.rm_file(key)
        except FileNotFoundError:
            pass

    def read_each(self, paths: Iterable[str]) -> list[bytes | Exception]:
        """See `Storage.read_each`."""
        return _at_once(self.read, paths)

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        """See `Storage.list_each`."""
        return _at_once(self.list, folders)

    def put_each(self, objects: Iterable[Object]) -> list[Exception | None]:
        """See `Storage.put_each`."""
        return _at_once(self._put_object, objects)

    def delete_each(self, paths: Iterable[str]) -> list[Exception | None]:
        """See `Storage.delete_each`."""
        return _at_once(self.delete, paths)

    def list(self, folder: str) -> Listing:
        """See `Storage.list`."""
        filesystem, key = self._locate(folder)
        try:
            with self._translated("list", folder):
                return sorted(self._lines(filesystem, key), key=lambda line: line.name)
        except FileNotFoundError:
            return []

    def options_for(self, url: str) -> Mapping[str, Any]:
        """See `Storage.options_for`."""
        kinds = {one.partition("://")[0] for one in (url, self.url)}
        return self._options if len(kinds) == 1 and host_of(url) == host_of(self.url) else {}

    def _lines(self, filesystem: Any, key: str) -> Iterator[ObjectInfo]:
        """List a folder, in any order."""
        for info in self._entries(filesystem, key):
            parent, _, name = info["name"].rstrip("/").rpartition("/")
            # Listing a file gives the file itself, and Azure's lists siblings whose names begin alike.
            if parent.lstrip("/") == key.lstrip("/") and not name.startswith("."):
                yield described(name, info)

    def _entries(self, filesystem: Any, key: str) -> Iterable[Mapping[str, Any]]:
        """Return what the backend says of everything in a folder."""
        entries: Iterable[Mapping[str, Any]] = filesystem.ls(key, detail=True)
        return entries

    def _read(self, path: str, start: int, stop: int | None) -> bytes:
        """Read from `start` (inclusive; negative: from the end) to `stop` (exclusive) in one request."""
        filesystem, key = self._locate(path)
        with self._translated("read", path):
            try:
                return self._cat(filesystem, key, start, stop)
            except Exception as error:
                # An empty object has no first byte either.
                if is_unsatisfiable_range(error):
                    return b""
                raise

    def _cat(self, filesystem: Any, key: str, start: int, stop: int | None) -> bytes:
        """Return a part of an object."""
        data: bytes = filesystem.cat_file(key, start=start, end=stop)
        return data

    def _locate(self, path: str) -> tuple[Any, str]:
        """Return the file system, and the name under which it knows a path."""
        filesystem, root = self._open()
        return filesystem, f"{root}/{check_path(path)}" if path else root

    def _open(self) -> tuple[Any, str]:
        """Return the file system of this process and the name under which it knows the store."""
        opened = self._opened.get(_generation)
        if opened is None:
            with self._translated("open", ""):
                # Of two threads that open at once one is given the other's. What a parent process opened is kept but
                # not used: its event loop does not run here, and closing it would close the parent's connections.
                opened = self._opened.setdefault(_generation, self._new_filesystem(self._private_url, self._options))
                self._opened_at = time.monotonic()
        return opened

    def _reopen(self) -> None:
        """Have the next request look for credentials anew: most backends do it once, and then keep those that expire.

        Not each time, for a reader that may not read may ask for thousands of objects.
        """
        if time.monotonic() - self._opened_at >= REOPENED_AFTER_S:
            self._opened.pop(_generation, None)

    def _new_filesystem(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Open the file system; return it with the name under which it knows `url`."""
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(url, **{**options, **UNCACHED})
        return filesystem, root.rstrip("/")

    @contextmanager
    def _translated(self, action: str, path: str) -> Iterator[None]:
        """Raise the package's errors in place of the backend's."""
        try:
            yield
        except RewindError:
            raise
        except Exception as error:
            if is_about_credentials(error):
                self._reopen()
            name = path.partition("?")[0]  # of a file that is read by a URL, not of an object of ours
            where = f"{self.url}/{name}" if name else self.url
            raise from_backend(error, action, where, self._secrets) from (
                None if tells(error, self._secrets) else error
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}


_MODIFIED = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
"""Under which names backends say when an object was written: those of S3, Azure, Google, SFTP and local, WebDAV, …"""


def described(name: str, info: Mapping[str, Any]) -> ObjectInfo:
    """Describe an object or a folder by what a backend says of it."""
    if info["type"] == "directory":
        return ObjectInfo(name, None)
    return ObjectInfo(name, info["size"], next(filter(None, (seconds(info.get(key)) for key in _MODIFIED)), None))


def seconds(time: object) -> float | None:
    """Return seconds since 1970-01-01 UTC of what a backend gives for a time; None if it is none."""
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time.replace("Z", "+00:00"))
        except ValueError:
            return None
    if isinstance(time, datetime):
        return (time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)).timestamp()
    return float(time) if isinstance(time, (int, float)) and not isinstance(time, bool) else None


def _at_once(request: Callable[[A], T], arguments: Iterable[A]) -> list[T | Exception]:
    """Make requests of a storage at the same time; return their outcomes in the order of `arguments`."""
    todo = list(arguments)
    if len(todo) < 2:
        return [outcome_of(request, argument) for argument in todo]
    try:
        with ThreadPoolExecutor(min(CONCURRENCY, len(todo)), thread_name_prefix="rewind-logger-io") as pool:
            return list(pool.map(partial(outcome_of, request), todo))
    except RuntimeError:  # The interpreter is shutting down and starts no more threads.
        return [outcome_of(request, argument) for argument in todo]
