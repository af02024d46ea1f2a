"""What is small in a store stays small in memory, and quick: it is read by a process that has little of both."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewind_logger import init
from rewind_logger.format import documents, names, segment
from rewind_logger.format.footer import protect
from rewind_logger.format.names import SegmentName
from rewind_logger.history import blobs
from rewind_logger.storage.local import LocalStorage
from rewind_logger.types import Row, RunRef
from tests.history.lines import end, log, opened
from tests.hostile.resealing import document

MOST_BYTES = 2 << 30
MOST_SECONDS = 120

READ = f"""
import logging, resource, sys
import pyarrow, pyarrow.parquet, numpy, rewind_logger
from rewind_logger import RewindError, open_store
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {MOST_BYTES}, used + {MOST_BYTES}))
resource.setrlimit(resource.RLIMIT_CPU, ({MOST_SECONDS}, {MOST_SECONDS}))
logging.basicConfig(level=logging.ERROR, format="%(message).300s")
pyarrow.set_cpu_count(1)
said = "read"
try:
    {{what}}
except RewindError as error:
    said = type(error).__name__ + ": " + str(error)[:300]
print(said)
"""

HISTORY = 'len(open_store(sys.argv[1]).run("p/a").history().to_arrow())'


def outcome(what: str, argument: object) -> str:
    """Return what came of it in a process of its own, whose memory and time are limited."""
    code = READ.format(what=what)
    done = subprocess.run([sys.executable, "-c", code, str(argument)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout + done.stderr


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path / "store")
    writer = opened(storage)
    log(writer, range(3))
    end(writer)
    return storage


def planted(store: LocalStorage, data: bytes) -> None:
    """Put a segment beside those of the head, as its next flush."""
    [term] = (info.name for info in store.list("p/a/t"))
    store.put(names.segment(f"p/a/t/{term}", "metrics", SegmentName(1, 1, 3, 3)), data)


def changed(store: LocalStorage, **fields: Any) -> None:
    """Write the base of the head anew, with other fields."""
    [term] = (info.name for info in store.list("p/a/t"))
    path = names.base(f"p/a/t/{term}")
    store.put(path, document({**json.loads(store.read(path)), **fields}))


def parquet(table: pa.Table, described: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    options: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["key", "text"], "store_schema": False}
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.add_key_value_metadata({"rewind_logger": json.dumps(described)})
        writer.write_table(table)
    return protect(sink.getvalue())


def points(count: int, text: str) -> pa.Table:
    """So many points with the same text each."""
    row = pa.array(range(count), pa.int64())
    same = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))
    columns: dict[str, Any] = {
        "key": pa.array(["a"] * count),
        "clock": pa.array([3] * count, pa.int64()),
        "time": pa.array([0] * count, pa.int64()),
        "row": row,
        "step": pa.nulls(count, pa.int64()),
        "kind": pa.array([3] * count, pa.int8()),
        "value": pa.nulls(count, pa.float64()),
        "text": same,
    }
    return pa.table(columns, pa.schema([*list(segment.SCHEMA)[:-1], pa.field("text", same.type)]))


DESCRIBED = {"format": 1, "stream": "metrics", "first": 1, "last": 1, "first_row": 0, "last_row": 0}


def test_a_text_that_is_repeated_a_million_times_fills_no_memory(store: LocalStorage) -> None:
    """64 KiB a million times are 64 GiB, and in a file of a few kilobytes."""
    bomb = parquet(points(1_000_000, "x" * 65_536), DESCRIBED)
    assert len(bomb) < 2_000_000
    planted(store, bomb)
    said = outcome(HISTORY, store.url)
    assert "000000001-000000001_3_3.parquet" in said and "65,536,000,000 bytes of text" in said and "read" in said


def test_a_key_that_is_repeated_a_million_times_fills_no_memory(store: LocalStorage) -> None:
    table = points(1_000_000, "x")
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["k" * 65_536]))
    bomb = parquet(table.set_column(0, pa.field("key", long.type, nullable=False), long), DESCRIBED)
    planted(store, bomb)
    assert "65,536,000,000 bytes of text" in outcome(HISTORY, store.url)


@pytest.mark.exhaustive
def test_a_page_that_grows_without_end_fills_no_memory(store: LocalStorage) -> None:
    bomb = segment.encode([Row(0, 3, None, 0, {"a": "x" * (1 << 30)})], stream="metrics", first=1, last=1)
    assert len(bomb) < 1 << 20
    planted(store, bomb)
    assert "read" in outcome(HISTORY, store.url)


@pytest.mark.parametrize(
    "fields",
    [
        {"lineage": [{"folder": f"./t/{n:08d}-aa", "sealed": {"metrics": 10**17}, "cut": None} for n in range(20_000)]},
        {"start": 2**62 + 2**61 + 1},
        {"start": 10**4_000},
        {"created_ms": 10**18},
        {"revision": 10**18},
        {"revisions": []},
        {"plan": {"./t/00000000-aa": {"metrics": [["000000000-000000000_0_0.parquet", 1]] * 100_000}}},
    ],
    ids=["long lineage", "late start", "huge number", "no time", "revisions", "no revisions", "repeated plan"],
)
def test_absurd_counts_in_a_base_take_neither_time_nor_memory(fields: dict[str, Any], store: LocalStorage) -> None:
    changed(store, **fields)
    said = outcome(HISTORY, store.url)
    assert "read" in said or "CorruptError" in said


def test_json_that_is_nested_deeply_ends_nothing(store: LocalStorage) -> None:
    [claim] = [f"p/a/m/{info.name}" for info in store.list("p/a/m")]
    store.put(claim, b'{"a":' * 1_000_000)
    assert "read" in outcome(HISTORY, store.url)


def test_a_claim_of_an_absurd_number_is_not_counted_down_from(store: LocalStorage) -> None:
    """There would be 10**17 numbers to ask for."""
    claim = documents.Claim(nonce="aa", kind="opened", created_ms=0, host="h", pid=1)
    store.put("p/a/m/99999999999999999.json", documents.encode_claim(claim))
    assert "read" in outcome(HISTORY, store.url)
    store.put("p/a/m/999999999999999999.json", documents.encode_claim(claim))
    what = 'rewind_logger.init(dir=sys.argv[1], project="p", id="a", console=False, system_metrics=False)'
    assert "nobody can have made" in outcome(what, store.url)


def test_runs_that_are_each_others_parents_have_a_lineage_that_ends(store: LocalStorage) -> None:
    for child, parent in (("a", "b"), ("b", "a")):
        run = RunRef("p", child)
        if child == "b":
            end(opened(store, run))
        [term] = (info.name for info in store.list(f"p/{child}/t"))
        path = names.base(f"p/{child}/t/{term}")
        fields = json.loads(store.read(path))
        record = {**fields["revisions"][0], "parent": [f"p/{parent}", 1], "cut": 1}
        store.put(path, document({**fields, "revisions": [record]}))
    assert "read" in outcome('open_store(sys.argv[1]).run("p/a").lineage', store.url)


def test_a_checkpoint_whose_index_grows_without_end_fills_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb/data.pkl", "w", force_zip64=True) as file,
    ):
        for _ in range(300):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    what = "from rewind_logger.lightning.checkpoint import read_checkpoint; read_checkpoint(sys.argv[1])"
    assert "is no checkpoint" in outcome(what, path)


def logged_table(url: str, table: pa.Table) -> int:
    """Log a table that somebody else wrote; return the size of its file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    return logged_file(url, sink.getvalue())


