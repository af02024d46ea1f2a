"""The revisions of a run, and what each was made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property, partial

from rewind_logger.errors import RunNotFoundError
from rewind_logger.history import reader
from rewind_logger.history.view import View, resolve
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef


@dataclass(frozen=True)
class Revision:
    """One revision of a run: an uninterrupted line of it."""

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
    _count: Callable[[], int] = field(repr=False, compare=False)

    @cached_property
    def rows(self) -> int:
        """How many rows of metrics are visible from it, those of its parents included; counted when first asked for."""
        return self._count()


def revisions(storage: Storage, view: View) -> list[Revision]:
    """Return every revision of a run, the present one last."""
    return [
        Revision(
            number=record.number,
            immutable_id=f"{view.run.id}@{record.number}",
            parent=None if record.parent is None else f"{record.parent[0]}@{record.parent[1]}",
            cut=record.cut,
            archived=record is not view.revisions[-1],
            created=datetime.fromtimestamp(record.created_ms / 1000, timezone.utc),
            reason=record.reason,
            _count=partial(_count, storage, view.run, record.number),
        )
        for record in view.revisions
    ]


def lineage(storage: Storage, view: View) -> list[str]:
    """Return what a revision was made of, oldest first, the revision itself last."""
    record = view.record
    chain = [f"{view.run}@{record.number}"]
    while record.parent is not None:
        name, number = record.parent
        chain.append(f"{name}@{number}" + ("" if record.cut is None else f"?_step={record.cut - 1}"))
        if name != str(view.run):
            parts = name.split("/")
            if not (2 <= len(parts) <= 3 and all(parts)) or ":" in name:  # a URL or a path: it lies in another store
                break
            try:
                view = resolve(storage, RunRef("/".join(parts[:-1]), parts[-1]))
            except RunNotFoundError:  # it was deleted
                break
        if number > len(view.revisions):  # it was overtaken before it came to be, in the moment of the fork
            break
        record = view.revisions[number - 1]
    return chain[::-1]


def _count(storage: Storage, run: RunRef, number: int) -> int:
    return reader.count(storage, resolve(storage, run, number), "metrics")
