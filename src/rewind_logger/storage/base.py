"""The seam: all that the rest of the package asks of a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One line of a listing."""

    name: str
    """The last part of its path."""
    size: int | None
    """Size in bytes; None for a folder."""


class Storage(ABC):
    """A flat space of immutable-by-convention objects under one URL.

    Paths are relative to the URL, with `/` between their parts. Every method is synchronous and may be called from
    several threads. A missing object is a `FileNotFoundError`; every other failure is a
    `rewind_logger.errors.StorageError`, and a `TransientStorageError` where trying again may help.
    """

    url: str
    """Where the store is, for people: never with credentials in it."""

    local_path: Path | None = None
    """The folder on this machine's disk, None for a remote store."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Create an object only if there is none of that name; return whether this call created it.

        The object appears whole or not at all, and of several callers at most one is told True. False says that the
        object exists; it may then be the caller's own, when the store's reply to an earlier attempt was lost.
        """

    @abstractmethod
    def put(self, path: str, data: bytes) -> None:
        """Write an object, replacing one of that name; it appears whole or not at all."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return the whole object, in one request."""

    @abstractmethod
    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """Return bytes `start` (inclusive) to `stop` (exclusive), fewer where the object ends before, in one request.

        A negative `start` counts from the end of the object (`stop` is then ignored): the last `-start` bytes.
        """

    @abstractmethod
    def list(self, folder: str) -> list[ObjectInfo]:
        """Return what lies directly in a folder, sorted by name; an empty list where there is no such folder.

        Never answered from a cache: it sees every write that was acknowledged before it, by whomever.
        """

    @abstractmethod
    def size(self, path: str) -> int:
        """Return the size of an object in bytes."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove an object; one that is missing is no error."""

    def read_many(self, paths: Iterable[str]) -> list[bytes]:
        """Return whole objects, in the order of `paths`; backends that can do so ask for them at the same time."""
        return [self.read(path) for path in paths]

    def map_lists(self, folders: Iterable[str]) -> "list[list[ObjectInfo]]":
        """Return `list(folder)` of each folder, in order; backends that can do so ask for them at the same time."""
        return [self.list(folder) for folder in folders]
