"""Long runs in no time: segments written by whole columns, where a writer would take row after row."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from rewind_logger.format import names, segment, snapshot
from rewind_logger.format.aggregates import Running, of_points
from rewind_logger.format.names import SegmentName, SnapshotName
from rewind_logger.format.snapshot import Snapshot
from rewind_logger.history import cumulative
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef


@cache
def segment_of(first: int, count: int, flush: int) -> tuple[SegmentName, bytes]:
    """Return one segment with a row a step, from step `first` on, as a flush would write it; of metric `a`."""
    steps = np.arange(first, first + count)
    columns: dict[str, pa.Array[Any]] = {
        "key": pa.array(["a"] * count, pa.string()),
        "clock": pa.array(steps),
        "time": pa.array(steps + 10**12),
        "row": pa.array(steps),
        "step": pa.nulls(count, pa.int64()),
        "kind": pa.array(np.full(count, segment.FLOAT, np.int8)),
        "value": pa.array(steps.astype(np.float64)),
        "text": pa.nulls(count, pa.string()),
    }
    table = pa.table(columns, schema=segment.SCHEMA)
    name = SegmentName(flush, flush, first, first + count - 1)
    return name, segment.merge([table], stream="metrics", first=flush, last=flush)


def long_run(storage: Storage, run: RunRef, rows: int, rows_a_flush: int, *, summarized: bool = False) -> None:
    """Make a run of one term that has so many rows, one a step, in flushes of so many.

    Args:
        storage: The store.
        run: The run.
        rows: How many.
        rows_a_flush: Of the flushes, which are not compacted.
        summarized: Whether snapshots are put where a writer would.
    """
    running = Running()
    writer = Writer(storage, run, background=False)
    folder = writer.open(OpenRequest()).folder
    for flush, first in enumerate(range(0, rows, rows_a_flush)):
        name, data = segment_of(first, min(rows_a_flush, rows - first), flush)
        storage.put(names.segment(folder, "metrics", name), data)
        if not summarized:
            continue
        running.add(of_points(segment.decode(data)))
        if flush % cumulative.DUE_SEGMENTS == cumulative.DUE_SEGMENTS - 1:
            found = Snapshot(
                flush=flush, last_row=name.last_clock, newest_clock=name.last_clock, aggregates=running.result()
            )
            path = names.snapshot(folder, SnapshotName(flush, name.last_clock))
            storage.put(path, snapshot.encode(found))
    writer.close()
