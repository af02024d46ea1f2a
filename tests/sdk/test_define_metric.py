"""`define_metric`: what the summary keeps of a metric, and what charts draw it over."""

from __future__ import annotations

import math
from typing import Any

import pytest

import rewind_logger
from rewind_logger import ConfigError, Metric, init, open_store
from rewind_logger.types import Scalar
from tests.format.strategies import exactly
from tests.sdk.reading import rows

LOSSES = [0.9, 0.5, 0.7, 0.4, 0.6, 0.8]


def logged(url: str, summary: str | None = None, **options: Any) -> None:
    """Make run r with a loss a step, and define it before the first."""
    with init(dir=url, project="p", id="r") as run:
        run.define_metric("loss", summary=summary, **options)
        for loss in LOSSES:
            run.log({"loss": loss, "epoch": 1})


@pytest.mark.parametrize(
    ("summary", "goal", "expected"),
    [
        (None, None, 0.8),
        ("last", None, {"last": 0.8}),
        ("min,max", None, {"min": 0.4, "max": 0.9}),
        ("mean,first", None, {"mean": sum(LOSSES) / 6, "first": 0.9}),
        ("best", None, {"best": 0.4}),
        ("best", "minimize", {"best": 0.4}),
        ("best,last", "maximize", {"best": 0.9, "last": 0.8}),
        ("Min, MAX", None, {"min": 0.4, "max": 0.9}),
        ("copy", None, 0.8),
    ],
)
def test_the_summary_keeps_what_was_asked_for(summary: str | None, goal: Any, expected: object, any_url: str) -> None:
    with init(dir=any_url, project="p", id="r") as run:
        run.define_metric("loss", summary=summary, goal=goal)
        for loss in LOSSES:
            run.log({"loss": loss, "epoch": 1})
        assert run.summary["loss"] == pytest.approx(expected)
    assert dict(run.summary) == {"loss": pytest.approx(expected), "epoch": 1}, "after the end too"
    assert dict(open_store(any_url).run("p/r").summary) == {"loss": pytest.approx(expected), "epoch": 1}


def test_none_leaves_a_metric_out(url: str) -> None:
    with init(dir=url, project="p", id="r") as run:
        run.define_metric("grad/*", summary="none")
        run.log({"grad/a": 1.0, "loss": 2.0})
        assert dict(run.summary) == {"loss": 2.0}
        assert "grad/a" not in run.summary
        with pytest.raises(KeyError):
            run.summary["grad/a"]
    assert dict(open_store(url).run("p/r").summary) == {"loss": 2.0}


def test_the_name_itself_wins_over_beginnings_and_the_longer_of_these_over_the_shorter(url: str) -> None:
    with init(dir=url, project="p", id="r") as run:
        run.define_metric("*", summary="first")
        run.define_metric("val/*", summary="min")
        run.define_metric("val/acc*", summary="max")
        run.define_metric("val/acc", summary="mean")
        for value in (1.0, 2.0):
            run.log({"val/acc": value, "val/acc5": value, "val": {"loss": value}, "loss": value})
        assert run.summary.as_dict() == {
            "val/acc": {"mean": 1.5},
            "val/acc5": {"max": 2.0},
            "val/loss": {"min": 1.0},
            "loss": {"first": 1.0},
        }
    stored = open_store(url).run("p/r")
    assert dict(stored.summary) == dict(run.summary)
    found = stored.metrics.of("val/acc5")
    assert found is not None and found.name == "val/acc*"


