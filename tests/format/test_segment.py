from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewind_logger.errors import CorruptError, FormatVersionError, LogValueError, StorageError
from rewind_logger.format import footer, segment
from rewind_logger.format.columns import array, numbers, strings
from rewind_logger.format.version import FORMAT_VERSION
from rewind_logger.types import Row
from tests.format.strategies import KEYS, exact_rows, rows

MIXED = [
    Row(
        i,
        i // 2,
        None if i % 3 else 10 * i,
        1_763_888_888_888 + 7 * i,
        {"f": 0.5 * i, "i": 2**62 + i, "b": i % 2 == 0, "s": f"é{i}"},
    )
    for i in range(40)
]


def encode(rows: list[Row], first: int = 0, last: int = 0) -> bytes:
    return segment.encode(rows, stream="metrics", first=first, last=last)


def points(*, keys: int, each: int) -> pa.Table:
    """A table of so many keys with so many points each, sorted as a segment is."""
    number = np.tile(np.arange(each), keys)
    columns: dict[str, pa.Array[Any]] = {
        "key": strings([f"key {i:03d}" for i in range(keys)]).take(array(np.repeat(np.arange(keys), each))),
        "clock": array(number),
        "time": array(1000 * number),
        "row": array(number),
        "step": pa.nulls(keys * each, pa.int64()),
        "kind": array(np.zeros(keys * each, np.int8)),
        "value": array(np.random.default_rng(0).standard_normal(keys * each)),
        "text": pa.nulls(keys * each, pa.string()),
    }
    return pa.table(columns, schema=segment.SCHEMA)


def encode_points(table: pa.Table) -> bytes:
    """The segment that compaction would write of a table."""
    return segment.merge([table], stream="metrics", first=0, last=63)


