"""A process with everything imported and one thread, which forks those that are killed: a new one takes milliseconds.

It reads jobs from its input, a line of JSON each, and writes a line for each.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.crash.points import How
    from tests.crash.scenarios import Scenario

ROOT = Path(__file__).parents[2]


@dataclass
class Job:
    """What is asked for, as `Nursery.kill` says."""

    scenario: str
    number: int | None
    how: How
    url: str
    options: dict[str, Any]
    links: bool = True
    broken: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one kill."""

    points: list[str]
    """The operations up to the end or the kill, a `/` after those that have a middle."""
    killed: bool
    rows: int = 0
    lost: int = 0
    trouble: list[str] = field(default_factory=list)


class Nursery:
    """The process, seen from the test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def kill(
        self,
        scenario: str,
        number: int | None,
        how: How,
        url: str,
        options: Mapping[str, Any] | None = None,
        links: bool = True,
        broken: str | None = None,
    ) -> Outcome:
        """Live a scenario in a new process and kill it at an operation; look at what is left, in another process.

        Args:
            scenario: Its name.
            number: Of the operation, from 0; None: let it live to its end.
            how: "before", "half" or "after" the operation.
            url: A store, in which nothing is yet.
            options: For its backend.
            links: Whether the disk has hard links.
            broken: A fault that the package has, of `tests/crash/broken.py`.
        """
        job = Job(scenario, number, how, url, dict(options or {}), links, broken)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the nursery died"
        return Outcome(**json.loads(line))


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Run a nursery."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.nursery"],
        cwd=ROOT,
        # One thread in the nursery: a fork copies no other, and what these had locked stays locked.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "REWIND_LOGGER_QUIET": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Nursery(process)
    finally:
        process.kill()
        process.communicate()


def _serve(jobs: IO[str], answers: IO[str]) -> None:
    assert threading.active_count() == 1
    for line in jobs:
        job = Job(**json.loads(line))
        spool = Path(tempfile.mkdtemp(prefix="rewind-logger-crash-", dir=_fast_folder()))
        try:
            outcome = _tried(job, spool)
        finally:
            shutil.rmtree(spool, ignore_errors=True)
        answers.write(json.dumps(asdict(outcome)) + "\n")  # last: the nursery may be killed when it has answered
        answers.flush()


def _fast_folder() -> str | None:
    """Most of the time would go into syncing files; where there is such a folder, it is in memory."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _tried(job: Job, folder: Path) -> Outcome:
    """Live, be killed, and look."""
    os.environ["REWIND_LOGGER_SPOOL"] = str(folder / "spool")
    if job.url == "disk":
        job.url = str(folder / "store")
    seen = folder / "points"
    status = _in_a_child(lambda: _live(job, folder, seen), folder)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    points = seen.read_text().splitlines() if seen.exists() else []
    if not killed and os.waitstatus_to_exitcode(status) != 0:
        return Outcome(points, killed, trouble=[f"the scenario failed: {_said(folder)}"])
    certain = "://" not in job.url and not _scenario(job).threads
    if not killed and job.number is not None and certain:
        return Outcome(points, killed, trouble=[f"there is no operation {job.number}"])
    found = folder / "findings"
    status = _in_a_child(lambda: _look(job, folder, found), folder)
    if os.waitstatus_to_exitcode(status) != 0:
        return Outcome(points, killed, trouble=[f"after the kill: {_said(folder)}"])
    return Outcome(points, killed, **json.loads(found.read_text()))


def _scenario(job: Job) -> Scenario:
    from tests.crash.scenarios import SCENARIOS

    return SCENARIOS[job.scenario]


def _said(folder: Path) -> str:
    return (folder / "said").read_text()[-3000:]


def _in_a_child(work: Callable[[], None], folder: Path) -> int:
    """Do some work in a forked process, and return how that ended."""
    pid = os.fork()
    if pid == 0:
        try:
            said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(said, 1)
            os.dup2(said, 2)
            _make_small()
            work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def _make_small() -> None:
    """Make everything happen after a few rows that else takes thousands, and by one thread in a certain order."""
    from rewind_logger.history.writer import Writer
    from rewind_logger.storage.local import LocalStorage
    from tests.small import make_small

    make_small()
    for function, defaults in (
        (Writer.__init__, {"background": False}),
        (LocalStorage.__init__, {"link": lambda source, target: os.link(source, target)}),  # which is replaced later
    ):
        assert function.__kwdefaults__ is not None
        function.__kwdefaults__.update(defaults)


def _storage(job: Job) -> Any:
    from rewind_logger.storage import open_storage
    from rewind_logger.storage.local import LocalStorage
    from tests.storage.backends import refuse_links

    if "://" in job.url:
        return open_storage(job.url, job.options)
    return LocalStorage(job.url) if job.links else LocalStorage(job.url, link=refuse_links)


def _live(job: Job, folder: Path, seen: Path) -> None:
    from rewind_logger.history import age
    from rewind_logger.history.writer import Writer
    from rewind_logger.sdk.artifacts import uploads
    from rewind_logger.storage.local import LocalStorage
    from tests.crash.broken import BROKEN
    from tests.crash.life import Life, Witness
    from tests.crash.points import Kill, Points

    if job.broken is not None:
        BROKEN[job.broken].break_it()
    scenario = _scenario(job)
    files = folder / "files"
    files.mkdir()
    life = Life(_storage(job), Witness(folder / "witness"), other=LocalStorage(folder / "other"), options=job.options)
    if scenario.threads:
        assert Writer.__init__.__kwdefaults__ is not None
        Writer.__init__.__kwdefaults__["background"] = True
        age.LOCAL_AGE_S = 0.0
    else:
        uploads.AT_ONCE = 1  # two that make the first folder of blobs at once do two operations more
    scenario.before(life)
    kill = None if job.number is None else Kill(job.number, job.how)
    points = Points([str(folder / "spool"), str(folder / "store")], kill)
    with points.installed():
        scenario.live(life, files)
    seen.write_text("\n".join(points.seen))
    assert not points.unseen, points.unseen


def _look(job: Job, folder: Path, found: Path) -> None:
    from rewind_logger.storage.local import LocalStorage
    from tests.crash.broken import BROKEN
    from tests.crash.check import check
    from tests.crash.life import Witness
    from tests.crash.remembering import RememberingStorage

    if job.broken is not None:
        BROKEN[job.broken].break_it()
    findings = check(
        RememberingStorage(_storage(job)), Witness(folder / "witness").facts(), LocalStorage(folder / "other")
    )
    found.write_text(json.dumps(asdict(findings)))


def _import_everything() -> None:
    """Import here what a forked process would import each time: what one of them has imported after a whole life."""
    folder = Path(tempfile.mkdtemp(prefix="rewind-logger-crash-"))
    imported = folder / "imported"
    job = Job("artifact", None, "after", str(folder / "store"), {})

    def live() -> None:
        _live(job, folder, folder / "points")
        _look(job, folder, folder / "findings")
        imported.write_text("\n".join(sys.modules))

    try:
        status = _in_a_child(live, folder)
        assert status == 0, _said(folder)
        for name in [*imported.read_text().split(), "s3fs", "aiobotocore.session"]:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    logging.lastResort = None
    _import_everything()
    _serve(sys.stdin, sys.stdout)
