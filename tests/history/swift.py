"""What makes a schedule of the model cheap: a store of dicts, and segments that are kept as they were given.

Parquet, checksums and fsspec take nine tenths of the time of a schedule, and there is nothing in them that the order of
requests could change. So most schedules do without: the bytes of a segment are a token for its table. Some are made
with the real ones, to see that it makes no difference.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from rewind_logger.errors import CorruptError
from rewind_logger.format import segment, snapshot
from rewind_logger.format.columns import split_values
from rewind_logger.format.segment import SCHEMA, Identity, SegmentInfo
from rewind_logger.format.snapshot import Snapshot
from rewind_logger.history import claims, view
from rewind_logger.history.blobs import FRESH_S
from rewind_logger.storage.base import Listing, ObjectInfo, Storage
from rewind_logger.types import Row


class DictStorage(Storage):
    """Objects in a dict; a listing takes no longer than what it lists."""

    conditional = True

    def __init__(self, url: str, now: Callable[[], float], everything: DictStorage | None = None) -> None:
        self.url = url
        self._now = now
        self.everything = everything
        """Gets whatever is put here, and never has it deleted."""
        self.renewed: set[str] = set()
        """Blobs that were deleted although they were young: renewed after whoever deletes them had looked again."""
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._folders: dict[str, dict[str, bool]] = {"": {}}

    def create(self, path: str, data: bytes) -> bool:
        if path in self._objects:
            return False
        self.put(path, data)
        return True

    def put(self, path: str, data: bytes) -> None:
        if path not in self._objects:
            self._name(path, file=True)
        self._objects[path] = data, self._now()
        if self.everything is not None:
            self.everything.put(path, data)

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        self.put(path, source.read_bytes())

    def read(self, path: str) -> bytes:
        return self._found(path)[0]

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        return self.read(path)[slice(start, None if start < 0 else stop)]

    def size(self, path: str) -> int:
        return len(self.read(path))

    def info(self, path: str) -> ObjectInfo:
        data, modified = self._found(path)
        return ObjectInfo(path.rpartition("/")[2], len(data), modified)

    def touch(self, path: str) -> bool:
        self._objects[path] = self._found(path)[0], self._now()
        return True

    def delete(self, path: str) -> None:
        found = self._objects.pop(path, None)
        if found is None:
            return
        if path.startswith("blobs/") and self._now() - found[1] < FRESH_S:
            self.renewed.add(path)
        self._unname(path)

    def list(self, folder: str) -> Listing:
        found = []
        for name in sorted(self._folders.get(folder, ())):
            data = self._objects.get(f"{folder}/{name}" if folder else name)
            found.append(ObjectInfo(name, None) if data is None else ObjectInfo(name, len(data[0]), data[1]))
        return found

    def _found(self, path: str) -> tuple[bytes, float]:
        try:
            return self._objects[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def _name(self, path: str, *, file: bool) -> None:
        """Make a path known to the folders above it."""
        folder, _, name = path.rpartition("/")
        known = self._folders.setdefault(folder, {})
        if not known and folder:
            self._name(folder, file=False)
        known[name] = file

    def _unname(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        known = self._folders[folder]
        del known[name]
        if not known and folder:
            del self._folders[folder]
            self._unname(folder)


class Tokens:
    """Segments and snapshots that are kept as they were given; a token stands for the bytes of each."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Any] = {}
        self._numbers = itertools.count()

    def clear(self) -> None:
        """Forget them."""
        self._kept.clear()

    def encode(self, rows: Sequence[Row], *, stream: str, first: int, last: int, term: str | None = None) -> bytes:
        points = sorted((key, row.clock, row.row, row, value) for row in rows for key, value in row.values.items())
        kind, value, texts = split_values([point[4] for point in points])
        columns: list[Any] = [
            [point[0] for point in points],
            [point[1] for point in points],
            [point[3].time_ms for point in points],
            [point[2] for point in points],
            [point[3].step for point in points],
            kind,
            [None if of == segment.STR else number for of, number in zip(kind.tolist(), value.tolist(), strict=True)],
            [None] * len(points) if texts is None else texts,
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        return self._keep_segment(pa.Table.from_arrays(arrays, schema=SCHEMA), stream, first, last, term)

    def merge(
        self, tables: Sequence[pa.Table], *, stream: str, first: int, last: int, term: str | None = None
    ) -> bytes:
        table = pa.concat_tables([table.select(SCHEMA.names) for table in tables])
        table = table.sort_by([("key", "ascending"), ("clock", "ascending"), ("row", "ascending")])
        return self._keep_segment(table.combine_chunks(), stream, first, last, term)

    def decode(
        self,
        source: bytes,
        *,
        keys: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        encoded_keys: bool = False,
        expected: Identity | None = None,
    ) -> pa.Table:
        table: pa.Table
        table, info = self._found(source)
        if expected is not None and (info.stream, info.first, info.last) != expected[:3]:
            raise CorruptError(f"It is {info}, and should be {expected}")
        if expected is not None and None not in (info.term, expected.term) and info.term != expected.term:
            raise CorruptError(f"It is {info}, and should be {expected}")
        if keys is not None:
            table = table.filter(pc.is_in(table.column("key"), pa.array(list(keys), pa.string())))
        return table if columns is None else table.select(list(columns))

    def info(self, source: bytes) -> SegmentInfo:
        info: SegmentInfo = self._found(source)[1]
        return info

    def encode_snapshot(self, found: Snapshot) -> bytes:
        return self._keep(found)

    def decode_snapshot(self, data: bytes) -> Snapshot:
        found: Snapshot = self._found(data)
        return found

    def _keep_segment(self, table: pa.Table, stream: str, first: int, last: int, term: str | None) -> bytes:
        rows = [int(row) for row in table.column("row").to_numpy()]
        lowest, highest = (min(rows), max(rows)) if rows else (None, None)
        return self._keep((table, SegmentInfo(stream, first, last, lowest, highest, len(rows), term)))

    def _keep(self, what: object) -> bytes:
        token = b"%09d" % next(self._numbers)
        self._kept[token] = what
        return token

    def _found(self, token: bytes) -> Any:
        try:
            return self._kept[token]
        except KeyError:
            raise CorruptError(f"{token!r} is no token") from None


def use(monkeypatch: pytest.MonkeyPatch) -> Tokens:
    """Do without Parquet from here on, and read no document twice."""
    tokens = Tokens()
    for name in ("encode", "merge", "decode", "info"):
        monkeypatch.setattr(segment, name, getattr(tokens, name))
    monkeypatch.setattr(snapshot, "encode", tokens.encode_snapshot)
    monkeypatch.setattr(snapshot, "decode", tokens.decode_snapshot)
    for module in (claims, view):
        for name in ("decode_base", "decode_claim", "decode_merge"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, functools.lru_cache(1000)(getattr(module, name)))
    return tokens
