"""Sync brings in what waits on this machine, once, and disturbs nobody who writes."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

import pytest

from rewind_logger.errors import TransientStorageError
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims
from rewind_logger.history import sync as syncing
from rewind_logger.history.journals import spool
from rewind_logger.history.superseded import fork_of
from rewind_logger.history.sync import sync_store
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import Fault, FaultyStorage
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.figures import count
from tests.history.lines import RUN, Line, end, line, log, opened, read
from tests.history.machine import Killed, Machine, die, dying, journals, release, requests_of
from tests.history.processes import HEAD, running
from tests.history.synced import claims_of, logged, logged_early, only, superseded


def test_what_a_killed_writer_left_comes_into_its_run(machine: Machine, memory: MemoryStorage) -> None:
    writer = logged(machine, range(10), range(10, 30))
    die(writer)
    found = only(sync_store(machine))
    assert (found.what, found.rows, found.run) == ("brought in", 20, RUN)
    assert str(found) == f"p/a in {memory.url}, journal {found.journal.name}: 20 rows were brought in"
    assert read(memory) == line(range(30))
    assert sync_store(machine) == []
    again = opened(machine)
    assert again.opened is not None
    assert (again.opened.start, again.opened.notes) == (30, ())
    die(again)


def test_a_writer_that_lives_is_passed_by(machine: Machine, memory: MemoryStorage) -> None:
    writer = logged(machine, range(3), range(3, 6))
    found = only(sync_store(machine, as_fork=True))
    assert found.what == "in use"
    assert writer.flush(), "nobody took the run over"
    assert claims_of(memory) == 1
    assert read(memory) == line(range(6))
    end(writer)


def test_a_writer_that_lives_in_another_process_is_passed_by(local: LocalStorage, tmp_path: Path) -> None:
    code = HEAD + "writer.open(OpenRequest())\nlog(0, 1)\nsay('ready')\ninput()\nlog(2)\nwriter.flush()\nwriter.close()"
    with running(code, tmp_path, local.url) as script:
        script.hear("ready")
        assert only(sync_store(local, as_fork=True)).what == "in use"
        script.go_on()
        script.end()
    assert read(local) == line(range(3))


def sync_and_die(storage: Storage, folder: Path) -> None:
    """Sync until the process is killed."""
    try:
        sync_store(storage, as_fork=True)
    except Killed:
        release(folder)


@pytest.mark.parametrize("case", ["superseded", "left", "never opened"])
def test_a_sync_that_is_killed_within_any_request_is_completed_by_the_next(case: str, tmp_path: Path) -> None:
    def prepare(disk: Path) -> tuple[MemoryStorage, Machine, RunRef, Line]:
        memory = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
        machine = Machine(memory, disk)
        if case == "superseded":
            first = opened(machine)
            log(first, range(3))
            first.flush()
            for step in range(3, 6):  # of three batches
                log(first, [step])
                assert first._outbox is not None and first._outbox.close_batch()
            end(opened(memory))
            die(first)
            assert first._outbox is not None
            return memory, machine, fork_of(RUN, first._outbox.nonce), line(range(6))
        if case == "left":
            die(logged(machine, range(3), range(3, 6)))
            return memory, machine, RUN, line(range(6))
        early = Writer(machine, RUN, background=False)
        log(early, range(6))
        die(early)
        return memory, machine, RUN, line(range(6))

    number_of_requests = requests_of(prepare(tmp_path / "count")[1], lambda store: sync_store(store, as_fork=True))
    assert number_of_requests > 8
    for number in range(number_of_requests):
        for after in (False, True):
            memory, machine, run, expected = prepare(tmp_path / f"{number}{after}")
            sync_and_die(dying(machine, number, after=after), tmp_path)
            sync_store(machine, as_fork=True)
            found = read(memory, run=run)
            count("requests cut short")
            count("rows checked", len(expected))
            count("rows lost", len(set(expected) - set(found)))
            assert found == expected, f"killed in request {number}, {after=}"
            assert journals(machine) == []
            assert len(memory.list("p")) == (2 if case == "superseded" else 1), "one fork, at most"


def test_a_dry_run_changes_nothing(machine: Machine, memory: MemoryStorage) -> None:
    other, _ = superseded(machine, memory)
    die(logged(machine, range(0), range(5, 7)))  # the last writer's
    early = Writer(machine, RunRef("p", "b"), background=False)
    log(early, [0])
    die(early)
    files = sorted(path for path in Path(machine.local_path or "").rglob("*"))
    found = sync_store(machine, as_fork=True, dry_run=True)
    assert [(one.what, one.rows, one.dry_run) for one in found] == [
        ("brought in", 2, True),
        ("forked", 3, True),
        ("brought in", 1, True),
    ]
    assert "2 rows would be brought in" in str(found[0]) and "1 row would be brought in" in str(found[2])
    assert sorted(path for path in Path(machine.local_path or "").rglob("*")) == files
    assert (claims_of(memory), len(memory.list("p"))) == (3, 1)
    die(other)


def test_a_store_that_is_away_is_asked_once_and_everything_is_kept(machine: Machine) -> None:
    for name in ("a", "b"):
        writer = Writer(machine, RunRef("p", name), background=False)
        log(writer, range(3))
        die(writer)
    asked: list[str] = []

    def away(path: str) -> Fault:
        asked.append(path)
        return Fault("before", TransientStorageError("The network is down."))

    found = sync_store(FaultyStorage(machine, lambda request: away(request.path)), as_fork=True)
    assert [(one.what, one.trouble) for one in found] == 2 * [("failed", "The network is down.")]
    assert all("it is kept in" in str(one) for one in found)
    assert len(asked) <= 2
    assert [one.what for one in sync_store(machine)] == 2 * ["brought in"]


def test_a_journal_of_another_machine_is_left_to_it_for_a_while(
    machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk of several machines, over a network on which locks may not be seen."""
    with monkeypatch.context() as context:
        context.setattr(socket, "gethostname", lambda: "elsewhere")
        die(logged(machine, range(3), range(3, 6)))
    found = only(sync_store(machine))
    assert (found.what, found.trouble[:30]) == ("waiting", "they were written on elsewhere")
    long_ago = os.stat(found.journal).st_mtime - 2 * syncing.RECENT_S
    for path in (found.journal, *found.journal.iterdir()):
        os.utime(path, (long_ago, long_ago))
    assert only(sync_store(machine)).what == "brought in"
    assert read(memory) == line(range(6))


def test_progress_names_each_run(machine: Machine) -> None:
    for name in ("a", "b"):
        die(logged_early(machine, name))
    told: list[tuple[str, int, int | None]] = []
    sync_store(machine, progress=lambda what, done, total: told.append((what, done, total)))
    assert told == [("journals of p/a", 0, 2), ("journals of p/b", 1, 2)]


def test_journals_are_found_wherever_their_runs_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStorage(tmp_path / "a store")
    for project, name in (("p", "a"), ("team/p", "ä b"), ("p", "a.b")):
        writer = Writer(store, RunRef(project, name), background=False)
        log(writer, [0])
        die(writer)
    (tmp_path / "a store" / "p" / "no run" / "j" / "folder").mkdir(parents=True)
    assert [str(run) for run, _ in spool.roots(store)] == ["p/a", "p/a.b", "team/p/ä b"]
    assert [one.what for one in sync_store(store)] == 3 * ["brought in"]
    assert claims.count(store, RunPaths(RunRef("team/p", "ä b"))) > 0
