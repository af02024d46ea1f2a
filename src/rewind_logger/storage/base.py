"""The seam: all that the rest of the package asks of a store."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from rewind_logger.errors import ConfigError, StorageError

A = TypeVar("A")
T = TypeVar("T")

CHUNK_BYTES = 8 << 20
"""How much of a large object is in memory at a time for each request under way. S3 takes at least 5 MiB a part."""

Object: TypeAlias = tuple[str, bytes]
"""A path, and what is to be written there."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One line of a listing."""

    name: str
    """The last part of its path."""
    size: int | None
    """Size in bytes; None for a folder."""
    modified: float | None = field(default=None, compare=False)
    """When the object was written, by the clock of the store, in seconds since 1970-01-01 UTC; None for a folder, and
    where the backend cannot tell. Of an object that was sent in several parts it may be when the first was begun."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a write left behind that was cut short: no listing shows it, and it takes room."""

    name: str
    """What the backend knows it by, for people too."""
    size: int | None
    """In bytes; None where the backend cannot tell."""
    modified: float | None
    """As of an `ObjectInfo`."""


@dataclass(frozen=True, slots=True)
class Retries:
    """What was asked of a store in vain, in a way that may pass: it was asked for again, or is by whoever wanted it."""

    requests: int = 0
    bytes: int = 0
    """Of their bodies: what was sent and has to be sent again."""

    def __sub__(self, earlier: Retries) -> Retries:
        return Retries(self.requests - earlier.requests, self.bytes - earlier.bytes)

    def __str__(self) -> str:
        size = f" ({self.bytes / 1e6:,.1f} MB)" if self.bytes >= 50_000 else ""
        return f"{self.requests:,} request{'s' if self.requests != 1 else ''}{size} had failed and were made again"


Listing: TypeAlias = list[ObjectInfo]
"""What lies directly in one folder, sorted by name."""


def check_path(path: str) -> str:
    """Return a path that may name an object or a folder, or refuse it.

    Names are made, and their spelling is checked, by `rewind_logger.format.names`; this is the last line of defence
    against a path that would leave the store.

    Raises:
        ConfigError: If a part of it is empty, begins with a dot (so `.` and `..` too), or holds a NUL.
    """
    if "\0" in path or any(not part or part.startswith(".") for part in path.split("/")):
        raise ConfigError(
            f"{path!r} is no path within a store: between single slashes give parts that do not begin with a dot."
        )
    return path


def check_content(source: Path, expected: str | None, found: str | None) -> None:
    """Refuse a file that does not hold what it is known to hold; `found` is the SHA-256 of what was read of it.

    Raises:
        StorageError: If it changed.
    """
    if expected != found:
        raise StorageError(
            f"{source} changed while it was being stored, so nothing was: see to it that nobody writes it meanwhile."
        )


def raise_first(outcomes: Iterable[T | Exception]) -> list[T]:
    """Return `outcomes`, or raise the first of them that is an error."""
    values: list[T] = []
    try:
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            values.append(outcome)
    finally:
        # Else the error, by its traceback, and this frame hold each other and all that was to be written, for as long
        # as the garbage collector takes to notice: many attempts at a store that is away.
        del outcomes
        outcome = None  # type: ignore[assignment]
    return values


def outcome_of(request: Callable[[A], T], argument: A) -> T | Exception:
    """Return what `request(argument)` returns, or the error that it raises of those that a storage documents."""
    try:
        return request(argument)
    except (FileNotFoundError, StorageError) as error:
        return error


