"""Measure the options of the segment format on series such as training gives: `python -m benchmarks.segment_options`.

What was chosen, and why, is in `design/002-segment-format.md`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rewind_logger.format import segment
from rewind_logger.types import Row

_DELTA = dict.fromkeys(("clock", "time", "row", "step"), "DELTA_BINARY_PACKED")

OPTIONS: dict[str, dict[str, Any]] = {
    "PLAIN, zstd 1": {},
    "PLAIN, zstd 3": {"compression_level": 3},
    "PLAIN, zstd 9": {"compression_level": 9},
    "PLAIN, snappy": {"compression": "snappy", "compression_level": None},
    "PLAIN, values not compressed": {
        "compression": {name: "none" if name == "value" else "zstd" for name in segment.SCHEMA.names},
        "compression_level": None,
    },
    "BYTE_STREAM_SPLIT, zstd 1": {"column_encoding": {**_DELTA, "value": "BYTE_STREAM_SPLIT"}},
    "dictionary, zstd 1": {"column_encoding": _DELTA, "use_dictionary": ["key", "kind", "text", "value"]},
    "data pages v2": {"data_page_version": "2.0"},
    "no page checksums": {"write_page_checksum": False},
    "with a page index": {"write_page_index": True},
}


def rows(keys: int, count: int, kind: str) -> list[Row]:
    """Return rows of noise, of noise that was a float32, or of a falling loss that was one."""
    chance = np.random.default_rng(0)
    values = chance.standard_normal((count, keys))
    if kind == "loss":
        values = np.exp(-np.arange(count) / 5000)[:, None] * (1 + 0.1 * values)
    if kind != "noise":
        values = values.astype(np.float32).astype(np.float64)
    times = (1_763_888_888_888 + np.cumsum(chance.integers(5, 15, count))).tolist()
    names = [f"train/metric_{key:04d}" for key in range(keys)]
    return [
        Row(i, i, None, at, dict(zip(names, row, strict=True)))
        for i, (at, row) in enumerate(zip(times, values.tolist(), strict=True))
    ]


def milliseconds(call: Callable[[], object]) -> float:
    """Return the least time of nine calls: whatever else runs on the machine only adds to it."""
    took = []
    for _ in range(9):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return min(took) * 1e3


def write(table: pa.Table, changes: dict[str, Any]) -> pa.Buffer:
    """Write a table as a segment is written, but for some options."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **{**segment._OPTIONS, **changes}) as writer:
        writer.write_table(table, row_group_size=len(table))
    return sink.getvalue()


def main() -> None:
    """Print tables in Markdown."""
    series = [
        (10, 5000, "noise"),
        (10, 5000, "float32"),
        (10, 5000, "loss"),
        (1000, 200, "noise"),
        (1000, 20, "float32"),
    ]
    tables = {
        f"{keys} × {count} {kind}": segment.decode(
            segment.encode(rows(keys, count, kind), stream="metrics", first=0, last=0), encoded_keys=True
        )
        for keys, count, kind in series
    }
    print("Bytes a point, and ms to write and to read the last but one:\n")
    print("| option |", " | ".join(tables), "| write | read |")
    print("|---" * (len(tables) + 3) + "|")
    for option, changes in OPTIONS.items():
        sizes = [f"{write(table, changes).size / len(table):.2f}" for table in tables.values()]
        big = tables["1000 × 200 noise"]
        data = write(big, changes)
        writing = milliseconds(lambda big=big, changes=changes: write(big, changes))  # type: ignore[misc]
        reading = milliseconds(lambda data=data: pq.ParquetFile(data, read_dictionary=["key"]).read())  # type: ignore[misc]
        print(f"| {option} |", " | ".join(sizes), f"| {writing:.1f} | {reading:.1f} |")

    print("\nThe whole way, from rows to bytes and back:\n")
    print("| rows | bytes | a point | encode | decode | … keys encoded | one key |\n|---|---|---|---|---|---|---|")
    for keys, count, kind in [*series, (10, 20_000, "noise"), (10, 400_000, "noise"), (1000, 4000, "noise")]:
        given = rows(keys, count, kind)
        encoded = segment.encode(given, stream="metrics", first=0, last=0)
        times = [
            milliseconds(call)
            for call in (
                lambda given=given: segment.encode(given, stream="metrics", first=0, last=0),
                lambda encoded=encoded: segment.decode(encoded),
                lambda encoded=encoded: segment.decode(encoded, encoded_keys=True),
                lambda encoded=encoded: segment.decode(encoded, keys=["train/metric_0003"]),
            )
        ]
        cells = " | ".join(f"{taken:.1f} ms" for taken in times)
        print(f"| {keys} × {count} {kind} | {len(encoded):,} | {len(encoded) / keys / count:.2f} | {cells} |")


if __name__ == "__main__":
    main()
