"""A signal's handler that comes into the midst of the writer's own work, at a place where it hurts most."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from rewind_logger.errors import TransientStorageError
from rewind_logger.history import age, reader
from rewind_logger.history.flusher import Flusher
from rewind_logger.history.journals import outbox
from rewind_logger.history.journals.journal import Journal
from rewind_logger.history.late_opening import LateOpening
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.term import Term
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.faults import Fault, FaultyStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.history.lines import RUN, end, line, log, opened, read
from tests.history.machine import BROUGHT_IN, Machine, journals

Handler = Callable[[], None]


def interrupt_a_row(monkeypatch: pytest.MonkeyPatch, handler: Handler, *, before: bool = False) -> None:
    """Call the handler once, just before or just after a row is written."""
    write = Journal.append
    called: list[bool] = []

    def interrupted(journal: Journal, data: bytes) -> None:
        if not before:
            write(journal, data)
        if not called:
            called.append(True)
            handler()
        if before:
            write(journal, data)

    monkeypatch.setattr(Journal, "append", interrupted)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("same_keys", [False, True])
def test_a_row_within_a_row_disturbs_neither(
    same_keys: bool, before: bool, machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened(machine)
    keys, other = ["a"], ["b", "a"]

    def handler() -> None:
        if same_keys:
            writer.append_metrics(keys, [1], 1, None)
        else:
            writer.append_metrics(other, [-1, 1], 1, None)

    interrupt_a_row(monkeypatch, handler, before=before)
    writer.append_metrics(keys, [0], 0, None)
    writer.append_metrics(keys, [2], 2, None)
    assert writer.flush()
    assert read(memory) == line(range(3))
    end(writer)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("same_length", [False, True])
def test_a_ctrl_c_within_a_row_costs_that_row_at_most(
    before: bool, same_length: bool, machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a notebook it is common, and the run goes on."""
    first, second = ["a"], ["b"] if same_length else ["b", "c"]
    writer = opened(machine)
    writer.append_metrics(first, [0], 0, None)

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    interrupt_a_row(monkeypatch, ctrl_c, before=before)
    with pytest.raises(KeyboardInterrupt):
        writer.append_metrics(second, [1] * len(second), 1, None)
    writer.append_metrics(second, [2] * len(second), 2, None)
    writer.append_metrics(first, [3], 3, None)
    interrupt_a_row(monkeypatch, ctrl_c, before=before)
    with pytest.raises(KeyboardInterrupt):
        writer.append_metrics(second, [4] * len(second), 4, None)
    writer.append_metrics(first, [5], 5, None)
    writer.append("metrics", {"a": 6}, 6)
    assert writer.flush()
    expected = {0: first, 1: second, 2: second, 3: first, 4: second, 5: first, 6: first}
    rows = reader.read_rows(memory, resolve(memory, RUN), "metrics")
    assert [row.clock for row in rows if row.clock not in (1, 4)] == [0, 2, 3, 5, 6]
    for row in rows:
        assert dict(row.values) == dict.fromkeys(expected[row.clock], row.clock)
    end(writer)


OWN_WORK = ("outbox.py", "journal.py", "writer.py", "flusher.py", "delivery.py")


def interrupted_at(number: int, work: Callable[[], object]) -> bool:
    """Do some work, and press Ctrl-C at the n-th call within it; return whether it came that far.

    It is where a function begins, and after one that is written in C, that Python looks for signals.
    """
    left = number

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        name = Path(frame.f_code.co_filename).name
        if event in ("call", "c_return") and name in OWN_WORK:
            left -= 1
            if left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("what", ["row", "full", "flush"])
