"""Who brings in a journal, at a sync, an opening or a fork, stops nobody who writes, and who opens meanwhile waits."""

from __future__ import annotations

import errno
import functools
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rewind_logger.errors import FencedError, TransientStorageError
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims, recovery
from rewind_logger.history.journals import locks
from rewind_logger.history.opening import new_claim
from rewind_logger.history.remove import remove_run
from rewind_logger.history.sync import sync_store
from rewind_logger.history.verify import verify
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.descriptor import open_file
from rewind_logger.storage.faults import FaultyStorage, Request
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.figures import count
from tests.history.lines import RUN, end, forked, line, log, opened, read
from tests.history.machine import Machine, die, journals, requests_of
from tests.history.synced import logged

Leave = Callable[[Machine], Writer]
On = Callable[[str, Callable[[], object]], object]

PATHS = RunPaths(RUN)


def left_behind(here: Machine) -> Writer:
    return logged(here, range(3), range(3, 6))


def before_any_opening(here: Machine) -> Writer:
    writer = Writer(here, RUN, background=False)
    log(writer, range(6))
    return writer


LEFT = pytest.mark.parametrize("leave", [left_behind, before_any_opening])


class Race:
    """A store, a machine with a journal that was left behind, and another machine."""

    def __init__(self, tmp_path: Path, leave: Leave) -> None:
        self.store = MemoryStorage(f"memory://{secrets.token_hex(6)}")
        disks = tmp_path / secrets.token_hex(6)
        self.here = Machine(self.store, disks / "here")
        self.there = Machine(self.store, disks / "there")
        die(leave(self.here))


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> On:
    """Have something done on a host of a name."""

    def do(host: str, what: Callable[[], object]) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "gethostname", lambda: host)
            return what()

    return do


def at(storage: Storage, number: int, do: Callable[[], object]) -> FaultyStorage:
    """Have something done just before a request."""

    def meanwhile(request: Request) -> None:
        if request.number == number:
            do()

    return FaultyStorage(storage, meanwhile)


@LEFT
def test_no_sync_stops_who_opens_the_run_elsewhere_in_any_moment_of_it(leave: Leave, tmp_path: Path, on: On) -> None:
    for number in range(requests_of(Race(tmp_path, leave).here, sync_store)):
        race = Race(tmp_path, leave)
        others: list[Writer] = []

        def take_over(race: Race = race, others: list[Writer] = others) -> None:
            writer = opened(race.there)
            log(writer, range(writer.next_step, writer.next_step + 3), turn=1)
            writer.flush()
            others.append(writer)

        [done] = sync_store(at(race.here, number, functools.partial(on, "there", take_over)))
        count("takeovers")
        [other] = others
        begun = other.next_step
        log(other, [begun], turn=1)
        assert other.flush(), f"it was stopped at request {number}"
        found = read(race.store)
        kept = [row for row in line(range(6)) if row not in found]
        assert found == [row for row in line(range(6)) if row not in kept] + line(range(begun - 3, begun + 1), turn=1)
        assert not kept or done.what in ("superseded", "waiting"), f"request {number}: {done}"
        assert not kept or journals(race.here), f"request {number}: rows {kept} are nowhere"
        end(other)


@LEFT
def test_no_sync_stops_who_is_in_the_midst_of_opening_the_run_elsewhere(leave: Leave, tmp_path: Path, on: On) -> None:
    here = socket.gethostname()
    for number in range(requests_of(Race(tmp_path, leave).there, opened)):
        race = Race(tmp_path, leave)
        sync = functools.partial(on, here, functools.partial(sync_store, race.here))
        writer = on("there", functools.partial(opened, at(race.there, number, sync)))
        assert isinstance(writer, Writer)
        count("takeovers")
        begun = writer.next_step
        log(writer, [begun], turn=1)
        assert writer.flush(), f"it was stopped at request {number}"
        found = read(race.store)
        assert found[-1:] == line([begun], turn=1)
        assert found[:-1] == line(range(6)) or journals(race.here), f"request {number}: rows are nowhere"
        end(writer)


