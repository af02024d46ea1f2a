"""Roots: what of a run's folders must stay, because somebody reads it or may begin to.

Needed are what the head shows, what each archived revision shows, and what forks refer to. The head is every base that
was it within the grace period: whoever looked then may still read, or build on what was seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from rewind_logger.errors import CorruptError
from rewind_logger.format import names
from rewind_logger.format.documents import Base, Plan
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims
from rewind_logger.history.view import effective_lineage
from rewind_logger.storage.base import Storage
from rewind_logger.types import Entry, RevisionRecord, RunRef


class Need(NamedTuple):
    """A part of a folder that somebody needs."""

    sealed: tuple[tuple[str, int], ...] | None
    """Per stream the last flush (inclusive); None: all there are, of every stream."""
    cut: int | None
    """Rows with clock < cut are needed (exclusive); None: all."""

    @staticmethod
    def of(entry: Entry) -> Need:
        """Return what an entry of a lineage needs of its folder."""
        return Need(tuple(sorted(entry.sealed.items())), entry.cut)

    def last(self, stream: str) -> int | None:
        """Return the last flush of a stream that is needed, −1 without any; None: there is no last one."""
        return None if self.sealed is None else dict(self.sealed).get(stream, -1)

    def covers(self, other: Need) -> bool:
        """Whether all that another needs of the folder is needed: it is cut and sealed no later than this one."""
        if self.cut is not None and (other.cut is None or other.cut > self.cut):
            return False
        if self.sealed is None or other.sealed is None:
            return self.sealed is None
        last = dict(self.sealed)
        return all(flush <= last.get(stream, -1) for stream, flush in other.sealed)


class Needs:
    """What is needed of folders of segments."""

    def __init__(self) -> None:
        self._needs: defaultdict[str, set[Need]] = defaultdict(set)
        self._planned: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def add(self, entry: Entry) -> None:
        """Note an entry of a lineage."""
        self._needs[entry.folder].add(Need.of(entry))

    def add_open(self, folder: str) -> None:
        """Note a folder that is not sealed."""
        self._needs[folder].add(Need(None, None))

    def add_plan(self, plan: Plan) -> None:
        """Note the files that a base names: readers ask for them without a look, also for one that was superseded."""
        for folder, streams in plan.items():
            for stream, files in streams.items():
                self._planned[folder, stream].update(name for name, _ in files)

    def has(self, entry: Entry) -> bool:
        """Whether an entry was noted."""
        return Need.of(entry) in self.of(entry.folder)

    def of(self, folder: str) -> set[Need]:
        """Return what is needed of a folder."""
        return self._needs.get(folder, set())

    def planned(self, folder: str, stream: str) -> set[str]:
        """Return the names of files that are needed as they are."""
        return self._planned.get((folder, stream), set())

    def folders(self) -> Iterator[str]:
        """Yield the folders of which something is needed."""
        yield from self._needs

    def covers(self, folder: str, need: Need) -> bool:
        """Whether all of a need is needed by others too."""
        return any(other.covers(need) for other in self.of(folder))

    def take(self, other: Needs, *, within: str | None = None, outside: str | None = None) -> None:
        """Add what `other` has: only of folders that begin so, or that do not."""
        for folder, needs in other._needs.items():
            if _matches(folder, within, outside):
                self._needs[folder] |= needs
        for (folder, stream), files in other._planned.items():
            if _matches(folder, within, outside):
                self._planned[folder, stream] |= files


def _matches(folder: str, within: str | None, outside: str | None) -> bool:
    return (within is None or folder.startswith(within)) and (outside is None or not folder.startswith(outside))


@dataclass(slots=True)
class Roots:
    """What of a store's folders one run needs."""

    run: RunRef
    claims: Mapping[int, float | None]
    """By number when each was made, by the store's clock."""
    first: int = 0
    """The number of the first claim of the run as it is now."""
    needs: Needs = field(default_factory=Needs)
    folders: set[str] = field(default_factory=set)
    """Terms whose bases are read: those of heads and archived revisions."""
    records: tuple[RevisionRecord, ...] = ()
    """The run's revisions; none, where there is no such run."""
    removed: dict[int, str] = field(default_factory=dict)
    """Revisions that were removed, with their last folders."""
    ended: float | None = None
    """When the last run of that name was removed, by the store's clock."""


def is_old(modified: float | None, limit: float) -> bool:
    """Whether something was written before the grace period; False where that is not known."""
    return modified is not None and modified <= limit


