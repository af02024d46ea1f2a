"""Going back: `resume_from`."""

from __future__ import annotations

from typing import Any

import pytest

from rewind_logger import ConfigError, PositionError, RunNotFoundError, init, open_store
from tests.sdk.reading import column, rows


@pytest.fixture
def store(any_url: str) -> str:
    """A store with p/r1, 10 steps long."""
    with init(dir=any_url, project="p", id="r1", name="first", tags=["x"], notes="n", config={"lr": 0.1}) as run:
        for i in range(10):
            if i == 6:
                run.config.lr = 0.2
                run.tags = ("late",)
            run.log({"a": i})
    return any_url


@pytest.mark.parametrize(
    "how",
    [
        {"resume_from": "r1?_step=4", "project": "p"},
        {"resume_from": "p/r1?_step=4"},
        {"resume_from": "p/r1@1?_step=4"},
        {"resume_from": "p/r1?_step=4", "id": "r1"},
        {"resume_from": "r1", "step": 4, "project": "p"},
        {"resume_from": "first", "step": 4, "project": "p"},
        {"resume_from": "p/r1", "step": 4},
        {"resume_from": "r1@1", "step": 4, "project": "p"},
    ],
)
def test_the_step_that_is_named_is_kept(store: str, how: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    with init(dir=store, **how) as run:
        assert (run.id, run.revision, run.immutable_id) == ("r1", 2, "r1@2")
        assert (run.step, run.starting_step, run.resumed) == (5, 5, True)
        assert "was rewound to step 4; 5 rows are archived as r1@1." in capsys.readouterr().err
        run.log({"a": 50})
    assert column(store, "p/r1", "a") == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 50}
    assert column(store, "p/r1@1", "a") == {i: i for i in range(10)}, "the archived revision is as it was"
    assert column(store, "p/r1@2", "a") == column(store, "p/r1", "a")


def test_a_run_that_was_read_names_a_place_too(store: str) -> None:
    with init(dir=store, resume_from=open_store(store).run("p/r1?_step=4")) as run:
        assert (run.id, run.step) == ("r1", 5)
    with init(dir=store, resume_from=open_store(store).run("p/r1"), step=2) as run:
        assert (run.id, run.step, run.revision) == ("r1", 3, 3)


def test_from_the_beginning(store: str) -> None:
    with init(dir=store, resume_from="p/r1?_step=-1") as run:
        assert (run.step, run.revision) == (0, 2)
        assert dict(run.summary) == {}
        assert run.config.lr == 0.1, "what was given at the opening survives"
        run.log({"a": 100})
    assert column(store, "p/r1", "a") == {0: 100}


def test_the_last_step_cuts_nothing(store: str) -> None:
    with init(dir=store, resume_from="p/r1?_step=9") as run:
        assert (run.step, run.revision) == (10, 1)


def test_what_was_changed_later_is_undone_and_labels_of_the_opening_stay(store: str) -> None:
    with init(dir=store, resume_from="p/r1?_step=4") as run:
        assert run.config.as_dict() == {"lr": 0.1}
        assert (run.name, run.tags, run.notes) == ("first", ("x",), "n")
    stored = open_store(store)
    assert stored.run("p/r1").config == {"lr": 0.1}
    assert stored.run("p/r1@1").config == {"lr": 0.2}
    assert stored.run("p/r1@1").tags == ("late",)


def test_new_labels_and_config_win(store: str) -> None:
    with init(dir=store, resume_from="p/r1?_step=4", name="second", config={"seed": 1}) as run:
        assert (run.name, run.tags) == ("second", ("x",))
        assert run.config.as_dict() == {"lr": 0.1, "seed": 1}
    assert open_store(store).run("p/r1").name == "second"
    assert open_store(store).run("p/r1@1").name == "first"


def test_the_summary_is_that_of_the_step(store: str) -> None:
    with init(dir=store, resume_from="p/r1?_step=4") as run:
        assert dict(run.summary) == {"a": 4}
        run.log({"b": 1.5})
        assert dict(run.summary) == {"a": 4, "b": 1.5}
    assert dict(open_store(store).run("p/r1").summary) == {"a": 4, "b": 1.5}


def test_back_again_and_again(store: str) -> None:
    for turn, step in enumerate([7, 5, 3], start=2):
        with init(dir=store, resume_from=f"p/r1?_step={step}") as run:
            assert (run.revision, run.step) == (turn, step + 1)
            run.log({"a": 10 * turn})
            run.log({"a": 10 * turn + 1})
    assert column(store, "p/r1", "a") == {0: 0, 1: 1, 2: 2, 3: 3, 4: 40, 5: 41}
    assert column(store, "p/r1@3", "a") == {**{i: i for i in range(6)}, 6: 30, 7: 31}
    assert column(store, "p/r1@1", "a") == {i: i for i in range(10)}


