"""A run that is opened when its store is back: rows that came before are where they would have been, each once."""

from __future__ import annotations

import gc
import itertools
import secrets
import threading
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pytest

from rewind_logger.errors import FencedError, StorageError, TransientStorageError
from rewind_logger.history import age, reader
from rewind_logger.history import writer as writing
from rewind_logger.history.late_opening import LateOpening
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.sync import sync_store
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Listing, Storage
from rewind_logger.storage.faults import Fault, FaultyStorage, Plan, Request, every
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.wrapper import WrapperStorage
from rewind_logger.types import RunRef
from tests.figures import count
from tests.history.lines import RUN, end, forked, line, log, opened, read
from tests.history.machine import Killed, Machine, die, dying, journals, release, requests_of, waiting
from tests.history.synced import claims_of

AWAY = TransientStorageError("The network is down.")


def late(storage: Storage, *, background: bool = False) -> Writer:
    """A writer whose run is opened later."""
    made = Writer(storage, RUN, background=background)
    made.open_later(LateOpening(OpenRequest(), lambda opened: None, lambda: None), AWAY)
    return made


def before(memory: Storage, steps: int) -> None:
    """Give the run a history."""
    made = opened(memory)
    log(made, range(steps))
    end(made)


@pytest.mark.parametrize("there", [0, 10])
def test_steps_that_were_counted_go_on_from_the_end_of_the_run(there: int, machine: Machine, memory: Storage) -> None:
    if there:
        before(memory, there)
    made = late(machine)
    log(made, range(3))
    made.append("events", {"config": "{}"}, -1)
    made.append("console", {"stdout": "x"}, None)
    assert made.flush()
    log(made, range(there + 3, there + 5))
    end(made)
    assert [step for step, _ in read(memory)] == list(range(there + 5))
    events = reader.read_rows(memory, resolve(memory, RUN), "events")
    assert [row.clock for row in events] == [-1]
    assert [row.clock for row in reader.read_rows(memory, resolve(memory, RUN), "console")] == [there]


def test_steps_that_were_given_stay_what_they_are(machine: Machine, memory: Storage) -> None:
    """Those of batches that were closed before the first was given too."""
    before(memory, 10)
    made = late(machine)
    log(made, [0, 1])
    assert made._outbox is not None and made._outbox.close_batch()
    made.give_steps()
    log(made, [9, 12])
    assert made.flush()
    log(made, [13])
    end(made)
    rows = reader.read_rows(memory, resolve(memory, RUN), "metrics")[10:]
    assert [(row.clock, row.step) for row in rows] == [(10, 0), (10, 1), (10, 9), (12, None), (13, None)]


@pytest.mark.parametrize(
    ("given", "there", "by"),
    [
        (False, 4, "an opening"),
        (True, 4, "a sync"),
        (False, 0, "a sync"),
        *(
            pytest.param(*case, marks=pytest.mark.exhaustive)
            for case in itertools.product([False, True], [0, 4], ["an opening", "a sync"])
        ),
    ],
)
def test_a_kill_within_any_request_of_a_late_opening_neither_loses_nor_doubles_a_row(
    given: bool, there: int, by: str, tmp_path: Path
) -> None:
    def life(storage: Storage) -> None:
        made = late(storage)
        try:
            for batch in (range(0, 2), range(2, 3), range(3, 5)):
                if given:
                    made.give_steps()
                log(made, [there + step if given else step for step in batch])
                assert made._outbox is not None and made._outbox.close_batch()
            made.flush()
            log(made, [there + 5])
            made.flush()
        except Killed:
            pass
        die(made)

    def prepare(disk: Path) -> tuple[MemoryStorage, Machine]:
        memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
        if there:
            before(memory, there)
        return memory, Machine(memory, disk)

    requests = requests_of(prepare(tmp_path / "count")[1], life)
    assert requests > 10
    for number in range(requests):
        for after in (False, True):
            memory, machine = prepare(tmp_path / f"{number}{after}")
            life(dying(machine, number, after=after))
            release(tmp_path)
            if by == "a sync":
                assert {one.what for one in sync_store(machine)} <= {"brought in", "nothing left", "waiting"}
            again = opened(machine)
            steps = [step for step, _ in read(memory)]
            expected = list(range(there + 5))
            count("requests cut short")
            count("rows checked", len(expected))
            count("rows lost", len(set(expected) - set(steps)))
            assert steps in (expected, [*expected, there + 5]), f"killed in request {number}, {after=}"
            die(again)
            assert waiting(machine) == []


