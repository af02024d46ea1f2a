"""How long a run was running: its openings up to their last rows, without the pauses between them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rewind_logger.history import reader
from rewind_logger.history.heartbeat import last_beat
from rewind_logger.history.reader import File
from rewind_logger.history.view import View
from rewind_logger.sdk.provenance.openings import OPENED, Opening, kept, opening_of
from rewind_logger.sdk.state import closing_mark
from rewind_logger.storage.base import Storage
from rewind_logger.types import OPENING_CLOCK, Row, Stream

_TELLING: tuple[Stream, ...] = ("metrics", "checkpoints", "system", "console")
"""Streams whose last row says how long an opening lasted."""


class _Session(NamedTuple):
    """An opening, and where its rows begin."""

    opening: Opening
    entry: int


def runtime(storage: Storage, view: View, next_step: int | None) -> float:
    """Return the seconds for which the visible part of a run was running.

    Reads, for each opening, the last segment of a few streams. Of ancestors that were merged into one folder, which is
    done with more than 64 of them, it reads the times of all rows.

    Args:
        storage: The store.
        view: What is visible.
        next_step: Where it is cut (exclusive); None if it is not: then its last sign of life counts too.
    """
    sessions = _sessions(storage, view, next_step)
    together = {one.entry for one, other in itertools.pairwise(sessions) if one.entry == other.entry}
    times = _times(storage, view, together)
    total = 0
    for index, (opening, entry) in enumerate(sessions):
        following = sessions[index + 1] if index + 1 < len(sessions) else None
        stop = len(view.entries) if following is None else max(following.entry, entry + 1)
        own = [time for at in range(entry, stop) for time in times.get(at, ()) if time >= opening.started_ms]
        if following is None:
            own += _signs_of_life(storage, view) if next_step is None else []
        elif following.entry == entry:
            own = [time for time in own if time < following.opening.started_ms]
        total += max(own, default=opening.started_ms) - opening.started_ms
    return total / 1000


def _sessions(storage: Storage, view: View, next_step: int | None) -> list[_Session]:
    """Return the openings that the view keeps steps of, each with the entry that its rows begin in."""
    table = reader.read(storage, view, "events", keys=[OPENED])
    rows = [Row(0, OPENING_CLOCK, None, 0, {OPENED: str(text)}) for text in table["text"].to_pylist()]
    found = [
        _Session(opening, int(entry or 0))
        for opening, entry in zip(map(opening_of, rows), table["entry"].to_pylist(), strict=True)
        if opening is not None
    ]
    return [found[index] for index in kept([session.opening for session in found], next_step)]


def _times(storage: Storage, view: View, together: set[int]) -> dict[int, list[int]]:
    """Return times of rows by entry, the last among them; all of them where an entry holds several openings."""
    wanted: list[File] = []
    for stream in _TELLING:
        by_entry: dict[int, list[File]] = {}
        for file in reader.files(storage, view, stream):
            by_entry.setdefault(file.entry, []).append(file)
        for entry, files in by_entry.items():
            wanted += files if entry in together else files[-1:]
    times: dict[int, list[int]] = {}
    for file, table in reader.visible_tables(storage, wanted, columns=["clock", "time"]):
        found = np.unique(table["time"].to_numpy())
        times.setdefault(file.entry, []).extend((found if file.entry in together else found[-1:]).tolist())
    return times


def _signs_of_life(storage: Storage, view: View) -> Sequence[int]:
    end, beat = closing_mark(storage, view.folder), last_beat(storage, view.folder)
    return [time for time in (None if end is None else end.ended_ms, beat) if time is not None]
