"""The footer of a segment, the checksums before it, and what is checked before pyarrow sees it.

Parquet has checksums for pages only, and pyarrow ends the process (an exception in C++ that nothing catches) on some
footers with a single wrong bit: it must not see one before it was checked. So twelve bytes stand between the last page
and the footer, where no reader of Parquet looks: a magic, the crc32 of all that precedes, and that of all that follows.
Two, because whoever reads a part of a large file has its footer, but not its body.

Checksums do not help against whoever makes a file to do harm. So the footer is read here first (`check_columns`), and
none gets to pyarrow that describes its columns in another way than our files do.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from rewind_logger.errors import CorruptError
from rewind_logger.format import thrift
from rewind_logger.format.thrift import Struct

_END = struct.Struct("<I4s")
"""The end of every Parquet file: the length of the footer before it, and Parquet's magic."""
_PARQUET_MAGIC = b"PAR1"
_SEAL = struct.Struct("<4sII")
_SEAL_MAGIC = b"RWND"
_SIZES = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8, 6: None}
"""By Parquet's physical types the bytes of a value; that of fixed length (7) has it in the schema."""
_REQUIRED, _REPEATED = 0, 2
_MOST_NESTED = 64
_BITS = {0: 1, 6: 32}
"""Of a value in memory where they are not those of `_SIZES`: of a bool, and of the place of a text."""
POINTS_A_BYTE, BYTES_A_BYTE = 2**10, 2**14
"""What a byte of a segment may stand for. Of our own, one text in each row reaches 590 points, and a metric that is
always zero 420 points of 3,400 bytes: with pyarrow 17, which does not end a page after 20,000 rows as later ones do.
A point takes some 50 bytes of memory, and its text."""
MOST_POINTS, MOST_BYTES = 2**20, 2**31
"""… beyond so many, for which no file is too short: one long text that repeats itself reaches 16,000 bytes."""
MOST_TABLE_BYTES = 2**33
"""Of values that a table may have in memory, texts apart, however long its file is: a column that never changes takes a
hundred bytes in it, and there may be thousands of them. None that was logged has more than 2 GiB; small ints, which are
counted here as Parquet has them, are four times that."""
_TAIL = 2**16
"""Bytes to read at first, in the hope that they hold the whole footer."""


def protect(written: pa.Buffer) -> bytes:
    """Return a whole Parquet file with the checksums put before its footer."""
    data = memoryview(written)
    length, _ = _END.unpack(data[-_END.size :])
    at = len(data) - _END.size - length
    return b"".join((data[:at], _SEAL.pack(_SEAL_MAGIC, zlib.crc32(data[:at]), zlib.crc32(data[at:])), data[at:]))


def read_footer(handle: pa.NativeFile) -> bytes:
    """Return the footer, with the end of the file, in one read unless it is very long.

    Raises:
        CorruptError: If the file is not one that `protect` returned, or its end is damaged.
    """
    size = handle.size()
    tail = _read(handle, max(size - _TAIL, 0), size)
    if len(tail) < _SEAL.size + _END.size:
        raise CorruptError(f"This is no segment: it has {size} bytes.")
    length, magic = _END.unpack(tail[-_END.size :])
    start = size - _END.size - length - _SEAL.size
    if magic != _PARQUET_MAGIC or start < 0:
        raise CorruptError("This is no segment, or one that was cut off: it does not end as a Parquet file does.")
    checked = _read(handle, start, size) if size - start > len(tail) else tail[start - size :]
    seal, _, crc = _SEAL.unpack_from(checked)
    if seal != _SEAL_MAGIC:
        raise CorruptError("This is no segment, or its end is damaged: the mark before its footer is missing.")
    footer = checked[_SEAL.size :]
    if zlib.crc32(footer) != crc:
        raise CorruptError("This segment is damaged: the checksum of its footer is wrong.")
    return footer


def check_body(data: bytes, footer: bytes) -> None:
    """Check all that precedes the footer of a whole file.

    Args:
        data: The file.
        footer: What `read_footer` returned for it.

    Raises:
        CorruptError: If it is damaged.
    """
    at = len(data) - len(footer) - _SEAL.size
    _, crc, _ = _SEAL.unpack_from(data, at)
    if zlib.crc32(memoryview(data)[:at]) != crc:
        raise CorruptError("This segment is damaged: the checksum of its content is wrong.")


def check_columns(footer: bytes, body: int) -> None:
    """Refuse a footer that contradicts itself, or describes columns as no writer does that is used here.

    Of one that does pyarrow makes what it likes: a column whose chunks are of another type than the schema says ends
    the process.

    Args:
        footer: What `read_footer` returned, or the end of another Parquet file.
        body: The size of what precedes the footer, in bytes.

    Raises:
        CorruptError: If it is such a one.
    """
    try:
        described = thrift.read_struct(footer)
        if described.keys() & {8, 9}:
            raise ValueError("it is encrypted")
        leaves = list(_leaves(described[2]))
        rows = sum(_check_group(group, leaves, body) for group in described[4])
        if rows != described[3]:
            raise ValueError(f"it has {described[3]} rows, and its parts have {rows}")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptError(f"Its footer is not one that this package writes ({error!r:.200}).") from error


