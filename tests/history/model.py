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
from dataclasses import dataclass
from pathlib import Path

import greenlet
from fsspec.implementations.memory import MemoryFileSystem

from rewind_logger.errors import (
    ConfigError,
    CorruptError,
    RewindError,
    RunNotFoundError,
    StorageError,
    TransientStorageError,
)
from rewind_logger.format import names
from rewind_logger.history import catalog, claims, cumulative
from rewind_logger.history.collect import collect
from rewind_logger.history.opening import Opened, OpenRequest
from rewind_logger.history.remove import remove_revision, remove_run
from rewind_logger.history.sync import Synced, sync_store
from rewind_logger.history.verify import verify
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.retry import RetryingStorage
from rewind_logger.types import Position, RunRef, Scalar
from tests.history.stepping import Network, SteppingStorage
from tests.history.swift import DictStorage, Tokens
from tests.history.truth import MODELLED, Logged, Onlooker, Truth

NONCES = random.Random()
"""Makes the names of claims and journals, so that a seed gives the same schedule again (but that wall time counts)."""


class Clock:
    """The wall time, for the store and for who writes to it."""

    now = 0.0
    """In seconds."""

    def time(self) -> float:
        """Return it, as the module `time` does."""
        return self.now


CLOCK = Clock()

WEEK = 8 * 86400.0
"""Seconds after which everything is old."""

NEVER = 2**62
"""Segments after which there is no summary."""


