"""The aggregates of a view: the newest snapshot that can be used, and the few segments after it.

A snapshot lies in the folder of the term that wrote it. It covers what is visible from that term up to one of its
flushes, ancestors included. A view whose lineage holds the term shows all of that if the term is sealed no earlier, and
cut at no clock that is covered: later cuts go through a term and its ancestors alike, and seals never change
(`design/005-summary.md`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format import names, snapshot
from rewind_logger.format.aggregates import Aggregates, Running, of_points
from rewind_logger.format.columns import column_of, mask
from rewind_logger.format.names import SnapshotName
from rewind_logger.format.snapshot import Snapshot
from rewind_logger.history import reader
from rewind_logger.history.damage import report
from rewind_logger.history.reader import File
from rewind_logger.history.view import View
from rewind_logger.storage.base import Listing, Storage
from rewind_logger.types import Entry

LISTED_TOGETHER = 16
"""Terms without a usable snapshot that are looked into at the same time, after the last one alone."""

_COLUMNS = ("key", "clock", "row", "kind", "value", "text")


class Stored(NamedTuple):
    """A snapshot that can be used for a view."""

    entry: int
    """The index of its entry."""
    name: SnapshotName
    path: str
    size: int
    """In bytes."""


class Unread(NamedTuple):
    """What has to be read besides a snapshot."""

    newest: Stored | None
    """The snapshot; None: there is none, and all has to be read."""
    files: list[File]
    """The segments, in order."""

    @property
    def bytes(self) -> int:
        """The size of these segments."""
        return sum(file.segment.size for file in self.files)


def aggregates(storage: Storage, view: View, *, strict: bool = False) -> Aggregates:
    """Return the aggregates of all rows of metrics of a view.

    Reads one snapshot, and the segments after it or that a cut goes through. A damaged snapshot is reported and passed
    by.

    Args:
        storage: The store.
        view: What is visible.
        strict: Whether a segment that is damaged or missing is an error; else it is named in the log, and left out.

    Raises:
        CorruptError: If a segment is damaged or missing, and `strict`.
        StorageError: If the store fails.
    """
    for stored in _usable(storage, view):
        found = _read(storage, stored)
        if found is not None:
            wanted = _files(storage, view, stored.entry, found.flush, strict=strict)
            return _since(storage, stored.entry, found, wanted, strict=strict)
    return _since(storage, 0, None, _files(storage, view, 0, -1, strict=strict), strict=strict)


def unread(storage: Storage, view: View) -> Unread:
    """Look up what `aggregates` would read, without reading it."""
    for stored in _usable(storage, view):
        return Unread(stored, _files(storage, view, stored.entry, stored.name.flush))
    return Unread(None, _files(storage, view, 0, -1))


def read(storage: Storage, view: View, known: Unread, *, strict: bool = False) -> Aggregates:
    """Return the same as `aggregates`, of a view of which it was looked up what to read."""
    newest = known.newest
    found = None if newest is None else _read(storage, newest)
    if newest is not None and found is None:
        return aggregates(storage, view, strict=strict)
    return _since(storage, 0 if newest is None else newest.entry, found, known.files, strict=strict)


def _since(storage: Storage, start: int, found: Snapshot | None, wanted: list[File], *, strict: bool) -> Aggregates:
    """Return what a snapshot in entry `start`, and the segments after it, give together."""
    running = Running()
    if found is not None:
        running.add(found.aggregates)
    for file, table in reader.visible_tables(storage, wanted, columns=_COLUMNS, strict=strict):
        if found is not None and file.entry == start and file.segment.name.first <= found.flush:
            table = table.filter(mask(column_of(table, "row") > found.last_row))
        running.add(of_points(reader.in_order(table)))
    return running.result()


def _files(storage: Storage, view: View, start: int, flush: int, *, strict: bool = False) -> list[File]:
    """Return the segments of metrics after a flush of entry `start`."""
    later = replace(view, entries=view.entries[start:])
    found = [file._replace(entry=file.entry + start) for file in reader.files(storage, later, "metrics", strict=strict)]
    return [file for file in found if file.entry > start or file.segment.name.last > flush]


def _read(storage: Storage, stored: Stored) -> Snapshot | None:
    """Return a snapshot; None if it is gone or damaged."""
    try:
        found = snapshot.decode(storage.read(stored.path))
        _check(found, stored)
        return found
    except FileNotFoundError:
        return None
    except (CorruptError, FormatVersionError) as error:
        report(
            f"The summary snapshot {storage.url}/{stored.path} is passed by, and more rows are read instead: {error}"
        )
        return None


def _check(found: Snapshot, stored: Stored) -> None:
    """Refuse a snapshot that is another than the one that its path names: objects can be mixed up."""
    writer = names.writer(stored.path.rsplit("/", 2)[0])
    if (found.flush, found.newest_clock) != stored.name or (None not in (found.term, writer) and found.term != writer):
        raise CorruptError(f"It is that of flush {found.flush} of term {found.term}, and another belongs there.")


def _usable(storage: Storage, view: View) -> Iterator[Stored]:
    """Yield the snapshots that a view can use, newest first."""
    candidates = [index for index, entry in enumerate(view.entries) if "metrics" in entry.sealed]
    together = 1
    while candidates:
        group, candidates = candidates[-together:], candidates[:-together]
        listings = storage.map_lists([names.snapshots(view.entries[index].folder) for index in group])
        for index, listing in zip(reversed(group), reversed(listings), strict=True):
            yield from _of_entry(index, view.entries[index], listing)
        together = LISTED_TOGETHER


def _of_entry(index: int, entry: Entry, listing: Listing) -> list[Stored]:
    """Return the usable snapshots of one entry, newest first."""
    named = [(SnapshotName.parse(info.name), info.size) for info in listing]
    usable = [
        Stored(index, name, names.snapshot(entry.folder, name), size)
        for name, size in named
        if name is not None
        and size is not None
        and name.flush <= entry.sealed["metrics"]
        and (entry.cut is None or name.newest_clock < entry.cut)
    ]
    return sorted(usable, key=lambda stored: stored.name.flush, reverse=True)
