"""What is done in a schedule of the model: writers, syncs, collectors, removals and copies, each a greenlet's work."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import greenlet

from rewind_logger.errors import ConfigError, CorruptError, RewindError, RunNotFoundError, StorageError
from rewind_logger.history.collect import collect
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.remove import remove_revision, remove_run
from rewind_logger.history.sync import Synced, sync_store
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.retry import RetryingStorage
from rewind_logger.types import Position, RunRef, Scalar
from tests.history.rules import CLOCK, NONCES, Killed, Rules
from tests.history.stepping import Network, SteppingStorage
from tests.history.swift import DictStorage, Tokens
from tests.history.truth import MODELLED, Logged, Onlooker, Truth


class Actors:
    """Everybody in a schedule: the store that they share, and what is known of what they did."""

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

    def _storage(self, machine: Path, stop: Callable[[], None]) -> Storage:
        return SteppingStorage(self.store, machine, stop, self.network)

    def _stop(self) -> None:
        CLOCK.now += 1.0
        parent = greenlet.getcurrent().parent
        assert parent is not None
        parent.switch()
