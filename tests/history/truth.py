"""What the writers of a schedule know, what readers saw, and whether the store says the same."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from rewind_logger.errors import RunNotFoundError
from rewind_logger.format import names
from rewind_logger.format.documents import decode_base
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims, reader, snapshots
from rewind_logger.history.blobs import exists
from rewind_logger.history.opening import Opened
from rewind_logger.history.segments import Seal
from rewind_logger.history.view import View, of_term, resolve
from rewind_logger.storage.base import Storage
from rewind_logger.types import Position, RevisionRecord, RunRef, Stream

MODELLED: tuple[Stream, ...] = ("metrics", "events")
"""Each has its own flush numbers and seal, and there is nothing that a third one would add."""


class Logged(NamedTuple):
    """A row that a writer logged."""

    stream: Stream
    run: RunRef
    nonce: str
    """Of its writer's journal."""
    blob: str | None = None
    """What it refers to."""
    clock: int | None = None
    """None, and no revision: logged before its writer had opened the run."""
    revision: int | None = None
    n: int | None = None
    """The number of its writer's claim."""
    early: bool = False
    """Whether it was logged before its writer had opened the run."""
    elsewhere: bool = False
    """Whether its journal is not on the machine on which the store is collected."""


@dataclass
class Truth:
    """What the writers know, and what readers saw."""

    logged: dict[int, Logged] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    archived: dict[tuple[RunRef, int, int], list[int]] = field(default_factory=dict)
    """The rows of each archived revision when it was first read; by run, its first claim, and revision."""
    before_fork: dict[RunRef, set[int]] = field(default_factory=dict)
    """What was acknowledged when the first attempt to make a fork began."""
    revisions: dict[RunRef, int] = field(default_factory=dict)
    """The number of the newest revision of each run that was opened."""
    removed: set[tuple[RunRef, int]] = field(default_factory=set)
    """Revisions that were removed, or may have been."""
    waited: set[int] = field(default_factory=set)
    """Rows that were in a journal when a week went by: what they refer to may have been collected since."""
    gone: set[RunRef] = field(default_factory=set)
    """Runs that were removed, or may have been; another of that name may have been begun since."""
    expected: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    """By revision what it should have, at the last look."""
    inherited: dict[tuple[RunRef, int], set[int]] = field(default_factory=dict)
    """What a fork should have of another run, by the fork and its first claim."""
    rescued: dict[RunRef, tuple[RunRef, str]] = field(default_factory=dict)
    """Runs that a sync made of what superseded writers had, and the runs and nonces of these."""
    checked: int = 0
    """Rows that were looked for where they should be, each time …"""
    lost: int = 0
    """… and those that were not there."""
    seen: Counter[str] = field(default_factory=Counter)
    """What happened, for a look at whether the schedules are wild enough."""


