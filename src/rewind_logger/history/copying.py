"""Copies: a fork into another store takes the segments it needs with it, and the blobs that their rows refer to."""

from __future__ import annotations

import logging
from dataclasses import replace

from rewind_logger.format import names
from rewind_logger.history import reader, segments, snapshots
from rewind_logger.history.carrying import carry, listed_in, named_in
from rewind_logger.history.segments import Segment
from rewind_logger.history.together import together
from rewind_logger.history.view import View
from rewind_logger.storage.base import Storage
from rewind_logger.types import STREAMS_WITH_BLOBS, Entry

LOG = logging.getLogger("rewind_logger")

TOGETHER_BYTES = 64 << 20
"""Segments are held in memory up to this many bytes at a time."""


def copy_view(source: Storage, view: View, target: Storage, folder: str) -> View:
    """Copy the segments of a view into a term's folder, byte for byte, and the blobs that its visible rows name.

    Returns:
        The same rows, as a view of the copies; the cuts stay, so a segment that a cut goes through is copied whole.
    """
    entries = []
    plan = {}
    for index, entry in enumerate(view.entries):
        copied = names.merged(folder, index)
        files: dict[str, list[Segment]] = {}
        sealed: dict[str, int] = {}
        for stream in entry.sealed:
            chosen = reader.entry_segments(source, view, entry, stream)
            while chosen and entry.cut is not None and chosen[-1].name.first_clock >= entry.cut:
                chosen.pop()  # only from the end: flush numbers have no gaps
            if not chosen:
                continue
            _copy(source, entry.folder, target, copied, stream, chosen)
            files[stream] = chosen
            sealed[stream] = chosen[-1].name.last
        if files:
            entries.append(Entry(copied, sealed, entry.cut))
            if segments.is_whole(files, sealed):
                plan[copied] = segments.plan_of(files)
    for stream in STREAMS_WITH_BLOBS:
        found = named_in(source, view, stream)
        if stream == "artifacts":
            carry(source, target, listed_in(source, found))
        carry(source, target, found)
    _copy_snapshot(source, view, target, folder)
    return replace(view, entries=tuple(entries), plan=plan)


def _copy_snapshot(source: Storage, view: View, target: Storage, folder: str) -> None:
    """Copy the snapshot of aggregates that the view can use: else every row would have to be read for a summary."""
    newest = snapshots.unread(source, view).newest
    if newest is None:
        return
    try:
        data = source.read(newest.path)
    except FileNotFoundError:  # what follows from the rows may be missing
        return
    target.put(names.snapshot(names.merged(folder, newest.entry), newest.name), data)


def _copy(source: Storage, folder: str, target: Storage, copied: str, stream: str, chosen: list[Segment]) -> None:
    """Copy segments, a bounded number of bytes at a time."""
    for group in together(chosen, lambda found: found.size, TOGETHER_BYTES):
        paths = [names.segment(folder, stream, found.name) for found in group]
        for found, path, body in zip(group, paths, source.read_each(paths), strict=True):
            if isinstance(body, FileNotFoundError):
                LOG.error("The segment %s in %s is missing, and so are its rows in the copy.", path, source.url)
            elif isinstance(body, Exception):
                raise body
            else:
                target.put(names.segment(copied, stream, found.name), body)
