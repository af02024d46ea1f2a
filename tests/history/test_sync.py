"""Sync brings in what waits on this machine, once, and disturbs nobody who writes."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

import pytest

from rewind_logger.errors import FencedError, TransientStorageError
from rewind_logger.format.names import RunPaths, check_name
from rewind_logger.history import claims, spool, view
from rewind_logger.history import sync as syncing
from rewind_logger.history.collect import collect
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.part import Part
from rewind_logger.history.remove import remove_run
from rewind_logger.history.sync import Synced, fork_of, sync_store
from rewind_logger.history.verify import verify
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import Fault, FaultyStorage, Request
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import Position, RunRef
from tests.figures import count
from tests.history.lines import RUN, Line, end, line, log, opened, read, rewound
from tests.history.machine import Killed, Machine, die, dying, journals, release, requests_of, waiting
from tests.history.processes import HEAD, running


def only(found: list[Synced]) -> Synced:
    assert len(found) == 1, found
    return found[0]


def logged(storage: Storage, stored: range, kept: range) -> Writer:
    """Open the run and log rows of which the last are in the journal only."""
    writer = opened(storage)
    log(writer, stored)
    writer.flush()
    log(writer, kept)
    return writer


def claims_of(storage: Storage, run: RunRef = RUN) -> int:
    return len(storage.list(f"{run}/m"))


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


def superseded(machine: Machine, memory: MemoryStorage) -> tuple[Writer, str]:
    """Leave three rows in the journal of a writer without whom another machine goes on; return that and the journal."""
    first = logged(machine, range(3), range(3, 6))
    other = opened(memory)
    log(other, range(3, 5), turn=2)
    other.flush()
    die(first)
    assert first._outbox is not None
    return other, first._outbox.nonce


def test_rows_that_the_run_went_on_without_become_a_fork(machine: Machine, memory: MemoryStorage) -> None:
    other, nonce = superseded(machine, memory)
    child = fork_of(RUN, nonce)
    assert child == RunRef("p", f"a-{nonce[:8]}")

    kept = only(sync_store(machine))
    assert (kept.what, kept.rows, kept.fork) == ("superseded", 3, child)
    assert f"rewind_logger.sync('{memory.url}', as_fork=True)" in str(kept)
    assert waiting(machine) == [3, 4, 5], "a plain sync leaves them where they are"

    made = only(sync_store(machine, as_fork=True))
    assert (made.what, made.rows, made.fork) == ("forked", 3, child)
    assert str(made).endswith(f"3 rows were brought into a run of their own, {child}")
    assert read(memory, run=child) == line(range(6)), "exactly what that writer had"
    assert sync_store(machine, as_fork=True) == []

    log(other, [5], turn=2)
    assert other.flush(), "whoever writes the run was not disturbed"
    assert read(memory) == line(range(3)) + line(range(3, 6), turn=2)
    end(rewound(memory, 1))
    assert read(memory, run=child) == line(range(6)), "what becomes of the run is nothing to its fork"
    onward = opened(memory, child)
    assert onward.opened is not None
    assert onward.opened.start == 6
    end(onward)


def test_a_fork_has_what_its_writer_was_rewound_to(machine: Machine, memory: MemoryStorage) -> None:
    end(logged(memory, range(6), range(0)))
    first = rewound(machine, 2)
    log(first, [2], turn=1)
    first.flush()
    log(first, [3], turn=1)
    end(rewound(memory, 1))
    die(first)
    made = only(sync_store(machine, as_fork=True))
    assert made.fork is not None
    assert read(memory, run=made.fork) == line(range(2)) + line([2, 3], turn=1)


def test_a_term_that_no_head_names_any_more_is_forked_without_doubling_a_row(
    machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last flush is in the store, and the part of its journal that holds it was not removed yet."""
    end(logged(memory, range(3), range(0)))
    first = rewound(machine, 2)
    log(first, [2], turn=1)
    with monkeypatch.context() as context, pytest.raises(Killed):
        context.setattr(Part, "drop", _killed)
        first.flush()
    log(first, [3], turn=1)
    die(first)
    end(opened(memory))  # goes on in the same revision: that is the term with which it ends
    end(rewound(memory, 1))
    end(rewound(memory, None, revision=1))
    made = only(sync_store(machine, as_fork=True))
    assert made.fork is not None
    assert read(memory, run=made.fork) == line(range(2)) + line([2, 3], turn=1)


