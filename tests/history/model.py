"""A model check of the protocol: the real code, interleaved request by request.

Writers run as greenlets over one store in memory. Every request stops twice, before and after its effect, and at each
stop another writer may go on instead, or the writer may be killed. So a schedule has late writes of fenced writers,
lost replies, claims without a base, and openings that are cut short, in every order that chance finds.

What is checked is the model's one promise: a row whose flush was acknowledged is in the run, once, in its place,
unless a rewind cut it off; then it is in the archived revision.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import greenlet

from rewind_logger.errors import FencedError, PositionError, RewindError, RunNotFoundError
from rewind_logger.history import reader
from rewind_logger.history.opening import Opened, OpenRequest
from rewind_logger.history.view import View, resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Listing, Storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.wrapper import WrapperStorage
from rewind_logger.types import Position, RunRef


class Killed(BaseException):
    """The writer was killed; not an `Exception`, so that nothing handles it."""


class SteppingStorage(WrapperStorage):
    """The store as one machine sees it; stops before and after the effect of each request."""

    def __init__(self, inner: Storage, machine: Path, stop: Callable[[], None]) -> None:
        super().__init__(inner)
        self.local_path = machine  # where the journals of its writers lie
        self._stop = stop

    def _step(self, request: Callable[..., Any], *args: Any) -> Any:
        self._stop()
        try:
            return request(*args)
        finally:
            self._stop()

    def create(self, path: str, data: bytes) -> bool:
        return bool(self._step(self.inner.create, path, data))

    def put(self, path: str, data: bytes) -> None:
        self._step(self.inner.put, path, data)

    def read(self, path: str) -> bytes:
        return bytes(self._step(self.inner.read, path))

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        return bytes(self._step(self.inner.read_range, path, start, stop))

    def read_each(self, paths: Iterable[str]) -> list[bytes | Exception]:
        return [self._outcome(self.read, path) for path in paths]

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        return [self._outcome(self.list, folder) for folder in folders]

    def list(self, folder: str) -> Listing:
        return self._step(self.inner.list, folder)  # type: ignore[no-any-return]

    def _outcome(self, request: Callable[[str], Any], path: str) -> Any:
        try:
            return request(path)
        except (FileNotFoundError, RewindError) as error:
            return error


class Logged(NamedTuple):
    """A row that a writer logged."""

    clock: int
    revision: int
    number: int
    """Of the claim of the term in which it was logged."""


@dataclass
class Truth:
    """What the writers know."""

    logged: dict[int, Logged] = field(default_factory=dict)
    runs: dict[int, RunRef] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    archived: dict[tuple[RunRef, int], list[int]] = field(default_factory=dict)
    """The rows of each archived revision when it was first read."""
    before_fork: dict[RunRef, set[int]] = field(default_factory=dict)
    """What was acknowledged when the opening that made a fork began."""
    openings: Counter[str] = field(default_factory=Counter)
    kills: int = 0


@dataclass
class Rules:
    """What may happen in a schedule."""

    writers: int = 4
    """That run at the same time."""
    turns: int = 10
    """Writers in all."""
    kill: float = 0.01
    """Chance of a kill at each stop."""
    machines: int = 2
    """Writers of one machine find each other's journals."""
    unflushed_counts: bool = False
    """Whether a row must be kept as soon as it was logged."""
    opening: Callable[[Writer, OpenRequest], Opened] = Writer.open


