"""Views: what of a run is visible from its head, from an archived revision, or as of a step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rewind_logger.errors import CorruptError, PositionError, RunNotFoundError
from rewind_logger.format import names
from rewind_logger.format.documents import Base, Plan, decode_merge
from rewind_logger.format.names import RunPaths
from rewind_logger.history import catalog, claims, segments
from rewind_logger.history.damage import report
from rewind_logger.history.segments import Seal
from rewind_logger.storage.base import Storage
from rewind_logger.types import OPENING_CLOCK, Entry, RevisionRecord, RunRef, Stream

STREAMS_OF_STEPS: tuple[Stream, ...] = ("metrics", "media", "checkpoints")
"""Whose rows say that a step was done."""

PASSIVE_STREAMS: tuple[Stream, ...] = ("console", "system")
"""Whose rows come by themselves, after the last step too: those that stand at the very position of a cut, and so before
the end of the step to come, are no reason for a new revision where nothing else is cut off."""

LONG_LINEAGE = 64
"""Entries of a lineage that is not long yet (inclusive)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The rows that are visible from one place of a run."""

    run: RunRef
    revision: int
    head: bool
    """Whether it is the run's present revision, which may grow."""
    entries: tuple[Entry, ...]
    """Where the rows lie, oldest first; rows are those of all entries, one after the other."""
    plan: Plan
    start: int
    """The clock at which the last term of the revision began (inclusive)."""
    next_step: int
    """One past the last step: the position of the view's end."""
    newest_clock: int
    """No row has a larger clock, but for those of passive streams, which may stand one beyond; −1 without any."""
    revisions: tuple[RevisionRecord, ...]
    """Every revision of the run, the present one last."""
    folder: str
    """The last term of the revision."""

    @property
    def last_step(self) -> int | None:
        """The last step, None where there is none."""
        return self.next_step - 1 if self.next_step > 0 else None

    @property
    def record(self) -> RevisionRecord:
        """What is known of this revision."""
        return self.revisions[self.revision - 1]

    def cut_at(self, next_step: int | None) -> View:
        """Return the view of the same rows as far as they lie before `next_step` (exclusive)."""
        if next_step is None:
            return self
        entries = tuple(entry.cut_at(next_step) for entry in self.entries)
        return replace(
            self,
            entries=entries,
            head=False,
            next_step=min(self.next_step, next_step),
            newest_clock=min(self.newest_clock, max(next_step - 1, OPENING_CLOCK)),
        )

    def before(self, next_step: int | None) -> View:
        """Return the same as `cut_at`, as what an opening begins with: its position may lie beyond the view's end."""
        return self if next_step is None else replace(self.cut_at(next_step), next_step=next_step)

    def check_step(self, step: int) -> None:
        """Refuse a step that a person typed and that the run does not have.

        Raises:
            PositionError: If `step` lies beyond the last step, which the message names.
        """
        if self.last_step is None and step >= 0:
            raise PositionError(f"Run {self.run}@{self.revision} has no step yet, so there is no step {step} to keep.")
        if self.last_step is not None and step > self.last_step:
            raise PositionError(
                f"Run {self.run}@{self.revision} has no step {step}: its last step is {self.last_step}."
                f" Use `?_step={self.last_step}` to keep everything."
            )


def resolve(storage: Storage, run: RunRef, revision: int | None = None, next_step: int | None = None) -> View:
    """Look up a view.

    Args:
        storage: The store.
        run: The run.
        revision: A revision's number; None for the present one.
        next_step: Rows with clock < next_step are visible (exclusive); None for all. It may lie beyond the end.

    Raises:
        RunNotFoundError: If there is no such run or revision.
        CorruptError: If the base is damaged that says what the revision is made of. Of an archived revision that of
            the head may be damaged, too: then an earlier one tells.
    """
    damaged: CorruptError | None = None
    counted = claims.count(storage, RunPaths(run))
    for found in claims.bases(storage, run, counted):
        if isinstance(found, CorruptError):
            damaged = damaged or found
            if revision is None:
                break
        elif damaged is None or (revision is not None and revision < found.revision):
            return of_base(storage, run, found, revision).cut_at(next_step)
        elif revision == found.revision:
            report(f"Run {run}@{revision} is read as far as {found.number} of its terms tell. {damaged}")
            return replace(of_base(storage, run, found), head=False).cut_at(next_step)
        else:
            break
    if damaged is not None and claims.count(storage, RunPaths(run)) > counted:
        return resolve(storage, run, revision, next_step)  # what was the head may have been archived, and removed
    raise damaged or catalog.not_found(storage, run)


