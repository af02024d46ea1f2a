"""The revisions of a run, and what each was made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from rewind_logger.errors import CorruptError, RunNotFoundError
from rewind_logger.format.documents import printable
from rewind_logger.format.run_names import is_name
from rewind_logger.history import reader
from rewind_logger.history.view import View, resolve
from rewind_logger.sdk.provenance.openings import Opening, opening_of
from rewind_logger.sdk.state import State, state
from rewind_logger.storage.base import Storage
from rewind_logger.types import RevisionRecord, RunRef

SHOWN = 20
"""Revisions that a table has at most."""


@dataclass(frozen=True)
class Revision:
    """One revision of a run: an uninterrupted line of it.

    What is counted or looked up is so when it is first asked for, and then kept.
    """

    number: int
    """From 1."""
    immutable_id: str
    """`id@number`: once the revision is archived, what this names never changes."""
    parent: str | None
    """The immutable id, with its project, of the revision from which it was opened; None if it began anew."""
    cut: int | None
    """The first step of the parent that was not kept (exclusive); None where nothing was cut."""
    archived: bool
    """Whether a later revision took its place."""
    created: datetime
    """In UTC."""
    reason: str
    """Why it was opened."""
    _storage: Storage = field(repr=False, compare=False)
    _run: RunRef = field(repr=False, compare=False)
    _records: tuple[RevisionRecord, ...] = field(repr=False, compare=False)

    @cached_property
    def rows(self) -> int:
        """How many rows of metrics are visible from it, those of its parents included."""
        return self._count(self._view)

    @cached_property
    def rows_kept(self) -> int:
        """How many of them it took over from its parents when it was opened."""
        if self.parent is None:
            return 0
        if self.cut is None:  # restored, and so whole
            return self._count(self._of(int(self.parent.rpartition("@")[2])))
        return self.rows - self._count(self._view, start=self.cut)

    @cached_property
    def rows_archived(self) -> int:
        """How many rows of the revision before, whose place it took, it did not take over; 0 of the first."""
        if self.number == 1:
            return 0
        before = self._records[self.number - 2]
        return self._count(self._of(before.number), start=_parting(self._records, before.number, self.number))

    @cached_property
    def state(self) -> State:
        """How it ended, or whether it is being written; as `StoredRun.state`."""
        return state(self._storage, self._view)

    @cached_property
    def opening(self) -> Opening | None:
        """Who opened it, when, where and how; None if that was not recorded."""
        for row in reader.read_rows(self._storage, self._view, "events"):
            opening = opening_of(row)
            if opening is not None and (opening.run, opening.revision) == (str(self._run), self.number):
                return opening
        return None

    @cached_property
    def removed(self) -> bool:
        """Whether it was removed (`Store.remove`): then it cannot be read any more."""
        try:
            return self._view is None
        except RunNotFoundError:
            return True

    @cached_property
    def _view(self) -> View:
        return self._of(self.number)

    def _of(self, number: int) -> View:
        return resolve(self._storage, self._run, number)

    def _count(self, view: View, start: int | None = None) -> int:
        return reader.count(self._storage, view, "metrics", start=start)


class Revisions(list[Revision]):
    """The revisions of a run, the present one last; `print` and notebooks show them as a table."""

    def __str__(self) -> str:
        """Return a table of the last ones; what it says of rows, ends and people takes some requests a revision."""
        lines = [("revision", "created (UTC)", "by", "from", "kept", "archived", "rows", "state", "why")]
        for one in self[-SHOWN:]:
            step = "" if one.cut is None else f"?_step={one.cut - 1}"
            if one.removed:
                lines.append((one.immutable_id, f"{one.created:%Y-%m-%d %H:%M:%S}", "", "", "", "", "", "removed", ""))
                continue
            opening = one.opening
            by = "" if opening is None else printable(f"{opening.user or ''}@{opening.host or ''}")
            lines.append(
                (
                    one.immutable_id,
                    f"{one.created:%Y-%m-%d %H:%M:%S}",
                    by,
                    "" if one.parent is None else f"{one.parent}{step}",
                    f"{one.rows_kept:,}",
                    "" if one.number > 1 and self[one.number - 2].removed else f"{one.rows_archived:,}",
                    f"{one.rows:,}",
                    one.state,
                    one.reason,
                )
            )
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        numbers = range(4, 7)
        earlier = f"… and {len(self) - SHOWN:,} before these\n" if len(self) > SHOWN else ""
        return earlier + "\n".join(
            "  ".join(
                cell.rjust(width) if index in numbers else cell.ljust(width)
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show the table in IPython."""
        printer.text(str(self))


def revisions(storage: Storage, view: View) -> Revisions:
    """Return every revision of a run, the present one last."""
    return Revisions(
        Revision(
            number=record.number,
            immutable_id=f"{view.run.id}@{record.number}",
            parent=None if record.parent is None else f"{record.parent[0]}@{record.parent[1]}",
            cut=record.cut,
            archived=record is not view.revisions[-1],
            created=datetime.fromtimestamp(record.created_ms / 1000, timezone.utc),
            reason=record.reason,
            _storage=storage,
            _run=view.run,
            _records=view.revisions,
        )
        for record in view.revisions
    )


def lineage(storage: Storage, view: View) -> list[str]:
    """Return what a revision was made of, oldest first, the revision itself last."""
    record = view.record
    seen = {str(view.run)}
    chain = [f"{view.run}@{record.number}"]
    while record.parent is not None:
        name, number = record.parent
        chain.append(f"{name}@{number}" + ("" if record.cut is None else f"?_step={record.cut - 1}"))
        if name != str(view.run):
            parts = name.split("/")
            if not (2 <= len(parts) <= 3 and all(map(is_name, parts))):  # a URL or a path: it is in another store
                break
            if name in seen:  # nobody is their own ancestor
                break
            seen.add(name)
            try:
                view = resolve(storage, RunRef("/".join(parts[:-1]), parts[-1]))
            except (RunNotFoundError, CorruptError):  # it was deleted, or is damaged
                break
        if number > len(view.revisions):  # it was overtaken before it came to be, in the moment of the fork
            break
        record = view.revisions[number - 1]
    return chain[::-1]


def _parting(records: tuple[RevisionRecord, ...], one: int, other: int) -> int:
    """Return the first step that two revisions of a run do not have in common."""
    first, second = _reach(records, one), _reach(records, other)
    return int(max(min(first[number], second[number]) for number in first.keys() & second.keys()))


def _reach(records: tuple[RevisionRecord, ...], number: int) -> dict[int, float]:
    """Return the revisions that a revision was made of, and up to which step of each (exclusive)."""
    reach, limit = {}, math.inf
    while True:
        reach[number] = limit
        record = records[number - 1]
        if number == 1 or record.parent is None:
            return reach
        limit = limit if record.cut is None else min(limit, record.cut)
        number = record.parent[1]
