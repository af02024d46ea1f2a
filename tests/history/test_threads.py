"""Many threads of a process log to one run: each row is there once, in the order of its thread."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rewind_logger.errors import FencedError
from rewind_logger.history import age, reader
from rewind_logger.history import writer as writing
from rewind_logger.history.delivery import Delivery
from rewind_logger.history.journals import outbox
from rewind_logger.history.journals.outbox import Outbox
from rewind_logger.history.journals.part import parse_part
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.term import Term
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import FaultyStorage, by_chance
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.retry import RetryingStorage
from rewind_logger.types import Row
from tests.history.lines import RUN, opened
from tests.history.machine import HaltingStorage, Machine, journals, waiting
from tests.history.processes import running

THREADS = 8


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush all the time: for size, for age and on demand."""
    monkeypatch.setattr(age, "LOCAL_AGE_S", 0.002)
    monkeypatch.setattr(age, "REMOTE_AGE_S", (0.002, 0.002))
    monkeypatch.setattr(outbox, "FLUSH_POINTS", 97)


def together(*works: Callable[[], None]) -> None:
    """Do all at the same time; an error in any is an error here."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "it waits for ever"
    if errors:
        raise errors[0]


def logger(writer: Writer, name: int, rows: int) -> Callable[[], None]:
    """Return the work of a thread that logs rows that bear its name; now and then it flushes."""
    keys = ["thread", "i"]
    chance = random.Random(name)

    def work() -> None:
        for i in range(rows):
            if name % 2:
                writer.append("metrics", {"thread": name, "i": i}, 0)
            else:
                with writer.lock:
                    writer.append_metrics(keys, [name, i], 0, None)
            if chance.random() < 0.003:
                writer.flush(60)

    return work


def rows_of(storage: Storage) -> list[Row]:
    return reader.read_rows(storage, resolve(storage, RUN), "metrics")


def check(rows: list[Row], each: int) -> None:
    """See that of each thread every row is there, once and in order."""
    for name in range(THREADS):
        assert [row.values["i"] for row in rows if row.values["thread"] == name] == list(range(each))
    assert len(rows) == THREADS * each


def test_eight_threads_log_while_it_is_flushed(machine: Machine, memory: MemoryStorage) -> None:
    writer = opened(machine, background=True)
    together(*(logger(writer, name, 1500) for name in range(THREADS)))
    writer.finish("finished")
    writer.close()
    check(rows_of(memory), 1500)
    assert waiting(machine) == []


def test_eight_threads_log_while_the_store_fails_now_and_then(machine: Machine, memory: MemoryStorage) -> None:
    faulty = RetryingStorage(FaultyStorage(machine, by_chance(0, before=0.1, after=0.1)), sleep=lambda _: None)
    writer = opened(faulty, background=True)
    together(*(logger(writer, name, 500) for name in range(THREADS)))
    writer.finish("finished", 60)
    writer.close()
    check(rows_of(memory), 500)


def test_eight_threads_log_while_the_run_is_opened_again_and_again(machine: Machine, memory: MemoryStorage) -> None:
    """As a trainer does that fits several times; a resume changes the journal under the threads' hands."""
    writer = opened(machine, background=True)

    def reopen() -> None:
        for _ in range(15):
            writer.open(OpenRequest())

    together(reopen, *(logger(writer, name, 500) for name in range(THREADS)))
    writer.finish("finished")
    writer.close()
    check(rows_of(memory), 500)
    assert waiting(machine) == []


