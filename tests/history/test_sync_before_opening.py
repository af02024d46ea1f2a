"""Rows that were logged before their run was open: a sync, or the next opening, brings them in."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rewind_logger.errors import TransientStorageError
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.sync import sync_store
from rewind_logger.history.writer import Writer
from rewind_logger.storage.faults import Fault, FaultyStorage, Request
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import Position, RunRef
from tests.figures import count
from tests.history.lines import RUN, end, line, log, opened, read, rewound
from tests.history.machine import Machine, die, waiting
from tests.history.processes import HEAD, running
from tests.history.synced import claims_of, logged, only


def test_a_run_that_was_never_opened_is_opened_with_its_rows(machine: Machine, memory: MemoryStorage) -> None:
    early = Writer(machine, RUN, background=False)
    early.append("events", {"config": "{}"}, None)
    log(early, range(4))
    die(early)
    found = only(sync_store(machine))
    assert (found.what, found.rows) == ("brought in", 5)
    assert read(memory) == line(range(4))


def test_the_next_opening_begins_a_run_with_rows_that_wait_for_it(machine: Machine, memory: MemoryStorage) -> None:
    """Its writer was killed while the store was away from the start on."""
    for request in (OpenRequest(), OpenRequest(resume="must"), OpenRequest(at=Position(RUN, None, 3), typed=True)):
        run = RunRef("p", f"r{request.resume}{request.at is not None}")
        if request.at is not None:
            request = OpenRequest(at=Position(run, None, 3), typed=True)
        early = Writer(machine, run, background=False)
        log(early, range(4))
        die(early)
        writer = Writer(machine, run, background=False)
        assert writer.open(request).start == (4 if request.at is None else 3)
        end(writer)
        assert read(memory, 1, run=run) == line(range(4))


def test_an_opening_that_must_find_nothing_is_not_refused_for_rows_that_wait(
    machine: Machine, memory: MemoryStorage
) -> None:
    early = Writer(machine, RUN, background=False)
    log(early, range(4))
    die(early)
    end(opened(machine, resume="never"))
    assert waiting(machine) == [0, 1, 2, 3], "they are kept"


def test_an_opening_that_was_killed_after_its_claim_has_its_rows(machine: Machine, memory: MemoryStorage) -> None:
    end(logged(memory, range(3), range(0)))
    writer = Writer(FaultyStorage(machine, lambda request: _no_base(request.path)), RUN, background=False)
    log(writer, range(3, 6))
    with pytest.raises(TransientStorageError):
        writer.open(OpenRequest())
    die(writer)
    assert claims_of(memory) == 2
    found = only(sync_store(machine))
    assert (found.what, found.rows) in {("brought in", 3), ("waiting", 3)}
    end(opened(machine))
    assert read(memory) == line(range(6))


def _no_base(path: str) -> Fault | None:
    return Fault("before", TransientStorageError("Away.")) if path.endswith("base.json") and "00001" in path else None


@pytest.mark.parametrize("host", [None, "elsewhere"])
def test_rows_of_before_an_opening_do_not_disturb_another_process_that_writes(
    host: str | None, machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        if host is not None:
            context.setattr(socket, "gethostname", lambda: host)
        other = opened(memory)
    log(other, range(3))
    other.flush()
    early = Writer(machine, RUN, background=False)
    log(early, range(3, 6))
    die(early)
    found = only(sync_store(machine))
    assert (found.what, found.rows) == ("waiting", 3)
    assert other.flush() and claims_of(memory) == 1


def test_rows_of_before_an_opening_follow_a_writer_that_is_gone(local: LocalStorage, tmp_path: Path) -> None:
    code = HEAD + "writer.open(OpenRequest())\nlog(0, 1)\nwriter.flush()\nsay('ready')\ninput()"
    with running(code, tmp_path, local.url) as script:
        script.hear("ready")
        early = Writer(local, RUN, background=False)
        log(early, range(2, 5))
        die(early)
        assert [one.what for one in sync_store(local)].count("waiting") == 1
        script.kill()
    assert sorted(one.what for one in sync_store(local)) == ["brought in", "nothing left"]
    assert read(local) == line(range(5))


def test_rows_that_were_to_follow_a_rewind_are_not_put_behind_what_it_was_to_archive(
    machine: Machine, memory: MemoryStorage
) -> None:
    """A resume from a checkpoint at step 2 while the store was away, killed before it was back."""
    end(logged(memory, range(5), range(0)))
    early = Writer(machine, RUN, background=False)
    log(early, range(2, 4), turn=1)
    die(early)
    end(rewound(machine, 2))
    assert read(memory, 1) == line(range(5))
    found = only(sync_store(machine, as_fork=True))
    assert found.fork is not None and found.what == "forked"
    assert read(memory, run=found.fork) == line(range(2, 4), turn=1)


def test_a_run_that_is_first_opened_during_a_sync_loses_nothing(tmp_path: Path) -> None:
    """Found by the model check: the sync believed that nobody had opened the run, and began it anew, empty."""

    def race(number: int | None) -> int:
        """Open the run on another machine at one of the requests of a sync; return how many there were."""
        store = MemoryStorage(f"memory://race-{number}")
        here, there = (Machine(store, tmp_path / f"{number}-{name}") for name in ("here", "there"))
        early = Writer(here, RUN, background=False)
        early.append("metrics", {"a": 100}, None)
        early.append("metrics", {"a": 101}, 0)
        die(early)
        writers: list[Writer] = []

        def open_it(request: Request) -> None:
            if request.number == number:
                writers.append(logged(there, range(4), range(0)))

        faulty = FaultyStorage(here, open_it)
        sync_store(faulty)
        count("takeovers", len(writers))
        if writers:
            assert set(line(range(4))) <= set(read(store)), "acknowledged rows are lost"
            assert waiting(here) or len(read(store)) == 6, "what was logged here is there, or is kept"
        return faulty._number

    total = race(None)
    for number in range(total):
        race(number)
    assert total > 10