def _killed(part: Part) -> None:
    raise Killed


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
            count("crash points")
            count("rows checked", len(expected))
            count("rows lost", len(set(expected) - set(found)))
            assert found == expected, f"killed in request {number}, {after=}"
            assert journals(machine) == []
            assert len(memory.list("p")) == (2 if case == "superseded" else 1), "one fork, at most"


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


def test_a_run_that_was_removed_does_not_come_back_by_a_sync(machine: Machine, memory: MemoryStorage) -> None:
    writer = logged(machine, range(3), range(3, 6))
    die(writer)
    remove_run(memory, RUN, dry_run=False)
    assert only(sync_store(machine)).what == "superseded"
    made = only(sync_store(machine, as_fork=True))
    assert made.what == "forked" and made.fork is not None
    assert read(memory, run=made.fork) == line(range(3, 6)), "what was not removed"


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
    assert "2 rows would be brought in" in str(found[0])
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


def test_a_run_of_the_forks_name_is_not_written_to(machine: Machine, memory: MemoryStorage) -> None:
    other, nonce = superseded(machine, memory)
    taken = opened(memory, fork_of(RUN, nonce))
    log(taken, [7])
    end(taken)
    found = only(sync_store(machine, as_fork=True))
    assert (found.what, found.trouble) == (
        "failed",
        f"There is another run {taken.run}, which is no fork of these rows.",
    )
    assert read(memory, run=taken.run) == line([7])
    assert waiting(machine) == [3, 4, 5]
    die(other)


def test_a_long_name_leaves_room_for_that_of_its_fork(machine: Machine, memory: MemoryStorage) -> None:
    for name in (128 * "n", 66 * "ü"):
        fork = fork_of(RunRef("p", name), "0123456789abcdef")
        assert check_name("run id", fork.id).endswith("-01234567")


def test_progress_names_each_run(machine: Machine) -> None:
    for name in ("a", "b"):
        die(logged_early(machine, name))
    told: list[tuple[str, int, int | None]] = []
    sync_store(machine, progress=lambda what, done, total: told.append((what, done, total)))
    assert told == [("journals of p/a", 0, 2), ("journals of p/b", 1, 2)]


def logged_early(machine: Machine, name: str) -> Writer:
    writer = Writer(machine, RunRef("p", name), background=False)
    log(writer, [0])
    return writer


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


def test_a_fork_has_all_that_its_writer_had_though_its_folder_was_merged_and_collected(
    machine: Machine, memory: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the model check: the fork referred to segments that were there no longer."""
    monkeypatch.setattr(view, "LONG_LINEAGE", 1)
    zombie = logged(machine, range(4), range(4, 6))
    elsewhere = Machine(memory, tmp_path / "another disk")
    for start in (4, 8, 12):  # each goes on, and merges what it builds on
        writer = opened(elsewhere)
        log(writer, range(start, start + 4), turn=1)
        end(writer)
    with pytest.raises(FencedError):
        zombie.flush()
    die(zombie)
    removed = collect(memory, dry_run=False, grace_s=-1.0)
    assert removed.objects
    synced = only(sync_store(machine, as_fork=True))
    assert synced.what == "forked" and synced.fork is not None
    assert read(memory, run=synced.fork) == line(range(6))
    assert read(memory) == [*line(range(4)), *line(range(4, 16), turn=1)]
    assert verify(memory).ok, verify(memory)
