"""A store with a clock of its own, and what lies in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Listing, ObjectInfo, Storage
from rewind_logger.storage.wrapper import WrapperStorage
from tests.history.lines import log

DAY = 86400.0


class Clocked(WrapperStorage):
    """A store with a clock of its own, which a test moves."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.time = 1_000_000_000.0
        self.written: dict[str, float] = {}

    def create(self, path: str, data: bytes) -> bool:
        created = super().create(path, data)
        if created:
            self.written[path] = self.time
        return created

    def put(self, path: str, data: bytes) -> None:
        super().put(path, data)
        self.written[path] = self.time

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        super().put_file(path, source, sha256=sha256)
        self.written[path] = self.time

    def put_each(self, objects: Iterable[tuple[str, bytes]]) -> list[Exception | None]:
        return [self.put(path, data) for path, data in objects]  # type: ignore[func-returns-value]

    def touch(self, path: str) -> bool:
        super().touch(path)
        self.written[path] = self.time
        return True

    def info(self, path: str) -> ObjectInfo:
        found = super().info(path)
        return ObjectInfo(found.name, found.size, self.written[path])

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        return [self.list(folder) for folder in folders]

    def list(self, folder: str) -> Listing:
        prefix = f"{folder}/" if folder else ""
        return [
            ObjectInfo(line.name, line.size, None if line.size is None else self.written[prefix + line.name])
            for line in super().list(folder)
        ]


def objects(storage: Storage, folder: str = "") -> dict[str, int]:
    """All objects of a store, and their sizes."""
    found: dict[str, int] = {}
    for info in storage.list(folder):
        path = f"{folder}/{info.name}" if folder else info.name
        found |= objects(storage, path) if info.size is None else {path: info.size}
    return found


def flushes(writer: Writer, steps: Iterable[int]) -> None:
    """Log rows, each a flush of its own."""
    for step in steps:
        log(writer, [step])
        writer.flush()