def exactly_equal(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables are the same to the bit; `Table.equals` takes a NaN for different from itself."""
    number = one.schema.get_field_index("value")

    def as_bits(table: pa.Table) -> pa.Table:
        values = table.column(number).combine_chunks()
        return table.set_column(number, "value", values.view(pa.int64()))

    return bool(as_bits(one).equals(as_bits(other)))


class CountingFile(io.BytesIO):
    """A file that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[int] = []

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads.append(len(data))
        return data


@given(rows())
def test_rows_come_back_bit_for_bit(rows: list[Row]) -> None:
    assert exact_rows(segment.to_rows(segment.decode(encode(rows)))) == exact_rows(rows)


@given(rows())
def test_points_are_sorted_by_key_clock_and_row(rows: list[Row]) -> None:
    table = segment.decode(encode(rows))
    assert table.schema.equals(segment.SCHEMA)
    found = list(zip(*(table.column(name).to_pylist() for name in ("key", "clock", "row")), strict=True))
    assert found == sorted((key, row.clock, row.row) for row in rows for key in row.values)


@given(rows(), st.randoms(use_true_random=False))
def test_the_bytes_depend_on_nothing_but_the_rows(rows: list[Row], chance: random.Random) -> None:
    def shuffled(row: Row) -> Row:
        return row._replace(values=dict(chance.sample(list(row.values.items()), len(row.values))))

    assert encode([shuffled(row) for row in chance.sample(rows, len(rows))]) == encode(rows)


def test_a_row_without_values_leaves_no_trace() -> None:
    empty = Row(1, 1, None, 0, {})
    kept = [Row(0, 0, None, 0, {"a": 1.0}), Row(2, 2, None, 0, {"a": 2.0})]
    assert segment.to_rows(segment.decode(encode([kept[0], empty, kept[1]]))) == kept
    for data in (encode([]), encode([empty])):
        assert segment.decode(data).num_rows == 0
        assert segment.info(data) == segment.SegmentInfo("metrics", 0, 0, None, None, 0)


@pytest.mark.parametrize("value", [None, [1], b"x", np.float64(1), 2**64, -(2**63) - 1])
def test_a_value_that_is_not_plain_is_an_error(value: Any) -> None:
    with pytest.raises(LogValueError, match="A segment keeps"):
        encode([Row(0, 0, None, 0, {"a": value, "b": 1.0})])


def test_ints_that_no_double_holds_keep_their_digits() -> None:
    table = segment.decode(encode([Row(0, 0, None, 0, {"even": 2**53 + 2, "odd": 2**53 + 1, "small": 7})]))
    assert table.column("key").to_pylist() == ["even", "odd", "small"]
    assert table.column("value").to_pylist() == [2.0**53 + 2, 2.0**53, 7.0]
    assert table.column("text").to_pylist() == [None, str(2**53 + 1), None]


@given(rows(), st.sets(KEYS, max_size=4))
def test_only_the_points_of_some_keys(rows: list[Row], keys: set[str]) -> None:
    wanted = keys | set(list(rows[0].values)[:1] if rows else [])
    part = [row._replace(values={k: v for k, v in row.values.items() if k in wanted}) for row in rows]
    found = segment.decode(encode(rows), keys=wanted)
    assert exact_rows(segment.to_rows(found)) == exact_rows(row for row in part if row.values)


@given(rows(), st.permutations(segment.SCHEMA.names), st.integers(1, 8), st.booleans())
def test_only_some_columns(rows: list[Row], names: list[str], count: int, filtered: bool) -> None:
    data = encode(rows)
    keys = ["loss"] if filtered else None
    table = segment.decode(data, columns=names[:count], keys=keys)
    assert table.schema.names == names[:count]
    assert table.drop_columns([n for n in table.schema.names if n == "value"]).equals(
        segment.decode(data, keys=keys).select([name for name in names[:count] if name != "value"])
    )


@given(rows())
def test_encoded_keys_are_the_same_keys(rows: list[Row]) -> None:
    table = segment.decode(encode(rows), encoded_keys=True)
    assert pa.types.is_dictionary(table.schema.field("key").type)
    assert exactly_equal(table.cast(segment.SCHEMA), segment.decode(encode(rows)))


@given(st.data(), st.booleans())
def test_a_merge_is_the_segment_of_all_rows(data: st.DataObject, encoded_keys: bool) -> None:
    every: list[Row] = []
    tables = []
    for flush in range(data.draw(st.integers(1, 4))):
        part = data.draw(rows(first=len(every)))
        tables.append(segment.decode(encode(part, flush, flush), encoded_keys=encoded_keys))
        every += part
    merged = segment.merge(tables, stream="metrics", first=0, last=len(tables) - 1)
    assert merged == encode(every, 0, len(tables) - 1)


def test_a_merge_of_nothing_is_a_segment_without_points() -> None:
    assert segment.merge([], stream="metrics", first=0, last=3) == encode([], 0, 3)


def test_a_merge_keeps_the_bits_of_a_nan() -> None:
    signalling, quiet = (
        struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF0000000000001, 0xFFF8DEAD0000BEEF)
    )
    rows = [Row(i, i, None, 0, {"a": value}) for i, value in enumerate([signalling, quiet, -0.0])]
    merged = segment.merge([segment.decode(encode(rows))], stream="metrics", first=0, last=0)
    values = numbers(segment.decode(merged).column("value").combine_chunks())
    assert values.view(np.uint64).tolist() == [0x7FF0000000000001, 0xFFF8DEAD0000BEEF, 1 << 63]


def test_info_says_what_a_segment_holds() -> None:
    data = segment.encode(MIXED, stream="events", first=3, last=9)
    assert segment.info(data) == segment.SegmentInfo("events", 3, 9, 0, 39, 160)
    file = CountingFile(data)
    assert segment.info(file) == segment.info(data)
    assert len(file.reads) == 1


def test_row_groups_end_where_the_key_changes() -> None:
    table = points(keys=7, each=60_000)
    data = encode_points(table)
    groups = [pq.read_metadata(io.BytesIO(data)).row_group(i) for i in range(3)]
    assert [group.num_rows for group in groups] == [180_000, 180_000, 60_000]
    ends = [(found.min, found.max) for group in groups if (found := group.column(0).statistics)]
    assert ends == [("key 000", "key 002"), ("key 003", "key 005"), ("key 006", "key 006")]
    assert exactly_equal(segment.decode(data), table)


def test_one_long_key_is_cut_into_row_groups_too() -> None:
    table = points(keys=1, each=segment.MAX_GROUP_POINTS + 5)
    data = encode_points(table)
    assert pq.read_metadata(io.BytesIO(data)).num_row_groups == 2
    assert exactly_equal(segment.decode(data), table)


