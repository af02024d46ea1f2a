"""What every opening of a run says of itself."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import rewind_logger
from rewind_logger.history import reader
from rewind_logger.history.view import resolve
from rewind_logger.sdk.provenance.openings import OPENED, Opening, openings
from rewind_logger.storage import open_storage
from rewind_logger.types import OPENING_CLOCK, Row, RunRef


def events(url: str, name: str = "p/a") -> list[Row]:
    """The events that are visible from the head of a run."""
    storage = open_storage(url, None)
    project, _, run = name.rpartition("/")
    id, _, revision = run.partition("@")
    return reader.read_rows(storage, resolve(storage, RunRef(project, id), int(revision or 0) or None), "events")


def opened(url: str, name: str = "p/a") -> list[Opening]:
    return openings(events(url, name))


def process(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_the_first_event_says_who_opened_the_run_how_and_where(any_url: str) -> None:
    with rewind_logger.init(dir=any_url, project="p", id="a", config={"lr": 0.1}):
        pass
    first = events(any_url)[0]
    assert (first.row, first.clock, list(first.values)) == (0, OPENING_CLOCK, [OPENED])
    [opening] = opened(any_url)
    assert (opening.run, opening.revision, opening.term, opening.kind, opening.start) == ("p/a", 1, 0, "new", 0)
    assert (opening.host, opening.user, opening.pid) == (socket.gethostname(), getpass.getuser(), os.getpid())
    assert (opening.python, opening.executable) == (platform.python_version(), sys.executable)
    assert (opening.directory, opening.version) == (os.getcwd(), rewind_logger.__version__)
    assert opening.os is not None and opening.os.startswith(platform.system())
    assert opening.command
    assert abs(opening.started.timestamp() - first.time_ms / 1000) < 60


def test_each_opening_says_what_it_was(url: str) -> None:
    with rewind_logger.init(dir=url, project="p", id="a") as run:
        for _ in range(10):
            run.log({"x": 1})
    with rewind_logger.init(dir=url, project="p", id="a") as run:
        run.log({"x": 1})
    with rewind_logger.init(dir=url, project="p", resume_from="a?_step=4"):
        pass
    with rewind_logger.init(dir=url, project="p", resume_from="a@1"):
        pass
    with rewind_logger.init(dir=url, project="p", fork_from="a@1?_step=7", id="b"):
        pass
    said = [(one.kind, one.revision, one.start, one.parent, one.reason) for one in opened(url)]
    assert said == [
        ("new", 1, 0, None, ""),
        ("resumed", 1, 10, None, ""),
        ("restored", 3, 11, "p/a@1?_step=10", "resume_from='a@1'"),
    ]
    assert [(one.run, one.kind, one.parent) for one in opened(url, "p/b")] == [
        ("p/a", "new", None),
        ("p/b", "forked", "p/a@1?_step=7"),
    ], "the second opening of the parent began behind the step"


def test_an_opening_of_which_a_rewind_kept_no_step_is_not_among_those_of_the_run(url: str) -> None:
    for options in ({"id": "a"}, {"id": "a"}, {"resume_from": "a?_step=4"}, {"id": "a"}):
        with rewind_logger.init(dir=url, project="p", **options) as run:  # type: ignore[arg-type]
            for _ in range(10):
                run.log({"x": 1})
    assert [(one.kind, one.start) for one in opened(url)] == [("new", 0), ("rewound", 5), ("resumed", 15)]
    assert [(one.kind, one.start) for one in opened(url, "p/a@1")] == [("new", 0), ("resumed", 10)]


def test_secrets_on_the_command_line_and_in_the_environment_are_not_kept(url: str) -> None:
    script = (
        "import rewind_logger, sys\n"
        "with rewind_logger.init(dir=sys.argv[1], project='p', id='a') as run: run.log({'x': 1})\n"
    )
    done = process(script, url, "--api-key=hunter2", "--password", "hunter3", "--lr=0.1", MY_TOKEN="hunter4")
    assert done.returncode == 0, done.stderr
    [opening] = opened(url)
    assert opening.command[-4:] == ("--api-key=…", "--password", "…", "--lr=0.1")
    assert "hunter" not in str(events(url))


def test_a_process_that_is_killed_at_once_has_opened_the_run(url: str) -> None:
    script = (
        "import os, rewind_logger, signal, sys\n"
        "run = rewind_logger.init(dir=sys.argv[1], project='p', id='a')\n"
        "print(os.getpid())\n"
        "sys.stdout.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = process(script, url)
    assert done.returncode != 0
    with rewind_logger.init(dir=url, project="p", id="a"):
        pass
    assert [one.pid for one in opened(url)] == [int(done.stdout), os.getpid()]


def test_a_damaged_or_newer_value_is_passed_over(url: str) -> None:
    with rewind_logger.init(dir=url, project="p", id="a") as run:
        run._append("events", {OPENED: "no JSON"}, OPENING_CLOCK)
        run._append("events", {OPENED: "[]"}, OPENING_CLOCK)
        run._append("events", {OPENED: '{"run": "p/a"}'}, OPENING_CLOCK)
    assert len(opened(url)) == 1
    stored = rewind_logger.open_store(url).run("p/a")
    assert stored.config == {}


def test_a_directory_that_is_gone_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with rewind_logger.init(dir=str(tmp_path / "store"), project="p", id="a"):
        pass
    [opening] = opened(str(tmp_path / "store"))
    assert opening.directory is None


def test_a_disabled_run_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with rewind_logger.init(project="p", id="a", mode="disabled") as run:
        run.log({"x": 1})
    assert list(tmp_path.iterdir()) == []