WHEN: tuple[Literal["before", "after"], ...] = ("before", "after")


def faults(first: int, when: Literal["before", "after"], times: int) -> Plan:
    """Plan so many faults from a request on."""
    left = iter(range(times))

    def plan(request: Request) -> Fault | None:
        if request.number < first or next(left, None) is None:
            return None
        count("faults injected")
        return Fault(when, AWAY)

    return plan


def test_a_fault_in_any_request_of_a_late_opening_costs_nothing(tmp_path: Path) -> None:
    """Before its effect or after it, once or twice."""

    def life(storage: Storage) -> None:
        made = late(storage)
        log(made, range(3))
        while True:
            try:
                made.flush()
                break
            except TransientStorageError:
                continue
        made.close()

    requests = requests_of(MemoryStorage(f"memory://test-{secrets.token_hex(6)}"), life)
    for number in range(requests):
        for when in WHEN:
            for times in (1, 2):
                memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")

                life(FaultyStorage(Machine(memory, tmp_path / f"{number}{when}{times}"), faults(number, when, times)))
                assert read(memory) == line(range(3)), f"{when} request {number}, {times} times"


def test_whoever_opened_the_run_meanwhile_is_overtaken_as_by_any_opening(machine: Machine, memory: Storage) -> None:
    made = late(machine)
    log(made, range(2))
    other = opened(memory)
    log(other, range(3))
    other.flush()
    assert made.flush()
    log(other, [3])
    with pytest.raises(FencedError):
        other.flush()
    assert [step for step, _ in read(memory)] == [0, 1, 2, 3, 4]
    end(made)
    other.close()


