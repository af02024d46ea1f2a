"""Sync: journals whose writers are gone come into their store, without anybody opening the runs.

What an opening does on its way is done here for itself, and with more care: an opening may end the turn of whoever
writes the run, a sync must not. So only what a run's own last writer left is brought into the run; the journal of a
writer that the run went on without becomes a run of its own, if that is asked for.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rewind_logger.errors import RewindError, TransientStorageError
from rewind_logger.format.wording import counted
from rewind_logger.history import claims, recovery
from rewind_logger.history.claims import Life
from rewind_logger.history.journals import place, spool
from rewind_logger.history.journals.abandoned import Abandoned, abandoned
from rewind_logger.history.journals.place import NOTED, RECOVERING
from rewind_logger.history.rescue import sync_command
from rewind_logger.history.superseded import fork, fork_of
from rewind_logger.storage.base import Storage
from rewind_logger.types import Progress, RunRef

RECENT_S = 3600.0
"""A journal of another machine, on a disk that both see, is passed by for so long after it was last written: over a
network the lock of a writer that lives may not be seen."""

_BEING_OPENED = (
    "another process is opening the run, or was killed while it did. Sync once that is over; or open the run on this"
    " machine, which takes it over and brings them in."
)

What = Literal["brought in", "nothing left", "in use", "superseded", "waiting", "forked", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What became of one journal."""

    store: str
    """URL of its store."""
    run: RunRef
    """The run that it is a journal of."""
    journal: Path
    """Its folder."""
    what: What
    """brought in: its rows are in the run now. nothing left: they were already. forked: they are in a run of their own,
    `fork`. in use: its writer lives. superseded: the run went on without its writer; `as_fork` makes a run of its rows.
    waiting: another process may be writing the run. failed: `trouble` says why. In all but the first three it is kept.
    """
    rows: int = 0
    """How many rows of it were not in the store; 0 also where that is not known."""
    fork: RunRef | None = None
    """The run that its rows are in, or would be in with `as_fork`."""
    trouble: str = ""
    """Why it was not brought in."""
    dry_run: bool = False
    """Whether it only says what would be done."""

    def __str__(self) -> str:
        rows = counted(self.rows, "row")
        would = "would be" if self.dry_run else "was" if self.rows == 1 else "were"
        said = {
            "brought in": f"{rows} {would} brought in",
            "nothing left": "all of it is in the store" + ("" if self.dry_run else "; it was removed"),
            "in use": "its writer lives, so it is left to it",
            "superseded": "the run went on without its writer, or was removed; "
            f"{rows} {'is' if self.rows == 1 else 'are'} kept in {self.journal}. To have them as run {self.fork}: "
            f"{sync_command(self.store, as_fork=True)}",
            "waiting": f"its rows are kept in {self.journal}: {self.trouble}",
            "forked": f"{rows} {would} brought into a run of their own, {self.fork}",
            "failed": f"it is kept in {self.journal}. {self.trouble}",
        }[self.what]
        return f"{self.run} in {self.store}, journal {self.journal.name}: {said}"


def sync_store(
    storage: Storage, *, as_fork: bool = False, dry_run: bool = False, progress: Progress | None = None
) -> list[Synced]:
    """Bring in the journals of this machine for one store.

    Args:
        storage: The store.
        as_fork: Whether rows of writers that a run went on without become runs of their own.
        dry_run: Whether only to say what would be done.
        progress: Called before each run that has journals.

    Returns:
        What became of each journal, by run and then by age. A failure is part of it, and ends nothing; but a store that
        does not answer is not asked again.
    """
    found: list[Synced] = []
    away: RewindError | None = None
    runs = spool.roots(storage)
    for number, (run, roots) in enumerate(runs):
        if progress is not None:
            progress(f"journals of {run}", number, len(runs))
        work = _Run(storage, run, roots, as_fork=as_fork, dry_run=dry_run)
        found += work.sync(away)
        away = away or work.away
    return found


