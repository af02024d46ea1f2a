"""Segments: rows ⇄ one Parquet file of long rows, one point a value.

Long, not wide: a table with a column a metric has a footer of 23 MB at 100,000 metrics. Sorted by key, then clock, so
that one metric is a few contiguous pages. Nothing but what Spark's reader takes too: no Arrow dictionary type in the
schema, no BYTE_STREAM_SPLIT. The choices and their figures are in `design/002-segment-format.md`.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from io import IOBase
from itertools import chain
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rewind_logger.errors import CorruptError, RewindError
from rewind_logger.format.columns import (
    BOOL,
    FLOAT,
    INT,
    STR,
    KeyIds,
    array,
    check_points,
    check_text,
    column_of,
    narrowest,
    number_keys,
    numbers,
    split_values,
    strings,
    to_scalar,
)
from rewind_logger.format.footer import (
    BYTES_A_BYTE,
    MOST_BYTES,
    MOST_POINTS,
    POINTS_A_BYTE,
    check_body,
    check_columns,
    protect,
    read_footer,
)
from rewind_logger.format.version import FORMAT_VERSION, check_version
from rewind_logger.types import Row, Scalar

__all__ = [
    "BOOL",
    "FLOAT",
    "INT",
    "MAX_GROUP_POINTS",
    "METADATA_KEY",
    "MIN_GROUP_POINTS",
    "SCHEMA",
    "STR",
    "Identity",
    "SegmentInfo",
    "decode",
    "encode",
    "info",
    "merge",
    "to_rows",
]

_FIELDS: list[pa.Field[Any]] = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("clock", pa.int64(), nullable=False),
    # Not a timestamp: DuckDB hands one with a time zone to Python only where pytz is installed, one without is a
    # different type to Spark before and after 3.4, and an int is the same to all.
    pa.field("time", pa.int64(), nullable=False),
    pa.field("row", pa.int64(), nullable=False),
    pa.field("step", pa.int64()),
    pa.field("kind", pa.int8(), nullable=False),
    pa.field("value", pa.float64()),
    pa.field("text", pa.string()),
]
SCHEMA = pa.schema(_FIELDS)
"""The columns of a segment; `docs/format.md` says what they mean."""

_ENCODED_KEY = pa.field("key", pa.dictionary(pa.int32(), pa.string()), nullable=False)
_ENCODED_SCHEMA = SCHEMA.set(0, _ENCODED_KEY)
"""The same with keys as an Arrow dictionary, which pyarrow reads and writes at twice the speed. It never gets into a
file: it would switch the pruning of row groups off."""

MIN_GROUP_POINTS = 131_072
"""A row group ends at the first change of key after so many points: reading one metric moves about 1 MB."""

MAX_GROUP_POINTS = 8 * MIN_GROUP_POINTS
"""… and here even within a key, so that whoever reads a segment needs to hold no more than this."""

METADATA_KEY = b"rewind_logger"

_OPTIONS: dict[str, Any] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": ["key", "kind", "text"],
    "column_encoding": {
        **dict.fromkeys(("clock", "time", "row", "step"), "DELTA_BINARY_PACKED"),
        "value": "PLAIN",
    },
    # None of values: a minimum and maximum tell nothing of the NaNs between them, and engines that hold NaN to be the
    # greatest value would then skip what they should find. None of text: it would be copied into the footer.
    "write_statistics": ["key", "clock", "time", "row"],
    "write_page_checksum": True,
    "store_schema": False,
    "sorting_columns": [pq.SortingColumn(SCHEMA.get_field_index(name)) for name in ("key", "clock", "row")],
}


class _Described(msgspec.Struct):
    """What the footer holds under METADATA_KEY, as JSON."""

    format: int
    stream: str
    first: int
    last: int
    first_row: int | None
    last_row: int | None
    term: str | None = None


class Identity(NamedTuple):
    """What a segment has to say of itself to be the one that its path names: objects can be mixed up."""

    stream: str
    first: int
    """The first flush that it holds (inclusive)."""
    last: int
    """The last flush that it holds (inclusive)."""
    term: str | None
    """The nonce of the term or evaluation that wrote it; None where the path does not tell."""


class SegmentInfo(NamedTuple):
    """What a segment says of itself."""

    stream: str
    first: int
    """The first flush that it holds (inclusive)."""
    last: int
    """The last flush that it holds (inclusive)."""
    first_row: int | None
    """The smallest row number of its points (inclusive); None without points."""
    last_row: int | None
    """The largest row number of its points (inclusive); None without points."""
    points: int
    term: str | None = None
    """The nonce of the term or evaluation that wrote it; None where it does not say."""


def encode(rows: Sequence[Row], *, stream: str, first: int, last: int, term: str | None = None) -> bytes:
    """Return the segment that holds these rows; the same rows give the same bytes.

    Args:
        rows: The rows, in any order; a row without values leaves no trace.
        stream: The stream they belong to.
        first: The first flush that they come from (inclusive).
        last: The last flush that they come from (inclusive).
        term: The nonce of the term or evaluation that they belong to.

    Raises:
        LogValueError: If a value is not exactly a float, an int of at most 64 bits, a bool or a str, or there is more
            than 2 GiB of text.
    """
    rows = sorted(rows, key=operator.itemgetter(1, 0))  # by clock and row, which they mostly are already
    keys, key_ids, sizes = number_keys(rows)
    kind, value, texts = split_values(list(chain.from_iterable(row.values.values() for row in rows)))

    order = np.argsort(key_ids, kind="stable")
    source = np.repeat(np.arange(len(rows)), sizes)[order]

    def of_rows(field: int) -> npt.NDArray[np.int64]:
        return np.fromiter((row[field] for row in rows), np.int64, len(rows))[source]

    steps = np.fromiter((row.step or 0 for row in rows), np.int64, len(rows))
    no_step = np.fromiter((row.step is None for row in rows), np.bool_, len(rows))
    columns = [
        array(of_rows(1)),
        array(of_rows(3)),
        array(of_rows(0)),
        array(steps[source], no_step[source]),
        array(kind[order]),
        array(value[order], kind[order] == STR),
        pa.nulls(len(order), pa.string()) if texts is None else strings([texts[i] for i in order.tolist()]),
    ]
    return _write(keys, key_ids[order], columns, stream=stream, first=first, last=last, term=term)


def merge(tables: Sequence[pa.Table], *, stream: str, first: int, last: int, term: str | None = None) -> bytes:
    """Return one segment with the points of several tables, every column kept bit for bit.

    Args:
        tables: Whole tables as `decode` returns them, with all columns, the keys encoded or not; together they may
            hold 2 GiB of text.
        stream: The stream they belong to.
        first: The first flush that they come from (inclusive).
        last: The last flush that they come from (inclusive).
        term: The nonce of the term that writes it.
    """
    encoded = [table.select(SCHEMA.names).cast(_ENCODED_SCHEMA) for table in tables]
    table = (
        pa.concat_tables([pa.Table.from_batches([], _ENCODED_SCHEMA), *encoded]).unify_dictionaries().combine_chunks()
    )
    named = cast("pa.DictionaryArray[Any, Any]", table.column("key").combine_chunks())
    found = cast("list[str]", named.dictionary.to_pylist())
    keys = sorted(set(found))
    rank = {key: i for i, key in enumerate(keys)}
    ranks = np.fromiter((rank[key] for key in found), narrowest(len(keys)), len(found))
    key_ids = ranks[numbers(named.indices)]
    clock, row = (column_of(table, name) for name in ("clock", "row"))
    order = np.lexsort((row, clock, key_ids))
    ordered = table.drop_columns("key").take(array(order)).combine_chunks()
    columns = [column.combine_chunks() for column in ordered.columns]
    return _write(keys, key_ids[order], columns, stream=stream, first=first, last=last, term=term)


def decode(
    source: bytes | BinaryIO,
    *,
    keys: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
    encoded_keys: bool = False,
    expected: Identity | None = None,
) -> pa.Table:
    """Return the points of a segment, sorted by key, clock and row.

    Args:
        source: The whole segment, or a file to read and seek in; of a file, no more is read than is needed.
        keys: Only the points of these keys; None: all.
        columns: Only these columns of `SCHEMA`, in this order; None: all.
        encoded_keys: Return the keys as an Arrow dictionary, a chunk for each row group, each with a dictionary of its
            own: half the time, and a quarter of the memory.
        expected: What it has to say of itself.

    Raises:
        CorruptError: If this is no segment, a damaged one, or another than expected.
        FormatVersionError: If a newer version of this package wrote it.
    """
    schema = pa.schema([SCHEMA.field(name) for name in (SCHEMA.names if columns is None else columns)])
    if encoded_keys and "key" in schema.names:
        schema = schema.set(schema.get_field_index("key"), _ENCODED_KEY)
    wanted = strings(list(keys or ()))
    with _only_our_errors():
        file, found = _open(source)
        if expected is not None:
            _check(found, expected)
        if keys is None:
            table = file.read(schema.names, use_threads=False)
        else:
            groups = [i for i in range(file.num_row_groups) if _may_hold(file.metadata.row_group(i), keys)]
            table = file.read_row_groups(groups, [*schema.names, "key"], use_threads=False)
            table = table.filter(pc.is_in(table.column("key"), wanted))
        table = table.select(schema.names)
        for name in ("key", "text"):
            if name in schema.names:
                check_text(table.column(name))
        table = table.cast(schema)
        table.validate(full=True)  # that texts are UTF-8, for one: pyarrow does not look on its own
        if {"kind", "value", "text"} <= set(schema.names):
            check_points(table)
        return table


def info(source: bytes | BinaryIO) -> SegmentInfo:
    """Return what a segment says of itself; of a file, only its end is read.

    Raises:
        CorruptError: If this is no segment, or a damaged one.
        FormatVersionError: If a newer version of this package wrote it.
    """
    with _only_our_errors():
        return _open(source)[1]


def to_rows(table: pa.Table) -> list[Row]:
    """Return the rows that a table with all columns holds, ordered by row number: the inverse of `encode`.

    Raises:
        CorruptError: If its columns contradict each other.
    """
    rows: dict[int, tuple[Row, dict[str, Scalar]]] = {}
    for key, clock, time_ms, row, step, kind, value, text in zip(
        *(column.to_pylist() for column in table.select(SCHEMA.names).columns), strict=True
    ):
        if row not in rows:
            empty: dict[str, Scalar] = {}
            rows[row] = Row(row, clock, step, time_ms, empty), empty
        known, values = rows[row]
        if known[1:4] != (clock, step, time_ms) or key in values:
            raise CorruptError(f"Row {row} of a segment contradicts itself at key {key!r}: the segment is damaged.")
        values[key] = to_scalar(key, kind, value, text)
    return [rows[row][0] for row in sorted(rows)]


def _write(
    keys: list[str],
    key_ids: KeyIds,
    columns: list[pa.Array[Any]],
    *,
    stream: str,
    first: int,
    last: int,
    term: str | None,
) -> bytes:
    """Write sorted points: all columns but the key, and for each point which of `keys` it has."""
    rows = numbers(columns[2])
    described = _Described(
        format=FORMAT_VERSION,
        stream=stream,
        first=first,
        last=last,
        first_row=int(rows.min()) if len(rows) else None,
        last_row=int(rows.max()) if len(rows) else None,
        term=term,
    )
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, _ENCODED_SCHEMA, **_OPTIONS) as writer:
        writer.add_key_value_metadata({METADATA_KEY.decode(): msgspec.json.encode(described).decode()})
        for start, stop in _groups(key_ids):
            low, high = int(key_ids[start]), int(key_ids[stop - 1])
            # Only the keys of this group: a dictionary is written whole, whatever part of it is used.
            indices = array(key_ids[start:stop].astype(np.int32) - low)
            key = pa.DictionaryArray.from_arrays(indices, strings(keys[low : high + 1]))
            arrays = [key, *(column.slice(start, stop - start) for column in columns)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=_ENCODED_SCHEMA), row_group_size=MAX_GROUP_POINTS)
    return protect(sink.getvalue())


def _groups(key_ids: KeyIds) -> Iterator[tuple[int, int]]:
    """Cut sorted points into row groups: yield start (inclusive) and stop (exclusive) of each."""
    start, total = 0, len(key_ids)
    while start < total:
        key = key_ids[min(start + MIN_GROUP_POINTS, total) - 1]
        stop = min(int(np.searchsorted(key_ids, key, side="right")), start + MAX_GROUP_POINTS)
        yield start, stop
        start = stop


def _open(source: bytes | BinaryIO) -> tuple[pq.ParquetFile, SegmentInfo]:
    """Open a segment and check what its footer says."""
    whole = isinstance(source, bytes)
    handle = pa.BufferReader(source) if isinstance(source, bytes) else pa.PythonFile(cast(IOBase, source), mode="r")
    footer = read_footer(handle)
    if isinstance(source, bytes):
        check_body(source, footer)
    metadata = pq.read_metadata(pa.BufferReader(footer))
    fields = json.loads((metadata.metadata or {})[METADATA_KEY])
    check_version(fields.get("format"), "A segment")
    described = msgspec.convert(fields, _Described)
    if not metadata.schema.to_arrow_schema().equals(SCHEMA):
        raise CorruptError(f"This is no segment: it has the columns {metadata.schema.names}.")
    # Once it is decompressed it is too late: look before.
    length, points = handle.size(), metadata.num_rows
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if not 0 <= points <= length * POINTS_A_BYTE + MOST_POINTS or size > length * BYTES_A_BYTE + MOST_BYTES:
        raise CorruptError(f"This is no segment: its {length} bytes claim to be {points} points of {size} bytes.")
    check_columns(footer, length - len(footer))
    file = pq.ParquetFile(
        handle,
        metadata=metadata,
        page_checksum_verification=not whole,
        pre_buffer=True,
        read_dictionary=["key", "text"],
    )
    return file, SegmentInfo(
        stream=described.stream,
        first=described.first,
        last=described.last,
        first_row=described.first_row,
        last_row=described.last_row,
        points=points,
        term=described.term,
    )


def _check(found: SegmentInfo, expected: Identity) -> None:
    """Refuse a segment that is another than the one that was asked for."""
    said = Identity(found.stream, found.first, found.last, found.term)
    if said[:3] != expected[:3] or (None not in (said.term, expected.term) and said.term != expected.term):
        raise CorruptError(f"It is another segment than the one that belongs there: {said}.")


def _may_hold(group: pq.RowGroupMetaData, keys: Collection[str]) -> bool:
    """Tell from its statistics whether a row group may hold points of one of these keys."""
    statistics = group.column(0).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    low, high = cast("tuple[str, str]", (statistics.min, statistics.max))
    return any(low <= key <= high for key in keys)


@contextmanager
def _only_our_errors() -> Iterator[None]:
    """Turn the many errors that pyarrow finds in damaged bytes into a CorruptError."""
    try:
        yield
    except (RewindError, FileNotFoundError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the file that is read from; those of pyarrow's own making have no number
        raise CorruptError(f"This is no segment, or a damaged one ({type(error).__name__}: {error}).") from error