def test_of_a_file_no_more_is_read_than_one_key_needs() -> None:
    table = points(keys=600, each=1000)
    data = encode_points(table)
    file = CountingFile(data)
    found = segment.decode(file, keys=["key 300"], columns=["clock", "value"])
    assert found.column("value").to_pylist() == table.column("value")[300_000:301_000].to_pylist()
    assert len(file.reads) <= 4  # the footer, and a range for each column or for neighbours together
    assert sum(file.reads) < len(data) / 3
    assert not file.closed

    file = CountingFile(data)
    assert segment.decode(file, keys=["no such key"]).num_rows == 0
    assert len(file.reads) == 1


def test_the_schema_holds_no_arrow_dictionary() -> None:
    found = pq.read_schema(io.BytesIO(encode(MIXED)))
    assert found.field("key").type == pa.string()
    assert list(pq.read_metadata(io.BytesIO(encode(MIXED))).metadata or {}) == [segment.METADATA_KEY]


def test_encodings_are_those_that_every_engine_reads() -> None:
    metadata = pq.read_metadata(io.BytesIO(encode(MIXED)))
    group = metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert set(columns) == set(segment.SCHEMA.names)
    assert {name for name, column in columns.items() if "DELTA_BINARY_PACKED" in column.encodings} == {
        "clock",
        "time",
        "row",
        "step",
    }
    assert columns["value"].encodings == ("RLE", "PLAIN")
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert not columns["value"].is_stats_set  # they lie about NaN


def test_a_flush_of_noise_takes_less_than_eight_and_a_quarter_bytes_a_point() -> None:
    noise = np.random.default_rng(0).standard_normal((5000, 10)).tolist()
    rows = [Row(i, i, None, 1000 * i, {f"metric {k}": x for k, x in enumerate(xs)}) for i, xs in enumerate(noise)]
    assert len(encode(rows)) < 8.25 * 50_000


@pytest.mark.parametrize("cut", [0, 1, 11, 19, 20, 100, -100, -9, -8, -4, -1])
def test_a_segment_that_was_cut_off_is_corrupt(cut: int) -> None:
    data = encode(MIXED)[:cut]
    with pytest.raises(CorruptError, match="segment"):
        segment.decode(data)
    with pytest.raises(CorruptError, match="segment"):
        segment.decode(io.BytesIO(data))


@settings(max_examples=300)
@given(st.integers(0, 8 * len(encode(MIXED)) - 1))
def test_a_wrong_bit_is_found_or_harmless(bit: int) -> None:
    data = encode(MIXED)
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        found = segment.decode(bytes(damaged))
    except CorruptError:
        return
    assert exactly_equal(found, segment.decode(data))


def test_no_wrong_bit_of_the_footer_goes_unnoticed() -> None:
    data = encode(MIXED)
    size = footer.read_footer(pa.BufferReader(data))
    start = 8 * (len(data) - len(size) - 8)
    for bit in range(start, 8 * len(data), 5):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError):
            segment.info(bytes(damaged))


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"PAR1", encode(MIXED)[-100:], encode(MIXED)[:500]]), st.booleans()
)
def test_bytes_that_are_no_segment_are_corrupt(noise: bytes, part: bytes, before: bool) -> None:
    with pytest.raises(CorruptError):
        segment.decode(noise + part if before else part + noise)