def logged_file(url: str, data: bytes) -> int:
    """Log a table's file that somebody else wrote; return its size."""
    storage = LocalStorage(url)
    digest = blobs.put(storage, data)
    record = {"type": "table", "sha256": digest, "size": len(data), "format": "parquet", "rows": 1, "columns": 1}
    with init(dir=url, project="p", id="a", console=False, system_metrics=False) as run:
        run._append("media", {"t": json.dumps(record)}, 0)
    return len(data)


TABLE = 'open_store(sys.argv[1]).run("p/a").media()[0].to_table().to_arrow()'


def test_a_table_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    logged_table(url, points(1_000_000, "x" * 65_536))
    assert "bytes of text and more, and no table has" in outcome(TABLE, url)


LONG = b"x" * 65_536


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        (pa.string(), LONG.decode()),
        (pa.binary(), LONG),
        (pa.large_string(), LONG.decode()),
        (pa.large_binary(), LONG),
        (pa.list_(pa.binary()), [LONG]),
        (pa.struct([("a", pa.string())]), {"a": LONG.decode()}),
        (pa.map_(pa.string(), pa.binary()), [("a", LONG)]),
    ],
    ids=str,
)
def test_a_table_of_bytes_or_of_lists_of_texts_that_repeat_is_not_read(
    kind: pa.DataType, cell: object, tmp_path: Path
) -> None:
    """A column of them is just below what all columns may have together."""
    part = pa.table({name: pa.array([cell] * 100, kind) for name in "ab"})
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, part.schema, compression="zstd") as writer:
        for _ in range(200):
            writer.write_table(part)
    logged_file(str(tmp_path), sink.getvalue())
    assert "bytes of text" in outcome(TABLE, tmp_path)


def test_a_table_of_many_columns_that_never_change_fills_no_memory(tmp_path: Path) -> None:
    """Each of them is a hundred bytes of the file, or a few thousand."""
    url = str(tmp_path / "store")
    nothing = pa.nulls(1 << 20, pa.float64())
    size = logged_table(url, pa.table({f"c{number}": nothing for number in range(1_100)}))
    assert size < 4 << 20
    assert "9,227,468,800 bytes in memory" in outcome(TABLE, url)


def test_a_table_of_a_column_that_never_changes_is_no_bomb(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    logged_table(url, pa.table({"c": pa.nulls(10_000_000, pa.float64())}))
    assert outcome(TABLE, url) == "read\n"
