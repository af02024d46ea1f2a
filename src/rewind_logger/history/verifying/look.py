"""What one verification looks at and has found so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rewind_logger.errors import StorageError, TransientStorageError
from rewind_logger.format.documents import Plan
from rewind_logger.history import segments
from rewind_logger.history.verifying.report import Harm, Problem
from rewind_logger.storage.base import Storage
from rewind_logger.types import Entry, Progress

RESTORE = "Restore it from a backup or from a copy of the store."


@dataclass(frozen=True, slots=True)
class Shown:
    """A folder of segments as one revision shows it."""

    label: str
    """The revision, `project/id@2`, or the evaluation."""
    sealed: Mapping[str, int] | None
    """Per stream the last flush that counts (inclusive); None where the folder is not sealed."""
    cut: int | None
    """Rows with clock < cut are shown (exclusive)."""

    def limit(self, stream: str) -> int | None:
        """Return the last flush of a stream that counts, None where every one does, −1 where none does."""
        return None if self.sealed is None else self.sealed.get(stream, -1)


@dataclass(slots=True)
class Folder:
    """What is known of a folder of segments before one looks into it."""

    shown: list[Shown] = field(default_factory=list)
    planned: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per stream the sizes of the segments that bases name."""
    passed_over: dict[str, set[tuple[int, int, int]]] = field(default_factory=dict)
    """Per stream which flushes (inclusive) a base does not name, and up to which one it should name all (inclusive)."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Per stream the last flush of which the owner's marks say that it was stored (inclusive); more may be."""


@dataclass(slots=True)
class Look:
    """What a look at the small documents of runs gave: it is done anew by each verification."""

    storage: Storage
    progress: Progress
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    folders: dict[str, Folder] = field(default_factory=dict)

    def folder(self, path: str) -> Folder:
        """Return what is known of a folder, from now on."""
        return self.folders.setdefault(path, Folder())

    def plan(self, plan: Plan, lineage: Sequence[Entry]) -> None:
        """Note the segments that a base names, and those that it does not."""
        for folder, streams in plan.items():
            planned = self.folder(folder).planned
            for stream, files in streams.items():
                planned.setdefault(stream, {}).update(files)
        for entry in lineage:
            for stream, last in entry.sealed.items() if entry.folder in plan else ():
                chosen = segments.from_plan(plan[entry.folder].get(stream, ()))
                if gaps := segments.missing(chosen, last):
                    passed_over = self.folder(entry.folder).passed_over.setdefault(stream, set())
                    passed_over.update((*gap, last) for gap in gaps)

    def has(self, path: str) -> bool:
        """Say whether an object is there now."""
        try:
            self.storage.size(path)
        except FileNotFoundError:
            return False
        return True

    def wrong(self, path: str, what: str, cost: str, remedy: str = RESTORE, harm: Harm = "loss") -> None:
        """Note a problem."""
        self.problems.append(Problem(path=path, what=what, cost=cost, remedy=remedy, harm=harm))

    def took(self, kind: str, size: int) -> None:
        """Count an object that was read."""
        self.counts[kind] += 1
        self.bytes += size


def unreadable(outcome: bytes | Exception) -> str | None:
    """Say what is wrong with an object that a store does not give, as a sentence; None if it gave it.

    Raises:
        TransientStorageError: If the store may give it later: then nothing can be said.
    """
    if isinstance(outcome, bytes):
        return None
    if isinstance(outcome, FileNotFoundError):
        return "It is missing."
    if isinstance(outcome, StorageError) and not isinstance(outcome, TransientStorageError):
        return f"It cannot be read: {outcome}"
    raise outcome
