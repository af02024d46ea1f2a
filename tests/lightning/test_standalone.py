"""The logger without a trainer, and at the end of a process."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from rewind_logger import open_store
from tests.lightning import processes
from tests.lightning.small import Dies, DiesAt, Model, checkpoint, column, every, exact, fit, logger, trainer


def by_hand(store: str, finalize: bool) -> None:
    mine = logger(store, config={"given": 1})
    mine.log_hyperparams({"lr": 0.1})
    for step in range(3):
        mine.log_metrics({"seen": float(step)}, step=10 * step)
    mine.log_metrics({"later": 1.0})
    if finalize:
        mine.finalize("success")


@pytest.mark.parametrize("finalize", [True, False])
def test_rows_have_the_steps_that_they_are_given(store: str, tmp_path: Path, finalize: bool) -> None:
    ended = processes.run(tmp_path, by_hand, store, finalize)
    assert ended.code == 0, ended.stderr
    assert column(store, "p/a") == {0: 0, 10: 1, 20: 2}
    assert list(column(store, "p/a", "later").values()) == [1]
    read = open_store(store).run("p/a")
    assert (read.config, read.state) == ({"given": 1, "lr": 0.1}, "finished")
    assert [line for line in ended.stderr.splitlines() if line.startswith("rewind-logger")] == [
        f"rewind-logger: run p/a in {store} is new.",
        f"rewind-logger: run p/a finished at step {read.last_step}.",
    ]


def from_a_checkpoint(store: str, path: Path) -> None:
    mine = logger(store, "b", fork_from=path)
    mine.log_metrics({"seen": 5.0}, step=5)


def test_a_fork_by_hand_from_a_checkpoint(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    ended = processes.run(tmp_path, from_a_checkpoint, store, checkpoint(store, "p/a", 5))
    assert ended.code == 0, ended.stderr
    assert column(store, "p/b") == exact(6)


def without_a_fit(store: str, folder: Path, fails: bool) -> None:
    mine = logger(store)
    trainer(folder, mine)
    mine.log_metrics({"early": 1.0})
    if fails:
        raise Dies


def test_rows_that_wait_for_a_fit_are_kept_if_none_comes(store: str, tmp_path: Path) -> None:
    ended = processes.run(tmp_path, without_a_fit, store, tmp_path, False)
    assert ended.code == 0, ended.stderr
    assert column(store, "p/a", "early") == {0: 1.0}
    assert open_store(store).run("p/a").state == "finished"


def test_a_script_that_fails_before_its_fit_takes_no_run_over(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, steps=3)
    ended = processes.run(tmp_path, without_a_fit, store, tmp_path, True)
    assert ended.code == 1
    assert column(store, "p/a") == exact(3)


def fails_and_goes_on(store: str, folder: Path, again: bool) -> None:
    mine = logger(store)
    with contextlib.suppress(Dies):
        fit(mine, folder, every(5), DiesAt(7))
    if again:
        fit(mine, folder, steps=9, ckpt_path=checkpoint(store, "p/a", 5))


@pytest.mark.parametrize(("again", "state"), [(False, "failed"), (True, "finished")])
def test_the_end_of_the_process_does_not_make_a_failed_fit_a_finished_one(
    store: str, tmp_path: Path, again: bool, state: str
) -> None:
    ended = processes.run(tmp_path, fails_and_goes_on, store, tmp_path, again)
    assert ended.code == 0, ended.stderr
    assert open_store(store).run("p/a").state == state
    assert ended.stderr.splitlines()[-1].startswith(f"rewind-logger: run p/a {state} at step")
    assert column(store, "p/a") == exact(9 if again else 7)


def test_a_trainer_may_log_on_after_its_fit(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    fit(mine, tmp_path, steps=4)
    mine.log_metrics({"afterwards": 2.0}, step=100)
    mine.finalize("success")
    table = open_store(store).run("p/a").history("afterwards").to_arrow()
    assert table.select(["_step", "step", "afterwards"]).to_pylist() == [{"_step": 3, "step": 100, "afterwards": 2.0}]


def test_a_run_that_was_finished_by_hand_is_opened_again(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    fit(mine, tmp_path, every(3), steps=4)
    mine.experiment.finish()
    made = trainer(tmp_path, mine, max_steps=6, limit_val_batches=0)
    made.fit(Model(), ckpt_path=checkpoint(store, "p/a", 3))
    assert column(store, "p/a") == exact(6)
