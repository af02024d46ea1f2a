"""Branching off: `fork_from`."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from rewind_logger import ConfigError, PositionError, RunExistsError, RunNotFoundError, init, open_store
from tests.sdk.reading import column, rows


@pytest.fixture
def store(any_url: str) -> str:
    """A store with p/r1, 10 steps long."""
    with init(dir=any_url, project="p", id="r1", name="first", tags=["x"], notes="n", config={"lr": 0.1}) as run:
        for i in range(10):
            run.log({"a": i})
    return any_url


@pytest.mark.parametrize(
    "how",
    [
        {"fork_from": "r1?_step=4", "project": "p"},
        {"fork_from": "p/r1@1?_step=4"},
        {"fork_from": "p/r1", "step": 4},
        {"fork_from": "first", "step": 4, "project": "p"},
    ],
)
def test_a_fork_goes_on_after_the_step_that_is_named(
    store: str, how: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    with init(dir=store, id="r2", **how) as run:
        assert (run.path, run.immutable_id, run.step, run.starting_step) == ("p/r2", "r2@1", 5, 5)
        assert run.resumed is False
        assert "was forked from p/r1@1 at step 4." in capsys.readouterr().err
        run.log({"a": 50})
    assert column(store, "p/r2", "a") == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 50}
    assert column(store, "p/r1", "a") == {i: i for i in range(10)}, "the parent is as it was"


def test_without_a_step_a_fork_begins_at_the_end(store: str) -> None:
    with init(dir=store, fork_from="p/r1") as run:
        assert run.step == 10


def test_a_fork_has_the_config_but_is_called_by_its_own_id(store: str) -> None:
    with init(dir=store, fork_from="p/r1?_step=4", id="r2", config={"seed": 1}) as run:
        assert run.config.as_dict() == {"lr": 0.1, "seed": 1}
        assert (run.name, run.tags, run.notes) == ("r2", (), None)
        assert dict(run.summary) == {"a": 4}
    stored = open_store(store).run("p/r2")
    assert (stored.name, stored.tags, stored.notes) == ("r2", (), None)
    assert open_store(store).run("p/r1").name == "first"


def test_into_another_project(store: str) -> None:
    with init(dir=store, entity="team", project="q", fork_from="p/r1?_step=4") as run:
        assert run.path == f"team/q/{run.id}"
    assert len(rows(store, run.path)) == 5


def test_the_same_fork_again_goes_on(store: str) -> None:
    for i in range(2):
        with init(dir=store, id="r2", fork_from="p/r1?_step=4") as run:
            assert run.step == 5 + i
            run.log({"a": 100 + i})
    assert column(store, "p/r2", "a") == {**{i: i for i in range(5)}, 5: 100, 6: 101}


def test_another_fork_of_that_id_is_refused_with_both_places(store: str) -> None:
    init(dir=store, id="r2", fork_from="p/r1?_step=4").finish()
    with pytest.raises(RunExistsError, match=r"was forked from p/r1@1\?_step=4, not from p/r1\?_step=5"):
        init(dir=store, id="r2", fork_from="p/r1?_step=5")
    init(dir=store, project="p", id="r3").finish()
    with pytest.raises(RunExistsError, match="Run p/r3 exists and is no fork"):
        init(dir=store, id="r3", fork_from="p/r1?_step=4")


def test_a_fork_of_an_archived_revision(store: str) -> None:
    with init(dir=store, resume_from="p/r1?_step=2") as run:
        run.log({"a": 30})
    with init(dir=store, fork_from="p/r1@1?_step=6", id="r2") as run:
        assert run.step == 7
    assert column(store, "p/r2", "a") == {i: i for i in range(7)}


def test_a_fork_of_a_fork_is_not_changed_by_a_rewind_of_its_parent(store: str) -> None:
    with init(dir=store, fork_from="p/r1?_step=6", id="r2") as run:
        run.log({"a": 70})
    with init(dir=store, fork_from="p/r2?_step=7", id="r3") as run:
        run.log({"a": 80})
    init(dir=store, resume_from="p/r2?_step=1").finish()
    init(dir=store, resume_from="p/r1?_step=-1").finish()
    assert column(store, "p/r3", "a") == {**{i: i for i in range(7)}, 7: 70, 8: 80}
    assert open_store(store).run("p/r3").lineage == ["p/r1@1?_step=6", "p/r2@1?_step=7", "p/r3@1"]


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"fork_from": "p/r1?_step=4", "id": "r1"}, ConfigError, r"onto itself: .*resume_from='p/r1\?_step=4'"),
        ({"fork_from": "p/r1?_step=10"}, PositionError, "has no step 10: its last step is 9"),
        ({"fork_from": "p/r9?_step=1"}, RunNotFoundError, "no run p/r9"),
        ({"fork_from": "p/r1@3?_step=1"}, RunNotFoundError, "has no revision 3"),
    ],
)
def test_what_is_refused_leaves_no_run(store: str, how: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        init(dir=store, **how)
    assert [run.id for run in open_store(store).runs()] == ["r1"]


def test_the_parent_may_be_open_in_this_process(store: str) -> None:
    run = init(dir=store, project="p", id="r1")
    run.log({"a": 10})
    with init(dir=store, fork_from="p/r1?_step=10", id="r2") as fork:
        assert fork.step == 11
        run.log({"a": 11})
        fork.log({"a": -11})
    run.finish()
    assert column(store, "p/r1", "a")[11] == 11
    assert column(store, "p/r2", "a")[11] == -11


def test_out_of_another_store_the_rows_are_copied(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = f"memory://other-{secrets.token_hex(4)}"
    source = open_store(store).run("p/r1?_step=4")
    with init(dir=other, id="r2", fork_from=source) as run:
        assert (run.path, run.step, run.config.lr) == ("p/r2", 5, 0.1)
        run.log({"a": 50})
    assert "were copied" in capsys.readouterr().err
    init(dir=store, resume_from="p/r1?_step=-1").finish()
    assert column(other, "p/r2", "a") == {**{i: i for i in range(5)}, 5: 50}
    assert open_store(other).run("p/r2").lineage[0].endswith("/p/r1@1?_step=4")
    with init(dir=other, id="r2", fork_from=source) as run:
        assert run.step == 6, "the same again goes on"
    with pytest.raises(ConfigError, match="lies in another store"):
        init(dir=other, resume_from=source)