def check_file(data: bytes) -> None:
    """Check a whole Parquet file of another kind, such as a table that was logged, before pyarrow sees it.

    Raises:
        CorruptError: If it is none, or would take very much more memory than its size tells.
    """
    if len(data) < 12 or data[-4:] != _PARQUET_MAGIC:
        raise CorruptError("It is no Parquet file, or one that was cut off.")
    start = len(data) - _END.size - _END.unpack(data[-_END.size :])[0]
    if start < 4:
        raise CorruptError("It is no Parquet file: it is smaller than its own footer.")
    check_columns(data[start:], start)
    described = thrift.read_struct(data[start:])
    bits = [leaf.bits for leaf in _leaves(described[2])]
    # What is negative must not make room for others.
    sizes = sum(max(column[3].get(6, 0), 0) for group in described[4] for column in group[1])
    memory = sum(
        max(column[3].get(5, 0), 0) * each
        for group in described[4]
        for column, each in zip(group[1], bits, strict=True)
    )
    if memory > 8 * MOST_TABLE_BYTES or sizes > len(data) * BYTES_A_BYTE + MOST_BYTES:
        raise CorruptError(
            f"Its {len(data):,} bytes claim to be {described[3]:,} rows: {memory // 8:,} bytes in memory, and "
            f"{sizes:,} in its pages."
        )


class _Leaf(NamedTuple):
    """A column as the schema says."""

    path: list[bytes]
    kind: int
    """Parquet's physical type."""
    size: int | None
    """Bytes of a value; None where they differ."""
    definitions: int
    """Levels of definition: how many of the nodes on the way are not required."""
    repetitions: int
    """Levels of repetition: how many of them are repeated."""
    bits: int
    """Of a value in memory; of a text without what it says."""


def _leaves(elements: list[Struct]) -> Iterator[_Leaf]:
    """Yield the columns of a schema, which lists its nodes from the root on, each before its children."""
    at = 0

    def walk(path: list[bytes], definitions: int, repetitions: int) -> Iterator[_Leaf]:
        nonlocal at
        if len(path) > _MOST_NESTED:
            raise ValueError("its columns are nested too deeply")
        node = elements[at]
        at += 1
        below = path if at == 1 else [*path, node[4]]
        if at > 1:
            definitions += node[3] != _REQUIRED
            repetitions += node[3] == _REPEATED
        if 1 in node:
            size = _SIZES.get(node[1], node.get(2))
            bits = _BITS.get(node[1], 8 * max(size or 0, 0))
            yield _Leaf(below, node[1], size, definitions, repetitions, bits)
        for _ in range(min(node.get(5, 0), len(elements)) if 1 not in node else 0):
            yield from walk(below, definitions, repetitions)

    yield from walk([], 0, 0)
    if at != len(elements):
        raise ValueError("its schema has nodes that belong to no column")


def _check_group(group: Struct, leaves: list[_Leaf], body: int) -> int:
    """Check one row group; return how many rows it has."""
    rows: int = group[3]
    if not 0 <= rows < 2**31 or len(group[1]) != len(leaves):
        raise ValueError(f"a row group has {rows} rows and {len(group[1])} columns")
    for column, leaf in zip(group[1], leaves, strict=True):
        if column.keys() & {1, 8, 9}:
            raise ValueError("a column lies elsewhere, or is encrypted")
        found = column[3]
        if (found[1], found[3]) != (leaf.kind, leaf.path) or (not leaf.repetitions and found[5] != rows):
            raise ValueError(f"the column {leaf.path} is not what the schema says")
        start = min(found[9], found.get(11, found[9]))
        if rows and not 4 <= start < start + found[7] <= body:
            raise ValueError(f"the column {leaf.path} lies outside of the file")
        limits = found.get(12, {})
        if leaf.size is not None and any(len(limits[i]) != leaf.size for i in (1, 2, 5, 6) if i in limits):
            raise ValueError(f"the column {leaf.path} has limits of another type")
        sizes = found.get(16, {})
        if len(sizes.get(2) or ()) not in (0, 1 + leaf.repetitions) or (
            len(sizes.get(3) or ()) not in (0, 1 + leaf.definitions)
        ):
            raise ValueError(f"the column {leaf.path} has levels that it cannot have")
    return rows


def _read(handle: pa.NativeFile, start: int, stop: int) -> bytes:
    """Read bytes `start` (inclusive) to `stop` (exclusive)."""
    handle.seek(start)
    return handle.read(stop - start)
