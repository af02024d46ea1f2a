"""A model check of the protocol: the real code, interleaved request by request.

Writers run as greenlets over one store in memory. Every request stops twice, before and after its effect, and at each
stop another writer may go on instead, the request or its reply may be lost, or the writer may be killed. What was lost
may still come through later. So a schedule has late writes of fenced writers, lost replies, claims without a base, and
openings that are cut short, in every order that chance finds.

At any moment, and at the end, everything is read and compared with what the writers know. A row whose flush was
acknowledged is in the run, once and in its place, unless a rewind cut it off; then it is in the archived revision. A
revision that was archived never changes.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import greenlet
from fsspec.implementations.memory import MemoryFileSystem

from rewind_logger.errors import RewindError, RunNotFoundError, StorageError, TransientStorageError
from rewind_logger.format import names
from rewind_logger.format.documents import decode_base
from rewind_logger.format.names import RunPaths
from rewind_logger.history import catalog, claims, cumulative, reader, snapshots
from rewind_logger.history.blobs import exists
from rewind_logger.history.opening import Opened, OpenRequest
from rewind_logger.history.segments import Seal
from rewind_logger.history.sync import Synced, sync_store
from rewind_logger.history.verify import verify
from rewind_logger.history.view import View, of_term, resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.retry import RetryingStorage
from rewind_logger.types import Position, RevisionRecord, RunRef, Scalar, Stream
from tests.history.stepping import Network, SteppingStorage
from tests.history.swift import DictStorage, Tokens

MODELLED: tuple[Stream, ...] = ("metrics", "events")
"""Each has its own flush numbers and seal, and there is nothing that a third one would add."""


NEVER = 2**62
"""Segments after which there is no summary."""


class Killed(BaseException):
    """The writer was killed; not an `Exception`, so that nothing handles it."""


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
    rescued: dict[RunRef, str] = field(default_factory=dict)
    """Runs that a sync made of what superseded writers had, and the nonces of these."""
    checked: int = 0
    """Rows that were looked for where they should be, each time …"""
    lost: int = 0
    """… and those that were not there."""
    seen: Counter[str] = field(default_factory=Counter)
    """What happened, for a look at whether the schedules are wild enough."""


@dataclass
class Rules:
    """What may happen in a schedule."""

    writers: int = 4
    """That run at the same time."""
    turns: int = 10
    """Writers in all."""
    kill: float = 0.01
    """Chance of a kill at each stop …"""
    lose: float = 0.01
    """… of the loss of a request or a reply, which its writer outlives …"""
    land: float = 0.02
    """… and that a request which was lost comes through now."""
    look: float = 0.004
    """Chance at each stop that everything is read and compared."""
    sync: float = 0.08
    """Chance that a turn is a sync of the journals of a machine, and not a writer."""
    blob: float = 0.3
    """Chance that an event refers to a blob."""
    machines: int = 2
    """Writers of one machine find each other's journals."""
    summaries: float = 0.25
    """Chance that a schedule keeps summaries, which take a quarter of its time."""
    rescue: float = 0.25
    """Chance that in the end every journal is brought in, and every row that was ever logged looked for."""
    verify: float = 0.1
    """Chance that in the end everything is verified."""
    unflushed_counts: bool = False
    """Whether a row must be kept as soon as it was logged."""
    opening: Callable[[Writer, OpenRequest], Opened] = Writer.open


