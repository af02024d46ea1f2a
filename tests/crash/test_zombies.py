"""A writer sleeps in the midst of an operation and wakes after others have taken the run over: it changes nothing."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rewind_logger.errors import FencedError
from rewind_logger.format.names import RunPaths
from rewind_logger.history import blobs, claims
from rewind_logger.history.carrying import named_in
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.sync import sync_store
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import Position, RunRef
from tests.figures import count
from tests.history.lines import RUN, Line, end, line, log, opened, read
from tests.history.machine import Machine, die
from tests.history.stepping import Network, SteppingStorage
from tests.small import make_small

OLD, YOUNG = 1, 2
"""The turns of the writer that sleeps, and of the first that takes over."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have segments and ancestors merged after a few rows."""
    make_small(monkeypatch.setattr)


@dataclass
class Sleeper:
    """A writer that stops at one of the moments before and after its requests, and what happens meanwhile."""

    memory: MemoryStorage
    disk: Path
    sleep_at: int | None
    takeovers: int
    here: bool = False
    """Whether the others are on the same machine, and see its journals."""
    run: RunRef = RUN
    taking: OpenRequest = field(default_factory=OpenRequest)
    """How others open the run."""
    moments: int = 0
    logged: Line = field(default_factory=list)
    acknowledged: Line = field(default_factory=list)
    taken: Line = field(default_factory=list)
    left: Line = field(default_factory=list)
    """What another writer left in its journal, here."""
    shown: list[bytes] = field(default_factory=list)
    """Media whose rows the run has, or that were acknowledged."""
    fenced: FencedError | None = None

    def __post_init__(self) -> None:
        self.armed = False
        self.showing: list[bytes] = []
        network = Network(random.Random(0))
        self.machine = Machine(self.memory, self.disk / "old")
        self.storage = SteppingStorage(self.machine, self.disk / "old", self._moment, network)
        self.writer = Writer(self.storage, self.run, background=False)

    def log(self, *steps: int) -> None:
        """Log rows, which never fails."""
        log(self.writer, steps, turn=OLD)
        self.logged += line(steps, turn=OLD)

    def show(self, step: int) -> None:
        """Log a medium."""
        show(self.writer, step)
        self.showing.append(medium(step))

    def flush(self) -> None:
        """Flush, and note what was acknowledged."""
        assert self.writer.flush()
        self.acknowledged = list(self.logged)
        self.shown += self.showing
        self.showing = []

    def _moment(self) -> None:
        if not self.armed:
            return
        self.moments += 1
        if self.moments - 1 == self.sleep_at:
            self.armed = False
            for turn in range(YOUNG, YOUNG + self.takeovers):
                self._take_over(turn)

    def _take_over(self, turn: int) -> None:
        count("takeovers")
        young = Writer(Machine(self.memory, self.disk / ("old" if self.here else "young")), self.run, background=False)
        young.open(self.taking)
        assert young.opened is not None
        at = [young.opened.start]
        log(young, at, turn=turn)
        assert young.flush()
        self.taken += line(at, turn=turn)
        if turn % 2:
            end(young)
        else:
            young.close()


def medium(step: int) -> bytes:
    """Return what `show` shows at a step."""
    return b"a picture of step %d" % step


def show(writer: Writer, step: int) -> None:
    """Log a medium: a row that names a blob."""
    digest = writer.attach(medium(step))
    writer.append("media", {"picture": json.dumps({"sha256": digest, "size": len(medium(step))})}, step)


def media(storage: Storage, run: RunRef, revision: int | None = None) -> list[bytes]:
    """Return what the rows of a revision name: each is there, or this fails."""
    return [blobs.read(storage, digest) for digest in named_in(storage, resolve(storage, run, revision), "media")]


class Operation:
    """Something that the sleeper does."""

    run = RUN
    taking = OpenRequest()

    def before(self, sleeper: Sleeper) -> None:
        """Make the run, as it is before."""
        writer = opened(sleeper.memory)
        log(writer, range(5))
        end(writer)

    def do(self, sleeper: Sleeper) -> None:
        """Do it, perhaps asleep meanwhile."""
        raise NotImplementedError


class Begin(Operation):
    def before(self, sleeper: Sleeper) -> None:
        pass

    def do(self, sleeper: Sleeper) -> None:
        sleeper.writer.open(OpenRequest())


class Resume(Operation):
    def do(self, sleeper: Sleeper) -> None:
        sleeper.writer.open(OpenRequest())


class Rewind(Operation):
    def do(self, sleeper: Sleeper) -> None:
        sleeper.writer.open(OpenRequest(at=Position(RUN, None, 3)))


