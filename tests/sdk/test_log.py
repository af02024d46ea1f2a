"""`run.log`: which step a row gets, what is kept of it, and what is said about the rest."""

from __future__ import annotations

import logging
import math
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewind_logger import ConfigError, LogValueError, PositionError, RewindWarning, Run, init, open_store
from tests.sdk.reading import rows


@pytest.fixture
def run(url: str) -> Run:
    return init(dir=url, project="p", id="r1")


def logged(run: Run, url: str) -> list[dict[str, Any]]:
    """What the run holds by now."""
    run.flush()
    return rows(url, "p/r1")


def test_each_call_is_a_step(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        assert run.step == 0
        for i in range(3):
            run.log({"loss": i / 2})
        assert run.step == 3
    assert rows(any_url, "p/r1") == [{"_step": i, "loss": i / 2} for i in range(3)]


def test_without_commit_the_step_stays(run: Run, url: str) -> None:
    run.log({"a": 1.0}, commit=False)
    run.log({"b": 2.0})
    run.log({"a": 3.0})
    assert logged(run, url) == [{"_step": 0, "a": 1.0, "b": 2.0}, {"_step": 1, "a": 3.0}]


def test_rows_of_one_explicit_step_are_one(run: Run, url: str) -> None:
    run.log({"a": 1.0}, step=10)
    run.log({"b": 2.0}, step=10)
    run.log({"c": 3.0})
    run.log({"a": 4.0})
    assert run.step == 12
    assert logged(run, url) == [{"_step": 10, "a": 1.0, "b": 2.0, "c": 3.0}, {"_step": 11, "a": 4.0}]


def test_a_step_with_commit_goes_on_from_the_next(run: Run, url: str) -> None:
    run.log({"a": 1.0}, step=5, commit=True)
    run.log({"a": 2.0})
    assert [row["_step"] for row in logged(run, url)] == [5, 6]


def test_step_0_is_a_step(run: Run, url: str) -> None:
    run.log({"a": 1.0}, step=0)
    assert logged(run, url) == [{"_step": 0, "a": 1.0}]


def test_a_step_backwards_keeps_the_row_and_warns_once(run: Run, url: str) -> None:
    for i in range(10):
        run.log({"loss": float(i)})
    with pytest.warns(RewindWarning, match=r"Step 3 .*is at step 10.*kept at step 10.*resume_from='r1\?_step=N'"):
        run.log({"val": 0.5}, step=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.log({"val": 0.25}, step=4)
    run.log({"loss": 10.0})
    assert logged(run, url)[10:] == [
        {"_step": 10, "step": 3, "val": 0.5},
        {"_step": 10, "step": 4, "val": 0.25},
        {"_step": 10, "loss": 10.0},
    ]


def test_a_step_backwards_can_be_refused(url: str) -> None:
    run = init(dir=url, project="p", id="r1", on_backward_step="error")
    run.log({"loss": 1.0}, step=5)
    with pytest.raises(PositionError, match=r"Step 4 .*is at step 5.*the row was refused"):
        run.log({"loss": 2.0}, step=4)
    run.log({"loss": 3.0}, step=6)
    assert logged(run, url) == [{"_step": 5, "loss": 1.0}, {"_step": 6, "loss": 3.0}]


@pytest.mark.parametrize("step", [1.0, True, "7", -1, float("nan"), 2**63])
def test_what_is_no_step_is_refused(run: Run, url: str, step: Any) -> None:
    with pytest.raises(PositionError, match="step="):
        run.log({"a": 1.0}, step=step)
    run.log({"a": 2.0}, step=np.int64(7))  # type: ignore[arg-type]
    assert logged(run, url) == [{"_step": 7, "a": 2.0}]


def test_values_are_flattened_and_converted(run: Run, url: str) -> None:
    run.log({"n": 3, "f": np.float32(0.5), "b": True, "s": "x", "val": {"acc": np.array([0.25])}, "none": None})
    run.log({"n": 4, "f": math.inf, "b": np.bool_(False), "s": "y", "val/acc": 0.5})
    assert logged(run, url) == [
        {"_step": 0, "n": 3, "f": 0.5, "b": True, "s": "x", "val/acc": 0.25},
        {"_step": 1, "n": 4, "f": math.inf, "b": False, "s": "y", "val/acc": 0.5},
    ]


@pytest.mark.parametrize("bad", [object(), [1, 2], 2**64, b"x", "\ud800", 1 + 2j])
def test_a_value_that_cannot_be_kept_is_named_once_and_the_rest_stays(
    run: Run, url: str, bad: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run.log({"loss": 1.0, "bad": 0.5})
    for i in range(3):
        run.log({"loss": float(i), "bad": bad})
    assert logged(run, url) == [{"_step": 0, "loss": 1.0, "bad": 0.5}] + [
        {"_step": i + 1, "loss": float(i)} for i in range(3)
    ]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "'bad'" in errors[0]


@pytest.mark.parametrize("key", ["_step", "_timestamp", "", "a\nb", 3])
def test_a_key_that_cannot_be_one_is_named_once(run: Run, url: str, key: Any, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        run.log({key: 1.0, "loss": 2.0})
    assert logged(run, url) == [{"_step": 0, "loss": 2.0}, {"_step": 1, "loss": 2.0}]
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


def test_a_row_without_values_takes_a_step_all_the_same(run: Run, url: str) -> None:
    run.log({})
    run.log({"a": None})
    run.log({"a": 1.0})
    assert logged(run, url) == [{"_step": 2, "a": 1.0}]


def test_what_is_no_mapping_is_refused(run: Run) -> None:
    with pytest.raises(LogValueError, match=r"takes a dict of values by name, not .*list"):
        run.log([1.0])  # type: ignore[arg-type]
    assert run.step == 0


def test_a_dict_may_be_changed_after_it_was_logged(run: Run, url: str) -> None:
    values: dict[str, Any] = {"loss": 0.0}
    for i in range(3):
        values["loss"] = float(i)
        run.log(values)
    values["loss"] = 99.0
    values["other"] = 1.0
    assert [row["loss"] for row in logged(run, url)] == [0.0, 1.0, 2.0]
    assert dict(run.summary) == {"loss": 2.0}


def test_threads_log_at_a_time_and_no_row_is_lost(run: Run, url: str) -> None:
    start = threading.Barrier(4)

    def work(name: str) -> None:
        start.wait()
        for i in range(250):
            run.log({name: float(i)})

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = logged(run, url)
    assert [row["_step"] for row in found] == list(range(1000)), "each call has a step of its own"
    for n in range(4):
        assert [row[f"t{n}"] for row in found if f"t{n}" in row] == [float(i) for i in range(250)]


def test_after_the_end_nothing_is_logged(run: Run, url: str) -> None:
    run.log({"a": 1.0})
    run.finish()
    with pytest.raises(ConfigError, match=r"Run p/r1 is finished.*init\(project='p', id='r1', resume='must'\)"):
        run.log({"a": 2.0})
    with pytest.raises(ConfigError, match="is finished"):
        run.config.lr = 1
    with pytest.raises(ConfigError, match="is finished"):
        run.name = "x"
    assert "lr" not in run.config
    run.finish(exit_code=1)
    assert open_store(url).run("p/r1").state == "finished", "a second end is none"


def test_flush_brings_everything_into_the_store(any_url: str) -> None:
    run = init(dir=any_url, project="p", id="r1")
    for i in range(5):
        run.log({"a": i})
        assert run.flush() is True
        assert len(rows(any_url, "p/r1")) == i + 1


def test_the_block_ends_the_run(any_url: str) -> None:
    with init(dir=any_url, project="p", id="good") as run:
        run.log({"a": 1})
    with pytest.raises(ZeroDivisionError), init(dir=any_url, project="p", id="bad") as run:
        run.log({"a": 1})
        _ = 1 / 0
    with pytest.raises(SystemExit), init(dir=any_url, project="p", id="exits") as run:
        raise SystemExit(0)
    store = open_store(any_url)
    assert [store.run(f"p/{name}").state for name in ("good", "bad", "exits")] == ["finished", "failed", "finished"]
    assert len(rows(any_url, "p/bad")) == 1


def test_what_a_run_says_of_itself(url: str) -> None:
    with init(dir=url, entity="team", project="p", id="r1") as run:
        run.log({"a": 1})
        assert (run.id, run.immutable_id, run.revision, run.name) == ("r1", "r1@1", 1, "r1")
        assert (run.project, run.entity, run.path, run.url) == ("p", "team", "team/p/r1", f"{url}/team/p/r1")
        assert (run.step, run.starting_step, run.resumed) == (1, 0, False)
        assert repr(run) == f"<Run team/p/r1 in {url}: r1@1, step 1>"


def test_flush_after_the_end_says_whether_all_was_stored(tmp_path: Path) -> None:
    with init(dir=tmp_path, project="p") as run:
        run.log({"a": 1})
    assert run.flush() is True
