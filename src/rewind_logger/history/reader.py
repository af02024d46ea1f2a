"""The reader: the rows of a view, exactly."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from rewind_logger.errors import CorruptError
from rewind_logger.format import names, segment
from rewind_logger.format.columns import array, column_of, empty, mask
from rewind_logger.history import segments
from rewind_logger.history.damage import report
from rewind_logger.history.segments import Segment
from rewind_logger.history.together import together
from rewind_logger.history.view import View
from rewind_logger.storage.base import Storage
from rewind_logger.types import Entry, Row, Stream

WHOLE_BYTES = 2 << 20
"""Segments up to this size are read whole, in one request; of larger ones only what is asked for."""

TOGETHER_BYTES = 64 << 20
"""Segments that are read whole are held in memory up to this many bytes at a time."""


class File(NamedTuple):
    """A segment to read, and what of it is visible."""

    entry: int
    """The index of its entry in the view."""
    path: str
    segment: Segment
    cut: int | None
    """Rows with clock < cut are visible (exclusive)."""


def files(
    storage: Storage,
    view: View,
    stream: str,
    *,
    start: int | None = None,
    stop: int | None = None,
    strict: bool = False,
) -> list[File]:
    """Return the segments of a view that may hold rows with start <= clock < stop, in the order of their rows.

    Raises:
        CorruptError: If some are missing, and `strict`; else they are named in the log.
    """
    found = []
    for index, entry in enumerate(view.entries):
        end = _smallest(entry.cut, stop)
        for chosen in entry_segments(storage, view, entry, stream, strict=strict):
            name = chosen.name
            if (end is None or name.first_clock < end) and (start is None or name.last_clock >= start):
                found.append(File(index, names.segment(entry.folder, stream, name), chosen, entry.cut))
    return found


def entry_segments(storage: Storage, view: View, entry: Entry, stream: str, *, strict: bool = False) -> list[Segment]:
    """Return the segments of one entry that count, from the plan or from a listing; missing ones are named."""
    sealed = entry.sealed.get(stream)
    if sealed is None:
        return []
    planned = view.plan.get(entry.folder)
    if planned is not None:
        chosen = segments.from_plan(planned.get(stream, ()))
    else:
        chosen = segments.cover(segments.list_segments(storage, entry.folder, stream), sealed)
    gaps = segments.lost(storage, entry, chosen, sealed)
    if gaps:  # that may be there: a plan, or the first look, may be of a listing that passed something over
        chosen = segments.cover(segments.list_whole(storage, entry.folder, stream, sealed), sealed)
        gaps = segments.lost(storage, entry, chosen, sealed)
    for first, last in gaps:
        sentence = (
            f"Flushes {first} to {last} of {stream} in {storage.url}/{entry.folder} are missing, and so are their rows."
            " Restore them from a backup."
        )
        if strict:
            raise CorruptError(sentence)
        report(sentence)
    return chosen


def read(
    storage: Storage,
    view: View,
    stream: Stream,
    *,
    keys: Collection[str] | None = None,
    start: int | None = None,
    stop: int | None = None,
) -> pa.Table:
    """Read rows, long: one line a key and logged row.

    Args:
        storage: The store.
        view: What is visible.
        stream: Which rows.
        keys: Only these; None for all.
        start: Rows with clock >= start (inclusive); None from the beginning.
        stop: Rows with clock < stop (exclusive); None to the end.

    Returns:
        The columns of a segment and `entry`, the index of the view's entry that a row comes from; in the order in
        which the rows were logged: by (entry, row).

    Raises:
        StorageError: If the store fails for good.

    A segment that is damaged or missing is named in the log, and the rest is read: also its own rows, where the
    segments that it was put together from are still there.
    """
    wanted = files(storage, view, stream, start=start, stop=stop)
    tables = [
        _with_entry(in_order(table), file.entry)
        for file, table in visible_tables(storage, wanted, keys=keys, start=start, stop=stop)
    ]
    if not tables:
        return _with_entry(empty(segment.SCHEMA), 0)
    return pa.concat_tables(tables)


def read_rows(storage: Storage, view: View, stream: Stream) -> list[Row]:
    """Read the rows of a small stream, in the order in which they were logged."""
    rows: list[Row] = []
    by_entry: dict[int, list[pa.Table]] = {}
    for file, table in visible_tables(storage, files(storage, view, stream)):
        by_entry.setdefault(file.entry, []).append(table)
    for _, tables in sorted(by_entry.items()):
        rows.extend(segment.to_rows(pa.concat_tables(tables)))
    return rows


def count(storage: Storage, view: View, stream: Stream, start: int | None = None) -> int:
    """Count the logged rows of a view with clock >= start (inclusive)."""
    rows: dict[int, set[int]] = {}
    wanted = files(storage, view, stream, start=start)
    for file, table in visible_tables(storage, wanted, columns=["clock", "row"], start=start):
        rows.setdefault(file.entry, set()).update(np.unique(column_of(table, "row")).tolist())
    return sum(map(len, rows.values()))


def visible_tables(
    storage: Storage,
    wanted: Sequence[File],
    *,
    keys: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
    start: int | None = None,
    stop: int | None = None,
    strict: bool = False,
) -> Iterator[tuple[File, pa.Table]]:
    """Read segments, in order, and drop what is cut off or not asked for.

    Small segments are read whole and several at the same time, of large ones what is asked for.

    Args:
        storage: The store.
        wanted: The segments.
        keys: Only the points of these keys; None for all.
        columns: Only these columns, with `clock` among them; None for all.
        start: Rows with clock >= start (inclusive); None from the beginning.
        stop: Rows with clock < stop (exclusive); None to the end.
        strict: Whether it is an error if a segment is damaged or missing, and what it was put together from is too;
            else it is named in the log, once, and the others are read.

    Raises:
        CorruptError: If rows are damaged or missing, and `strict`; the message names their segment.
        StorageError: If the store fails for good.
    """
    for file, source in _sources(storage, wanted, whole=keys is None and columns is None):
        try:
            if isinstance(source, Exception):
                raise source
            expected = segments.identity(file.path, file.segment.name)
            table = segment.decode(source, keys=keys, columns=columns, expected=expected)
        except (FileNotFoundError, CorruptError) as error:
            parts = _in_place_of(storage, file, strict, error)
            yield from visible_tables(storage, parts, keys=keys, columns=columns, start=start, stop=stop, strict=strict)
        else:
            yield file, _visible(table, file.cut, start, stop)


def _in_place_of(storage: Storage, file: File, strict: bool, error: FileNotFoundError | CorruptError) -> list[File]:
    """Return what a segment that cannot be read was put together from; say so, and which rows are lost with it.

    Raises:
        CorruptError: If any are, and `strict`.
    """
    folder, _, stream, _, _ = file.path.rsplit("/", 4)
    name = file.segment.name
    parts = []
    if name.first < name.last:
        parts = segments.parts(segments.list_segments(storage, folder, stream), name)
    gaps = segments.missing(parts, name.last, name.first)
    is_missing = isinstance(error, FileNotFoundError)
    what = "is missing" if is_missing else f"is damaged ({str(error).removesuffix('.')})"
    flushes = " and ".join(f"{first} to {last}" for first, last in gaps)
    steps = f"steps {name.first_clock} to {name.last_clock}"
    instead = "read from the segments that it was put together from"
    if not gaps:
        told = f"its rows are {instead}.{'' if is_missing else ' Delete it.'}"
    elif parts:
        told = f"those of its rows of flushes {flushes}, within {steps}, are left out, the others {instead}."
    else:
        told = f"its rows, of flushes {flushes} and {steps}, are left out."
    sentence = f"The segment {file.path} in {storage.url} {what}: {told}{' Restore it from a backup.' if gaps else ''}"
    if gaps and strict:
        raise CorruptError(sentence) from error
    report(sentence)
    return [File(file.entry, names.segment(folder, stream, part.name), part, file.cut) for part in parts]


def _sources(storage: Storage, wanted: Sequence[File], *, whole: bool) -> Iterator[tuple[File, Any]]:
    """Yield each segment with its bytes, a file to read from, or the error that it gave."""

    def size(file: File) -> int:
        """Keep a segment that is not read whole from being with others."""
        return file.segment.size if whole or file.segment.size <= WHOLE_BYTES else TOGETHER_BYTES + 1

    for group in together(wanted, size, TOGETHER_BYTES):
        if group[0].segment.size > WHOLE_BYTES and not whole:
            yield group[0], RangeFile(storage, group[0].path, group[0].segment.size)
        else:
            yield from zip(group, storage.read_each([file.path for file in group]), strict=True)


def _visible(table: pa.Table, cut: int | None, start: int | None, stop: int | None) -> pa.Table:
    """Drop the lines that are cut off or were not asked for."""
    end = _smallest(cut, stop)
    clock = column_of(table, "clock")
    visible = np.ones(len(clock), np.bool_)
    if end is not None:
        visible &= clock < end
    if start is not None:
        visible &= clock >= start
    return table if visible.all() else table.filter(mask(visible))


def in_order(table: pa.Table) -> pa.Table:
    """Order the lines of a segment by row; segments come in order, and their rows do not overlap."""
    rows = column_of(table, "row")
    if np.all(rows[1:] >= rows[:-1]):
        return table
    return table.take(array(np.argsort(rows, kind="stable")))


def _with_entry(table: pa.Table, index: int) -> pa.Table:
    return table.append_column("entry", array(np.full(len(table), index, np.int32)))


def _smallest(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


class RangeFile(io.BufferedIOBase):
    """An object of a store as a file, each read one ranged request: nothing is fetched ahead."""

    def __init__(self, storage: Storage, path: str, size: int) -> None:
        """Take an object and its size in bytes."""
        self._storage = storage
        self._path = path
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, without a request."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def size(self) -> int:
        """Return the size in bytes, which pyarrow asks for."""
        return self._size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, to the end if it is negative."""
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        if stop <= self._at:
            return b""
        data = self._storage.read_range(self._path, self._at, stop)
        self._at += len(data)
        return data
