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

import pyarrow as pa

from rewind_logger.errors import CorruptError
from rewind_logger.format import thrift
from rewind_logger.format.thrift import Struct

_END = struct.Struct("<I4s")
"""The end of every Parquet file: the length of the footer before it, and Parquet's magic."""
_PARQUET_MAGIC = b"PAR1"
_SEAL = struct.Struct("<4sII")
_SEAL_MAGIC = b"RWND"
_TYPES = {"int8": (1, 4), "int64": (2, 8), "double": (5, 8), "string": (6, None)}
"""Of Arrow's types Parquet's physical type, and the bytes of a minimum or maximum."""
_ZSTD = 6
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


def check_columns(footer: bytes, schema: pa.Schema, body: int) -> None:
    """Refuse a footer that does not describe columns as those of our files are.

    Of one that contradicts itself pyarrow makes what it likes: a column whose chunks are of another type than the
    schema says ends the process.

    Args:
        footer: What `read_footer` returned.
        schema: The columns that there should be.
        body: The size of what precedes the footer, in bytes.

    Raises:
        CorruptError: If it is another.
    """
    try:
        described = thrift.read_struct(footer)
        if described.keys() & {8, 9}:
            raise ValueError("it is encrypted")
        rows = sum(_check_group(group, schema, body) for group in described[4])
        if rows != described[3]:
            raise ValueError(f"it has {described[3]} rows, and its parts have {rows}")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptError(f"Its footer is not one that this package writes ({error!r}).") from error


def _check_group(group: Struct, schema: pa.Schema, body: int) -> int:
    """Check one row group; return how many rows it has."""
    rows: int = group[3]
    if not 0 <= rows < 2**31 or len(group[1]) != len(schema):
        raise ValueError(f"a row group has {rows} rows and {len(group[1])} columns")
    for column, field in zip(group[1], schema, strict=True):
        if column.keys() & {1, 8, 9}:
            raise ValueError("a column lies elsewhere, or is encrypted")
        found = column[3]
        kind, size = _TYPES[str(field.type)]
        named = [field.name.encode()]
        if (found[1], found[3], found[4], found[5]) != (kind, named, _ZSTD, rows):
            raise ValueError(f"the column {field.name!r} is not what it should be")
        start = min(found[9], found.get(11, found[9]))
        if rows and not 4 <= start < start + found[7] <= body:
            raise ValueError(f"the column {field.name!r} lies outside of the file")
        limits = found.get(12, {})
        if size is not None and any(len(limits[i]) != size for i in (1, 2, 5, 6) if i in limits):
            raise ValueError(f"the column {field.name!r} has limits of another type")
        sizes = found.get(16, {})
        if sizes.get(2) or len(sizes.get(3) or ()) not in (0, 1 + field.nullable):
            raise ValueError(f"the column {field.name!r} has levels that it cannot have")
    return rows


def _read(handle: pa.NativeFile, start: int, stop: int) -> bytes:
    """Read bytes `start` (inclusive) to `stop` (exclusive)."""
    handle.seek(start)
    return handle.read(stop - start)