def parquet(table: pa.Table, described: str | None) -> bytes:
    """A Parquet file with a good checksum that says of itself what it is told to."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        if described is not None:
            writer.add_key_value_metadata({segment.METADATA_KEY.decode(): described})
        writer.write_table(table)
    return footer.protect(sink.getvalue())


GOOD = '{"format":1,"stream":"metrics","first":0,"last":0,"first_row":0,"last_row":0}'


def test_a_long_footer_is_read_in_a_second_read() -> None:
    file = CountingFile(parquet(points(keys=1, each=1), GOOD + " " * 70_000))
    assert segment.info(file).points == 1
    assert len(file.reads) == 2


def test_a_newer_format_is_refused_in_one_sentence() -> None:
    with pytest.raises(FormatVersionError, match=rf"^A segment has format version {FORMAT_VERSION + 1}, and this"):
        segment.decode(parquet(pa.table({"new": [1]}), f'{{"format": {FORMAT_VERSION + 1}, "new": true}}'))


@pytest.mark.parametrize(
    ("table", "described"),
    [
        (points(keys=1, each=1), None),
        (points(keys=1, each=1), "no JSON"),
        (points(keys=1, each=1), "[]"),
        (points(keys=1, each=1), "{}"),
        (points(keys=1, each=1), '{"format":1}'),
        (points(keys=1, each=1), GOOD.replace('"metrics"', "7")),
        (points(keys=1, each=1).drop_columns("step"), GOOD),
        (points(keys=1, each=1).select(segment.SCHEMA.names[::-1]), GOOD),
        (points(keys=1, each=1).set_column(6, "value", pa.array(["x"])), GOOD),
        (pa.table({"key": ["a"]}), GOOD),
    ],
)
def test_a_parquet_file_of_another_make_is_corrupt(table: pa.Table, described: str | None) -> None:
    with pytest.raises(CorruptError, match="segment"):
        segment.decode(parquet(table, described))


def test_a_parquet_file_without_our_mark_is_no_segment() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(points(keys=1, each=1), sink)
    with pytest.raises(CorruptError, match="This is no segment, or its end is damaged: the mark"):
        segment.decode(sink.getvalue().to_pybytes())


def test_a_text_that_is_no_utf8_is_corrupt() -> None:
    damaged = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(struct.pack("<2i", 0, 1)), pa.py_buffer(b"\xff")]
    )
    table = points(keys=1, each=1).set_column(7, "text", damaged).cast(segment.SCHEMA)
    with pytest.raises(CorruptError, match="UTF8"):
        segment.decode(parquet(table, GOOD))


def test_a_file_that_claims_more_points_than_it_can_hold_is_refused_before_it_is_read() -> None:
    # The counts of points in the footer, 2**20 as varints, replaced by others of the same length.
    data = encode_points(points(keys=1, each=2**20))
    honest, absurd = b"\x80\x80\x80\x01", b"\xfe\xff\xff\x7f"
    plain = footer.read_footer(pa.BufferReader(data))
    assert plain.count(honest) >= 3
    bomb = footer.protect(pa.py_buffer(b"PAR1" + plain.replace(honest, absurd)))
    with pytest.raises(CorruptError, match=r"bytes claim to be 134217727 points"):
        segment.decode(bomb)


def test_a_metric_that_never_changes_is_no_bomb() -> None:
    constant = points(keys=1, each=3_000_000).set_column(6, "value", pa.array(np.zeros(3_000_000))).cast(segment.SCHEMA)
    data = encode_points(constant)
    assert segment.decode(data, columns=["value"]).num_rows == 3_000_000


def test_an_error_of_the_file_that_is_read_stays_what_it_is() -> None:
    class Failing(io.BytesIO):
        def __init__(self, error: Exception) -> None:
            super().__init__(encode(MIXED))
            self.error = error

        def read(self, size: int | None = -1, /) -> bytes:
            raise self.error

    for error in (StorageError("the store is away"), FileNotFoundError("gone"), PermissionError(13, "no")):
        with pytest.raises(type(error)):
            segment.decode(Failing(error))


@pytest.mark.parametrize(
    ("column", "value"), [("kind", 4), ("kind", 3), ("clock", 9), ("key", "a"), ("text", "x"), ("value", None)]
)
def test_points_that_contradict_each_other_are_corrupt(column: str, value: object) -> None:
    table = segment.decode(encode([Row(0, 0, None, 0, {"a": 1, "b": 2})]))
    number = segment.SCHEMA.get_field_index(column)
    changed = pa.array([table.column(column)[0].as_py(), value], segment.SCHEMA.field(column).type)
    with pytest.raises(CorruptError):
        segment.to_rows(table.set_column(number, segment.SCHEMA.field(column), changed))


def test_pandas_is_not_imported_on_the_way() -> None:
    code = (
        "import sys; from rewind_logger.format import segment; from rewind_logger.types import Row\n"
        "data = segment.encode([Row(0, 0, 1, 0, {'a': 1.0, 'b': 'x'})], stream='metrics', first=0, last=0)\n"
        "data = segment.merge([segment.decode(data)], stream='metrics', first=0, last=0)\n"
        "assert segment.to_rows(segment.decode(data, keys=['a']))\n"
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"  # it takes 0.7 s of the first flush
