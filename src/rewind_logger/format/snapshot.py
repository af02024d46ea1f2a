"""Snapshots: the aggregates of all rows up to some flush ⇄ one Parquet file.

What is in one follows from the rows. A reader that does without them reads more, and comes to the same.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rewind_logger.errors import CorruptError, RewindError
from rewind_logger.format.aggregates import SCHEMA, Aggregates
from rewind_logger.format.columns import column_of, is_valid
from rewind_logger.format.footer import check_body, check_columns, protect, read_footer
from rewind_logger.format.segment import METADATA_KEY
from rewind_logger.format.version import FORMAT_VERSION, check_version

_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": [f"{end}_kind" for end in ("min", "max", "first", "last")],
    "write_statistics": False,
    "write_page_checksum": True,
    "store_schema": False,
}

_MOST_BYTES_A_BYTE = 1000
"""More does no snapshot grow when it is decompressed; and they may be of …"""
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The aggregates of every row of metrics that is visible from a term, up to one of its flushes."""

    flush: int
    """The last flush of the term that is covered (inclusive)."""
    last_row: int
    """The largest number of a row in it (inclusive): a segment may hold later flushes too."""
    newest_clock: int
    """No row that is covered has a larger clock."""
    aggregates: Aggregates
    term: str | None = None
    """The nonce of the term that wrote it; None where it does not say."""


class _Described(msgspec.Struct):
    """What the footer holds, as JSON."""

    format: int
    flush: int
    last_row: int
    newest_clock: int
    term: str | None = None


def encode(snapshot: Snapshot) -> bytes:
    """Return the file that holds a snapshot."""
    described = _Described(FORMAT_VERSION, snapshot.flush, snapshot.last_row, snapshot.newest_clock, snapshot.term)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, SCHEMA, **_OPTIONS) as writer:
        writer.add_key_value_metadata({METADATA_KEY.decode(): msgspec.json.encode(described).decode()})
        writer.write_table(snapshot.aggregates.table)
    return protect(sink.getvalue())


def decode(data: bytes) -> Snapshot:
    """Read a snapshot.

    Raises:
        CorruptError: If this is none, or a damaged one.
        FormatVersionError: If a newer version of this package wrote it.
    """
    try:
        handle = pa.BufferReader(data)
        footer = read_footer(handle)
        check_body(data, footer)
        metadata = pq.read_metadata(pa.BufferReader(footer))
        fields = json.loads((metadata.metadata or {})[METADATA_KEY])
        check_version(fields.get("format"), "A snapshot")
        described = msgspec.convert(fields, _Described)
        size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        if not metadata.schema.to_arrow_schema().equals(SCHEMA) or size > len(data) * _MOST_BYTES_A_BYTE + _MOST_BYTES:
            raise CorruptError(f"This is no snapshot: it has the columns {metadata.schema.names}, of {size} bytes.")
        check_columns(footer, len(data) - len(footer))
        table = pq.ParquetFile(handle, metadata=metadata, pre_buffer=False).read(use_threads=False)
        table = table.replace_schema_metadata(None)
        table.validate(full=True)
        _check_numbers(table)
    except RewindError:
        raise
    except Exception as error:  # the many that pyarrow has for damaged bytes
        raise CorruptError(f"This is no snapshot, or a damaged one ({type(error).__name__}: {error}).") from error
    return Snapshot(
        flush=described.flush,
        last_row=described.last_row,
        newest_clock=described.newest_clock,
        aggregates=Aggregates(table),
        term=described.term,
    )


def _check_numbers(table: pa.Table) -> None:
    """See that a key with numbers has a smallest and a largest one, and a sum unless one of these is infinite."""
    counts = column_of(table, "count") != 0

    def of(name: str) -> npt.NDArray[Any]:
        """Return a column, NaN where it has nothing, for the keys with numbers."""
        known = is_valid(table[name].combine_chunks())
        values: npt.NDArray[Any] = np.where(known, column_of(table, name), math.nan)[counts]
        return values

    ends = [of(name) for name in ("min_kind", "min_value", "max_kind", "max_value")]
    summed = np.isfinite(of("sum")) & np.isfinite(of("sum_low")) | np.isinf(ends[1]) | np.isinf(ends[3])
    if np.isnan(ends).any() or not summed.all():
        raise CorruptError("This is no snapshot: it counts numbers whose sum, smallest and largest it does not have.")