class Restore(Operation):
    def before(self, sleeper: Sleeper) -> None:
        super().before(sleeper)
        end(opened(sleeper.memory, at=Position(RUN, None, 2)))

    def do(self, sleeper: Sleeper) -> None:
        sleeper.writer.open(OpenRequest(at=Position(RUN, 1, None)))


class Fork(Operation):
    """The same job, started several times."""

    run = RunRef("p", "b")
    taking = OpenRequest(at=Position(RUN, None, 4))

    def do(self, sleeper: Sleeper) -> None:
        sleeper.writer.open(self.taking)


class Recover(Operation):
    """Bring in what a killed writer left on this machine."""

    def before(self, sleeper: Sleeper) -> None:
        dead = opened(sleeper.machine)
        log(dead, range(3))
        dead.flush()
        log(dead, range(3, 5))
        sleeper.left = line(range(3, 5))
        die(dead)

    def do(self, sleeper: Sleeper) -> None:
        sleeper.writer.open(OpenRequest())


class Flush(Operation):
    def before(self, sleeper: Sleeper) -> None:
        super().before(sleeper)
        sleeper.writer.open(OpenRequest())

    def do(self, sleeper: Sleeper) -> None:
        """Of two streams; the second flush is put together with the first."""
        sleeper.log(5)
        sleeper.writer.append("events", {"b": 0}, 5)
        sleeper.flush()
        sleeper.log(6)
        sleeper.flush()


class Finish(Flush):
    def do(self, sleeper: Sleeper) -> None:
        sleeper.log(5, 6)
        sleeper.writer.finish("finished")
        sleeper.acknowledged = list(sleeper.logged)


class Upload(Flush):
    """Media: the blob is put before the row that names it."""

    def do(self, sleeper: Sleeper) -> None:
        for step in (5, 6):
            sleeper.show(step)
            sleeper.log(step)
            sleeper.flush()


class Copy(Operation):
    """Branch off a run of another store, of which rows and blobs are copied; the same job, started several times."""

    run = RunRef("p", "b")

    def before(self, sleeper: Sleeper) -> None:
        source = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
        sleeper.taking = OpenRequest(at=Position(RUN, None, 4), source=source)
        writer = opened(source)
        for step in range(5):
            show(writer, step)
            log(writer, [step])
            writer.flush()
        end(writer)
        sleeper.shown = [medium(step) for step in range(4)]

    def do(self, sleeper: Sleeper) -> None:
        sleeper.writer.open(sleeper.taking)


class Merge(Operation):
    """Merge ancestors, which is done after the first flush."""

    def before(self, sleeper: Sleeper) -> None:
        for steps in ([0], [1], [2], [3, 4]):
            writer = opened(sleeper.memory)
            log(writer, steps)
            end(writer)
        sleeper.writer.open(OpenRequest())

    def do(self, sleeper: Sleeper) -> None:
        sleeper.log(5)
        sleeper.flush()


OPERATIONS: list[Callable[[], Operation]] = [
    Begin,
    Resume,
    Rewind,
    Restore,
    Fork,
    Copy,
    Recover,
    Flush,
    Upload,
    Finish,
    Merge,
]


def asleep(operation: Operation, folder: Path, sleep_at: int | None, takeovers: int, here: bool = False) -> Sleeper:
    """Do an operation, asleep at one moment while others take the run over."""
    memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
    sleeper = Sleeper(memory, folder / secrets.token_hex(6), sleep_at, takeovers, here, operation.run, operation.taking)
    operation.before(sleeper)
    sleeper.armed = True
    try:
        operation.do(sleeper)
    except FencedError as error:
        sleeper.fenced = error
    sleeper.armed = False
    return sleeper


def moments(operation: Operation, folder: Path) -> int:
    return asleep(operation, folder, None, 0).moments


def sentence(sleeper: Sleeper) -> str:
    """What the loser is told."""
    journal, paths = sleeper.writer.journal, RunPaths(sleeper.run)
    made = [claims.read(sleeper.memory, paths, n) for n in range(claims.count(sleeper.memory, paths))]
    known = [claim for claim in made if claim is not None]
    # Without a journal of its own it was just bringing in that of another.
    mine = [(journal is not None and claim.nonce == Path(journal).name) or claim.kind == "recovered" for claim in known]
    taken = f"Run {sleeper.run} was taken over by process {os.getpid()} on {socket.gethostname()}, which"
    taken = f"{taken} {known[mine.index(True) + 1].kind} it: this writer no longer writes to the store."
    warning = " If both were meant to log, give each a run id of its own."
    if journal is None:
        return taken + warning
    return (
        f"{taken} Its rows that were not stored yet are kept in {journal}.{warning} To have those rows as a fork:"
        f" python -c \"import rewind_logger; rewind_logger.sync('{sleeper.memory.url}', as_fork=True)\""
    )


