"""How people see whether a run is written, ended well or badly, or died."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path

import pytest

from rewind_logger import init, open_store
from rewind_logger.format import names
from rewind_logger.history import recovery, view
from rewind_logger.history.heartbeat import SILENT_S, Heartbeat
from rewind_logger.history.journals import abandoned
from rewind_logger.history.journals.roots import journal_root
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.writer import Writer
from rewind_logger.sdk import state as states
from rewind_logger.sdk.state import State
from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.history.machine import Machine, die
from tests.history.processes import running

RUN = RunRef("p", "a")


@pytest.fixture
def remote() -> MemoryStorage:
    """A store of which no lock tells who lives, as one on S3 to a reader elsewhere."""
    return MemoryStorage(f"memory://test-{secrets.token_hex(6)}")


def state(storage: Storage, later_s: float = 0, revision: int | None = None) -> State:
    """The state as it is seen some seconds from now."""
    seen = view.resolve(storage, RUN, revision)
    return states.state(storage, seen, int(1000 * (time.time() + later_s)))


def writing(storage: Storage, steps: int = 3) -> Writer:
    """A run with a few rows, being written."""
    writer = Writer(storage, RUN, background=False)
    writer.open(OpenRequest())
    for step in range(steps):
        writer.append("metrics", {"x": 1}, step)
    writer.flush()
    return writer


def beat(writer: Writer) -> None:
    """Give a sign of life now."""
    assert writer.opened is not None
    Heartbeat(writer.storage, writer.opened.folder, iter([0.0, 1e9]).__next__).beat()


def test_a_run_that_falls_silent_is_taken_for_dead_after_five_minutes(remote: MemoryStorage) -> None:
    writer = writing(remote)
    assert state(remote) == state(remote, SILENT_S - 10) == "running", "the opening was a sign of life"
    assert state(remote, SILENT_S + 10) == "crashed"
    assert open_store(remote.url).run("p/a").last_heartbeat is None
    time_of_opening = names.base(writer.opened.folder) if writer.opened else ""
    beat(writer)
    told = open_store(remote.url).run("p/a").last_heartbeat
    assert told is not None and abs(told.timestamp() - time.time()) < 60
    assert state(remote, SILENT_S - 10) == "running"
    assert state(remote, SILENT_S + 10) == "crashed"
    assert remote.read(time_of_opening), "what is told of a run changes nothing in it"


def test_a_run_that_ended_stays_so_for_ever(remote: MemoryStorage) -> None:
    writer = writing(remote)
    beat(writer)
    for said in ("finished", "failed"):
        writer.append("metrics", {"x": 1}, 3)
        writer.finish(said)
        assert state(remote) == state(remote, 1e6) == said


def test_a_run_that_goes_on_after_its_end_is_running_again(remote: MemoryStorage) -> None:
    writer = writing(remote)
    writer.finish("finished")
    writer.append("metrics", {"x": 1}, 3)
    writer.flush()
    assert (state(remote), state(remote, SILENT_S + 10)) == ("running", "crashed")
    writer.finish("finished")
    assert state(remote, 1e6) == "finished"
    later = time.time_ns() + 10_000_000_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: later)
        beat(writer)  # it goes on without a step
    assert (state(remote), state(remote, SILENT_S + 20)) == ("running", "crashed")


def test_on_its_own_machine_a_dead_writer_is_seen_at_once(tmp_path: Path) -> None:
    code = """
import rewind_logger
run = rewind_logger.init(dir="store", project="p", id="a")
for step in range(10):
    run.log({"x": step})
run.flush()
print("open", flush=True)
input()
"""
    with running(code, tmp_path) as script:
        script.hear("open")
        store = open_store(tmp_path / "store")
        assert [run.state for run in store.runs()] == ["running"]
        script.kill()
        assert [run.state for run in store.runs()] == ["crashed"]
    assert store.run("p/a?_step=3").state == "crashed", "it is that of the revision"


def test_to_look_at_a_run_does_not_take_the_lock_of_its_writer(tmp_path: Path) -> None:
    run = init(dir=tmp_path, project="p", id="a")
    assert open_store(tmp_path).run("p/a").state == "running"
    storage = open_storage(tmp_path, None)
    root = journal_root(storage, RUN)
    with abandoned.abandoned(root) as found:
        assert found == [], "it is locked still"
    run.finish()


def test_a_journal_of_another_machine_tells_nothing(memory_disk: Machine) -> None:
    writer = writing(memory_disk)
    die(writer)
    assert state(memory_disk) == "crashed"
    root = journal_root(memory_disk, RUN)
    assert root is not None
    [journal] = root.iterdir()
    told = json.loads((journal / "journal.json").read_text())
    (journal / "journal.json").write_text(json.dumps({**told, "host": "elsewhere"}))
    assert (state(memory_disk), state(memory_disk, SILENT_S + 10)) == ("running", "crashed")


@pytest.fixture
def memory_disk(remote: MemoryStorage, tmp_path: Path) -> Machine:
    """A store that is not on this machine, whose journals are."""
    return Machine(remote, tmp_path / "disk")


def test_rows_that_were_brought_in_do_not_make_a_run_live(memory_disk: Machine, remote: MemoryStorage) -> None:
    writer = writing(memory_disk)
    writer.append("metrics", {"x": 1}, 3)
    die(writer)
    assert recovery.recover(memory_disk, RUN, journal_root(memory_disk, RUN), opening=False)
    assert view.resolve(remote, RUN).next_step == 4
    assert state(remote) == "crashed"


def test_an_archived_revision_ended_as_it_was_or_was_superseded(remote: MemoryStorage) -> None:
    url = remote.url
    killed = writing(remote)
    init(dir=url, project="p", resume_from="a?_step=1").finish()
    init(dir=url, project="p", resume_from="a?_step=0").finish(exit_code=1)
    with init(dir=url, project="p", resume_from="a?_step=-1"):
        store = open_store(url)
        assert [store.run(f"p/a@{number}").state for number in (1, 2, 3)] == ["superseded", "finished", "failed"]
        assert store.run("p/a").state == "running"
        assert store.run("p/a@2?_step=0").state == "finished"
    killed.close()
