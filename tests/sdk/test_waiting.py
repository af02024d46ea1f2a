"""While the end of a run waits for its store, people are told how much is left: not too often, and not for ever."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

import pytest

from rewind_logger import open_store
from rewind_logger.errors import TransientStorageError
from rewind_logger.history import writer as writing
from rewind_logger.history.opening import OpenRequest
from rewind_logger.sdk import run as run_module
from rewind_logger.sdk import waiting as waiting_module
from rewind_logger.sdk.run import Run
from rewind_logger.sdk.run_spec import RunSpec
from rewind_logger.sdk.waiting import Waiting, rows_left
from rewind_logger.storage import open_storage
from rewind_logger.storage.faults import Fault, FaultyStorage
from rewind_logger.storage.wrapper import WrapperStorage
from rewind_logger.types import Position, RunRef


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def wait(seconds: int) -> None:
    """Wait so long, with 100 rows a second arriving."""
    time = 0.0
    with Waiting(lambda: f"{1000 - 100 * time:.0f} rows are still to come.", lambda: time) as waiting:
        for _ in range(seconds):
            time += 1.0
            waiting()


def test_where_a_line_stays_it_is_said_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    wait(30)
    assert capsys.readouterr().err.splitlines() == [
        "rewind-logger: 800 rows are still to come.",
        "rewind-logger: -200 rows are still to come.",
        "rewind-logger: -1200 rows are still to come.",
    ]


def test_a_short_wait_is_not_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    wait(1)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_one_line_changes_and_goes_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    wait(5)
    lines = terminal.getvalue().split("\r\x1b[K")
    assert lines[1:-1] == [f"rewind-logger: {left} rows are still to come." for left in (800, 700, 600, 500)]
    assert lines[-1] == "" and "\n" not in terminal.getvalue()


def test_nothing_is_said_to_who_wants_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REWIND_LOGGER_QUIET", "1")
    wait(30)
    assert capsys.readouterr().err == ""


def test_a_terminal_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    terminal.close()
    monkeypatch.setattr(sys, "stderr", terminal)
    wait(5)
    monkeypatch.setattr(sys, "stderr", None)
    wait(5)


def test_the_end_of_a_run_waits_for_a_bounded_time_and_says_how_many_rows_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting_module, "FIRST_S", 0.0)
    monkeypatch.setattr(run_module, "FINISH_TIMEOUT_S", 0.05)
    monkeypatch.setattr(run_module, "AFTER_UPLOADS_S", 0.0)
    faulty = FaultyStorage(open_storage(tmp_path))
    run = Run(RunSpec(storage=faulty, run=RunRef("p", "r1"), console=False, system_metrics=False))
    run._open(OpenRequest())
    assert run.flush(60)
    faulty.plan = lambda request: Fault("before", TransientStorageError("The network is down."))
    for i in range(1234):
        run.log({"a": i})
    run.finish()
    said = capsys.readouterr().err.splitlines()
    assert f"rewind-logger: run p/r1: 1,234 rows are still to come into {tmp_path}; waiting 0 s." in said
    assert f"is kept in {tmp_path}/p/r1/j/" in said[-1]
    assert said[-1].endswith(f"python -c \"import rewind_logger; rewind_logger.sync('{tmp_path}')\"")


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (1234, "1,234 rows are still to come into"),
        (1, "1 row is still to come into"),
        (0, "that it ends is still to be noted in"),
    ],
)
def test_what_is_waited_for_is_named(rows: int, what: str) -> None:
    assert rows_left(RunRef("p", "a"), "s3://b", rows, 120) == f"run p/a: {what} s3://b; waiting 120 s."


def test_it_counts_down_and_waits_but_once_for_a_store_that_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As at the end of a fit, and then at that of the process."""
    monkeypatch.setattr(waiting_module, "FIRST_S", 0.0)
    monkeypatch.setattr(waiting_module, "REPEATED_S", 0.0)
    monkeypatch.setattr(run_module, "AGAIN_S", 0.5)
    faulty = FaultyStorage(open_storage(tmp_path))
    run = Run(RunSpec(storage=faulty, run=RunRef("p", "r1"), console=False, system_metrics=False))
    run._open(OpenRequest())
    for _ in range(2):  # the second outage is another one
        assert run.flush(60)
        faulty.plan = lambda request: Fault("before", TransientStorageError("The network is down."))
        run.log({"a": 1})
        assert "within 2.5 s." in (run._settle("finished", 2.5) or "")
        assert "within 0.5 s." in (run._settle("finished", 60.0) or "")
        faulty.plan = None
    run.finish()
    said = capsys.readouterr().err
    assert "waiting 2 s." in said and "waiting 1 s." in said


class Endless(WrapperStorage):
    """A store that does not answer when the end of a run is noted, until it is let."""

    released = threading.Event()

    def put(self, path: str, data: bytes) -> None:
        if path.endswith("/end.json"):
            self.released.wait()
        super().put(path, data)


@pytest.mark.timeout(120)
def test_an_end_that_could_not_be_noted_is_told_of_and_rows_are_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store answers only after `finish` has returned."""
    monkeypatch.setattr(run_module, "FINISH_TIMEOUT_S", 0.5)
    monkeypatch.setattr(run_module, "AFTER_UPLOADS_S", 0.0)
    monkeypatch.setattr(writing, "CLOSE_S", 0.01)
    storage = Endless(open_storage(tmp_path))
    run = Run(RunSpec(storage=storage, run=RunRef("p", "r1"), console=False, system_metrics=False))
    run._open(OpenRequest())
    run.log({"a": 1})
    assert run.flush(60)
    flush = run._writer.flush
    monkeypatch.setattr(run._writer, "flush", lambda timeout, waiting: flush(60))  # however busy this machine is
    try:
        run.finish()
    finally:
        storage.released.set()
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"rewind-logger: run p/r1 finished, but not all of it is in the store: Every row is in {tmp_path}, but that the"
        " run has ended could not be noted there. It did not answer in time. It may be shown as one that crashed, until"
        " it is opened and finished again."
    )
    assert open_store(tmp_path).run("p/r1").summary["a"] == 1


@pytest.mark.parametrize("rows", [0, 2])
def test_a_run_that_could_not_be_opened_anew_is_said_to_be_that(
    rows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty = FaultyStorage(open_storage(tmp_path))
    run = Run(RunSpec(storage=faulty, run=RunRef("p", "r1"), console=False, system_metrics=False))
    run._open(OpenRequest())
    run.log({"a": 0})
    assert run.flush(60)
    faulty.plan = lambda request: Fault("before", TransientStorageError("The network is down."))
    with pytest.raises(TransientStorageError):
        run._open(OpenRequest(at=Position(RunRef("p", "r1"), None, 0)))
    for i in range(rows):
        run.log({"a": i})
    run.finish()
    [said] = [line for line in capsys.readouterr().err.splitlines() if "not all of it" in line] or [""]
    assert ("Run p/r1 could not be opened anew" in said) is (rows > 0)
    assert (f"is kept in {tmp_path}/p/r1/j/" in said) is (rows > 0)