class Killed(BaseException):
    """The writer was killed; not an `Exception`, so that nothing handles it."""


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
    """Chance that a turn is a sync of the journals of a machine, and not a writer …"""
    collect: float = 0.05
    """… or a collection …"""
    remove: float = 0.05
    """… or the removal of an archived revision …"""
    erase: float = 0.02
    """… or of a run …"""
    copy: float = 0.02
    """… or a fork into another store."""
    adopt: float = 0.3
    """Chance that writers open a run that a sync made."""
    pause: float = 0.08
    """Chance at each turn that everybody comes to an end first, and that a week goes by."""
    blob: float = 0.3
    """Chance that an event refers to a blob."""
    machines: int = 2
    """Writers of one machine find each other's journals."""
    summaries: float = 0.25
    """Chance that a schedule keeps summaries, which take a quarter of its time."""
    rescue: float = 0.25
    """Chance that in the end every journal is brought in, and every row that was ever logged looked for."""
    clear: float = 0.3
    """Chance that in the end everything is collected, a run removed, and all looked at again."""
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
        NONCES.seed(seed)
        self.rules = rules
        self.truth = Truth()
        self.tokens = tokens
        CLOCK.now = 1e9
        url = f"memory://model/{folder.name}/{seed}"
        self.store: Storage = MemoryStorage(url)
        if tokens is not None:
            self.store = DictStorage(url, CLOCK.time, DictStorage(url, CLOCK.time))
        self.elsewhere: Storage = DictStorage("memory://elsewhere", CLOCK.time)
        """Another store, which gets copies."""
        self.network = Network(self.random)
        self.folder = folder / str(seed)
        self.runs = [RunRef("p", "a")]
        self.children: list[RunRef] = []
        """Those of the runs that writers forked."""
        self.forks: dict[RunRef, OpenRequest] = {}
        self.serial = 0
        self.rested = False
        self.removers: Counter[tuple[RunRef, int | None]] = Counter()
        self.summaries = self.random.random() < rules.summaries
        self.onlooker = Onlooker(self.store, self.truth, self.runs, summaries=self.summaries)

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
        rescue, clear, verified = (chance.random() < each for each in (rules.rescue, rules.clear, rules.verify))
        writers: list[greenlet.greenlet] = []
        turns = rules.turns
        sticky = chance.choice([0.0, 0.8, 0.95, 0.99])  # from request by request to nearly one after the other
        weather = chance.choice([0.2, 1.0, 5.0])  # from fair to foul
        kill, lose = weather * rules.kill, weather * rules.lose
        chosen: greenlet.greenlet | None = None
        pausing = False
        while turns or writers:
            if pausing and not writers:
                self._let_a_week_go_by()
                pausing = False
            if turns and not pausing and len(writers) < rules.writers:
                turns -= 1
                writers.append(greenlet.greenlet(self._turn()))
                pausing = turns > 0 and chance.random() < rules.pause
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
        if clear:
            self._clear_up()
        if verified:
            self._verify()
        self.truth.seen["late requests"] += self.network.landed

    def look(self) -> None:
        """Read everything and compare it with what the writers know."""
        self.onlooker.look()

    def _turn(self) -> Callable[[], None]:
        """Choose what somebody does; what is old is found most likely when a week has just gone by."""
        drawn, rules = self.random.random(), self.rules
        if self.rested:
            drawn /= 4
            self.rested = self.random.random() < 0.5
        for chance, turn in (
            (rules.sync, self._syncer),
            (rules.collect, self._collector),
            (rules.remove, self._remover),
            (rules.erase, self._eraser),
            (rules.copy, self._copier),
        ):
            if drawn < chance:
                return turn
            drawn -= chance
        return self._writer

    def _let_a_week_go_by(self) -> None:
        """Let more time go by than any request or writer takes: what is old now can be collected."""
        self.truth.seen["weeks"] += 1
        self.network.land_all()
        CLOCK.now += WEEK
        self.rested = True
        waiting = self.truth.logged.keys() - self.truth.acknowledged
        self.truth.waited |= {i for i in waiting if self.truth.logged[i].elsewhere}

    def _clear_up(self) -> None:
        """Collect, undisturbed, all that can be; remove a run; and look whether all that should be is there still."""
        self.truth.seen["clearances"] += 1
        self._let_a_week_go_by()
        collect(self.store, dry_run=False)
        again = collect(self.store, dry_run=False)
        assert not again.objects, f"a second collection still found {again}"
        self.look()
        run = self.random.choice(self.runs)
        with contextlib.suppress(RunNotFoundError, ConfigError):
            remove_run(self.store, run, dry_run=False, adopt=True)
            self.truth.gone.add(run)
            self.truth.seen["removed runs"] += 1
        self.look()
        self._let_a_week_go_by()
        collect(self.store, dry_run=False)
        self.look()

    def _rescue(self) -> None:
        """Bring in every journal of every machine, undisturbed, and look for every row that was ever logged."""
        self.truth.seen["rescues"] += 1
        for run in self.runs:
            for machine in range(self.rules.machines):
                self._bring_in(run, machine)
        for machine in range(self.rules.machines):
            folder = self.folder / str(machine)
            self._note_rescued(sync_store(self._storage(folder, lambda: None), as_fork=True))
            left = [path for path in folder.rglob("*.part") if not self._is_of_removed(path)]
            assert not left, f"nobody brought in {left}"
        found: set[int] = set()
        for run in catalog.runs(self.store):
            with contextlib.suppress(RunNotFoundError):
                for record in resolve(self.store, run).revisions:
                    with contextlib.suppress(RunNotFoundError):
                        found.update(self.onlooker.rows(resolve(self.store, run, record.number), str(run)))
        lost = set() if self.truth.removed or self.truth.gone else self.truth.logged.keys() - found
        self.truth.lost += len(lost)
        assert not lost, f"rows {sorted(lost)} were logged and are nowhere"

    def _is_of_removed(self, part: Path) -> bool:
        """Say whether a journal waits in vain, for a run was removed.

        That may be the run which a sync made of it: another of that name may have been begun. Or the one that its own
        was to be forked from: then nobody can finish the fork.
        """
        nonce, run = part.parent.name, RunRef("p", part.parts[-4])
        first = claims.first(self.store, run)
        meant = first.source.run if first is not None and first.source is not None else None
        return any(one.id.endswith(f"-{nonce[:8]}") or str(one) == meant for one in self.truth.gone)

    def _verify(self) -> None:
        """Have the package itself look for what is not as it should be."""
        self.truth.seen["verified"] += 1
        report = verify(self.store)
        known = {names.blob(digest) for digest in self.onlooker.excused()}
        assert all(problem.path in known for problem in report.problems), str(report)

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
        CLOCK.now += 1.0
        parent = greenlet.getcurrent().parent
        assert parent is not None
        parent.switch()

    def _syncer(self) -> None:
        """Sync the journals of a machine."""
        storage = self._storage(self.folder / str(self.random.randrange(self.rules.machines)), self._stop)
        with contextlib.suppress(Killed):
            self._note_rescued(sync_store(storage, as_fork=self.random.random() < 0.5))

    def _collector(self) -> None:
        """Collect what nobody needs."""
        storage = self._storage(self.folder / "0", self._stop)
        try:
            removed = collect(RetryingStorage(storage, 3, sleep=lambda seconds: None), dry_run=False)
        except (Killed, RewindError) as error:
            self._note("collect: ", error)
        else:
            for what, number in removed.objects.items():
                self.truth.seen[f"collected {what}"] += number

    def _remover(self) -> None:
        """Remove an archived revision."""
        run = self.random.choice(self.runs)
        newest = self.truth.revisions.get(run, 0)
        if newest < 2:
            return
        revision = self.random.randrange(1, newest)
        # Of two that remove the same one may be refused because the other has done it.
        known = (run, revision) in self.truth.removed
        self.truth.removed.add((run, revision))
        self.removers[run, revision] += 1
        storage = RetryingStorage(self._storage(self.folder / "0", self._stop), 3, sleep=lambda seconds: None)
        try:
            remove_revision(storage, run, revision, dry_run=False, adopt=self.random.random() < 0.5)
        except (ConfigError, RunNotFoundError) as error:  # refused
            self._note("remove: ", error)
            if not known and self.removers[run, revision] == 1:
                self.truth.removed.discard((run, revision))
        except (Killed, RewindError) as error:
            self._note("remove: ", error)
        else:
            self.truth.seen["removed revisions"] += 1

    def _eraser(self) -> None:
        """Remove a run."""
        run = self.random.choice(self.runs)
        if not self.truth.revisions.get(run):
            return
        known = run in self.truth.gone
        self.truth.gone.add(run)
        self.removers[run, None] += 1
        storage = RetryingStorage(self._storage(self.folder / "0", self._stop), 3, sleep=lambda seconds: None)
        try:
            remove_run(storage, run, dry_run=False, adopt=self.random.random() < 0.7)
        except (ConfigError, RunNotFoundError) as error:  # refused
            self._note("erase: ", error)
            if not known and self.removers[run, None] == 1:
                self.truth.gone.discard(run)
        except (Killed, RewindError) as error:
            self._note("erase: ", error)
        else:
            self.truth.seen["erased runs"] += 1
            self.truth.revisions[run] = 0

    def _copier(self) -> None:
        """Fork a run into another store: what was acknowledged when that began is in the copy."""
        run = self.random.choice(self.runs)
        revisions = self.truth.revisions.get(run, 0)
        if not revisions:
            return
        revision = self.random.choice([None, self.random.randint(1, revisions)])
        request = OpenRequest(
            at=Position(run, revision, self.random.choice([None, self.random.randrange(30)])),
            source=self._storage(self.folder / "0", self._stop),
        )
        known = set(self.truth.acknowledged)
        self.truth.seen["copies"] += 1
        child = RunRef("p", f"copy{self.truth.seen['copies']}")
        writer = Writer(self.elsewhere, child, background=False)
        try:
            writer.open(request)
            writer.close()
        except (Killed, RewindError) as error:
            self._note("copy: ", error)
        else:
            self.truth.seen["copied"] += 1
            assert writer.opened is not None and writer.opened.parent is not None
            self.onlooker.check_copy(self.elsewhere, child, writer.opened.parent, known)

    def _note(self, what: str, error: BaseException) -> None:
        """Note what somebody's work ended with; nothing is ever damaged, whatever others do meanwhile."""
        assert not isinstance(error, CorruptError), f"{what}{error}"
        self.truth.seen[f"{what}{type(error).__name__}"] += 1

    def _note_rescued(self, done: Iterable[Synced]) -> None:
        for one in done:
            self.truth.seen[f"sync: {one.what}"] += 1
            why = ("lost", "is no fork of these rows", "went on without", "was taken over by", "was removed")
            assert one.what != "failed" or any(each in one.trouble for each in why), str(one)
            if one.what == "forked":
                assert one.fork is not None
                self.truth.rescued[one.fork] = one.run, one.journal.name
                if self.random.random() < self.rules.adopt and one.fork not in self.runs:
                    self.runs.append(one.fork)
                    self.truth.revisions.setdefault(one.fork, 1)

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
            self._note("", error)
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
            data = b"content %d" % self.random.randrange(10)  # the same for many rows
            digest = writer.attach(data)
            values["file"] = json.dumps({"sha256": digest, "size": len(data)})
        writer.append(stream, values, clock)
        assert writer._outbox is not None
        elsewhere = writer.storage.local_path != self.folder / "0"
        self.truth.logged[self.serial] = Logged(
            stream, writer.run, writer._outbox.nonce, digest, early=clock is None, elsewhere=elsewhere
        )
        if clock is not None:
            self._place(self.serial, writer, clock)
        return self.serial

    def _place(self, i: int, writer: Writer, clock: int) -> None:
        """Note where a row belongs."""
        assert writer.opened is not None
        row = self.truth.logged[i]
        number = writer.opened.base.number
        self.truth.logged[i] = row._replace(clock=clock, revision=writer.opened.revision, n=number)
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
            if len(self.children) < 3 and self.random.random() < 0.5:
                self.children.append(RunRef("p", f"fork{len(self.children) + 1}"))
                self.runs.append(self.children[-1])
            child = self.children[-1] if self.children else run
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
            self.onlooker.check_nothing_to_cut(opened, at.next_step)
        return opened.start
