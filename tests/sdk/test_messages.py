"""The sentences that lead out of a mistake, and those that say what was done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rewind_logger
from rewind_logger import RunNotFoundError, open_store


@pytest.fixture
def runs(url: str) -> str:
    """A store with some runs."""
    for run_id in ("baseline", "big", "r1"):
        with rewind_logger.init(dir=url, project="digits", id=run_id) as run:
            run.log({"loss": 0.5})
    return url


@pytest.mark.parametrize(
    "mistake",
    [
        lambda url: rewind_logger.init(dir=url, project="digits", id="basline", resume="must"),
        lambda url: rewind_logger.init(dir=url, project="digits", resume_from="basline?_step=0"),
        lambda url: rewind_logger.init(dir=url, project="digits", fork_from="basline?_step=0"),
        lambda url: rewind_logger.init(dir=url, project="digits", fork_from="basline", step=0),
        lambda url: open_store(url).run("digits/basline").summary,
    ],
)
def test_a_misspelled_run_is_answered_with_those_that_are_there(runs: str, mistake: Callable[[str], object]) -> None:
    with pytest.raises(RunNotFoundError, match="Project digits has baseline, ") as caught:
        mistake(runs)
    assert runs in str(caught.value)
    assert {"r1", "big"} < set(str(caught.value).replace(",", " ").replace(".", " ").split())


def test_a_misspelled_run_without_its_project_too(runs: str) -> None:
    with pytest.raises(RunNotFoundError, match="It has digits/baseline, "):
        open_store(runs).run("basline")


def test_a_misspelled_project_is_answered_with_those_that_are_there(runs: str) -> None:
    with pytest.raises(RunNotFoundError, match=r"no run default/r1 in .* no project default either, but digits\."):
        rewind_logger.init(dir=runs, resume_from="r1?_step=0")
    with pytest.raises(RunNotFoundError, match=r"no run digit/r1 in .* no project digit either, but digits"):
        rewind_logger.init(dir=runs, project="digit", id="r1", resume="must")


def test_of_many_runs_the_closest_are_named(url: str) -> None:
    for number in range(8):
        rewind_logger.init(dir=url, project="digits", id=f"run-{number}").finish()
    with pytest.raises(RunNotFoundError, match=r"has run-7(, run-\d){4} and others\."):
        open_store(url).run("digits/run-77")


def test_a_run_that_was_never_opened_is_not_named(runs: str) -> None:
    Path(runs, "digits", "r12", "j").mkdir(parents=True)  # as a journal leaves it
    with pytest.raises(RunNotFoundError) as caught:
        open_store(runs).run("digits/r13")
    assert "Project digits has r1, " in str(caught.value)
    assert "r12" not in str(caught.value)


def test_a_wrong_store_is_noticed(runs: str) -> None:
    for name in ("digits/r1", "r1"):
        with pytest.raises(RunNotFoundError, match="Nothing is there: is it the right store"):
            open_store(f"{runs}-elsewhere").run(name)


def test_a_rewind_to_an_older_revision_says_what_is_archived(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with rewind_logger.init(dir=url, project="p", id="r1") as run:
        for _ in range(10):
            run.log({"loss": 0.5})
    rewind_logger.init(dir=url, project="p", resume_from="r1?_step=4").finish()
    capsys.readouterr()
    rewind_logger.init(dir=url, project="p", resume_from="r1@1?_step=7").finish()
    said = capsys.readouterr().err
    # The second revision ends at step 4: nothing of it lies behind step 7, and yet it is no longer the run.
    assert "was rewound to step 7 of r1@1; what was there is archived as r1@2." in said
    assert open_store(url).run("p/r1").last_step == 7


@pytest.mark.parametrize(("last", "told"), [({"step": 5}, 5), ({"commit": False}, 2), ({}, 2)])
def test_the_end_is_told_with_the_last_step(
    url: str, capsys: pytest.CaptureFixture[str], last: dict[str, int], told: int
) -> None:
    with rewind_logger.init(dir=url, project="p", id="r1") as run:
        run.log({"loss": 0.5})
        run.log({"loss": 0.5})
        run.log({"loss": 0.5}, **last)  # type: ignore[arg-type]
    assert capsys.readouterr().err.splitlines()[-1] == f"rewind-logger: run p/r1 finished at step {told}."
    assert open_store(url).run("p/r1").last_step == told


def test_a_missing_extra_is_named() -> None:
    without = "import sys; sys.modules['lightning'] = None; from rewind_logger import RewindLogger"
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=False)
    told = "ModuleNotFoundError: RewindLogger needs a package that is not installed, lightning: "
    assert done.stderr.splitlines()[-1] == f"{told}pip install 'rewind-logger[lightning]'"


def test_an_opening_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    with rewind_logger.init(dir=str(tmp_path), project="digits", id="r1") as run:
        run.log({"loss": 0.5})
    for mistake in ({"id": "r2", "resume": "must"}, {"resume_from": "r2?_step=0"}, {"fork_from": "r1?_step=9"}):
        with pytest.raises(rewind_logger.RewindError):
            rewind_logger.init(dir=str(tmp_path), project="digits", **mistake)  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["r1"]
    assert sorted(path.name for path in (tmp_path / "digits" / "r1").iterdir()) == ["m", "t"]
