"""Segments are read by other engines without help from this package, and all say the same."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from rewind_logger.format import segment
from rewind_logger.types import Row

ROWS = [
    Row(
        i,
        i - 1,
        None if i % 4 else 3 * i,
        1_763_888_888_888 + 11 * i,
        {"f": [0.1 * i, math.nan, -math.inf, -0.0][i % 4], "i": 2**63 + i, "b": i % 2 == 0, "s": f"größe {i}"},
    )
    for i in range(3000)
]

Record = tuple[Any, ...]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("segments") / "000000000-000000000_-1_2998.parquet"
    path.write_bytes(segment.encode(ROWS, stream="metrics", first=0, last=0))
    return path


def exact(records: list[Record]) -> list[Record]:
    """Records with the bits of their values: no NaN is equal to itself."""
    return [(*r[:6], r[6] if r[6] is None else struct.pack("<d", r[6]), r[7]) for r in records]


@pytest.fixture(scope="module")
def expected() -> list[Record]:
    records: list[Record] = []
    for key in "bfis":
        for row in ROWS:
            value: Any = row.values[key]
            number = None if key == "s" else float(value)
            exact_int = str(value) if key == "i" and int(float(value)) != value else None
            text = value if key == "s" else exact_int
            kind = {"f": 0, "i": 1, "b": 2, "s": 3}[key]
            records.append((key, row.clock, row.time_ms, row.row, row.step, kind, number, text))
    return exact(records)


def run(sql: str) -> list[Record]:
    """What DuckDB answers."""
    return duckdb.sql(sql).fetchall()  # type: ignore[union-attr]  # None only for statements that are no query


def test_pyarrow(path: Path, expected: list[Record]) -> None:
    table = pq.read_table(path)
    assert exact(list(zip(*(column.to_pylist() for column in table.columns), strict=True))) == expected


def test_polars(path: Path, expected: list[Record]) -> None:
    assert exact(pl.read_parquet(path).rows()) == expected


def test_duckdb(path: Path, expected: list[Record]) -> None:
    assert exact(run(f"select * from '{path}' order by key, clock, row")) == expected


def test_one_metric_in_each(path: Path) -> None:
    by_hand = [(row.clock, row.values["f"]) for row in ROWS if row.clock < 100]

    frame = pd.read_parquet(path, filters=[("key", "==", "f"), ("clock", "<", 100)])[["clock", "value"]]
    lazy = pl.scan_parquet(path).filter(pl.col("key") == "f", pl.col("clock") < 100).select("clock", "value")
    query = run(f"select clock, value from '{path}' where key = 'f' and clock < 100 order by clock")

    for found in (list(frame.itertuples(index=False, name=None)), lazy.collect().rows(), query):
        assert repr(found) == repr(by_hand)


def test_no_engine_skips_a_nan_because_of_statistics(tmp_path: Path) -> None:
    path = tmp_path / "nan.parquet"
    rows = [Row(i, i, None, 0, {"f": math.nan if i % 4 else 0.1 * i}) for i in range(1000)]
    path.write_bytes(segment.encode(rows, stream="metrics", first=0, last=0))
    # DuckDB and Spark hold NaN to be greater than all numbers, and Parquet's statistics leave it out.
    assert run(f"select count(*) from '{path}' where value > 1e300") == [(750,)]
    assert pl.scan_parquet(path).filter(pl.col("value") > 1e300).collect().height == 750