def test_a_ctrl_c_at_any_moment_costs_no_other_row(
    what: str, background: bool, memory: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(age, "LOCAL_AGE_S", 3600.0)
    monkeypatch.setattr(outbox, "FLUSH_POINTS", 3 if what == "full" else 10**6)
    keys = ["a"]
    for number in itertools.count(1):
        run = RunRef("p", f"{number}")
        machine = Machine(memory, tmp_path / str(number))
        writer = opened(machine, run, background=background)
        for step in range(3):
            writer.append_metrics(keys, [step], step, None)
        assert writer.flush()
        writer.append("checkpoints", {"mark": "{}"}, 3)
        for step in (3, 4):
            writer.append_metrics(keys, [step], step, None)

        def work(writer: Writer = writer) -> None:
            if what == "flush":
                writer.flush(1.0)
            else:
                writer.append_metrics(keys, [5], 5, None)

        came = interrupted_at(number, work)
        for step in (6, 7):
            writer.append_metrics(keys, [step], step, None)
        assert writer.flush()
        end(writer)
        end(opened(machine, run))
        rows = [row for row in read(memory, run=run) if row[0] != 5]
        assert rows == line([*range(5), 6, 7]), f"after a Ctrl-C at call {number}"
        assert journals(machine, run) == []
        if not came:
            break
    assert number > 5


@pytest.mark.parametrize("background", [False, True])
def test_a_flush_within_a_row_says_that_it_cannot_be(
    background: bool, machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is not stored before the handler has ended, so the handler must not wait for that."""
    writer = opened(machine, background=background)
    outcomes: list[bool] = []

    def handler() -> None:
        log(writer, [1])
        outcomes.append(writer.flush())

    interrupt_a_row(monkeypatch, handler)
    log(writer, [0])
    assert outcomes == [False]
    log(writer, [2])
    assert writer.flush()
    assert read(memory) == line(range(3))
    end(writer)


@pytest.mark.parametrize("before", [False, True])
def test_a_close_within_a_row_comes_after_it(
    before: bool, machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened(machine)
    interrupt_a_row(monkeypatch, writer.close, before=before)
    log(writer, [0])
    again = opened(machine)
    assert again.opened is not None
    assert again.opened.notes == (BROUGHT_IN.format(1),), "the journal was let go, and the row is in it"
    assert read(memory) == line([0])


@pytest.mark.parametrize("background", [False, True])
def test_a_flush_within_the_end_of_a_run_says_that_it_cannot_be(
    background: bool, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened(memory, background=background)
    log(writer, range(3))
    outcomes: list[bool] = []
    put_end = Term.end

    def interrupted(term: Term, state: str, next_step: int) -> None:
        log(writer, [3])
        outcomes.append(writer.flush())
        put_end(term, state, next_step)

    monkeypatch.setattr(Term, "end", interrupted)
    assert writer.finish("finished")
    assert outcomes == [False]
    assert writer.flush()
    writer.close()
    assert read(memory) == line(range(4))


def handled_at(number: int, work: Callable[[], object], handler: Handler) -> bool:
    """Do some work, and call the handler before the n-th instruction of the delivery's; return if it came that far."""
    left = number

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if Path(frame.f_code.co_filename).name not in ("delivery.py", "contextlib.py"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return left <= 0


@pytest.mark.timeout(120)
def test_a_flush_at_any_moment_of_what_is_done_alone_waits_for_nothing_that_waits_for_it(
    memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that flushes cannot have its turn while the thread that the handler has come into has it."""
    writer = opened(memory, background=True)
    delivery, request = writer._delivery, Flusher.request
    waited: list[bool] = []

    def bounded(flusher: Flusher, timeout: float | None, waiting: Handler | None = None) -> bool:
        waited.append(request(flusher, 10.0, waiting))
        return waited[-1]

    monkeypatch.setattr(Flusher, "request", bounded)
    outcomes: list[bool] = []
    for number in itertools.count(1):
        if not handled_at(number, delivery.tidy, lambda: outcomes.append(writer.flush())):
            break
        assert all(waited), f"it waited in vain, before instruction {number}"
        with delivery.alone():
            pass
    assert True in outcomes and False in outcomes
    writer.close()


def test_what_a_handler_has_interrupted_the_writing_of_is_not_written_within(memory: MemoryStorage) -> None:
    writer = opened(memory)
    log(writer, range(3))
    with writer._delivery.alone(), pytest.raises(TransientStorageError, match="interrupted"):
        writer.open(OpenRequest())
    assert writer.flush()
    end(writer)


def away_at_first(machine: Machine, late: LateOpening) -> tuple[Writer, FaultyStorage]:
    """Return a writer whose run is to be opened later, and its store, which is away."""
    faulty = FaultyStorage(machine, lambda request: Fault("before", TransientStorageError("It is away.")))
    writer = Writer(faulty, RUN)
    writer.open_later(late, TransientStorageError("It is away."))
    return writer, faulty


@pytest.mark.timeout(120)
def test_a_flush_within_a_row_does_not_wait_for_a_late_opening_which_waits_for_the_row(
    machine: Machine, memory: MemoryStorage
) -> None:
    writer, faulty = away_at_first(machine, LateOpening(OpenRequest(), lambda opened: None, lambda: None))
    log(writer, range(3))
    assert not writer.flush(0.01)
    with writer.lock:  # as a run has it around a row, into which the handler comes
        faulty.plan = None
        assert not writer.flush()
        assert not writer.flush(60)
    assert writer.flush(60), "it was made right after the row"
    assert read(memory) == line(range(3))
    end(writer)


@pytest.mark.timeout(120)
def test_a_flush_within_a_row_does_not_wait_for_what_follows_a_late_opening_either(
    machine: Machine, memory: MemoryStorage
) -> None:
    made, within = threading.Event(), threading.Event()

    def afterwards() -> None:
        made.set()
        assert within.wait(60)
        with writer.lock:  # as the console of a run takes it
            pass

    writer, faulty = away_at_first(machine, LateOpening(OpenRequest(), lambda opened: None, afterwards))
    log(writer, range(3))
    faulty.plan = None
    assert not writer.flush(0.01)
    assert made.wait(60)
    with writer.lock:
        within.set()
        assert not writer.flush()
    assert writer.flush(60)
    assert read(memory) == line(range(3))
    end(writer)