class Onlooker:
    """Reads everything and compares it with the truth."""

    def __init__(self, store: Storage, truth: Truth, runs: list[RunRef], *, summaries: bool) -> None:
        """Take the store, the truth, and the runs in an order in which a fork comes after what it was made of."""
        self.store = store
        self.truth = truth
        self.runs = runs
        self.summaries = summaries
        self.disputed: set[tuple[str, int]] = set()
        self.built_on: dict[str, set[int]] = {}
        """What superseded writers built on, by their nonces …"""
        self.revisions: dict[str, range] = {}
        """… and the revisions that they knew."""

    def look(self) -> None:
        """Read everything and compare it with what the writers know."""
        self.truth.seen["looks"] += 1
        expected = self.truth.expected
        for fork, (run, nonce) in self.truth.rescued.items():
            if fork not in self.truth.gone:  # else another of that name may be there
                self._check_rescued(fork, run, nonce)
        for run in self.runs:  # a fork after the run that it came from
            try:
                head = resolve(self.store, run)
            except RunNotFoundError:
                assert run in self.truth.gone or not [
                    i for i in self.truth.acknowledged if self.truth.logged[i].run == run
                ]
                continue
            begins = self._first(run)
            self._check_beginning(run, head, begins)
            self._find_disputed(run, head, begins)
            for record in head.revisions:
                kept = expected[str(run), record.number] = self._expected(run, record, begins)
                self._compare(run, record, head, kept, begins)

    def _check_beginning(self, run: RunRef, head: View, begins: int) -> None:
        """See that a fork was forked from where its first claim says; a sync that is made again has the same nonce."""
        paths = RunPaths(run)
        first = claims.read(self.store, paths, begins)
        assert first is not None
        if first.source is None:
            return
        attempts = [claims.read(self.store, paths, n) for n in range(begins, claims.count(self.store, paths))]
        begun = (head.revisions[0].parent, head.revisions[0].cut)
        meant = [
            (None, None) if one.source is None else ((one.source.run, one.source.revision), one.source.cut)
            for one in attempts
            if one is not None and one.nonce == first.nonce
        ]
        assert begun in meant, f"{run} should have been forked from {meant}, and is from {begun}"

    def _first(self, run: RunRef) -> int:
        """Return the number of the first claim of a run; another of that name may have been removed before."""
        if run not in self.truth.gone:
            return 0
        return claims.life(self.store, run, claims.count(self.store, RunPaths(run))).first

    def _check_rescued(self, fork: RunRef, run: RunRef, nonce: str) -> None:
        """See that a run which a sync made has what its writer logged and built on, and nothing else."""
        truth, logged = self.truth, self.truth.logged
        try:
            view = resolve(self.store, fork, 1)
        except RunNotFoundError:
            assert (fork, 1) in truth.removed, f"{fork} is gone"
            return
        rows = self.rows(view, str(fork))
        assert len(rows) == len(set(rows)), f"{fork}: doubled rows {rows}"
        found = {i for i in rows if logged[i].run != fork}
        theirs = {i for i, row in logged.items() if row.nonce == nonce}
        built_on, removed = self._built_on(run, nonce)
        foreign = set() if built_on is None else found - theirs - built_on
        # Of two openings that made the run as a fork, the later may have found that its parent had come further.
        foreign -= {i for i in foreign if logged[i].run != run and self._clock(i) < (view.revisions[0].cut or 0)}
        assert not foreign, f"{fork}: rows {sorted(foreign)} are of neither its writer nor what that had built on"
        # What was removed before it was rescued is gone, but for what the journal had.
        lost = {i for i in theirs if run not in truth.gone and (run, logged[i].revision) not in truth.removed}
        lost -= found
        if built_on is not None and not removed and (absent := built_on - found):
            lost |= absent & (truth.acknowledged | self._all(run).keys())  # else it had built on what never was
        if late := self._late(lost, run, view.revisions[0].cut or 0):
            truth.seen["late events that stay in the run"] += 1
            lost -= late
        truth.lost += len(lost)
        assert not lost, f"{fork}: rows {sorted(lost)} of the writer that it was made of are lost"

    def _late(self, rows: set[int], run: RunRef, cut: int) -> set[int]:
        """Return the events from a cut on: they may stay where they are, in a run if that is not removed."""
        events = {i for i in rows if self.truth.logged[i].stream == "events"}
        clocks = {i: self._clock(i) for i in events if self.truth.logged[i].run in self.truth.gone}
        for each in {run, *(self.truth.logged[i].run for i in events)} if events else ():
            clocks |= self._all(each)
        return {i for i in events if clocks.get(i, -1) >= cut}

    def check_copy(self, elsewhere: Storage, child: RunRef, parent: Position, known: set[int]) -> None:
        """See that a copy has those of some rows that the run has which it is a copy of, unless these were removed."""
        truth = self.truth
        if parent.run in truth.gone or (parent.run, parent.revision) in truth.removed:
            return  # it says that it lacks rows
        self._find_disputed(parent.run, resolve(self.store, parent.run), self._first(parent.run))
        if (str(parent.run), parent.revision) in self.disputed:
            return
        copied = self._ids(elsewhere, resolve(elsewhere, child))
        kept = self._ids(self.store, resolve(self.store, parent.run, parent.revision).before(parent.next_step))
        lost = {i for i, _ in kept if i in known} - {i for i, _ in copied}
        truth.checked += len(kept)
        truth.lost += len(lost)
        assert not lost, f"{child}: rows {sorted(lost)} of {parent} were not copied"
        assert len(copied) == len(set(copied)), f"{child}: doubled rows {copied}"
        blobs = {digest for i, _ in copied if (digest := truth.logged[i].blob)} - self.excused()
        gone = [digest for digest in blobs if not exists(elsewhere, digest)]
        assert not gone, f"{child}: {gone} were not copied"

    def _built_on(self, run: RunRef, nonce: str) -> tuple[set[int] | None, bool]:
        """Return what a writer built on, whatever was collected since, and whether some of it was removed.

        None where that is not known.
        """
        everything = getattr(self.store, "everything", None)
        if everything is None or nonce in self.built_on:
            return self.built_on.get(nonce), self._was_removed(run, nonce)
        found: set[int] = set()
        for info in everything.list(RunPaths(run).terms):
            folder = f"{RunPaths(run).terms}/{info.name}"
            if names.writer(folder) == nonce:
                base = decode_base(everything.read(names.base(folder)), run, names.base(folder))
                view = of_term(everything, run, base, folder, Seal({}, {}, None), base.revisions)
                found.update(i for i, _ in self._ids(everything, view))
                self.revisions[nonce] = range(1, base.revision + 1)
        self.built_on[nonce] = found
        return found, self._was_removed(run, nonce)

    def _was_removed(self, run: RunRef, nonce: str) -> bool:
        """Say whether some of what a writer built on may have been removed."""
        numbers = self.revisions.get(nonce, ())
        return run in self.truth.gone or any((run, number) in self.truth.removed for number in numbers)

    def _all(self, run: RunRef) -> dict[int, int]:
        """Return the rows of all revisions of a run, and their clocks."""
        found: dict[int, int] = {}
        with contextlib.suppress(RunNotFoundError):
            for record in resolve(self.store, run).revisions:
                with contextlib.suppress(RunNotFoundError):
                    found.update(self._ids(self.store, resolve(self.store, run, record.number)))
        return found

    def _find_disputed(self, run: RunRef, head: View, begins: int) -> None:
        """Find the revisions that an opening began which was fenced before it had its base, and so never came to be.

        A run that was forked in that moment was forked from such a revision: the rows are those that its base says, and
        its number may by now be that of another.
        """
        paths = RunPaths(run)
        for folder in self.store.list(paths.terms):
            path = names.base(f"{paths.terms}/{folder.name}")
            with contextlib.suppress(FileNotFoundError):
                base = decode_base(self.store.read(path), run, path)
                if base.begun != begins:
                    continue
                record = base.revisions[-1]
                known = head.revisions[record.number - 1] if record.number <= len(head.revisions) else None
                if known is None or known.created_ms != record.created_ms or known.cut != record.cut:
                    self.disputed.add((str(run), record.number))

    def _expected(self, run: RunRef, record: RevisionRecord, begins: int) -> set[int]:
        """Return the rows that a revision must have: its own, and those it kept of the one that it was opened from."""
        logged, truth = self.truth.logged, self.truth
        own = {
            i
            for i in truth.acknowledged
            if (logged[i].run, logged[i].revision) == (run, record.number) and (logged[i].n or 0) >= begins
        }
        if record.parent is None or record.parent in self.disputed:
            return own
        parent, _ = record.parent
        if parent == str(run):
            inherited = truth.expected[record.parent]
        elif (run, begins) in truth.inherited:
            inherited = truth.inherited[run, begins]
        else:  # it may have gone on since, or have been removed, and another have been begun under its name
            gone = parent in map(str, truth.gone)
            inherited = set() if gone else truth.expected.get(record.parent, set()) & truth.before_fork.get(run, set())
            truth.inherited[run, begins] = inherited
        return own | {i for i in inherited if record.cut is None or self._clock(i) < record.cut}

    def _clock(self, i: int) -> int:
        """Return the clock of a row, −1 where its writer never came to know it."""
        clock = self.truth.logged[i].clock
        return -1 if clock is None else clock

    def _compare(self, run: RunRef, record: RevisionRecord, head: View, expected: set[int], begins: int) -> None:
        name, logged = f"{run}@{record.number}", self.truth.logged
        try:
            found = self.rows(resolve(self.store, run, record.number), name)
        except RunNotFoundError:
            assert (run, record.number) in self.truth.removed, f"{name} is gone"
            return
        assert len(found) == len(set(found)), f"{name}: doubled rows {found}"
        lost = expected - set(found)
        self.truth.checked += len(expected)
        self.truth.lost += len(lost)
        assert not lost, f"{name}: acknowledged rows {sorted(lost)} are lost"
        stale = [i for i in found if self._is_stale(i, run, record)]
        assert not stale, f"{name}: rows {stale} outlived the cut at {record.cut}"
        risen = [i for i in found if logged[i].run == run and (logged[i].n or begins) < begins]
        assert not risen, f"{name}: rows {risen} outlived the run that was removed"
        if record.number == head.revision:
            return
        before = self.truth.archived.get((run, begins, record.number))
        assert before in (None, found), f"{name} changed after it was archived: {before}, then {found}"
        # An opening that was itself fenced before it had its base may have sealed earlier than the one that fenced it.
        # Nobody was told that it had opened the run, and what it archived is not archived yet.
        if head.folder.startswith(f"{RunPaths(run).terms}/{claims.count(self.store, RunPaths(run)) - 1:08d}-"):
            self.truth.archived[run, begins, record.number] = found

    def _is_stale(self, i: int, run: RunRef, record: RevisionRecord) -> bool:
        """Say whether a revision should have cut a row off."""
        row = self.truth.logged[i]
        if record.cut is None or self._clock(i) < record.cut:
            return False
        if row.run == run:
            return (row.revision or 0) < record.number
        if row.nonce == self.truth.rescued.get(run, (run, ""))[1]:
            return record.number > 1
        # A fork of a whole revision is noted as cut at its last step, and has the events that came after it too.
        return row.stream == "metrics"

    def rows(self, view: View, name: str) -> list[int]:
        """Return the ids of the rows of a view, in order; their clocks are checked."""
        rows: list[int] = []
        for stream in MODELLED:
            ids = self._ids(self.store, view, stream)
            found, clocks = [i for i, _ in ids], [clock for _, clock in ids]
            known = [self._clock(i) for i in found]
            blobs = {digest for i in found if (digest := self.truth.logged[i].blob) and i not in self.truth.waited}
            gone = [digest for digest in blobs - self.renewed() if not exists(self.store, digest)]
            assert not gone, f"{name}: rows refer to {gone}, which are not there"
            wrong = [
                i for i, a, b in zip(found, clocks, known, strict=True) if a != b != -1 and not self._is_early(i, a)
            ]
            assert not wrong, f"{name}: wrong clocks of rows {wrong}"
            # An event at a step that did not end says nothing of how far training had come.
            assert stream != "metrics" or clocks == sorted(clocks), f"{name}: rows out of order"
            if stream == "metrics" and self.summaries:
                summary = snapshots.aggregates(self.store, view)
                assert int(summary.table["count"].to_numpy().sum()) == len(found), f"{name}: a summary of other rows"
                assert list(summary.last_values().values()) == found[-1:], f"{name}: another last value"
            rows += found
        return rows

    def renewed(self) -> set[str]:
        """Return blobs that a collector took in the moment in which they were renewed, which nothing can prevent."""
        return {path.rpartition("/")[2] for path in getattr(self.store, "renewed", ())}

    def excused(self) -> set[str]:
        """Return all blobs that may be missing, as `design/009-collect.md` says."""
        return self.renewed() | {digest for i in self.truth.waited if (digest := self.truth.logged[i].blob)}

    def _is_early(self, i: int, clock: int) -> bool:
        """Say whether a row is at 0 since nothing tells any more at which step its run was opened: it was removed."""
        row = self.truth.logged[i]
        return clock == 0 and row.early and row.run in self.truth.gone

    def _ids(self, storage: Storage, view: View, *streams: Stream) -> list[tuple[int, int]]:
        """Return the ids of rows, and their clocks; of all streams that are modelled, if none is named."""
        ids = []
        for stream in streams or MODELLED:
            table = reader.read(storage, view, stream)
            columns = zip(*(table[name].to_pylist() for name in ("key", "value", "clock")), strict=True)
            ids += [(int(value), clock) for key, value, clock in columns if key == "id"]
        return ids

    def check_nothing_to_cut(self, opened: Opened, cut: int) -> None:
        """See that an opening that was asked to cut, and did not, had nothing to cut."""
        nothing = Seal({}, {}, None)
        view = of_term(self.store, opened.run, opened.base, opened.folder, nothing, opened.base.revisions)
        late = [i for i in self.rows(view, str(opened.run)) if self._clock(i) >= cut]
        assert not late, f"{opened.run}: rows {late} should have been cut off at {cut}"
