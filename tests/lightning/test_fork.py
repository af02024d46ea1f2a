"""Forks: a new run that begins at a checkpoint or a moment of another."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

from rewind_logger import ConfigError, PositionError, RunExistsError, init, open_store
from tests.lightning.small import checkpoint, column, every, exact, fit, logger


@pytest.fixture
def parent(store: str, tmp_path: Path) -> str:
    """Run p/a of 13 steps, with checkpoints of 5 and 10."""
    fit(logger(store, config={"lr": 0.1}), tmp_path, every(5), steps=13)
    return store


def test_on_resume_fork_begins_a_run_that_the_same_command_finds_again(parent: str, tmp_path: Path) -> None:
    names = set()
    for _ in range(2):
        mine = logger(parent, None, on_resume="fork")
        fit(mine, tmp_path, every(5), steps=12, ckpt_path=checkpoint(parent, "p/a", 5))
        names.add(mine.version)
        assert column(parent, f"p/{mine.version}") == exact(12)
        assert checkpoint(parent, f"p/{mine.version}", 10).exists(), "its checkpoints lie in the fork"
    assert column(parent, "p/a") == exact(13)
    assert len(names) == 1
    (fork,) = names
    assert fork.startswith("a-fork-")
    assert open_store(parent).run(f"p/{fork}@1").lineage == ["p/a@1?_step=4", f"p/{fork}@1"]


def test_on_resume_fork_with_a_version(parent: str, tmp_path: Path) -> None:
    for _ in range(2):
        mine = logger(parent, "b", on_resume="fork")
        fit(mine, tmp_path, every(4), steps=12, ckpt_path=checkpoint(parent, "p/a", 5))
    assert column(parent, "p/b") == exact(12)
    # Its own checkpoint: the fork goes on.
    fit(logger(parent, "b", on_resume="fork"), tmp_path, steps=14, ckpt_path=checkpoint(parent, "p/b", 8))
    assert column(parent, "p/b") == exact(14)
    # Another checkpoint of the parent cannot be where that fork begins.
    with pytest.raises(
        RunExistsError, match=r"p/b exists and was forked from p/a@1, before 5: it cannot be forked from"
    ):
        fit(logger(parent, "b", on_resume="fork"), tmp_path, steps=12, ckpt_path=checkpoint(parent, "p/a", 10))


def test_on_resume_fork_from_a_checkpoint_from_before_the_logger_was_used(parent: str, tmp_path: Path) -> None:
    fit(CSVLogger(tmp_path / "csv", name="old", version="v"), tmp_path, every(5), steps=8)
    old = checkpoint(str(tmp_path / "csv"), "old/v", 5)
    names = set()
    for _ in range(2):
        mine = logger(parent, on_resume="fork")
        fit(mine, tmp_path, every(5), steps=12, ckpt_path=old)
        names.add(mine.version)
        assert column(parent, f"p/{mine.version}") == exact(12)
        fit(logger(parent), tmp_path, steps=14, ckpt_path=checkpoint(parent, "p/a", 10))  # the run itself goes on
    (fork,) = names
    assert fork.startswith("a-fork-")
    assert open_store(parent).run(f"p/{fork}@1").lineage == ["p/a@1?_step=4", f"p/{fork}@1"]
    assert column(parent, "p/a") == exact(14)


def test_fork_from_a_checkpoint(parent: str, tmp_path: Path) -> None:
    start = checkpoint(parent, "p/a", 10)
    fit(logger(parent, "b", fork_from=start), tmp_path, every(2), steps=15, ckpt_path=start)
    assert column(parent, "p/b") == exact(15)
    assert column(parent, "p/a") == exact(13)
    # The same command again, as after a kill: with the same checkpoint, or with its own newest one.
    fit(logger(parent, "b", fork_from=start), tmp_path, every(2), steps=16, ckpt_path=start)
    assert column(parent, "p/b") == exact(16)
    fit(logger(parent, "b", fork_from=start), tmp_path, steps=17, ckpt_path=checkpoint(parent, "p/b", 14))
    assert column(parent, "p/b") == exact(17)
    read = open_store(parent).run("p/b")
    assert [one.cut for one in read.revisions] == [10, 10, 14]
    assert read.config == {"lr": 0.1}, "a fork inherits the config"


def test_fork_from_a_moment(parent: str, tmp_path: Path) -> None:
    for _ in range(2):
        mine = logger(parent, "b", fork_from="a?_step=9")
        fit(mine, tmp_path, steps=15, ckpt_path=checkpoint(parent, "p/a", 10))
        assert column(parent, "p/b") == exact(15)


def test_fork_from_a_moment_without_a_checkpoint(parent: str, tmp_path: Path) -> None:
    fit(logger(parent, "b", fork_from="p/a@1?_step=2"), tmp_path, steps=2)
    assert column(parent, "p/b") == {0: 0, 1: 1, 2: 2, 3: 0, 4: 1}


def test_fork_from_an_archived_revision(parent: str, tmp_path: Path) -> None:
    late = checkpoint(parent, "p/a", 10).rename(tmp_path / "late.ckpt")
    fit(logger(parent), tmp_path, steps=7, ckpt_path=checkpoint(parent, "p/a", 5))
    fit(logger(parent, "b", fork_from="a@1?_step=9"), tmp_path, steps=12, ckpt_path=late)
    assert column(parent, "p/b") == exact(12)


def test_fork_from_and_fit_name_different_checkpoints(parent: str, tmp_path: Path) -> None:
    first, second = checkpoint(parent, "p/a", 5), checkpoint(parent, "p/a", 10)
    with pytest.raises(ConfigError) as refused:
        fit(logger(parent, "b", fork_from=first), tmp_path, steps=15, ckpt_path=second)
    for place in (first, r"p/a@1?_step=4", second, r"p/a@1?_step=9"):
        assert str(place) in str(refused.value)
    with pytest.raises(ConfigError, match=r"is a checkpoint that fit does not load: pass it as ckpt_path to fit too"):
        fit(logger(parent, "b", fork_from=first), tmp_path, steps=15)
    assert [run.path for run in open_store(parent).runs()] == ["p/a"], "nothing was begun"


def test_a_fork_onto_a_run_that_is_another_is_refused_in_the_words_of_a_logger(parent: str, tmp_path: Path) -> None:
    fit(logger(parent, "b"), tmp_path, steps=2)
    with pytest.raises(RunExistsError, match=r"p/b exists and is no fork: .* Give a new version\."):
        fit(logger(parent, "b", fork_from="a?_step=4"), tmp_path, steps=3)


def test_a_fork_of_a_run_onto_itself_is_refused(parent: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is of p/a itself: give the fork another version, or use resume_from"):
        fit(logger(parent, fork_from="a?_step=4"), tmp_path)
    with pytest.raises(PositionError, match="12"):
        fit(logger(parent, "b", fork_from="a?_step=100"), tmp_path)


def test_a_fork_into_another_store_copies_the_rows(
    parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(tmp_path / "other")
    fit(logger(other, "b"), tmp_path, steps=8, ckpt_path=checkpoint(parent, "p/a", 5))
    assert column(other, "p/b") == exact(8)
    assert "were copied, since they lie in another store" in capsys.readouterr().err
    fit(logger(other, "c", fork_from=open_store(parent).run("p/a?_step=4")), tmp_path, steps=3)
    assert column(other, "p/c") == {**exact(5), 5: 0, 6: 1, 7: 2}


def test_fork_from_a_checkpoint_of_another_store(parent: str, tmp_path: Path) -> None:
    other, start = str(tmp_path / "other"), checkpoint(parent, "p/a", 5)
    for _ in range(2):
        fit(logger(other, "b", fork_from=start), tmp_path, every(2), steps=8, ckpt_path=start)
        assert column(other, "p/b") == exact(8)
    fit(logger(other, "b", fork_from=start), tmp_path, steps=9, ckpt_path=checkpoint(other, "p/b", 6))
    assert column(other, "p/b") == exact(9)
    with init(dir=other, project="p", id="c", fork_from=start) as run:
        assert (run.step, run.config["lr"]) == (5, 0.1)
    with pytest.raises(ConfigError, match="lies in another store"):
        init(dir=other, project="p", resume_from=start)


def test_the_same_command_finds_a_fork_into_another_store_again(parent: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    for _ in range(2):
        fit(logger(other, "b"), tmp_path, steps=8, ckpt_path=checkpoint(parent, "p/a", 5))
    assert column(other, "p/b") == exact(8)


def test_a_checkpoint_whose_store_is_gone_begins_without_its_history(
    parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = checkpoint(parent, "p/a", 5).rename(tmp_path / "kept.ckpt")
    Path(parent).rename(tmp_path / "gone")
    other = str(tmp_path / "other")
    fit(logger(other), tmp_path, steps=8, ckpt_path=kept)
    assert column(other, "p/a") == {step: float(step) for step in range(5, 8)}
    assert "cannot be read: p/a begins without that history" in capsys.readouterr().err
