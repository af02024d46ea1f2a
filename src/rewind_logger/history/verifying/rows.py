"""One segment: its bytes against its checksums, and its rows against its name and against each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format import segment
from rewind_logger.format.columns import column_of, numbers
from rewind_logger.format.names import SegmentName
from rewind_logger.history.carrying import named
from rewind_logger.history.segments import identity
from rewind_logger.history.verifying.state import NO_ROWS, Facts
from rewind_logger.types import STREAMS_WITH_BLOBS

_LAST_KIND = segment.STR


class Reference(NamedTuple):
    """A row that refers to a blob."""

    digest: str
    size: int | None
    """In bytes, where the row says it."""
    clock: int
    key: str
    manifest: bool
    """Whether the blob lists further ones."""


class Checked(NamedTuple):
    """What a segment was found to be."""

    wrong: str | None
    """What is wrong with it, as a sentence."""
    facts: Facts | None = None
    references: Sequence[Reference] = ()


def check_segment(
    data: bytes, path: str, name: SegmentName, *, references: bool = False, before: int | None = None
) -> Checked:
    """Check one segment.

    Args:
        data: All of it.
        path: Where it lies.
        name: Its name.
        references: Whether to return which blobs its rows refer to …
        before: … those with clock < before (exclusive); None for all.
    """
    try:
        info = segment.info(data)
        table = segment.decode(data, expected=identity(path, name))
    except (CorruptError, FormatVersionError) as error:
        return Checked(str(error))
    if not len(table):
        return Checked(None, NO_ROWS)
    clock, row, time = (column_of(table, column) for column in ("clock", "row", "time"))
    if (int(clock.min()), int(clock.max())) != (name.first_clock, name.last_clock):
        return Checked(f"Its rows have clocks from {clock.min()} to {clock.max()}.")
    facts: Facts = (int(row.min()), int(row.max()), len(np.unique(row)))
    if facts[:2] != (info.first_row, info.last_row):
        return Checked(f"Its rows are {facts[0]} to {facts[1]}; it says {info.first_row} to {info.last_row}.")
    what = _contradiction(table, clock, row, time)
    if what is not None:
        return Checked(what)
    wanted = references and info.stream in STREAMS_WITH_BLOBS
    return Checked(None, facts, _references(table, info.stream, before) if wanted else ())


def _contradiction(table: pa.Table, clock: Any, row: Any, time: Any) -> str | None:
    """Say where columns of a segment contradict each other."""
    kind = column_of(table, "kind")
    if int(kind.min()) < 0 or int(kind.max()) > _LAST_KIND:
        return "A value is of no known kind."
    order = np.argsort(row, kind="stable")
    same = row[order][1:] == row[order][:-1]
    step = table.column("step").combine_chunks()
    steps = numbers(step.fill_null(0))
    unknown = np.asarray(step.is_null())
    for values in (clock, time, steps, unknown):
        if np.any(same & (values[order][1:] != values[order][:-1])):
            return "Points of one row have different clocks, times or steps."
    keys = table.column("key").combine_chunks().dictionary_encode()
    ids = numbers(keys.indices)
    alike = ids[1:] == ids[:-1]
    turned = (clock[1:] < clock[:-1]) | ((clock[1:] == clock[:-1]) & (row[1:] <= row[:-1]))
    if np.any(alike & turned):
        return "Its points are not sorted by clock and row, or a row has a key twice."
    order_of_keys = [str(key).encode() for key in keys.dictionary.to_pylist()]
    if len(order_of_keys) != int((~alike).sum()) + 1 or order_of_keys != sorted(order_of_keys):
        return "Its points are not sorted by key."
    return None


def _references(table: pa.Table, stream: str, before: int | None) -> list[Reference]:
    """Return the blobs that rows name."""
    found = []
    texts = zip(*(table.column(name).to_pylist() for name in ("key", "clock", "text")), strict=True)
    for key, clock, text in texts:
        if text is None or '"sha256"' not in text or (before is not None and clock >= before):
            continue
        manifest = stream == "artifacts"
        if manifest and _elsewhere(text):
            continue
        found += [Reference(digest, size, clock, key, manifest) for digest, size in named(text)]
    return found


def _elsewhere(text: str) -> bool:
    """Say whether the row of an artifact is about one that lies in another store."""
    try:
        fields = json.loads(text)
    except ValueError:
        return False
    return isinstance(fields, dict) and fields.get("store") is not None
