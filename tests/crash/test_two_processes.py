"""Two real processes and one run: started at the same moment, or one stopped while the other takes the run over."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rewind_logger.history import reader
from rewind_logger.history.sync import sync_store
from rewind_logger.history.view import resolve
from rewind_logger.storage import open_storage
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef
from tests.conftest import Bucket
from tests.figures import count
from tests.history.lines import RUN, end, line, log, opened, read
from tests.history.processes import HEAD, running

Place = tuple[str, Mapping[str, Any] | None]


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    return tmp_path


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.exhaustive)])
def place(request: pytest.FixtureRequest, spool: Path) -> Place:
    """A store that several processes can write."""
    if request.param == "disk":
        return str(spool / "store"), None
    bucket: Bucket = request.getfixturevalue("bucket")
    return f"{bucket.url}/x", bucket.storage_options


def arguments(place: Place) -> tuple[str, str]:
    return place[0], json.dumps(place[1])


REMOTE_HEAD = HEAD.replace("open_storage(sys.argv[1])", "open_storage(sys.argv[1], json.loads(sys.argv[2]))").replace(
    "import sys", "import json, os, sys, time"
)

TWIN = (
    REMOTE_HEAD
    + """
name = sys.argv[3]
say("ready")
while moment := float(input()):
    writer = Writer(storage, RunRef("p", f"r{moment}"), background=False)
    acknowledged, told, notes = [], None, ()
    while time.time() < moment:
        pass
    try:
        opened = writer.open(OpenRequest())
        for i in range(3):
            writer.append("metrics", {"id": f"{name}{i}"}, opened.start + i)
            writer.flush()
            acknowledged.append(f"{name}{i}")
    except FencedError as error:
        told = str(error)
    journal = writer.journal
    writer.close()
    say(json.dumps([os.getpid(), acknowledged, told, journal]))
"""
)


@pytest.mark.parametrize("rounds", [15, pytest.param(200, marks=[pytest.mark.exhaustive, pytest.mark.timeout(900)])])
def test_two_processes_that_open_a_run_in_the_same_moment(rounds: int, place: Place, spool: Path) -> None:
    storage = open_storage(*place)
    fenced = 0
    with ExitStack() as stack:
        twins = [stack.enter_context(running(TWIN, spool, *arguments(place), name)) for name in "ab"]
        for twin in twins:
            twin.hear("ready")
        for _ in range(rounds):
            moment = time.time() + 0.01
            for twin in twins:
                twin.tell(str(moment))
            said = [json.loads(twin.hear()) for twin in twins]
            fenced += look(storage, RunRef("p", f"r{moment}"), said)
        for twin in twins:
            twin.tell("0")
            twin.end()
    count("takeovers", fenced)
    assert fenced > 0, "they never met"


def look(storage: Storage, run: RunRef, said: list[Any]) -> int:
    """See that the run has what was acknowledged, and that the loser knows; return whether there was one."""
    found = [str(row.values["id"]) for row in reader.read_rows(storage, resolve(storage, run), "metrics")]
    acknowledged = [row for _, rows, _, _ in said for row in rows]
    count("rows checked", len(acknowledged))
    count("rows lost", len({*acknowledged} - {*found}))
    assert {*acknowledged} <= {*found}
    assert len(found) == len(set(found))
    assert found == sorted(found, key=lambda row: (row[0] != found[0][0], row)), "one after the other"
    told = [(journal, sentence) for _, _, sentence, journal in said if sentence is not None]
    assert len(told) < len(said), "one of them has the run"
    for journal, sentence in told:
        (other,) = [pid for pid, _, sentence_of_other, _ in said if sentence_of_other is None]
        assert sentence.startswith(f"Run {run} was taken over by process {other} on {socket.gethostname()}, which ")
        assert f" Its rows that were not stored yet are kept in {journal}. If both were meant to log, " in sentence
        assert sentence.endswith(f"""rewind_logger.sync('{storage.url}', as_fork=True)\"""")
    return len(told)


STOPPED = (
    REMOTE_HEAD
    + """
import signal, threading
from rewind_logger.history import age
from rewind_logger.storage.faults import FaultyStorage

age.LOCAL_AGE_S, age.REMOTE_AGE_S = 3600.0, (3600.0, 3600.0)  # nothing is flushed but what is asked for
stop_at = None

def plan(request):
    if stop_at == request.number:
        # To this very thread: sent to the process, another may take it while this one goes on for a while.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

storage = FaultyStorage(storage, plan)
writer = Writer(storage, run)
writer.open(OpenRequest())
log(0, 1)
writer.flush()
say("ready")
log(2)
writer.append("events", {"b": 2}, 2)
with writer._delivery.alone():  # the thread may still be tidying
    stop_at = storage._number + int(sys.argv[3])
try:
    writer.flush()
    say("flushed")
except FencedError as error:
    say(error)
log(3, 4)
try:
    writer.flush()
    say("flushed")
except FencedError as error:
    say(error)
writer.close()
"""
)


@pytest.mark.parametrize("request_number", [0, 1, 2])
@pytest.mark.parametrize("takeovers", [1, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_a_writer_that_is_stopped_in_a_flush_and_continued(
    request_number: int, takeovers: int, place: Place, spool: Path
) -> None:
    """Before the first of two segments is put, between them, and before it looks whether the run is still its own."""
    storage = open_storage(*place)
    with running(STOPPED, spool, *arguments(place), str(request_number)) as script:
        script.hear("ready")
        _, status = os.waitpid(script.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        taken = []
        for turn in range(1, takeovers + 1):
            count("takeovers")
            young = opened(storage)
            assert young.opened is not None
            taken += line([young.opened.start], turn=turn)
            log(young, [young.opened.start], turn=turn)
            end(young)
        os.kill(script.pid, signal.SIGCONT)
        first, second = script.hear("Run p/a was taken over by process"), script.hear("Run p/a was taken over")
        assert first == second
        assert first.startswith(f"Run p/a was taken over by process {os.getpid()} on {socket.gethostname()}, which")
        assert script.end().count("was taken over") == 1, "in its own log it is said once"
    found = read(storage)
    landed = line(range(2 if (2, 2) not in found else 3))
    count("rows checked", len(found))
    assert found == landed + taken
    (synced,) = sync_store(storage, as_fork=True)
    assert (synced.what, synced.fork is not None) == ("forked", True)
    assert synced.fork is not None
    assert read(storage, run=synced.fork) == line(range(5)), "what it logged is kept, and can be had"
    assert read(storage, run=RUN) == found