def test_into_an_archived_revision(store: str) -> None:
    with init(dir=store, resume_from="p/r1?_step=2") as run:
        run.log({"a": 30})
    with init(dir=store, resume_from="p/r1@1?_step=6") as run:
        assert (run.revision, run.step) == (3, 7)
    assert column(store, "p/r1", "a") == {i: i for i in range(7)}


def test_an_archived_revision_becomes_the_present_one(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    with init(dir=store, resume_from="p/r1?_step=2") as run:
        run.log({"a": 30})
    capsys.readouterr()
    with init(dir=store, id="r1", project="p", resume_from="r1@1") as run:
        assert (run.revision, run.step) == (3, 10)
        assert "was restored to p/r1@1, and goes on at step 10" in capsys.readouterr().err
        run.log({"a": 10})
    assert column(store, "p/r1", "a") == {i: i for i in range(11)}
    assert column(store, "p/r1@2", "a") == {0: 0, 1: 1, 2: 2, 3: 30}


def test_restoring_without_logging(store: str) -> None:
    init(dir=store, resume_from="p/r1?_step=2").finish()
    restored = open_store(store).restore("p/r1@1")
    assert (restored.revision, restored.state) == (3, "finished")
    assert column(store, "p/r1", "a") == {i: i for i in range(10)}
    for name in ("p/r1", "p/r1@1?_step=3"):
        with pytest.raises(ConfigError, match="does not name a revision"):
            open_store(store).restore(name)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"resume_from": "p/r1?_step=10"}, PositionError, "has no step 10: its last step is 9"),
        ({"resume_from": "p/r1?_step=-2"}, PositionError, "gives the step -2"),
        ({"resume_from": "p/r1?_step=2.5"}, PositionError, "whole numbers"),
        ({"resume_from": "p/r1?loss=3"}, PositionError, "cut on the training step"),
        ({"resume_from": "p/r1"}, PositionError, r"names no step: use r1\?_step=N .* resume='must'"),
        ({"resume_from": "p/r1", "step": 10}, PositionError, "has no step 10: its last step is 9"),
        ({"resume_from": "p/r1", "step": 2.0}, PositionError, "step=2.0 is a float"),
        ({"resume_from": "p/r1?_step=3", "step": 3}, PositionError, "names a step, and step= another"),
        ({"resume_from": "p/r1@2?_step=3"}, RunNotFoundError, "has no revision 2"),
        ({"resume_from": "p/r9?_step=3"}, RunNotFoundError, "no run p/r9"),
        ({"resume_from": "nobody", "step": 3, "project": "p"}, RunNotFoundError, "has that id or that name"),
        (
            {"resume_from": "p/r1?_step=3", "id": "r2"},
            ConfigError,
            r"goes back in run 'r1', and id='r2' is another: .* fork_from='p/r1\?_step=3', id='r2'",
        ),
        (
            {"resume_from": "p/r1?_step=3", "project": "q"},
            ConfigError,
            r"of project 'p', and not of 'q': .* fork_from=",
        ),
    ],
)
def test_what_is_refused_changes_nothing(store: str, how: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        init(dir=store, **how)
    stored = open_store(store).run("p/r1")
    assert (stored.revision, stored.state) == (1, "finished")
    assert len(rows(store, "p/r1")) == 10


def test_a_name_that_several_runs_bear_lists_them(store: str) -> None:
    init(dir=store, project="p", id="r2", name="first").finish()
    with pytest.raises(RunNotFoundError, match="several runs of project 'p' have that name: r1, r2"):
        init(dir=store, project="p", resume_from="first", step=3)


def test_a_name_may_hold_what_an_id_may_not(store: str) -> None:
    with init(dir=store, project="p", id="r2", name="what? a/b #3") as run:
        for i in range(5):
            run.log({"a": i})
    with init(dir=store, project="p", resume_from="what? a/b #3", step=1) as run:
        assert (run.id, run.step) == ("r2", 2)


def test_rewinding_a_run_that_is_open_in_this_process(store: str) -> None:
    run = init(dir=store, project="p", id="r1")
    run.log({"a": 10})
    with init(dir=store, project="p", resume_from="r1?_step=10") as again:
        assert again.step == 11, "what it had logged was brought in first"
