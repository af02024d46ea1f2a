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
from rewind_logger.types import RevisionRecord, RunRef, Stream

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


@dataclass
class Truth:
    """What the writers know, and what readers saw."""

    logged: dict[int, Logged] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    archived: dict[tuple[RunRef, int], list[int]] = field(default_factory=dict)
    """The rows of each archived revision when it was first read."""
    before_fork: dict[RunRef, set[int]] = field(default_factory=dict)
    """What was acknowledged when the first attempt to make a fork began."""
    revisions: dict[RunRef, int] = field(default_factory=dict)
    """The number of the newest revision of each run that was opened."""
    removed: set[tuple[RunRef, int]] = field(default_factory=set)
    """Revisions that were removed, or may have been."""
    gone: set[RunRef] = field(default_factory=set)
    """Runs that were removed."""
    expected: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    """By revision what it should have, at the last look."""
    rescued: dict[RunRef, str] = field(default_factory=dict)
    """Runs that a sync made of what superseded writers had, and the nonces of these."""
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

    def look(self) -> None:
        """Read everything and compare it with what the writers know."""
        self.truth.seen["looks"] += 1
        expected = self.truth.expected
        for run, nonce in self.truth.rescued.items():
            view = resolve(self.store, run)
            found = self.rows(view, str(run))
            assert len(found) == len(set(found)), f"{run}: doubled rows {found}"
            theirs = {i: row for i, row in self.truth.logged.items() if row.nonce == nonce}
            # What was removed before it was rescued is gone, but for what the journal had.
            lost = {i for i, row in theirs.items() if (row.run, row.revision) not in self.truth.removed} - set(found)
            # Events beyond the last step that are in the run already may stay out: it may have had to be cut there.
            cut = view.revisions[0].cut
            acknowledged = self.truth.acknowledged
            lost -= {i for i in lost & acknowledged if theirs[i].stream == "events" and self._clock(i) >= (cut or 0)}
            assert not lost, f"{run}: rows {sorted(lost)} of the writer that it was made of are lost"
        for run in self.runs:  # a fork after the run that it came from
            try:
                head = resolve(self.store, run)
            except RunNotFoundError:
                assert run in self.truth.gone or not [
                    i for i in self.truth.acknowledged if self.truth.logged[i].run == run
                ]
                continue
            first = claims.read(self.store, RunPaths(run), 0)
            assert first is not None
            if first.source is not None:
                begun = (head.revisions[0].parent, head.revisions[0].cut)
                meant = ((first.source.run, first.source.revision), first.source.cut)
                assert begun == meant, f"{run} should have been forked from {meant}, and is from {begun}"
            self._find_disputed(run, head)
            for record in head.revisions:
                kept = expected[str(run), record.number] = self._expected(run, record, expected)
                self._compare(run, record, head, kept)

    def _find_disputed(self, run: RunRef, head: View) -> None:
        """Find the revisions that an opening began which was fenced before it had its base, and so never came to be.

        A run that was forked in that moment was forked from such a revision: the rows are those that its base says, and
        its number may by now be that of another.
        """
        paths = RunPaths(run)
        for folder in self.store.list(paths.terms):
            path = names.base(f"{paths.terms}/{folder.name}")
            with contextlib.suppress(FileNotFoundError):
                record = decode_base(self.store.read(path), run, path).revisions[-1]
                known = head.revisions[record.number - 1] if record.number <= len(head.revisions) else None
                if known is None or known.created_ms != record.created_ms or known.cut != record.cut:
                    self.disputed.add((str(run), record.number))

    def _expected(self, run: RunRef, record: RevisionRecord, expected: dict[tuple[str, int], set[int]]) -> set[int]:
        """Return the rows that a revision must have: its own, and those it kept of the one that it was opened from."""
        logged = self.truth.logged
        own = {i for i in self.truth.acknowledged if (logged[i].run, logged[i].revision) == (run, record.number)}
        if record.parent is None or record.parent in self.disputed:
            return own
        inherited = expected[record.parent]
        if record.parent[0] != str(run):  # the parent may have gone on since
            inherited = inherited & self.truth.before_fork[run]
        return own | {i for i in inherited if record.cut is None or self._clock(i) < record.cut}

    def _clock(self, i: int) -> int:
        """Return the clock of a row, −1 where its writer never came to know it."""
        clock = self.truth.logged[i].clock
        return -1 if clock is None else clock

    def _compare(self, run: RunRef, record: RevisionRecord, head: View, expected: set[int]) -> None:
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
        stale = [
            i
            for i in found
            if record.cut is not None
            and self._clock(i) >= record.cut
            # A fork of a whole revision is noted as cut at its last step, and has the events that came after it too.
            and ((logged[i].revision or 0) < record.number if logged[i].run == run else logged[i].stream == "metrics")
        ]
        assert not stale, f"{name}: rows {stale} outlived the cut at {record.cut}"
        if record.number == head.revision:
            return
        before = self.truth.archived.get((run, record.number))
        assert before in (None, found), f"{name} changed after it was archived: {before}, then {found}"
        # An opening that was itself fenced before it had its base may have sealed earlier than the one that fenced it.
        # Nobody was told that it had opened the run, and what it archived is not archived yet.
        if head.folder.startswith(f"{RunPaths(run).terms}/{claims.count(self.store, RunPaths(run)) - 1:08d}-"):
            self.truth.archived[run, record.number] = found

    def rows(self, view: View, name: str) -> list[int]:
        """Return the ids of the rows of a view, in order; their clocks are checked."""
        rows: list[int] = []
        for stream in MODELLED:
            table = reader.read(self.store, view, stream)
            columns = zip(*(table[name].to_pylist() for name in ("key", "value", "clock")), strict=True)
            ids = [(int(value), clock) for key, value, clock in columns if key == "id"]
            found, clocks = [i for i, _ in ids], [clock for _, clock in ids]
            known = [self._clock(i) for i in found]
            blobs = {digest for i in found if (digest := self.truth.logged[i].blob) is not None}
            gone = [digest for digest in blobs if not exists(self.store, digest)]
            assert not gone, f"{name}: rows refer to {gone}, which are not there"
            assert all(a == b or b == -1 for a, b in zip(clocks, known, strict=True)), f"{name}: wrong clocks"
            # An event at a step that did not end says nothing of how far training had come.
            assert stream != "metrics" or clocks == sorted(clocks), f"{name}: rows out of order"
            if stream == "metrics" and self.summaries:
                summary = snapshots.aggregates(self.store, view)
                assert int(summary.table["count"].to_numpy().sum()) == len(found), f"{name}: a summary of other rows"
                assert list(summary.last_values().values()) == found[-1:], f"{name}: another last value"
            rows += found
        return rows

    def check_nothing_to_cut(self, opened: Opened, cut: int) -> None:
        """See that an opening that was asked to cut, and did not, had nothing to cut."""
        nothing = Seal({}, {}, None)
        view = of_term(self.store, opened.run, opened.base, opened.folder, nothing, opened.base.revisions)
        late = [i for i in self.rows(view, str(opened.run)) if self._clock(i) >= cut]
        assert not late, f"{opened.run}: rows {late} should have been cut off at {cut}"