@LEFT
def test_an_opening_has_what_was_left_though_another_claims_the_run_in_any_moment_of_it_and_is_killed(
    leave: Leave, tmp_path: Path, on: On
) -> None:
    for number in range(requests_of(Race(tmp_path, leave).here, opened)):
        race = Race(tmp_path, leave)

        def claim(store: Storage = race.store) -> None:
            claims.fence(store, PATHS, new_claim("f00d", "opened", ""), claims.count(store, PATHS))

        try:
            writer = opened(at(race.here, number, functools.partial(on, "there", claim)))
        except FencedError:  # once it had claimed the run itself
            writer = opened(race.here)
        count("takeovers")
        assert read(race.store) == line(range(6)), f"request {number}"
        end(writer)


def test_a_run_that_is_removed_while_it_is_begun_with_what_was_left_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    race = Race(tmp_path, before_any_opening)

    def then_remove(*arguments: Any) -> bool:
        begun = begin_with(*arguments)
        remove_run(race.store, RUN, dry_run=False)
        return begun

    begin_with = recovery.begin_with
    monkeypatch.setattr(recovery, "begin_with", then_remove)
    writer = opened(race.here)
    assert writer.next_step == 0
    assert journals(race.here), "its rows are kept"
    end(writer)


def test_no_fork_stops_who_opens_its_parent_in_any_moment_of_it(tmp_path: Path, on: On) -> None:
    """Also on the machine on which the parent's last writer was killed."""
    for number in range(requests_of(Race(tmp_path, left_behind).here, lambda storage: forked(storage, "b", None))):
        race = Race(tmp_path, left_behind)
        others: list[Writer] = []

        def open_parent(race: Race = race, others: list[Writer] = others) -> None:
            others.append(opened(race.there))

        child = forked(at(race.here, number, functools.partial(on, "there", open_parent)), "b", None)
        count("takeovers")
        for writer, run in ((others[0], RUN), (child, RunRef("p", "b"))):
            begun = writer.next_step
            log(writer, [begun], turn=1)
            assert writer.flush(), f"{run} was stopped at request {number}"
            found = read(race.store, run=run)
            assert found == line(range(begun)) + line([begun], turn=1)
            assert begun == 6 or (begun == 3 and journals(race.here)), f"request {number}: rows of {run} are nowhere"
            end(writer)


def test_an_opening_waits_for_a_sync_that_is_bringing_in_what_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recovery, "WAIT_S", 60.0)
    requests = requests_of(Race(tmp_path, left_behind).here, sync_store)
    for number in range(requests):
        race = Race(tmp_path, left_behind)
        at_work, waited_for = threading.Event(), threading.Event()

        def pause(at_work: threading.Event = at_work, waited_for: threading.Event = waited_for) -> None:
            at_work.set()
            assert waited_for.wait(60)

        class Hear(logging.Handler):
            """Let the sync go on once somebody waits for it."""

            def emit(self, record: logging.LogRecord, waited_for: threading.Event = waited_for) -> None:
                if record.getMessage().startswith("Waiting for another process, which is bringing in the rows"):
                    waited_for.set()

        hear = Hear()
        logging.getLogger("rewind_logger").addHandler(hear)
        try:
            sync = threading.Thread(target=sync_store, args=(at(race.here, number, pause),))
            sync.start()
            assert at_work.wait(60)
            writer = opened(race.here)
            sync.join()
        finally:
            logging.getLogger("rewind_logger").removeHandler(hear)
        assert waited_for.is_set()
        assert writer.next_step == 6
        log(writer, [6])
        end(writer)
        assert read(race.store) == line(range(7)), f"request {number}"
        assert not journals(race.here)