def test_a_late_opening_that_another_overtakes_is_told_once_and_keeps_its_rows(
    machine: Machine, memory: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    others: list[Writer] = []

    def overtake(request: Request) -> Fault | None:
        if request.path.endswith("base.json") and request.verb == "put" and not others:
            others.append(Writer(memory, RUN, background=False))
            others[0].open(OpenRequest())
        return None

    made = late(FaultyStorage(machine, overtake))
    log(made, range(2))
    for _ in range(2):
        with pytest.raises(FencedError):
            made.flush()
    made.close()
    assert len([record for record in caplog.records if "taken over" in record.getMessage()]) == 1
    (found,) = sync_store(machine, as_fork=True)
    assert found.what == "forked" and found.fork is not None
    assert read(memory, run=found.fork) == line(range(2))


def test_a_store_that_refuses_is_asked_again(machine: Machine, memory: Storage) -> None:
    faulty = FaultyStorage(machine, every("list", Fault("before", StorageError("Access denied."))))
    made = late(faulty)
    log(made, range(2))
    with pytest.raises(StorageError, match="denied"):
        made.flush()
    faulty.plan = None
    assert made.flush()
    end(made)
    assert read(memory) == line(range(2))


def test_a_writer_that_is_closed_before_its_store_is_back_leaves_its_rows(machine: Machine, memory: Storage) -> None:
    made = late(FaultyStorage(machine, lambda request: Fault("before", AWAY)), background=True)
    log(made, range(3))
    assert not made.flush(0.01)
    made.close()
    assert len(journals(machine)) == 1
    end(opened(machine))
    assert read(memory) == line(range(3))


class Halting(WrapperStorage):
    """A store in which a request of one kind hangs until it is let through; without a kind it is away."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.verb = ""
        self.halted, self.let_through = threading.Event(), threading.Event()

    def list(self, folder: str) -> Listing:
        self._halt("list")
        return super().list(folder)

    def create(self, path: str, data: bytes) -> bool:
        self._halt("create")
        return super().create(path, data)

    def _halt(self, verb: str) -> None:
        if not self.verb:
            raise AWAY
        if verb == self.verb:
            self.halted.set()
            self.let_through.wait()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("verb", ["list", "create"])
def test_a_late_opening_that_hangs_while_its_writer_is_closed_takes_the_run_from_nobody(
    verb: str,
    machine: Machine,
    memory: MemoryStorage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its journal is unlocked, and whoever opened the run since has brought in its rows."""
    monkeypatch.setattr(writing, "CLOSE_S", 0.01)
    halting = Halting(machine)
    made = late(halting, background=True)
    log(made, range(3))
    halting.verb = verb
    assert not made.flush(0.0), "which asks for it at once"
    assert halting.halted.wait(60) and made._flusher is not None
    thread = made._flusher._thread
    try:
        made.close()
        other = opened(machine)
        log(other, range(3, 6))
        assert other.flush()
        claimed = claims_of(memory)
    finally:
        halting.let_through.set()
    thread.join(60)
    assert claims_of(memory) == claimed
    log(other, [6])
    assert other.flush()
    assert read(memory) == line(range(7))
    end(other)
    assert not [record for record in caplog.records if "again after" in record.getMessage()], "it did not arrive"


@pytest.mark.timeout(120)
def test_a_late_opening_of_what_cannot_be_opened_so_is_given_up_with_one_sentence(
    machine: Machine, memory: MemoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """A fork of another store whose opening was cut short: only that can finish it."""
    elsewhere = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
    before(elsewhere, 5)

    def kill(request: Request) -> Fault | None:
        return Fault("before", Killed()) if request.path.endswith("base.json") else None

    with pytest.raises(Killed):
        forked(FaultyStorage(memory, kill), "child", 3, source=elsewhere)
    made = Writer(machine, RunRef("p", "child"))
    made.open_later(LateOpening(OpenRequest(), lambda opened: None, lambda: None), AWAY)
    log(made, range(2))
    for _ in range(2):
        with pytest.raises(FencedError, match=r"was not finished: fork it from there again.* are kept in "):
            made.flush(60)
    made.close()
    assert made.kept is not None
    [said] = [record for record in caplog.records if "was not finished" in record.getMessage()]
    assert said.exc_info is None


KEYS = [f"metric-{i}" for i in range(100)]


def log_much(made: Writer, rows: Iterable[int], attempts: int) -> int:
    """Log wide rows, and try in vain to flush them; return how many bytes of memory were in use at most meanwhile."""
    values: list[float | int | bool | str] = [0.5] * len(KEYS)
    tracemalloc.reset_peak()
    for step in rows:
        with made.lock:
            made.append_metrics(KEYS, values, step, None)
    for _ in range(attempts):  # each has a batch in memory, and so has what is told of the one before
        with pytest.raises(TransientStorageError):
            made.flush()
    return tracemalloc.get_traced_memory()[1]


@pytest.mark.parametrize("opened_before", [False, True])
def test_while_the_store_is_away_rows_wait_on_disk_and_not_in_memory(
    opened_before: bool, machine: Machine, memory: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(age, "REMOTE_AGE_S", (3600.0, 3600.0))
    faulty = FaultyStorage(machine)
    made = opened(faulty, background=True) if opened_before else late(faulty, background=True)
    # Each its own error: one that is raised again and again keeps alive what it was raised through.
    faulty.plan = lambda request: Fault("before", TransientStorageError("The network is down."))
    tracemalloc.start()
    gc.disable()  # what nobody needs any more goes at once
    try:
        few = log_much(made, range(3_000), attempts=2)
        many = log_much(made, range(3_000, 20_000), attempts=10)
    finally:
        gc.enable()
        tracemalloc.stop()
    on_disk = sum(path.stat().st_size for folder in journals(machine) for path in folder.glob("*.part"))
    assert on_disk > 15_000_000
    assert many < 1.2 * few + 1_000_000, "it does not grow with what waits"
    assert made.rows_waiting == 20_000
    faulty.plan = None
    assert made.flush(120)
    assert made.rows_waiting == 0
    view = resolve(memory, RUN)
    found = reader.count(memory, view, "metrics")
    count("rows checked", 20_000)
    count("rows lost", 20_000 - found)
    assert (found, view.next_step) == (20_000, 20_000)
    made.close()
