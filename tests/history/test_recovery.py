"""What a killed writer leaves behind comes into the run at the next opening on its machine: all of it, and once."""

from __future__ import annotations

import contextlib
import random
import secrets
from pathlib import Path

import pytest

from rewind_logger.errors import FencedError
from rewind_logger.history.journals.part import Part
from rewind_logger.history.journals.roots import journal_root
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.recovery import recover
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import FaultyStorage, Request
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.s3 import S3Storage
from rewind_logger.types import Position, RunRef
from tests.conftest import Bucket
from tests.history.lines import RUN, end, forked, line, log, opened, read, rewound
from tests.history.machine import BROUGHT_IN, Killed, Machine, die, dying, journals, release, requests_of, waiting
from tests.history.processes import HEAD, running

KILLED = (
    HEAD
    + """
writer = Writer(storage, run, background=False)
writer.open(OpenRequest())
log(*range(10))
writer.flush()
log(*range(10, 30))
say("ready")
input()
"""
)


def killed(storage: Storage, tmp_path: Path) -> None:
    """Leave ten rows in the store and twenty in the journal of a process that was killed by SIGKILL."""
    with running(KILLED, tmp_path, storage.url) as script:
        script.hear("ready")
        script.kill()
    assert read(storage) == line(range(10))


def test_after_a_kill_a_resume_goes_on_behind_the_last_row(local: LocalStorage, tmp_path: Path) -> None:
    killed(local, tmp_path)
    writer = opened(local)
    assert writer.opened is not None
    assert (writer.opened.kind, writer.opened.start) == ("resumed", 30)
    assert writer.opened.notes == (BROUGHT_IN.format(20),)
    assert read(local) == line(range(30))
    end(writer)
    assert journals(local) == []


def test_after_a_kill_a_rewind_archives_the_last_rows_too(local: LocalStorage, tmp_path: Path) -> None:
    killed(local, tmp_path)
    writer = rewound(local, 5)
    assert writer.opened is not None
    assert (writer.opened.kind, writer.opened.start, writer.opened.revision) == ("rewound", 5, 2)
    assert writer.opened.notes == (BROUGHT_IN.format(20),)
    assert (read(local), read(local, 1)) == (line(range(5)), line(range(30)))
    end(writer)


def test_after_a_kill_a_step_that_only_the_journal_has_can_be_gone_back_to(local: LocalStorage, tmp_path: Path) -> None:
    killed(local, tmp_path)
    end(opened(local, at=Position(RUN, None, 25), typed=True))
    assert (read(local), read(local, 1)) == (line(range(25)), line(range(30)))


def test_after_a_kill_a_fork_has_the_last_rows(local: LocalStorage, tmp_path: Path) -> None:
    killed(local, tmp_path)
    end(forked(local, "b", 25, typed=True))
    assert read(local, run=RunRef("p", "b")) == line(range(25))
    assert read(local) == line(range(30))


def test_after_a_kill_the_spool_of_a_remote_store_is_looked_through(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    storage = S3Storage(f"{bucket.url}/x", bucket.storage_options)
    code = KILLED.replace("open_storage(sys.argv[1])", f"open_storage(sys.argv[1], {bucket.storage_options!r})")
    with running(code, tmp_path, storage.url) as script:
        script.hear("ready")
        script.kill()
    assert len(journals(storage)) == 1
    end(rewound(storage, 5))
    assert (read(storage), read(storage, 1)) == (line(range(5)), line(range(30)))
    assert journals(storage) == []


ENDLESS = (
    HEAD
    + """
clock = writer.open(OpenRequest()).start
while True:
    for _ in range(50):
        log(clock)
        clock += 1
    say(clock)
"""
)


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.exhaustive)])
def test_no_row_is_lost_or_doubled_by_a_kill_at_any_moment(kills: int, local: LocalStorage, tmp_path: Path) -> None:
    """The writer's thread is flushing meanwhile, or bringing in what was left before."""
    chance = random.Random(kills)
    reached = 0
    for _ in range(kills):
        with running(ENDLESS, tmp_path, local.url) as script:
            for _ in range(chance.randrange(1, 400)):
                reached = int(script.hear())
            script.kill()
    writer = opened(local)
    assert writer.opened is not None
    rows = read(local)
    assert rows == line(range(writer.opened.start))
    assert writer.opened.start >= reached > 0


def logged_and_flushed(storage: Storage) -> Writer:
    """A short life of a writer, of which each request may be the last."""
    writer = Writer(storage, RUN, background=False)
    try:
        writer.open(OpenRequest())
        start = 0 if writer.opened is None else writer.opened.start
        log(writer, range(start, start + 2))
        writer.flush()
        log(writer, range(start + 2, start + 5))
        writer.flush()
        log(writer, range(start + 5, start + 6))
        writer.finish("finished")
    except Killed:
        die(writer)
    return writer


def test_a_kill_within_any_request_neither_loses_nor_doubles_a_row(tmp_path: Path) -> None:
    count = requests_of(MemoryStorage(f"memory://test-{secrets.token_hex(6)}"), logged_and_flushed)
    assert count > 10
    for number in range(count):
        for after in (False, True):
            memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
            machine = Machine(memory, tmp_path / f"{number}{after}")
            writer = logged_and_flushed(dying(machine, number, after=after))
            assert writer._outbox is not None
            logged = writer._outbox._rows[0]
            again = opened(machine)
            assert read(memory) == line(range(logged)), f"killed in request {number}, {after=}"
            assert waiting(machine) == [], "nothing waits any more"
            die(again)