def test_a_late_definition_covers_what_was_logged_before(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r") as run:
        for loss in LOSSES[:3]:
            run.log({"loss": loss})
        run.flush()
    with init(dir=any_url, project="p", id="r") as run:
        run.log({"loss": LOSSES[3]})
        run.flush()
        run.log({"loss": LOSSES[4]})
        run.define_metric("loss", summary="min,max,mean,first")
        expected = {"min": 0.4, "max": 0.9, "mean": pytest.approx(sum(LOSSES[:5]) / 5), "first": 0.9}
        assert run.summary["loss"] == expected, "of an earlier process, in the store, and not in it yet"
    assert open_store(any_url).run("p/r").summary["loss"] == expected


def test_a_definition_adds_to_an_earlier_one_of_its_name_or_overwrites_it(url: str) -> None:
    with init(dir=url, project="p", id="r") as run:
        run.define_metric("loss", summary="min", step_metric="epoch", hidden=True)
        added = run.define_metric("loss", summary="max", goal="maximize")
        assert added == Metric(
            name="loss", step_metric="epoch", step_sync=True, hidden=True, summary=("min", "max"), goal="maximize"
        )
        shown = run.define_metric("loss", hidden=False)
        assert (shown.hidden, shown.summary) == (False, ("min", "max"))
        run.define_metric("other", summary="none")
        run.define_metric("other", summary="last")
    assert open_store(url).run("p/r").metrics["loss"] == shown
    assert open_store(url).run("p/r").metrics["other"].summary == ("last",)
    with init(dir=url, project="p", id="r") as run:
        run.define_metric("loss", summary="mean", overwrite=True)
    assert open_store(url).run("p/r").metrics["loss"] == Metric(name="loss", summary=("mean",))


def test_what_is_no_number_counts_for_first_and_last_alone(url: str) -> None:
    values: list[Scalar] = [float("nan"), "diverged", 3, True, 2**60 + 1, float("inf"), float("nan")]
    with init(dir=url, project="p", id="r") as run:
        run.define_metric("a", summary="min,max,mean,first,last")
        run.define_metric("text", summary="min,last")
        for value in values:
            run.log({"a": value})
        run.log({"text": "x"})
        for summary in (run.summary, open_store(url).run("p/r").summary if run.flush() else {}):
            found = summary["a"]
            assert exactly(found["min"]) == exactly(True), "as it was logged"
            assert (found["max"], found["mean"]) == (math.inf, math.inf)
            assert math.isnan(found["first"]) and math.isnan(found["last"])
            assert summary["text"] == {"last": "x"}


def test_ints_stay_ints(url: str) -> None:
    with init(dir=url, project="p", id="r") as run:
        run.define_metric("n", summary="min,max")
        for n in (2**60 + 1, 2**60, 2**60 + 2):
            run.log({"n": n})
        assert run.summary["n"] == {"min": 2**60, "max": 2**60 + 2}
    assert {key: exactly(value) for key, value in open_store(url).run("p/r").summary["n"].items()} == {
        "min": exactly(2**60),
        "max": exactly(2**60 + 2),
    }


def test_definitions_made_before_the_first_row_of_an_opening_survive_every_cut(any_url: str) -> None:
    """As scripts do, which define right after `init` on every start."""
    logged(any_url, "min")
    with init(dir=any_url, project="p", resume_from="r?_step=4") as run:
        run.define_metric("loss", summary="max")
        run.log({"loss": 0.1})
    with init(dir=any_url, project="p", resume_from="r?_step=1") as run:
        assert run.summary["loss"] == {"min": 0.5, "max": 0.9}
    assert open_store(any_url).run("p/r").summary["loss"] == {"min": 0.5, "max": 0.9}
    assert open_store(any_url).run("p/r?_step=0").summary["loss"] == {"min": 0.9, "max": 0.9}
    assert open_store(any_url).run("p/r@1").summary["loss"] == {"min": 0.4}
    assert open_store(any_url).run("p/r@2").summary["loss"] == {"min": 0.1, "max": 0.9}


def test_one_made_at_a_step_is_undone_by_a_cut_before_it(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r") as run:
        for step, loss in enumerate(LOSSES):
            if step == 3:
                run.define_metric("loss", summary="min")
            run.log({"loss": loss})
    store = open_store(any_url)
    assert store.run("p/r?_step=2").summary["loss"] == 0.7
    assert store.run("p/r?_step=3").summary["loss"] == {"min": 0.4}
    with init(dir=any_url, project="p", resume_from="r?_step=2") as run:
        assert run.summary["loss"] == 0.7
    assert store.run("p/r").summary["loss"] == 0.7
    assert store.run("p/r@1").summary["loss"] == {"min": 0.4}
    with init(dir=any_url, project="p", fork_from="r@1?_step=4", id="b") as run:
        assert run.summary["loss"] == {"min": 0.4}
        run.log({"loss": 0.2})
        assert run.summary["loss"] == {"min": 0.2}


def test_after_a_rewind_aggregates_know_nothing_of_what_was_cut_off(any_url: str) -> None:
    logged(any_url, "min,max,mean,first,last")
    with init(dir=any_url, project="p", resume_from="r?_step=1") as run:
        assert run.summary["loss"] == {"min": 0.5, "max": 0.9, "mean": 0.7, "first": 0.9, "last": 0.5}
        run.log({"loss": 1.0})
        assert run.summary["loss"] == {"min": 0.5, "max": 1.0, "mean": pytest.approx(0.8), "first": 0.9, "last": 1.0}
    assert open_store(any_url).run("p/r").summary["loss"]["max"] == 1.0


def test_a_row_without_its_step_metric_gets_the_last_value_of_that(url: str) -> None:
    with init(dir=url, project="p", id="r") as run:
        epoch = run.define_metric("epoch")
        run.define_metric("val/*", step_metric=epoch)
        run.define_metric("other", step_metric="epoch", step_sync=False)
        run.log({"val/loss": 0.9})  # there is no epoch yet
        run.log({"epoch": 1, "loss": 0.5})
        run.log({"val": {"loss": 0.8}})
        run.log({"other": 1})
        run.log({"val/loss": 0.7, "epoch": 2})
        run.log({"val/loss": 0.6, "loss": 0.4})
    assert rows(url, "p/r") == [
        {"_step": 0, "val/loss": 0.9},
        {"_step": 1, "loss": 0.5, "epoch": 1},
        {"_step": 2, "val/loss": 0.8, "epoch": 1},
        {"_step": 3, "other": 1},
        {"_step": 4, "val/loss": 0.7, "epoch": 2},
        {"_step": 5, "val/loss": 0.6, "loss": 0.4, "epoch": 2},
    ]
    metrics = open_store(url).run("p/r").metrics
    assert list(metrics) == ["epoch", "val/*", "other"]
    assert (metrics["val/*"].step_metric, metrics["val/*"].step_sync, metrics["other"].step_sync) == (
        "epoch",
        True,
        False,
    )


def test_for_the_current_run_and_where_nothing_is_written(url: str) -> None:
    with init(dir=url, project="p", id="r"):
        assert rewind_logger.define_metric("loss", summary="min") == Metric(name="loss", summary=("min",))
        rewind_logger.log({"loss": 1.0})
        rewind_logger.log({"loss": 2.0})
        assert rewind_logger.summary["loss"] == {"min": 1.0}
    with pytest.raises(ConfigError, match=r"define_metric\(\) needs a run that is open"):
        rewind_logger.define_metric("loss")
    with init(mode="disabled") as run:
        run.define_metric("loss", summary="min,max")
        for step in range(3000):
            run.log({"loss": step})
        run.summary["test"] = 0.9
        assert dict(run.summary) == {"loss": {"min": 0, "max": 2999}, "test": 0.9}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "A key is empty"),
        ({"name": 3}, "the name is an int"),
        ({"name": "a*b"}, r"a '\*' can only be the end of a name"),
        ({"name": "_step"}, "'_step' is reserved"),
        (
            {"name": "a", "summary": "median"},
            "there is no 'median'; use some of min, max, mean, last, first, best, none",
        ),
        ({"name": "a", "summary": 3}, "give text such as 'min,max'"),
        ({"name": "a", "summary": "min,none"}, "'none' keeps nothing, so give it alone"),
        ({"name": "a", "goal": "min"}, "use 'minimize' or 'maximize'"),
        ({"name": "a", "hidden": "yes"}, "hidden='yes'.: give True or False"),
        ({"name": "a", "step_metric": "val/*"}, "give the name of one metric"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str, url: str) -> None:
    with init(dir=url, project="p", id="r") as run, pytest.raises(ConfigError, match=message):
        run.define_metric(**arguments)
    assert len(open_store(url).run("p/r").metrics) == 0


def test_after_its_end_a_run_takes_no_definition(url: str) -> None:
    with init(dir=url, project="p", id="r") as run:
        pass
    with pytest.raises(ConfigError, match="is finished"):
        run.define_metric("loss")


def test_ten_thousand_metrics_of_one_beginning(url: str) -> None:
    with init(dir=url, project="p", id="r") as run:
        run.define_metric("layer/*", summary="min,max")
        for step in range(2):
            run.log({f"layer/{i}": i + step for i in range(10_000)})
        assert run.summary["layer/77"] == {"min": 77, "max": 78}
    assert open_store(url).run("p/r").summary["layer/9999"] == {"min": 9999, "max": 10_000}