class _Run:
    """The journals of one run."""

    def __init__(self, storage: Storage, run: RunRef, roots: list[Path], *, as_fork: bool, dry_run: bool) -> None:
        self._storage = storage
        self._run = run
        self._roots = roots
        self._as_fork = as_fork
        self._dry_run = dry_run
        self._held: set[str] = set()
        self.away: RewindError | None = None
        """Why the store could not be asked."""

    def sync(self, away: RewindError | None) -> list[Synced]:
        """Bring in what can be; say the same of each if the store is known to be `away`."""
        done = []
        self.away = away
        with abandoned(*self._roots) as found:
            self._held = {one.nonce for one in found}
            done += [self._say(path, "in use") for path in spool.journals(*self._roots) if path.name not in self._held]
            for one in self._last_first(found):
                try:
                    done.append(self._say_away(one) if self.away else self._one(one))
                except (RewindError, OSError) as error:
                    if isinstance(error, TransientStorageError):
                        self.away = error
                    done.append(self._say(one.folder, "failed", trouble=str(error)))
        return done

    def _last_first(self, found: list[Abandoned]) -> list[Abandoned]:
        """Begin with that of the last writer: what is replayed ends its term, and with it its right to be there."""
        if not found or self.away is not None:
            return found
        try:
            head = claims.now(self._storage, self._run).head
        except RewindError:  # which each of them is told
            return found
        return sorted(found, key=lambda one: not recovery.is_last_writers(one, head))

    def _one(self, one: Abandoned) -> Synced:
        if one.host not in (None, socket.gethostname()) and time.time() - _written(one.folders) < RECENT_S:
            trouble = f"they were written on {one.host} within the last hour. Sync there, or later."
            return self._say(one.folder, "waiting", trouble=trouble)
        if recovery.is_elsewhere(self._storage, self._run, one):
            trouble = "their run was opened at another endpoint. Sync with the storage_options that were given there."
            return self._say(one.folder, "waiting", trouble=trouble)
        life = claims.now(self._storage, self._run)
        if life.head is None:
            return self._begin(life, one)
        looked = recovery.look(self._storage, self._run, life.head, one)
        if looked.state == "kept":
            return self._superseded(one, looked.rows)
        if looked.state == "brought in" and not self._is_over(life, one):
            return self._say(
                one.folder,
                "waiting",
                looked.rows,
                trouble="another process opened the run before, and may still be writing it. Open the run on this"
                " machine, which takes it over and brings them in; or sync once the other has ended.",
            )
        if not self._dry_run:
            looked = recovery.recover_one(self._storage, self._run, life, one)
        if looked.state == "overtaken":  # somebody opened the run at this very moment
            return self._one(one)
        if looked.state == "kept":
            return self._superseded(one, looked.rows)
        if looked.state == "unsettled":
            return self._say(one.folder, "waiting", trouble=_BEING_OPENED)
        return self._say(one.folder, "brought in" if looked.rows else "nothing left", looked.rows)

    def _begin(self, life: Life, one: Abandoned) -> Synced:
        """Open a run that was never opened, for the rows that were logged to it."""
        rows = recovery.count(one.batches(0))
        if claims.was_removed(self._storage, self._run, one.claimed):  # it is not to come back by itself
            return self._superseded(one, rows)
        if not rows:
            if not self._dry_run:
                one.remove()
            return self._say(one.folder, "nothing left")
        if life.disputed and not self._is_over(life, one):
            return self._say(one.folder, "waiting", rows, trouble=_BEING_OPENED)
        if recovery.was_to_be_a_fork(self._storage, self._run, life):
            trouble = "the opening of the run was cut short. Open it again as it was meant, as that fork."
            return self._say(one.folder, "waiting", rows, trouble=trouble)
        if not self._dry_run:
            recovery.begin_with(self._storage, self._run, life, one)
            return self._one(one)
        return self._say(one.folder, "brought in", rows)

    def _is_over(self, life: Life, one: Abandoned) -> bool:
        return recovery.is_over(self._storage, self._run, life, one, self._held, self._roots)

    def _superseded(self, one: Abandoned, rows: int) -> Synced:
        child = fork_of(self._run, one.nonce)
        if not self._as_fork:
            return self._say(one.folder, "superseded", rows, child)
        if self._dry_run:
            return self._say(one.folder, "forked", rows, child)
        head = fork(self._storage, self._run, child, one)
        if head is None:
            trouble = f"There is another run {child}, which is no fork of these rows."
            return self._say(one.folder, "failed", trouble=trouble)
        if recovery.is_last_writers(one, head):
            # Also over a claim without a base: no opening of that run could bring them in.
            recovered = recovery.recover_one(self._storage, child, claims.now(self._storage, child), one)
            if recovered.state == "overtaken":
                return self._superseded(one, rows)
            if recovered.state == "unsettled":
                return self._say(one.folder, "waiting", trouble=_BEING_OPENED)
            if recovered.state != "kept":
                return self._say(one.folder, "forked", recovered.rows, child)
        trouble = f"Run {child} was opened before it had all its rows, and went on without."
        return self._say(one.folder, "failed", trouble=trouble)

    def _say_away(self, one: Abandoned) -> Synced:
        return self._say(one.folder, "failed", trouble=str(self.away))

    def _say(self, journal: Path, what: What, rows: int = 0, fork: RunRef | None = None, trouble: str = "") -> Synced:
        return Synced(
            store=self._storage.url,
            run=self._run,
            journal=journal,
            what=what,
            rows=rows,
            fork=fork,
            trouble=trouble,
            dry_run=self._dry_run,
        )


def _written(journal: list[Path]) -> float:
    """Return when the writer of a journal last wrote to it, in seconds since 1970."""
    files = [path for folder in journal for path in place.files(folder) if path.name not in (NOTED, RECOVERING)]
    return max((path.stat().st_mtime for path in files), default=0.0)
