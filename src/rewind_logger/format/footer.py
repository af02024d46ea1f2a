"""The footer of a segment, and the checksum before it.

Parquet has checksums for pages only, and pyarrow ends the process (an exception in C++ that nothing catches) on some
footers with a single wrong bit: it must not see one before it was checked. So eight bytes stand between the last page
and the footer, where no reader of Parquet looks: a magic, and the crc32 of all that follows.
"""

from __future__ import annotations

import struct
import zlib

import pyarrow as pa

from rewind_logger.errors import CorruptError

_END = struct.Struct("<I4s")
"""The end of every Parquet file: the length of the footer before it, and Parquet's magic."""
_PARQUET_MAGIC = b"PAR1"
_SEAL = struct.Struct("<4sI")
_SEAL_MAGIC = b"RWND"
_TAIL = 2**16
"""Bytes to read at first, in the hope that they hold the whole footer."""


def protect(written: pa.Buffer) -> bytes:
    """Return a whole Parquet file with the checksum put before its footer."""
    data = memoryview(written)
    length, _ = _END.unpack(data[-_END.size :])
    at = len(data) - _END.size - length
    return b"".join((data[:at], _SEAL.pack(_SEAL_MAGIC, zlib.crc32(data[at:])), data[at:]))


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
    seal, crc = _SEAL.unpack_from(checked)
    if seal != _SEAL_MAGIC:
        raise CorruptError("This is no segment, or its end is damaged: the mark before its footer is missing.")
    footer = checked[_SEAL.size :]
    if zlib.crc32(footer) != crc:
        raise CorruptError("This segment is damaged: the checksum of its footer is wrong.")
    return footer


def _read(handle: pa.NativeFile, start: int, stop: int) -> bytes:
    """Read bytes `start` (inclusive) to `stop` (exclusive)."""
    handle.seek(start)
    return handle.read(stop - start)