def of_base(storage: Storage, run: RunRef, head: Base, revision: int | None = None) -> View:
    """Return the view of one revision, where the run's newest base is known; the same errors as `resolve`."""
    folder = RunPaths(run).term(head.number, head.nonce)
    if revision is None or revision == head.revision:
        end = segments.seal(storage, folder)
        return of_term(storage, run, head, folder, end, head.revisions)
    last = archived_base(storage, run, head, revision)
    record = head.revisions[revision - 1]
    assert record.folder is not None
    end = segments.seal(storage, record.folder, record.sealed)
    return of_term(storage, run, last, record.folder, end, head.revisions)


def archived_base(storage: Storage, run: RunRef, head: Base, revision: int) -> Base:
    """Return the base of the last term of an archived revision, which says what it is made of, in one request.

    Raises:
        RunNotFoundError: If there is no such revision, or if it or its run was removed.
        CorruptError: If that base is damaged or missing.
    """
    if not 1 <= revision < head.revision:
        raise RunNotFoundError(f"Run {run} has no revision {revision}: it has revisions 1 to {head.revision}.")
    record = head.revisions[revision - 1]
    if record.folder is None:
        raise CorruptError(f"The base of run {run} does not say where its revision {revision} ends.")
    try:
        return claims.base_of(storage, run, record.folder)
    except FileNotFoundError as error:
        if _exists(storage, names.removed(record.folder)):
            raise RunNotFoundError(
                f"Revision {revision} of run {run} was removed: it cannot be read any more."
            ) from None
        if claims.was_removed(storage, run, head.number):
            raise catalog.not_found(storage, run) from None
        raise CorruptError(
            f"{names.base(record.folder)} in {storage.url} is missing, on which revision {revision} of run {run} rests."
            " Restore it from a backup."
        ) from error


def _exists(storage: Storage, path: str) -> bool:
    try:
        storage.size(path)
    except FileNotFoundError:
        return False
    return True


def of_term(
    storage: Storage, run: RunRef, base: Base, folder: str, end: Seal, revisions: tuple[RevisionRecord, ...]
) -> View:
    """Return the view of everything up to the end of a term.

    Args:
        storage: The store.
        run: The run.
        base: Of the term.
        folder: Of the term.
        end: Where the term ends, or ended when it was looked at.
        revisions: All of the run.
    """
    lineage, plan = effective_lineage(storage, run, base, folder)
    if end.files is not None:
        plan = {**plan, folder: segments.plan_of(end.files)}
    next_step = reached(base, end)
    return View(
        run=run,
        revision=base.revision,
        head=base.revision == len(revisions),
        entries=(*lineage, Entry(folder, end.sealed, None)),
        plan=plan,
        start=base.start,
        next_step=next_step,
        newest_clock=max(
            base.newest_clock,
            *(last - (stream in PASSIVE_STREAMS) for stream, last in end.last_clock.items()),
            OPENING_CLOCK,
        ),
        revisions=revisions,
        folder=folder,
    )


def is_long(base: Base) -> bool:
    """Whether a base may have a shorter lineage beside it (see `compact.merge_ancestors`)."""
    return len(base.lineage) > LONG_LINEAGE


def effective_lineage(storage: Storage, run: RunRef, base: Base, folder: str) -> tuple[tuple[Entry, ...], Plan]:
    """Return the lineage of a base, or the shorter one with the same rows that its owner wrote beside it."""
    if is_long(base):
        path = names.merge(folder)
        try:
            merged = decode_merge(storage.read(path), run, path)
        except FileNotFoundError:
            pass
        except CorruptError as error:
            report(f"{error} It is passed by: the rows are read from where they were before they were merged.")
        else:
            return merged.lineage, merged.plan
    return base.lineage, base.plan


def reached(base: Base, end: Seal) -> int:
    """Return one past the last step of a term.

    What was logged at clock c and a checkpoint mark at c say that step c was done. Other rows may be stamped with a
    step that had not come to its end, and say nothing.
    """
    last = max(end.last_clock.get(stream, -1) for stream in STREAMS_OF_STEPS)
    return max(base.start, last + 1)