def check(sleeper: Sleeper, initial: Line, where: str) -> None:
    """Whatever the sleeper was doing: each row that was acknowledged is there once, and it is told who has the run."""
    writer = sleeper.writer
    mine = writer.opened is not None and writer.opened.base.number == len(sleeper.memory.list(f"{sleeper.run}/m")) - 1
    if writer.opened is not None:
        step = writer.next_step + 10
        sleeper.log(step, step + 1)  # training goes on
        if mine:
            sleeper.flush()
        else:
            with pytest.raises(FencedError) as raised:
                writer.flush()
            sleeper.fenced = raised.value
    assert mine == (sleeper.fenced is None), where
    if sleeper.fenced is not None:
        assert str(sleeper.fenced) == sentence(sleeper), where
    head = resolve(sleeper.memory, sleeper.run)
    revisions = [read(sleeper.memory, number, run=sleeper.run) for number in range(1, head.revision + 1)]
    everywhere = {row for found in revisions for row in found}
    must = {*initial, *sleeper.acknowledged, *sleeper.taken}
    count("rows checked", len(must))
    count("rows lost", len(must - everywhere))
    assert must <= everywhere, f"{where}: {sorted(must - everywhere)} are lost"
    for found in revisions:
        steps = [step for step, _ in found]
        assert steps == sorted(set(steps)), f"{where}: {found} is in no order, or doubled"
    seen = [one for number in range(1, head.revision + 1) for one in media(sleeper.memory, sleeper.run, number)]
    assert {*sleeper.shown} <= {*seen}, f"{where}: of {sleeper.shown}, {seen} are seen"
    last = sleeper.acknowledged if mine else sleeper.taken
    assert [row for row in revisions[-1] if row in last] == last, f"{where}: who came last does not have the run"
    die(writer)
    forks = [one.fork for one in sync_store(sleeper.machine, as_fork=True) if one.what == "forked"]
    kept = [read(sleeper.memory, run=fork) for fork in forks if fork is not None]
    seen += [one for fork in forks if fork is not None for one in media(sleeper.memory, fork)]
    assert {*sleeper.showing} <= {*seen}, f"{where}: of {sleeper.showing}, {seen} are kept"
    left = {*sleeper.logged, *sleeper.left}
    count("rows checked", len(left))
    lost = left - everywhere - {row for found in kept for row in found}
    count("rows lost", len(lost))
    assert not lost, f"{where}: {lost} are lost"
    if sleeper.fenced is not None and sleeper.logged:
        assert any([row for row in found if row in sleeper.logged] == sleeper.logged for found in kept), where
    for found in kept:
        assert found == sorted(set(found)), f"{where}: {found}"


def initial_rows(operation: Operation) -> Line:
    """What `before` leaves, of what the operation's run has."""
    if isinstance(operation, Begin):
        return []
    return line(range({Fork: 4, Copy: 4, Recover: 3}.get(type(operation), 5)))


def sleeps(
    operation: Operation, folder: Path, takeovers: int, every: int, here: bool = False
) -> Iterator[tuple[Sleeper, str]]:
    """Let a writer sleep at each moment, or at some of them."""
    number = moments(operation, folder)
    assert number > 5
    for sleep_at in range(0, number, every):
        where = f"{type(operation).__name__}, asleep at moment {sleep_at} for {takeovers} takeovers"
        yield asleep(operation, folder, sleep_at, takeovers, here), where


@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_writer_that_wakes_in_any_moment_of_an_operation_changes_nothing(
    operation: Callable[[], Operation], here: bool, tmp_path: Path
) -> None:
    for sleeper, where in sleeps(operation(), tmp_path, 1, 1, here):
        check(sleeper, initial_rows(operation()), where)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_writer_that_wakes_before_anybody_came_goes_on(operation: Callable[[], Operation], tmp_path: Path) -> None:
    sleeper = asleep(operation(), tmp_path, 3, 0)
    assert sleeper.fenced is None
    check(sleeper, initial_rows(operation()), "alone")


@pytest.mark.parametrize("every", [40, pytest.param(1, marks=[pytest.mark.exhaustive, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_writer_that_wakes_after_a_hundred_takeovers_changes_nothing(
    operation: Callable[[], Operation], every: int, tmp_path: Path
) -> None:
    for sleeper, where in sleeps(operation(), tmp_path, 100, every):
        check(sleeper, initial_rows(operation()), where)