def test_a_kill_while_rows_are_brought_in_neither_loses_nor_doubles_one(tmp_path: Path) -> None:
    def left(disk: Path) -> tuple[MemoryStorage, Machine]:
        """Two batches in the journal, the first of which is in the store without having been acknowledged."""
        memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
        machine = Machine(memory, disk)
        writer = opened(machine)
        log(writer, range(3))
        assert writer._outbox is not None and writer._delivery.term is not None
        writer._outbox.close_batch()
        log(writer, range(3, 5))
        batch = writer._outbox.first(0)
        assert batch is not None
        writer._delivery.term.put(batch.flushes, batch.rows)
        die(writer)
        return memory, machine

    def bring_in(storage: Storage) -> None:
        try:
            die(rewound(storage, 2))
        except Killed:
            release(tmp_path)

    count = requests_of(left(tmp_path / "count")[1], bring_in)
    assert count > 15
    for number in range(count):
        for after in (False, True):
            memory, machine = left(tmp_path / f"{number}{after}")
            bring_in(dying(machine, number, after=after))
            die(rewound(machine, 2))
            assert read(memory) == line(range(2)), f"killed in request {number}, {after=}"
            assert read(memory, 1) == line(range(5)), f"killed in request {number}, {after=}"


def test_a_kill_between_a_flush_and_the_removal_of_its_journal(
    machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die_here(part: Part) -> None:
        raise Killed

    writer = opened(machine)
    log(writer, range(3))
    with monkeypatch.context() as context, pytest.raises(Killed):
        context.setattr(Part, "drop", die_here)
        writer.flush()
    log(writer, [3])
    die(writer)
    again = opened(machine)
    assert again.opened is not None
    assert again.opened.notes == (BROUGHT_IN.format(1),)
    assert read(memory) == line(range(4))


def test_a_fork_that_was_cut_short_is_completed_and_not_opened_empty(tmp_path: Path) -> None:
    """By whoever opens it next, though they may not know that it is a fork."""
    child = RunRef("p", "b")

    def parent(disk: Path) -> tuple[MemoryStorage, Machine]:
        memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
        machine = Machine(memory, disk)
        writer = opened(machine)
        log(writer, range(10))
        end(writer)
        return memory, machine

    def fork(storage: Storage) -> None:
        writer = Writer(storage, child, background=False)
        with contextlib.suppress(Killed):
            writer.open(OpenRequest(at=Position(RUN, None, 6)))
        die(writer)

    completed = 0
    for number in range(requests_of(parent(tmp_path / "count")[1], fork)):
        for after in (False, True):
            memory, machine = parent(tmp_path / f"{number}{after}")
            fork(dying(machine, number, after=after))
            claimed, based = len(memory.list("p/b/m")), bool(memory.list("p/b/t"))
            end(rewound(machine, 2))  # what becomes of the parent meanwhile is nothing to the fork
            again = opened(machine, child)
            assert again.opened is not None
            if not claimed:
                assert again.opened.kind == "new", "it had not begun"
                continue
            assert again.opened.kind == ("resumed" if based else "forked")
            assert again.opened.start == 6
            assert read(memory, run=child) == line(range(6))
            if not based:
                completed += 1
                assert again.opened.notes == ("The fork from p/a@1?_step=5, which was cut short, was completed.",)
    assert completed == 2, "after the claim, and before the base"


FORK = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: a fork beside threads
writer.open(OpenRequest())
log(0)
if os.fork() == 0:
    log(100, 101)
    writer.flush()
    writer.close()
    say("child")
    sys.stdin.read()
    os._exit(0)
"""


def test_a_forked_child_does_not_write_its_parents_journal(local: LocalStorage, tmp_path: Path) -> None:
    code = HEAD + FORK + "os.wait()\nlog(1)\nwriter.flush()\nwriter.close()"
    with running(code, tmp_path, local.url) as script:
        script.hear("child")
        script.end()
    assert read(local) == line(range(2))
    assert journals(local) == []


def test_a_child_that_outlives_its_killed_parent_holds_nothing_back(local: LocalStorage, tmp_path: Path) -> None:
    """A worker of a data loader has every open file of its parent."""
    code = HEAD.replace("run)", "run, background=False)") + FORK + "log(1, 2)\nos.wait()"
    with running(code, tmp_path, local.url) as script:
        script.hear("child")
        script.kill()
        end(opened(local))
        assert read(local) == line(range(3))


def test_a_journal_is_kept_while_another_opening_may_have_sealed_its_term_before_its_last_rows_came(
    machine: Machine, tmp_path: Path
) -> None:
    """Found by the model check: the rows were in the store, the journal was removed, and a seal left the rows out."""
    writer = opened(machine)
    log(writer, range(3))
    writer.flush()
    log(writer, [3])

    def late(request: Request) -> None:
        """Let the last rows come, and their writer die, when the next one has looked where its term ends."""
        if request.verb == "put" and writer._outbox is not None:
            with contextlib.suppress(FencedError):
                writer.flush()
            die(writer)
            writer._outbox = None
            root = journal_root(machine, RUN)
            assert recover(machine, RUN, root) == [], "which an opening on that machine begins with"

    elsewhere = Machine(machine.inner, tmp_path / "another disk")
    opened(FaultyStorage(elsewhere, late)).close()
    assert read(machine) == line(range(3))
    assert waiting(machine) == [3]
    assert "kept" in recover(machine, RUN, journal_root(machine, RUN))[0]