class Schedule:
    """One random schedule."""

    def __init__(self, seed: int, folder: Path, rules: Rules, tokens: Tokens | None = None) -> None:
        """Begin; with tokens the store is a dict, and segments are no Parquet."""
        self.random = random.Random(seed)
        self.rules = rules
        self.truth = Truth()
        self.tokens = tokens
        self.now = 1e9
        """The wall time of the store, in seconds."""
        url = f"memory://model/{folder.name}/{seed}"
        self.store: Storage = MemoryStorage(url) if tokens is None else DictStorage(url, lambda: self.now)
        self.network = Network(self.random)
        self.folder = folder / str(seed)
        self.runs = [RunRef("p", "a")]
        self.forks: dict[RunRef, OpenRequest] = {}
        self.disputed: set[tuple[str, int]] = set()
        self.serial = 0
        self.summaries = self.random.random() < rules.summaries

    def run(self) -> Truth:
        """Let the writers run until all turns are taken; look now and then, and at the end."""
        due, closing = (2, 1) if self.summaries else (NEVER, NEVER)
        cumulative.DUE_SEGMENTS, cumulative.CLOSING_SEGMENTS = due, closing
        try:
            self._run()
        finally:
            self._clear()
        return self.truth

    def _run(self) -> None:
        rules, chance = self.rules, self.random
        rescue, verified = chance.random() < rules.rescue, chance.random() < rules.verify
        writers: list[greenlet.greenlet] = []
        turns = rules.turns
        sticky = chance.choice([0.0, 0.8, 0.95, 0.99])  # from request by request to nearly one after the other
        weather = chance.choice([0.2, 1.0, 5.0])  # from fair to foul
        kill, lose = weather * rules.kill, weather * rules.lose
        chosen: greenlet.greenlet | None = None
        while turns or writers:
            if turns and len(writers) < rules.writers:
                turns -= 1
                turn = self._syncer if chance.random() < rules.sync else self._writer
                writers.append(greenlet.greenlet(turn))
            if chosen is None or chance.random() > sticky:
                chosen = chance.choice(writers)
            drawn = chance.random() if chosen else 1.0
            if drawn < kill:
                self.truth.seen["kills"] += 1
                chosen.throw(Killed)
            elif drawn < kill + lose:
                self.truth.seen["lost requests"] += 1
                chosen.throw(TransientStorageError("lost"))
            else:
                chosen.switch()
            if chosen.dead:
                writers.remove(chosen)
                chosen = None
            if chance.random() < rules.land:
                self.network.land_one()
            if chance.random() < rules.look:
                self.look()
        if rules.unflushed_counts:
            for run in self.runs:
                self._bring_in(run)
        self.look()
        self.network.land_all()
        if rescue:
            self._rescue()
        self.look()
        if verified:
            self._verify()
        self.truth.seen["late requests"] += self.network.landed

    def _rescue(self) -> None:
        """Bring in every journal of every machine, undisturbed, and look for every row that was ever logged."""
        self.truth.seen["rescues"] += 1
        for run in self.runs:
            for machine in range(self.rules.machines):
                self._bring_in(run, machine)
        for machine in range(self.rules.machines):
            folder = self.folder / str(machine)
            self._note_rescued(sync_store(self._storage(folder, lambda: None), as_fork=True))
            left = [path for path in folder.rglob("*.part")]
            assert not left, f"nobody brought in {left}"
        found: set[int] = set()
        for run in catalog.runs(self.store):
            with contextlib.suppress(RunNotFoundError):
                for record in resolve(self.store, run).revisions:
                    found.update(self._rows(resolve(self.store, run, record.number), str(run)))
        lost = self.truth.logged.keys() - found
        self.truth.lost += len(lost)
        assert not lost, f"rows {sorted(lost)} were logged and are nowhere"

    def _verify(self) -> None:
        """Have the package itself look for what is not as it should be."""
        self.truth.seen["verified"] += 1
        report = verify(self.store)
        assert report.ok, str(report)

    def _clear(self) -> None:
        """Forget everything: a listing of fsspec's memory looks at all objects of all schedules."""
        if self.tokens is not None:
            self.tokens.clear()
        elif isinstance(self.store, MemoryStorage):
            kept = MemoryFileSystem.store
            for path in [path for path in kept if path.startswith(f"{self.store._root}/")]:
                del kept[path]
        shutil.rmtree(self.folder, ignore_errors=True)

    def _storage(self, machine: Path, stop: Callable[[], None]) -> Storage:
        return SteppingStorage(self.store, machine, stop, self.network)

    def _bring_in(self, run: RunRef, machine: int = 0) -> None:
        """Open a run once more, undisturbed, for what the last writer left in its journal."""
        writer = Writer(self._storage(self.folder / str(machine), lambda: None), run, background=False)
        with contextlib.suppress(RunNotFoundError):
            writer.open(OpenRequest(resume="must"))
        writer.close()

    def _stop(self) -> None:
        parent = greenlet.getcurrent().parent
        assert parent is not None
        parent.switch()

    def _syncer(self) -> None:
        """Sync the journals of a machine."""
        storage = self._storage(self.folder / str(self.random.randrange(self.rules.machines)), self._stop)
        with contextlib.suppress(Killed):
            self._note_rescued(sync_store(storage, as_fork=self.random.random() < 0.5))

    def _note_rescued(self, done: Iterable[Synced]) -> None:
        for one in done:
            self.truth.seen[f"sync: {one.what}"] += 1
            if one.what == "forked":
                assert one.fork is not None
                self.truth.rescued[one.fork] = one.journal.name

    def _writer(self) -> None:
        """Open a run in one of the ways there are, log and flush for a while, go back, and finish or not."""
        storage = self._storage(self.folder / str(self.random.randrange(self.rules.machines)), self._stop)
        if self.random.random() < 0.5:
            storage = RetryingStorage(storage, 2, sleep=lambda seconds: None)
        run, request = self._request()
        writer = Writer(storage, run, background=False)
        try:
            self._turns(writer, request)
            writer.close()
        except RewindError as error:
            self.truth.seen[type(error).__name__] += 1
            writer.close()
        except Killed:
            if writer._outbox is not None:
                writer._outbox._journal.leave()  # as the kernel does: close its files and drop its locks

    def _turns(self, writer: Writer, request: OpenRequest) -> None:
        waiting: list[int] = []
        if self.random.random() < 0.2:
            waiting.append(self._log(writer, None))
        clock = self._open(writer, request)
        for i in waiting:
            self._place(i, writer, clock)
        for _ in range(self.random.choice([1, 2, 3, 4, 5, 6, 7, 20])):
            action = self.random.random()
            if action < 0.1:
                cut = self.random.randrange(clock + 1)
                self._flush(writer, waiting)
                clock = self._open(writer, OpenRequest(at=Position(writer.run, None, cut)))
                waiting.clear()  # what was not flushed then lies in a journal
            for _ in range(self.random.randrange(1, 4)):
                waiting.append(self._log(writer, clock))
                clock += 1
            if self.random.random() < 0.8:
                self._flush(writer, waiting)
        if self.random.random() < 0.5:
            writer.finish("finished")
            self.truth.acknowledged.update(waiting)
        else:
            raise Killed

    def _log(self, writer: Writer, clock: int | None) -> int:
        self.serial += 1
        stream = self.random.choice(MODELLED)
        values: dict[str, Scalar] = {"id": self.serial}
        digest = None
        if stream == "events" and self.random.random() < self.rules.blob:
            data = b"content %d" % self.random.randrange(4)  # the same for many rows
            digest = writer.attach(data)
            values["file"] = json.dumps({"sha256": digest, "size": len(data)})
        writer.append(stream, values, clock)
        assert writer._outbox is not None
        self.truth.logged[self.serial] = Logged(stream, writer.run, writer._outbox.nonce, digest)
        if clock is not None:
            self._place(self.serial, writer, clock)
        return self.serial

    def _place(self, i: int, writer: Writer, clock: int) -> None:
        """Note where a row belongs."""
        assert writer.opened is not None
        row = self.truth.logged[i]
        self.truth.logged[i] = row._replace(clock=clock, revision=writer.opened.revision)
        if self.rules.unflushed_counts:
            self.truth.acknowledged.add(i)

    def _flush(self, writer: Writer, waiting: list[int]) -> None:
        try:
            writer.flush()
        except StorageError:  # they wait on
            self.truth.seen["failed flushes"] += 1
        else:
            self.truth.acknowledged.update(waiting)
            waiting.clear()

    def _request(self) -> tuple[RunRef, OpenRequest]:
        run = self.random.choice(self.runs)
        revisions = self.truth.revisions.get(run, 0)
        kind = self.random.random()
        if kind < 0.35 or not revisions:
            return run, OpenRequest()
        revision = self.random.choice([None, self.random.randint(1, revisions)])
        step = self.random.choice([None, self.random.randrange(30), self.random.randrange(30)])
        if kind >= 0.7:
            if len(self.runs) < 4 and self.random.random() < 0.5:
                self.runs.append(RunRef("p", f"fork{len(self.runs)}"))
            child = self.runs[-1]
            if child != run:
                if child not in self.truth.before_fork or self.random.random() < 0.3:  # else the same command again
                    self.truth.before_fork.setdefault(child, set(self.truth.acknowledged))
                    self.forks[child] = OpenRequest(at=Position(run, revision, step))
                return child, self.forks[child]
        return run, OpenRequest(at=Position(run, revision, step))

    def _open(self, writer: Writer, request: OpenRequest) -> int:
        opened = self.rules.opening(writer, request)
        known = self.truth.revisions.get(writer.run, 0)
        self.truth.revisions[writer.run] = max(known, opened.revision)
        self.truth.seen[opened.kind] += 1
        self.truth.seen["completed forks"] += any("completed" in note for note in opened.notes)
        self.truth.seen["recovered journals"] += any("brought in" in note for note in opened.notes)
        at = request.at_own(opened.run)
        if opened.kind == "resumed" and at is not None and at.next_step is not None:
            self.truth.seen["cuts of nothing"] += 1
            self._check_nothing_to_cut(opened, at.next_step)
        return opened.start

    def _check_nothing_to_cut(self, opened: Opened, cut: int) -> None:
        """See that an opening that was asked to cut, and did not, had nothing to cut."""
        nothing = Seal({}, {}, None)
        view = of_term(self.store, opened.run, opened.base, opened.folder, nothing, opened.base.revisions)
        late = [i for i in self._rows(view, str(opened.run)) if self._clock(i) >= cut]
        assert not late, f"{opened.run}: rows {late} should have been cut off at {cut}"

    def look(self) -> None:
        """Read everything and compare it with what the writers know."""
        self.truth.seen["looks"] += 1
        for run, nonce in self.truth.rescued.items():
            found = self._rows(resolve(self.store, run), str(run))
            assert len(found) == len(set(found)), f"{run}: doubled rows {found}"
            lost = {i for i, row in self.truth.logged.items() if row.nonce == nonce} - set(found)
            assert not lost, f"{run}: rows {sorted(lost)} of the writer that it was made of are lost"
        expected: dict[tuple[str, int], set[int]] = {}
        for run in self.runs:  # a fork after the run that it came from
            try:
                head = resolve(self.store, run)
            except RunNotFoundError:
                assert not [i for i in self.truth.acknowledged if self.truth.logged[i].run == run]
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
        found = self._rows(resolve(self.store, run, record.number), name)
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

    def _rows(self, view: View, name: str) -> list[int]:
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