def roots(storage: Storage, run: RunRef, limit: float, *, without: str | None = None) -> Roots:
    """Look up what a run needs.

    Args:
        storage: The store.
        run: The run; it need not exist, or may have been removed.
        limit: The beginning of the grace period, by the store's clock.
        without: The last folder of an archived revision that is taken for removed, however short a time ago. Not its
            number, for a run that is begun anew meanwhile has one of that number too.

    Raises:
        CorruptError: If a claim or a base is damaged, or a base is missing: then it is not known what is needed.
        FormatVersionError: If a newer version of this package wrote one.
        StorageError: If the store fails.
    """
    paths = RunPaths(run)
    while True:
        found = Roots(run, claims.made(storage, paths))
        try:
            _look_up(storage, found, limit, without)
            return found
        except CorruptError:
            newest = max(found.claims, default=-1)
            if claims.count(storage, paths) == newest + 1 or not claims.was_removed(storage, run, newest):
                raise  # else somebody was removing the run


def _look_up(storage: Storage, found: Roots, limit: float, without: str | None) -> None:
    """Look up what a run needs whose claims are known."""
    run = found.run
    paths = RunPaths(run)
    terms = claims.terms(storage, paths)
    present = True
    for n in sorted(found.claims.keys() | terms.keys(), reverse=True):
        claim = claims.read(storage, paths, n)
        if claim is None:
            _check_terms(storage, found, n, terms.get(n, set()))
            continue
        if claim.kind == claims.REMOVED:
            if present:
                found.first, present = n + 1, False
            if is_old(found.claims[n], limit):
                break
            continue
        folder = paths.term(n, claim.nonce)
        base: Base | None
        try:
            base, modified = claims.base_of(storage, run, folder), storage.info(names.base(folder)).modified
        except FileNotFoundError:
            base = None
        _check_terms(storage, found, n, terms.get(n, set()) - {claim.nonce})
        if base is None:
            continue
        newest = present and not found.records
        if present:
            found.first, found.records = base.begun, found.records or base.revisions
        if newest or not (present and found.removed.get(base.revision, "") == without):
            _add_head(storage, found, base, limit, without, present)
        # Whoever saw an earlier one as the head did so before the grace period.
        if is_old(modified, limit):
            break
    ended = found.claims.get(found.first - 1)
    found.ended = ended if is_old(ended, limit) else None


def _check_terms(storage: Storage, found: Roots, n: int, nonces: Collection[str]) -> None:
    """Refuse terms that have a base and no claim: one of them may be the head."""
    for nonce in nonces:
        path = names.base(RunPaths(found.run).term(n, nonce))
        try:
            storage.size(path)
        except FileNotFoundError:
            continue
        raise CorruptError(
            f"{path} in {storage.url} has no claim: it is not known what is needed. Restore the claim from a backup."
        )


def _add_head(storage: Storage, found: Roots, base: Base, limit: float, without: str | None, present: bool) -> None:
    """Note what is visible from a term, and what is archived."""
    folder = RunPaths(found.run).term(base.number, base.nonce)
    _add_base(storage, found, base, folder)
    found.needs.add_open(folder)
    for record in base.revisions:
        if record.folder is not None:
            _add_archived(storage, found, record, limit, without, present)


def _add_base(storage: Storage, found: Roots, base: Base, folder: str) -> None:
    """Note what a base builds on: as it says, and in fewer folders if its owner wrote that beside it."""
    found.folders.add(folder)
    lineage, plan = effective_lineage(storage, found.run, base, folder)
    for entry in (*base.lineage, *lineage):
        found.needs.add(entry)
    found.needs.add_plan(base.plan)
    found.needs.add_plan(plan)


def _add_archived(
    storage: Storage, found: Roots, record: RevisionRecord, limit: float, without: str | None, present: bool
) -> None:
    """Note what an archived revision shows."""
    assert record.folder is not None
    entry = Entry(record.folder, record.sealed, None)
    if record.folder in found.removed.values() or (record.folder in found.folders and found.needs.has(entry)):
        return
    modified = None
    try:
        base = claims.base_of(storage, found.run, record.folder)
    except FileNotFoundError:
        try:
            base = claims.base_aside(storage, found.run, record.folder)
            modified = storage.info(names.removed(record.folder)).modified
        except FileNotFoundError:
            if not present:
                return  # it went with the run that was removed
            raise CorruptError(
                f"{names.base(record.folder)} in {storage.url} is missing, on which revision {record.number} of run "
                f"{found.run} rests: it is not known what that needs. Restore it from a backup."
            ) from None
    if record.folder == without or is_old(modified, limit):
        found.removed[record.number] = record.folder
        return
    _add_base(storage, found, base, record.folder)
    found.needs.add(entry)