def test_one_that_takes_too_long_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recovery, "WAIT_S", 0.1)
    race = Race(tmp_path, left_behind)
    opened_at: list[Writer] = []
    [done] = sync_store(at(race.here, 3, lambda: opened_at.append(opened(race.here))))
    assert [record.getMessage().partition(" journal ")[0] for record in caplog.records] == [
        "Waiting for another process, which is bringing in the rows of the",
        "The rows of the",
    ]
    assert done.what == "superseded"
    [writer] = opened_at
    assert writer.flush()
    end(writer)
    assert [found.what for found in sync_store(race.here, as_fork=True)] == ["forked"]
    assert done.fork is not None
    assert read(race.store, run=done.fork) == line(range(6))


@pytest.mark.parametrize("time", range(1, 8))
def test_what_cannot_be_read_for_want_of_descriptors_is_not_called_damaged(
    time: int,
    machine: Machine,
    memory: MemoryStorage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = logged(machine, range(3), range(3, 6))
    assert writer._outbox is not None
    for steps in (range(6, 9), range(9, 12)):
        writer._outbox.close_batch()
        log(writer, steps)
    die(writer)
    read_bytes, reads = Path.read_bytes, 0

    def fail_once(path: Path) -> bytes:
        nonlocal reads
        if path.name.endswith("2.part"):
            reads += 1
            if reads == time:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", fail_once)
    try:
        again = opened(machine)
    except TransientStorageError as error:
        assert "cannot be read now" in str(error)
        again = opened(machine)
    end(again)
    assert read(memory) == line(range(12))
    assert not caplog.records
    assert not journals(machine)


@pytest.mark.parametrize("where", ["of the run", "of a journal", "of its lock"])
def test_what_cannot_be_looked_for_for_want_of_descriptors_is_not_taken_for_gone(
    where: str, machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    die(logged(machine, range(3), range(3, 6)))
    [journal] = journals(machine)
    iterdir = Path.iterdir
    refused = {"of the run": journal.parent, "of a journal": journal, "of its lock": journal / "journal.json"}[where]

    def refuse(path: Path) -> None:
        nonlocal refused
        if path == refused:
            refused = Path()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def list_unless_refused(path: Path) -> Iterator[Path]:
        refuse(path)
        return iterdir(path)

    def open_unless_refused(path: Path, flags: int) -> int:
        refuse(path)
        return open_file(path, flags)

    monkeypatch.setattr(Path, "iterdir", list_unless_refused)
    monkeypatch.setattr(locks, "open_file", open_unless_refused)
    with pytest.raises(TransientStorageError, match="cannot be read now"):
        opened(machine)
    end(opened(machine))
    assert read(memory) == line(range(6))


def test_what_was_brought_in_of_a_damaged_journal_is_not_brought_in_again(
    machine: Machine, memory: MemoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    die(logged(machine, range(3), range(3, 9)))
    [part] = [path for folder in journals(machine) for path in folder.glob("*.part")]
    data = bytearray(part.read_bytes())
    data[-5] ^= 0xFF
    part.write_bytes(data)
    end(opened(machine))
    assert len(caplog.records) == 1 and "is damaged: it is kept" in caplog.text
    assert read(memory) == line(range(8))
    for _ in range(2):
        again = opened(machine)
        assert again.opened is not None
        assert again.opened.notes == ()
        end(again)
        assert sync_store(machine, as_fork=True) == []
    assert len(caplog.records) == 1, "it was said"
    [problem] = verify(machine).problems
    assert (problem.path, problem.remedy) == (
        str(part),
        "What can be read of it is in the run. Delete the file once nobody wants to have it looked at.",
    )
    assert part.exists()
    assert [info.name for info in memory.list("p")] == ["a"]


def test_a_writer_that_lives_is_not_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recovery, "WAIT_S", 1e9)
    first = logged(machine, range(3), range(3, 6))
    second = opened(machine)
    with pytest.raises(FencedError):
        first.flush()
    end(second)
    assert not [record for record in caplog.records if "Waiting" in record.getMessage()]