class Schedule:
    """One random schedule."""

    def __init__(self, seed: int, folder: Path, rules: Rules) -> None:
        self.random = random.Random(seed)
        self.rules = rules
        self.truth = Truth()
        self.store = MemoryStorage(f"memory://model/{folder.name}/{seed}")
        self.folder = folder / str(seed)
        self.runs = [RunRef("p", "a")]
        self.serial = 0

    def run(self) -> Truth:
        """Let the writers run until all turns are taken, then check."""
        writers: list[greenlet.greenlet] = []
        turns = self.rules.turns
        sticky = self.random.choice([0.0, 0.8, 0.95, 0.99])  # from request by request to nearly one after the other
        chosen: greenlet.greenlet | None = None
        while turns or writers:
            if turns and len(writers) < self.rules.writers:
                turns -= 1
                writers.append(greenlet.greenlet(self._writer))
            if chosen is None or chosen not in writers or self.random.random() > sticky:
                chosen = self.random.choice(writers)
            if chosen and self.random.random() < self.rules.kill:
                self.truth.kills += 1
                chosen.throw(Killed)
            else:
                chosen.switch()
            writers = [writer for writer in writers if not writer.dead]
        self.expected: dict[tuple[str, int], set[int]] = {}
        for run in self.runs:  # a fork after the run that it came from
            if self.rules.unflushed_counts:
                self._bring_in(run)
            self.check(run)
        return self.truth

    def _bring_in(self, run: RunRef) -> None:
        """Open a run once more, undisturbed, for what the last writer left in its journal."""
        writer = Writer(SteppingStorage(self.store, self.folder / "0", lambda: None), run, background=False)
        with contextlib.suppress(RunNotFoundError):
            writer.open(OpenRequest(resume="must"))
        writer.close()

    def _stop(self) -> None:
        parent = greenlet.getcurrent().parent
        assert parent is not None
        parent.switch()

    def _writer(self) -> None:
        """Open a run in one of the ways there are, log and flush for a while, go back, and finish or not."""
        machine = self.folder / str(self.random.randrange(self.rules.machines))
        run, request = self._request()
        writer = Writer(SteppingStorage(self.store, machine, self._stop), run, background=False)
        try:
            self._turns(writer, request)
        except (FencedError, PositionError, RunNotFoundError):
            writer.close()
        except Killed:
            if writer._outbox is not None:
                writer._outbox._journal.leave()  # as the kernel does: close its files and drop its locks

    def _turns(self, writer: Writer, request: OpenRequest) -> None:
        opened = self._open(writer, request)
        clock = opened.start
        waiting: list[int] = []
        for _ in range(self.random.randrange(1, 8)):
            action = self.random.random()
            if action < 0.1:
                cut = self.random.randrange(clock + 1)
                writer.flush()
                self.truth.acknowledged.update(waiting)
                waiting.clear()
                opened = self._open(writer, OpenRequest(at=Position(writer.run, None, cut)))
                clock = opened.start
            for _ in range(self.random.randrange(1, 4)):
                self.serial += 1
                self.truth.logged[self.serial] = Logged(clock, opened.revision, opened.base.number)
                self.truth.runs[self.serial] = writer.run
                writer.append("metrics", {"id": self.serial}, clock)
                waiting.append(self.serial)
                if self.rules.unflushed_counts:
                    self.truth.acknowledged.add(self.serial)
                clock += 1
            if self.random.random() < 0.8:
                writer.flush()
                self.truth.acknowledged.update(waiting)
                waiting.clear()
        if self.random.random() < 0.5:
            writer.finish("finished")
            self.truth.acknowledged.update(waiting)
            writer.close()
        else:
            raise Killed

    def _request(self) -> tuple[RunRef, OpenRequest]:
        run = self.random.choice(self.runs)
        kind = self.random.random()
        revision = self.random.choice([None, None, 1, 2, 3])
        if kind < 0.45:
            return run, OpenRequest()
        if kind < 0.7:
            return run, OpenRequest(at=Position(run, revision, self.random.randrange(30)))
        if kind < 0.8:
            return run, OpenRequest(at=Position(run, revision, None))
        if len(self.runs) < 4 and self.random.random() < 0.5:
            self.runs.append(RunRef("p", f"fork{len(self.runs)}"))
        child = self.runs[-1]
        if child == run:
            return run, OpenRequest()
        return child, OpenRequest(at=Position(run, revision, self.random.choice([None, self.random.randrange(30)])))

    def _open(self, writer: Writer, request: OpenRequest) -> Opened:
        before = set(self.truth.acknowledged)
        try:
            opened = self.rules.opening(writer, request)
        except RewindError as error:
            self.truth.openings[type(error).__name__] += 1
            if isinstance(error, FencedError | PositionError | RunNotFoundError):
                raise
            raise FencedError("not opened") from error  # the fork is another one: this writer has nothing to do
        self.truth.openings[opened.kind] += 1
        if opened.kind == "forked" and not opened.notes:  # one that was cut short began before, with less
            self.truth.before_fork[writer.run] = before
        return opened

    def check(self, run: RunRef) -> None:
        """Compare every revision of a run with what its writers know."""
        try:
            head = resolve(self.store, run)
        except RunNotFoundError:
            assert not [i for i in self.truth.acknowledged if self.truth.runs[i] == run]
            return
        for record in head.revisions:
            view = resolve(self.store, run, record.number)
            found = self.rows(view)
            assert len(found) == len(set(found)), f"{run}@{record.number}: doubled rows {found}"
            clocks = [self.truth.logged[i].clock for i in found]
            assert clocks == sorted(clocks), f"{run}@{record.number}: rows out of order"
            own = {
                i
                for i in self.truth.acknowledged
                if self.truth.runs[i] == run and self.truth.logged[i].revision == record.number
            }
            inherited = self.expected[record.parent] if record.parent is not None else set()
            if record.parent is not None and record.parent[0] != str(run):
                inherited = inherited & self.truth.before_fork.get(run, set())
            if record.cut is not None:
                inherited = {i for i in inherited if self.truth.logged[i].clock < record.cut}
            self.expected[str(run), record.number] = own | inherited
            lost = (own | inherited) - set(found)
            assert not lost, f"{run}@{record.number}: acknowledged rows {sorted(lost)} are lost"
            if record.cut is not None:
                stale = [
                    i
                    for i in found
                    if self.truth.logged[i].clock >= record.cut
                    and (self.truth.runs[i] != run or self.truth.logged[i].revision < record.number)
                ]
                assert not stale, f"{run}@{record.number}: rows {stale} outlived the cut at {record.cut}"
            if record.number < head.revision:
                key = (run, record.number)
                assert self.truth.archived.setdefault(key, found) == found, f"{key} changed after it was archived"

    def rows(self, view: View) -> list[int]:
        """Return the ids of the rows of a view, in order."""
        table = reader.read(self.store, view, "metrics")
        return [int(value) for value in table["value"].to_numpy()]
