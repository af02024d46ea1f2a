"""A storage that asks twice for nothing: for a look at a store that nobody else writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from rewind_logger.storage.base import Listing, Object, Storage
from rewind_logger.storage.wrapper import WrapperStorage

T = TypeVar("T")


class RememberingStorage(WrapperStorage):
    """Keep what was read and listed until something is written."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self._read: dict[str, bytes | Exception] = {}
        self._listed: dict[str, Listing | Exception] = {}

    def read(self, path: str) -> bytes:
        return self._one(self.read_each, path)

    def read_each(self, paths: Iterable[str]) -> list[bytes | Exception]:
        return self._ask(self._read, self.inner.read_each, [*paths])

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        return self._ask(self._listed, self.inner.list_each, [*folders])

    def create(self, path: str, data: bytes) -> bool:
        self._forget()
        return super().create(path, data)

    def put(self, path: str, data: bytes) -> None:
        self._forget()
        super().put(path, data)

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        self._forget()
        super().put_file(path, source, sha256=sha256)

    def put_each(self, objects: Iterable[Object]) -> list[Exception | None]:
        self._forget()
        return super().put_each(objects)

    def delete(self, path: str) -> None:
        self._forget()
        super().delete(path)

    def _forget(self) -> None:
        self._read.clear()
        self._listed.clear()

    def _ask(
        self, known: dict[str, T | Exception], ask: Callable[[Iterable[str]], list[T | Exception]], names: list[str]
    ) -> list[T | Exception]:
        missing = [name for name in dict.fromkeys(names) if name not in known]
        known.update(zip(missing, ask(missing), strict=True))
        return [known[name] for name in names]

    def _one(self, ask: Callable[[Iterable[str]], list[T | Exception]], name: str) -> T:
        (found,) = ask([name])
        if isinstance(found, Exception):
            raise found
        return found

    # Last, as within the class it hides the type of that name.
    def list(self, folder: str) -> Listing:
        return self._one(self.list_each, folder)