@pytest.mark.parametrize("background", [False, True])
def test_a_flush_between_two_terms_puts_nothing_into_the_first(
    background: bool, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that come while the run is opened anew have the flush numbers of the next term."""
    writer = opened(memory, background=background)
    writer.append("metrics", {"i": 0}, 0)
    writer.flush()
    drain = Delivery.drain
    outcomes: list[bool] = []

    def log_and_flush() -> None:
        writer.append("metrics", {"i": 1}, 1)
        outcomes.append(writer.flush())

    def in_between(self: Delivery, term: Term, outbox: Outbox) -> None:
        if outbox is not writer._outbox and not outcomes:
            together(log_and_flush)
        drain(self, term, outbox)

    monkeypatch.setattr(Delivery, "drain", in_between)
    writer.open(OpenRequest())
    assert outcomes == [False]
    assert writer.flush()
    assert [row.values["i"] for row in rows_of(memory)] == [0, 1]
    writer.close()


def test_eight_threads_log_while_another_writer_takes_the_run_over(machine: Machine, memory: MemoryStorage) -> None:
    """What was stored and what is kept are together every row; the new writer's rows are its own."""
    writer = opened(machine, background=True)
    half = threading.Event()
    second: list[Writer] = []

    def log_some(name: int) -> Callable[[], None]:
        def work() -> None:
            for i in range(800):
                if i == 400:
                    half.set()
                writer.append("metrics", {"thread": name, "i": i}, 0)

        return work

    def take_over() -> None:
        assert half.wait(60)
        second.append(opened(machine))

    together(take_over, *(log_some(name) for name in range(THREADS)))
    with pytest.raises(FencedError):
        while True:  # until it is noticed
            writer.append("metrics", {"thread": THREADS, "i": 0}, 0)
            writer.flush()
    writer.close()
    [other] = second
    other.append("metrics", {"thread": -1, "i": 0}, 0)
    other.flush()
    stored = [row for row in rows_of(memory) if row.values["thread"] in range(THREADS)]
    other.close()
    kept = kept_rows(machine)
    for name in range(THREADS):
        before = [row.values["i"] for row in stored if row.values["thread"] == name]
        after = [row.values["i"] for row in kept if row.values["thread"] == name]
        assert before == list(range(len(before)))
        # A flush that was put before the seal was read is in the run, though it was not acknowledged.
        assert sorted({*before, *after}) == list(range(800))


def kept_rows(machine: Machine) -> list[Row]:
    """Return the rows in the journals of the machine."""
    parts = [path for folder in journals(machine) for path in sorted(folder.glob("*.part"))]
    return [row for part in parts for row in parse_part(0, part.read_bytes()).rows.get("metrics", ())]


def test_a_close_does_not_tell_a_flush_that_waits_a_lie(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request under way comes to its end; what waits behind it stays in the journal, and is not called stored."""
    monkeypatch.setattr(writing, "CLOSE_S", 0.01)
    monkeypatch.setattr(Writer, "_wake", lambda _: None)  # nothing is flushed before it is asked for
    store = HaltingStorage(memory.url)
    writer = opened(store, background=True)
    for i in range(200):  # two full batches and a part of one
        writer.append("metrics", {"i": i}, i)
    outcomes: list[bool] = []
    waiting_one = threading.Thread(target=lambda: outcomes.append(writer.flush()))
    waiting_one.start()
    assert store.halted.wait(60)
    writer.close()
    store.let_through.set()
    waiting_one.join(60)
    assert len(rows_of(memory)) < 200
    assert outcomes == [False]


TO_THE_END = """
import sys, threading
import rewind_logger
run = rewind_logger.init(dir=sys.argv[1], project="p", id="a")
logged = threading.Semaphore(0)

def work(name):
    for i in range(10**9):
        run.log({"thread": name, "i": i})
        logged.release()

for name in range(8):
    threading.Thread(target=work, args=(name,), daemon=True).start()
for _ in range(2000):
    logged.acquire()
"""


def test_threads_may_log_until_the_process_ends(local: LocalStorage, tmp_path: Path) -> None:
    with running(TO_THE_END, tmp_path, local.url) as script:
        script.end()
    opened(local).close()  # a row that came in the very end waits in a journal
    rows = rows_of(local)
    assert len(rows) >= 2000
    for name in range(8):
        found = [row.values["i"] for row in rows if row.values["thread"] == name]
        assert found == list(range(len(found)))
