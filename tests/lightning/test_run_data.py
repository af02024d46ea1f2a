"""What a run of a trainer knows of itself: who trained it, when, with what, and from where it was resumed."""

from __future__ import annotations

import getpass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from rewind_logger import open_store
from rewind_logger.sdk.provenance.openings import openings
from tests.lightning.small import checkpoint, every, fit, logger


def test_a_resumed_fit_says_from_which_checkpoint_by_whom_and_with_what(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=12)
    path = checkpoint(store, "p/a", 5)
    fit(logger(store), tmp_path, steps=8, ckpt_path=path)
    first, second = open_store(store).run("p/a").revisions
    assert first.opening is not None and second.opening is not None
    assert (first.opening.kind, first.opening.start, first.opening.parent) == ("new", 0, None)
    assert (second.opening.kind, second.opening.start) == ("rewound", 5)
    assert second.opening.parent == "p/a@1?_step=4"
    assert second.reason == second.opening.reason == f"resumed from {path}"
    assert first.opening.user == second.opening.user == getpass.getuser()
    assert (second.rows_kept, second.rows_archived, second.rows) == (5, 7, 8)
    assert (first.state, second.state) == ("finished", "finished")


def test_each_job_is_an_opening_and_has_its_time_and_environment(store: str, tmp_path: Path) -> None:
    for _ in range(2):
        fit(logger(store), tmp_path, steps=3)
    read = open_store(store).run("p/a")
    assert [one.kind for one in openings(read._rows("events"))] == ["new", "resumed"]
    assert read.created == read.started <= datetime.now(timezone.utc)
    assert 0 < read.runtime <= (datetime.now(timezone.utc) - read.started + timedelta(seconds=1)).total_seconds()
    assert read.runtime > open_store(store).run("p/a?_step=0").runtime
    assert read.environment is not None and {"torch", "lightning"} <= set(read.environment.packages)


def test_labels_that_were_changed_while_it_trained_are_those_of_the_step(store: str, tmp_path: Path) -> None:
    mine = logger(store, tags=["x"], notes="n", group="g")
    fit(mine, tmp_path, every(5), steps=8)
    run = mine.experiment
    run.tags += ("diverged",)
    run.notes = "look at step 7"
    run.finish()
    after = open_store(store).run("p/a")
    assert (after.tags, after.notes, after.group) == (("x", "diverged"), "look at step 7", "g")
    fit(logger(store), tmp_path, steps=6, ckpt_path=checkpoint(store, "p/a", 5))
    again = open_store(store).run("p/a")
    assert (again.tags, again.notes, again.group) == (("x",), "n", "g")
    assert open_store(store).run("p/a@1").tags == ("x", "diverged")
