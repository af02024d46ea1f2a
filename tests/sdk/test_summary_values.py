"""Values of a summary that are set by hand."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest

import rewind_logger
from rewind_logger import ConfigError, init, open_store


def test_what_is_set_by_hand_wins_from_then_on(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r") as run:
        run.log({"acc": 0.5})
        run.summary["acc"] = 0.9
        run.log({"acc": 0.6})
        run.summary.update({"best_epoch": 7, "note": "fine"}, done=True)
        run.summary.phase = "test"
        expected = {"acc": 0.9, "best_epoch": 7, "note": "fine", "done": True, "phase": "test"}
        assert dict(run.summary) == expected
        assert run.summary.best_epoch == 7
        assert run.summary.get("missing", 3) == 3
    stored = open_store(any_url).run("p/r").summary
    assert dict(stored) == expected
    assert stored.phase == "test"
    with pytest.raises(AttributeError, match="no 'missing'; it has acc, best_epoch"):
        _ = stored.missing
    with init(dir=any_url, project="p", id="r") as run:
        assert dict(run.summary) == expected


def test_deleting_it_shows_what_was_logged_again(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r") as run:
        run.log({"acc": 0.5})
        run.summary["acc"] = 0.9
        run.summary["other"] = 1
        del run.summary["acc"]
        del run.summary.other
        assert dict(run.summary) == {"acc": 0.5}
        with pytest.raises(KeyError, match="was not set by hand"):
            del run.summary["acc"]
        with pytest.raises(AttributeError, match="no 'nothing'"):
            del run.summary.nothing
        run.summary["acc"] = 0.7
    with init(dir=any_url, project="p", id="r") as run:
        del run.summary["acc"]
    assert dict(open_store(any_url).run("p/r").summary) == {"acc": 0.5}


def test_nested_values_can_be_changed_in_place(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r") as run:
        run.summary["test"] = {"acc": 0.9, "by_class": {"cat": 1}}
        run.summary["test"]["acc"] = 0.91
        run.summary["test"]["by_class"]["dog"] = 2
        del run.summary["test"]["by_class"]["cat"]
        run.summary["test"].update(n=10)
        expected = {"test": {"acc": 0.91, "by_class": {"dog": 2}, "n": 10}}
        assert run.summary.as_dict() == expected
        assert json.loads(json.dumps(run.summary["test"])) == expected["test"]
    assert open_store(any_url).run("p/r").summary.as_dict() == expected


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), np.float32("inf"), np.float64(0.5)])
def test_every_float_is_kept(number: float, url: str) -> None:
    with init(dir=url, project="p", id="r") as run:
        run.summary["best"] = number
        run.summary["nested"] = {"best": [number]}
        found = [run.summary["best"], run.summary["nested"]["best"][0]]
    stored = open_store(url).run("p/r").summary
    for value in [*found, stored["best"], stored["nested"]["best"][0]]:
        assert type(value) is float
        assert value == number or (math.isnan(value) and math.isnan(number))


def test_anything_else_becomes_text_and_nothing_is_called(url: str) -> None:
    def boom() -> None:
        raise AssertionError

    with init(dir=url, project="p", id="r") as run:
        run.summary["what"] = {"f": boom, 3: (1, None), "text": "nan"}
        assert run.summary["what"] == {"f": f"{__name__}.{boom.__qualname__}", "3": [1, None], "text": "nan"}
        with pytest.raises(ConfigError, match="names that are text"):
            run.summary[3] = 1  # type: ignore[index]


def test_what_comes_out_is_a_copy(url: str) -> None:
    with init(dir=url, project="p", id="r") as run:
        run.summary["a"] = [1]
        run.summary["a"].append(2)
        run.summary.as_dict()["a"].append(3)
        assert run.summary["a"] == [1]
    stored = open_store(url).run("p/r").summary
    for twin in (copy.deepcopy(stored), pickle.loads(pickle.dumps(stored))):
        assert dict(twin) == {"a": [1]}


def test_at_every_place_it_is_as_it_stood_there(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r") as run:
        run.summary["begun"] = True  # at step 0
        for step in range(6):
            run.log({"loss": step})
            run.summary["best"] = step  # once the row is logged, at the next step
    store = open_store(any_url)
    assert dict(store.run("p/r?_step=3").summary) == {"loss": 3, "begun": True, "best": 2}
    with init(dir=any_url, project="p", resume_from="r?_step=3") as run:
        assert dict(run.summary) == {"loss": 3, "begun": True, "best": 2}
        del run.summary["begun"]
        run.log({"loss": 0.5})
        assert dict(run.summary) == {"loss": 0.5, "best": 2}
    with init(dir=any_url, project="p", fork_from="r@1?_step=2", id="b") as run:
        assert dict(run.summary) == {"loss": 2, "begun": True, "best": 1}
        run.summary["best"] = -1
    assert dict(store.run("p/r").summary) == {"loss": 0.5, "best": 2}
    assert dict(store.run("p/r@1").summary) == {"loss": 5, "begun": True, "best": 5}
    assert dict(store.run("p/b").summary) == {"loss": 2, "begun": True, "best": -1}
    assert dict(store.run("p/r?_step=-1").summary) == {}


def test_of_the_current_run(url: str) -> None:
    with init(dir=url, project="p", id="r"):
        rewind_logger.summary["best"] = 1
        assert rewind_logger.summary["best"] == 1


def test_after_its_end_a_run_takes_none(url: str) -> None:
    with init(dir=url, project="p", id="r") as run:
        run.log({"loss": 1})
    with pytest.raises(ConfigError, match="is finished"):
        run.summary["best"] = 1
    assert dict(run.summary) == {"loss": 1}
