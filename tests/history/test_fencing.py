"""Two writers of one run: the newer one has it, at once and whatever the older one does."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from rewind_logger.errors import FencedError
from rewind_logger.history import age, reader
from rewind_logger.history.journals.part import parse_part
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.rescue import sync_command
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import Position
from tests.history.lines import RUN, Line, end, forked, line, log, opened, read
from tests.history.machine import HaltingStorage, Machine, die, waiting
from tests.history.processes import HEAD, running


def opened_only(first: Writer) -> None:
    pass


def with_rows_in_its_journal(first: Writer) -> None:
    log(first, range(5))


def flushed(first: Writer) -> None:
    log(first, range(5))
    first.flush()


def in_the_middle_of_a_batch(first: Writer) -> None:
    flushed(first)
    log(first, range(5, 8))


def finished(first: Writer) -> None:
    flushed(first)
    first.finish("finished")


def flushed_many_times(first: Writer) -> None:
    for step in range(5):
        log(first, [step])
        first.flush()


STATES: dict[Callable[[Writer], None], range] = {
    opened_only: range(0),
    with_rows_in_its_journal: range(5),
    flushed: range(0),
    in_the_middle_of_a_batch: range(5, 8),
    finished: range(0),
    flushed_many_times: range(0),
}
"""States of a writer, and the steps that then wait in its journal."""


def kept(folder: str | None) -> Line:
    """Read what a journal holds."""
    assert folder is not None
    batches = [parse_part(0, path.read_bytes()) for path in sorted(Path(folder).glob("*.part"))]
    return [(row.clock, row.values["a"]) for batch in batches for row in batch.rows.get("metrics", ())]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_a_second_writer_takes_over_whatever_state_the_first_is_in(
    state: Callable[[Writer], None],
    background: bool,
    local: LocalStorage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(age, "LOCAL_AGE_S", 3600.0)  # only what is asked for is flushed
    first = opened(local, background=background)
    state(first)
    stored = read(local)

    second = opened(local)
    assert second.opened is not None
    assert second.opened.kind == "resumed"
    start = second.opened.start
    assert start == len(stored), "what was acknowledged is kept, what was not is the first one's"

    log(first, [8])
    with pytest.raises(FencedError) as raised:
        first.flush()
    folder = first.journal
    assert f"Run p/a was taken over by process {os.getpid()} on {socket.gethostname()}" in str(raised.value)
    assert f"kept in {folder}." in str(raised.value)
    log(first, range(9, 12))  # training goes on
    for _ in range(2):
        with pytest.raises(FencedError, match="taken over"):
            first.flush()
    with pytest.raises(FencedError):
        first.finish("finished")

    log(second, range(start, start + 3), turn=2)
    second.flush()
    first.close()
    end(second)
    assert [record.levelname for record in caplog.records] == ["ERROR"], "it is said once"
    assert read(local) == stored + line(range(start, start + 3), turn=2)
    assert kept(folder) == line(STATES[state]) + line(range(8, 12)), "all that is not in the store"


def test_the_background_flush_stops_by_itself(
    memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(age, "REMOTE_AGE_S", (0.0, 0.0))
    first = opened(memory, background=True)
    second = opened(memory)
    log(first, [0])
    assert first._flusher is not None
    first._flusher._thread.join(30)
    assert first.fenced is not None
    log(first, range(1, 100))
    first.close()
    assert [record.getMessage() for record in caplog.records if "taken over" in record.getMessage()] == [
        str(first.fenced)
    ]
    end(second)
    assert read(memory) == []


def test_a_writer_that_hangs_is_taken_over_as_well(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its request is under way when the other opens the run, and arrives after that."""
    store = HaltingStorage(memory.url)
    first = opened(store, background=True)
    log(first, range(3))
    outcome: list[BaseException] = []

    def flush() -> None:
        try:
            first.flush()
        except FencedError as error:
            outcome.append(error)

    waiting = threading.Thread(target=flush)
    waiting.start()
    assert store.halted.wait(30)
    second = opened(memory)
    log(second, range(2), turn=2)
    second.flush()
    store.let_through.set()
    waiting.join(30)
    assert len(outcome) == 1, "its rows are in the store, and not acknowledged"
    end(second)
    first.close()
    assert read(memory) == line(range(2), turn=2)