class Storage(ABC):
    """A flat space of immutable-by-convention objects under one URL.

    Paths are relative to the URL, with `/` between their parts; no part is empty or begins with a dot (names that do
    are the backends' own, and never listed). Every method is synchronous and may be called from several threads, and
    an instance survives `pickle`, `deepcopy` and `os.fork`. A missing object is a `FileNotFoundError`; every other
    failure is a `rewind_logger.errors.StorageError`, and a `TransientStorageError` where trying again may help.
    """

    url: str
    """Where the store is, for people: never with credentials in it."""

    local_path: Path | None = None
    """The folder on this machine's disk, None for a remote store."""

    conditional: bool | None = None
    """Whether `create` is known never to replace an object, by how the backend is made; None where only a probe can
    tell (`rewind_logger.storage.probe`)."""

    cheap_touch: bool = False
    """Whether `touch` costs no more than a look."""

    @property
    def place(self) -> str:
        """What tells this store from others, to remember something of it within a process: not for people.

        A URL does not: the same bucket may be asked for at another endpoint, by `storage_options`.
        """
        return self.url

    @property
    def endpoint(self) -> str | None:
        """The server that the options name, for people; None where they name none."""
        return None

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Create an object only if there is none of that name; return whether this call created it.

        The object appears whole or not at all, and of several callers at most one is told True. False says that the
        object exists; it may then be the caller's own, when the store's reply to an earlier attempt was lost. So the
        bytes should hold something that only this caller can have written (a nonce), and a caller that was told
        False, or was given an error, reads the object to find out whose it is.
        """

    @abstractmethod
    def put(self, path: str, data: bytes) -> None:
        """Write an object, replacing one of that name; it appears whole or not at all."""

    @abstractmethod
    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        """Write the content of a file as an object, as `put` does, with a bounded amount of memory.

        Args:
            path: The object.
            source: The file; it must not change meanwhile.
            sha256: What the file is known to hold, in hexadecimal. Backends through whose hands the bytes go one after
                the other write nothing if it holds something else by now; remote ones do not look.

        Raises:
            FileNotFoundError: If there is no such file; other errors of reading it are an OSError too.
            StorageError: If its content is not what `sha256` says.
        """

    def read_chunks(self, path: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Yield an object piece by piece, in a request each.

        Args:
            path: The object; one that is replaced meanwhile may give a mixture.
            chunk_bytes: How large a piece is; the last one is smaller, and an empty object has none.
        """
        start = 0
        while chunk := self.read_range(path, start, start + chunk_bytes):
            yield chunk
            start += len(chunk)
            if len(chunk) < chunk_bytes:
                return

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return the whole object, in one request."""

    @abstractmethod
    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """Return bytes `start` (inclusive) to `stop` (exclusive), fewer where the object ends before, in one request.

        A negative `start` counts from the end of the object (`stop` is then ignored): the last `-start` bytes.
        """

    @abstractmethod
    def size(self, path: str) -> int:
        """Return the size of an object in bytes."""

    def info(self, path: str) -> ObjectInfo:
        """Return what a listing says of an object, asked for at this moment."""
        folder, _, name = path.rpartition("/")
        for line in self.list(folder):
            if line.name == name and line.size is not None:
                return line
        raise FileNotFoundError(errno.ENOENT, "There is no such object", f"{self.url}/{path}")

    def touch(self, path: str) -> bool:
        """Let an object be as if it had just been written, without sending it again.

        Returns:
            Whether that was done; False where the backend cannot.
        """
        return False

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove an object; one that is missing is no error."""

    def read_each(self, paths: Iterable[str]) -> list[bytes | Exception]:
        """Return for each path the whole object or the error that reading it gave, in the order of `paths`.

        The error is one that `read` documents. Backends that can do so ask for several at the same time.
        """
        return [outcome_of(self.read, path) for path in paths]

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        """Return for each folder its listing or the error that listing it gave, in the order of `folders`."""
        return [outcome_of(self.list, folder) for folder in folders]

    def put_each(self, objects: Iterable[Object]) -> list[Exception | None]:
        """Write objects as `put` does; return for each None or the error that it gave, in the order of `objects`.

        Backends that can do so write several at the same time: in which order they appear is left open.
        """
        return [outcome_of(self._put_object, one) for one in objects]

    def delete_each(self, paths: Iterable[str]) -> list[Exception | None]:
        """Remove objects as `delete` does; return for each None or the error that it gave, in the order of `paths`."""
        return [outcome_of(self.delete, path) for path in paths]

    def unfinished(self, skip: Collection[str] = ()) -> Iterator[Unfinished]:
        """Yield what writes of this store left behind that were cut short, or are under way.

        Args:
            skip: Names of folders not to look into, at any depth.
        """
        return iter(())

    def discard(self, found: Unfinished) -> None:
        """Remove what `unfinished` found; a write that is under way fails. What is gone by now is no error."""
        raise NotImplementedError

    def _put_object(self, one: Object) -> None:
        self.put(*one)

    def put_many(self, objects: Iterable[Object]) -> None:
        """Write objects, in no particular order; the first error is raised once all were tried."""
        raise_first(self.put_each(objects))

    def read_many(self, paths: Iterable[str]) -> list[bytes]:
        """Return whole objects, in the order of `paths`; the first error is raised once all were asked for."""
        return raise_first(self.read_each(paths))

    def map_lists(self, folders: Iterable[str]) -> list[Listing]:
        """Return `list(folder)` of each folder, in order; the first error is raised once all were asked for."""
        return raise_first(self.list_each(folders))

    @abstractmethod
    def list(self, folder: str) -> Listing:
        """Return what lies directly in a folder, sorted by name; an empty list where there is no such folder.

        `""` is the store itself. Never answered from a cache: it sees every write that was acknowledged before it, by
        whomever. Whether a folder outlives its last object is left to the backend.
        """

    @property
    def retries(self) -> Retries:
        """What was asked in vain until now, by this process through this object; nothing where nobody tries again."""
        return Retries()

    def options_for(self, url: str) -> Mapping[str, Any]:
        """Return what opens a URL of the same kind as this store: its own options, which may hold credentials."""
        return {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"
