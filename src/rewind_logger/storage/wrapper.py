"""A storage around another one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rewind_logger.storage.base import Listing, Object, ObjectInfo, Retries, Storage, Unfinished


class WrapperStorage(Storage):
    """Pass every request on to `inner`; what adds behaviour overrides what it needs.

    `read_many`, `map_lists` and `put_many` come down to `read_each`, `list_each` and `put_each`, so these three are all
    that has to be overridden for requests that go out together.
    """

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.url = inner.url
        self.local_path = inner.local_path
        self.conditional = inner.conditional
        self.cheap_touch = inner.cheap_touch

    @property
    def place(self) -> str:
        """See `Storage.place`."""
        return self.inner.place

    @property
    def endpoint(self) -> str | None:
        """See `Storage.endpoint`."""
        return self.inner.endpoint

    def create(self, path: str, data: bytes) -> bool:
        """See `Storage.create`."""
        return self.inner.create(path, data)

    def put(self, path: str, data: bytes) -> None:
        """See `Storage.put`."""
        self.inner.put(path, data)

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        """See `Storage.put_file`."""
        self.inner.put_file(path, source, sha256=sha256)

    def read(self, path: str) -> bytes:
        """See `Storage.read`."""
        return self.inner.read(path)

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """See `Storage.read_range`."""
        return self.inner.read_range(path, start, stop)

    def size(self, path: str) -> int:
        """See `Storage.size`."""
        return self.inner.size(path)

    def info(self, path: str) -> ObjectInfo:
        """See `Storage.info`."""
        return self.inner.info(path)

    def touch(self, path: str) -> bool:
        """See `Storage.touch`."""
        return self.inner.touch(path)

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        self.inner.delete(path)

    def read_each(self, paths: Iterable[str]) -> list[bytes | Exception]:
        """See `Storage.read_each`."""
        return self.inner.read_each(paths)

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        """See `Storage.list_each`."""
        return self.inner.list_each(folders)

    def delete_each(self, paths: Iterable[str]) -> list[Exception | None]:
        """See `Storage.delete_each`."""
        return self.inner.delete_each(paths)

    def unfinished(self, skip: Collection[str] = ()) -> Iterator[Unfinished]:
        """See `Storage.unfinished`."""
        return self.inner.unfinished(skip)

    def discard(self, found: Unfinished) -> None:
        """See `Storage.discard`."""
        self.inner.discard(found)

    def put_each(self, objects: Iterable[Object]) -> list[Exception | None]:
        """See `Storage.put_each`."""
        return self.inner.put_each(objects)

    def list(self, folder: str) -> Listing:
        """See `Storage.list`."""
        return self.inner.list(folder)

    @property
    def retries(self) -> Retries:
        """See `Storage.retries`."""
        return self.inner.retries

    def options_for(self, url: str) -> Mapping[str, Any]:
        """See `Storage.options_for`."""
        return self.inner.options_for(url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self.inner!r}>"