def test_a_flush_that_waits_while_another_thread_meets_the_fence_is_told_so(
    memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(age, "REMOTE_AGE_S", (3600.0, 3600.0))
    store = HaltingStorage(memory.url)
    first = opened(store, background=True)
    log(first, range(3))
    assert first._flusher is not None
    outcome: list[object] = []

    def flush() -> None:
        try:
            outcome.append(first.flush())
        except FencedError as error:
            outcome.append(type(error))

    waiting_one = threading.Thread(target=flush)
    stop = Writer._stop_flusher

    def stop_after_that(writer: Writer, timeout: float | None = None) -> None:
        if writer is first:
            waiting_one.join(30)
        stop(writer, timeout)

    monkeypatch.setattr(Writer, "_stop_flusher", stop_after_that)
    opening = threading.Thread(target=first.open, args=(OpenRequest(),))
    opening.start()  # it flushes first, in this thread
    assert store.halted.wait(30)
    waiting_one.start()
    while first._flusher._asked == 0:
        waiting_one.join(0.001)
    end(opened(memory))
    store.let_through.set()
    opening.join(30)
    waiting_one.join(30)
    assert outcome == [FencedError]
    first.close()


def test_whoever_was_stopped_can_open_the_run_again(local: LocalStorage) -> None:
    first = opened(local)
    log(first, [0])
    first.flush()
    second = opened(local)
    log(second, [1], turn=2)
    second.flush()
    log(first, [1, 2])
    with pytest.raises(FencedError):
        first.flush()
    lost = first.journal
    again = first.open(OpenRequest())
    assert (again.kind, again.start, first.fenced) == ("resumed", 2, None)
    assert again.notes == (
        f"Rows of a writer that the run went on without are kept in {lost}: 2. To have them "
        f"as a fork: {sync_command(local.url, as_fork=True)}",
    )
    log(first, [2], turn=3)
    assert first.flush()
    assert kept(lost) == line([1, 2])
    log(second, [2], turn=2)
    with pytest.raises(FencedError):
        second.flush()
    end(first)
    assert read(local) == [*line([0]), *line([1], turn=2), *line([2], turn=3)]
    assert opened(local).opened.notes == (), "it is said once"  # type: ignore[union-attr]


def test_a_fork_does_not_stop_its_parent(storage: Storage) -> None:
    parent = opened(storage)
    log(parent, range(3))
    parent.flush()
    end(forked(storage, "b", 2))
    log(parent, range(3, 6))
    assert parent.flush()
    assert read(storage) == line(range(6))


def test_a_fork_does_not_bring_rows_into_a_parent_that_another_machine_writes(
    memory: MemoryStorage, machine: Machine
) -> None:
    """That would take the run over. They wait until it is opened here."""
    early = Writer(machine, RUN, background=False)
    end(opened(memory))
    log(early, [7])  # and was killed before it could open the run
    die(early)
    parent = opened(memory)
    log(parent, range(3))
    parent.flush()
    late = Writer(machine, RUN, background=False)
    log(late, [8])
    die(late)
    end(forked(machine, "b", 2))
    log(parent, [3])
    assert parent.flush()
    assert sorted(waiting(machine)) == [7, 8]


def test_a_refused_opening_does_not_stop_the_writer(storage: Storage) -> None:
    first = opened(storage)
    log(first, range(3))
    first.flush()
    for request in (
        OpenRequest(resume="never"),
        OpenRequest(at=Position(RUN, 7, 1)),
        OpenRequest(at=Position(RUN, None, 99), typed=True),
    ):
        with pytest.raises((ValueError, LookupError)):
            Writer(storage, RUN, background=False).open(request)
    log(first, [3])
    assert first.flush()


FIRST = (
    HEAD
    + """
writer.open(OpenRequest())
log(0, 1)
writer.flush()
log(2)
say("ready")
input()
log(3)
try:
    writer.flush()
except FencedError as error:
    say(error)
log(4)
writer.close()
"""
)


def test_processes_on_one_machine(local: LocalStorage, tmp_path: Path) -> None:
    with running(FIRST, tmp_path, local.url) as first:
        first.hear("ready")
        second = opened(local)
        assert second.opened is not None
        assert second.opened.start in (2, 3), "step 2 may have been flushed for its age"
        stored = second.opened.start
        first.go_on()
        said = first.hear("Run p/a was taken over by process")
        assert f"by process {os.getpid()} on" in said
        folder = said.partition("kept in ")[2].partition(". If both")[0]
        first.end()
        log(second, [9], turn=2)
        end(second)
    assert read(local) == line(range(stored)) + line([9], turn=2)
    assert kept(folder) == line(range(stored, 5))


TAKING_TURNS = (
    HEAD
    + """
name, turns = sys.argv[2], int(sys.argv[3])
say("ready")
input()
serial = 0
for turn in range(turns):
    try:
        clock = writer.open(OpenRequest()).start
        for _ in range(5):
            serial += 1
            writer.append("metrics", {"id": f"{name}-{serial}"}, clock)
            clock += 1
            writer.flush()
            say(f"{name}-{serial}")
    except FencedError:
        continue
say("done")
writer.close()
"""
)


@pytest.mark.parametrize("turns", [3, pytest.param(40, marks=pytest.mark.exhaustive)])
def test_processes_that_take_a_run_from_each_other_lose_no_acknowledged_row(
    turns: int, local: LocalStorage, tmp_path: Path
) -> None:
    acknowledged: set[str] = set()
    with ExitStack() as stack:
        scripts = [
            stack.enter_context(running(TAKING_TURNS, tmp_path, local.url, str(name), str(turns))) for name in range(4)
        ]
        for script in scripts:
            script.hear("ready")
        for script in scripts:
            script.go_on()
        for script in scripts:
            acknowledged.update(iter(script.hear, "done"))
            script.end()
    found = [str(row.values["id"]) for row in reader.read_rows(local, resolve(local, RUN), "metrics")]
    assert len(found) == len(set(found))
    assert acknowledged <= set(found)
    assert len(acknowledged) > 0
