"""A run that a trainer's logger holds: made before it is opened, opened again, its clock set from outside."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import pytest

from rewind_logger import ConfigError, Run, init, open_store
from rewind_logger.errors import TransientStorageError
from rewind_logger.history.opening import OpenRequest
from rewind_logger.sdk import run as run_module
from rewind_logger.sdk.metadata import Labels
from rewind_logger.sdk.run_spec import RunSpec
from rewind_logger.storage import open_storage
from rewind_logger.storage.base import Object, outcome_of
from rewind_logger.storage.wrapper import WrapperStorage
from rewind_logger.types import Position, RunRef
from tests.sdk.reading import column, rows

REF = RunRef("p", "r1")


def make(url: str) -> Run:
    spec = RunSpec(storage=open_storage(url), run=REF, config={"lr": 0.1}, labels=Labels(name="one"), driven=True)
    return Run(spec)


def back_to(next_step: int) -> OpenRequest:
    return OpenRequest(at=Position(REF, None, next_step), resume="must", reason="checkpoint")


def test_before_it_is_opened_nothing_is_read_or_written(url: str) -> None:
    run = make(url)
    assert (run.id, run.name, run.config.lr, dict(run.summary)) == ("r1", "one", 0.1, {})
    with pytest.raises(ConfigError, match="is not open yet"):
        _ = run.step
    assert repr(run).endswith("not open yet>")
    run.finish()
    assert not Path(url).exists()


def test_what_comes_before_the_opening_belongs_to_it(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r1", config={"seed": 3}) as first:
        for i in range(10):
            first.log({"a": i})
    run = make(any_url)
    run.config.update({"epochs": 2})
    run.tags = ("t",)
    run.log({"early": 1.0})
    run._record({"earlier": 2.0}, None)
    run._open(back_to(5))
    run._record({"a": 50}, 5)
    run.finish()
    assert rows(any_url, "p/r1")[5:] == [{"_step": 5, "early": 1.0, "earlier": 2.0, "a": 50}]
    stored = open_store(any_url).run("p/r1")
    assert stored.config == {"seed": 3, "lr": 0.1, "epochs": 2}
    assert (stored.name, stored.tags) == ("one", ("t",))
    assert stored.revisions[1].reason == "checkpoint"


def test_a_trainer_sets_the_clock_and_log_does_not_move_it(url: str) -> None:
    run = make(url)
    run._open(OpenRequest())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run._record({"loss": 1.0}, 7)
        run.log({"mine": 1})
        run.log({"other": 2}, step=3)
        run.log({"same": 2}, step=7, commit=True)
        run._record({"val": 0.5}, 7, step=0)
        run._record({"loss": 0.5}, 8, step=8)
    assert run.step == 8
    run.finish()
    assert rows(url, "p/r1") == [
        {"_step": 7, "loss": 1.0, "mine": 1, "same": 2},
        {"_step": 7, "step": 3, "other": 2},
        {"_step": 7, "step": 0, "val": 0.5},
        {"_step": 8, "loss": 0.5},
    ]


def test_it_is_opened_again_at_another_place(any_url: str) -> None:
    run = make(any_url)
    config, summary = run.config, run.summary
    run._open(OpenRequest())
    for i in range(10):
        if i == 6:
            run.config.lr = 0.5
            run.name = "late"
        run._record({"a": i}, i)
    run._record({"b": 1}, 9)
    assert (dict(summary), config.lr, run.name) == ({"a": 9, "b": 1}, 0.5, "late")
    run._open(back_to(5))
    assert (run.revision, run.step) == (2, 5)
    assert (dict(summary), config.lr, run.name) == ({"a": 4}, 0.1, "one"), "as of step 4, also for who held them"
    run._record({"a": 50}, 5)
    assert dict(summary) == {"a": 50}
    run.finish()
    assert column(any_url, "p/r1", "a") == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 50}
    assert dict(open_store(any_url).run("p/r1").summary) == {"a": 50}
    assert open_store(any_url).run("p/r1@1").config == {"lr": 0.5}


def test_it_may_settle_and_go_on(url: str) -> None:
    """A trainer says after each of its loops that it ended."""
    run = make(url)
    run._open(OpenRequest())
    for i in range(3):
        run._record({"a": i}, i)
        assert run._settle("finished", 10) is None
        assert len(rows(url, "p/r1")) == i + 1
        assert open_store(url).run("p/r1").state == "finished"


class Away(WrapperStorage):
    """A store that cannot be written to while it is away."""

    away = False

    def put(self, path: str, data: bytes) -> None:
        if self.away:
            raise TransientStorageError("The network is down.")
        self.inner.put(path, data)

    def put_each(self, objects: Iterable[Object]) -> list[Exception | None]:
        return [outcome_of(self._put_object, one) for one in objects]


def test_a_store_that_is_away_at_the_end_costs_no_row(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_module, "FINISH_TIMEOUT_S", 0.05)
    storage = Away(open_storage(url))
    run = Run(RunSpec(storage=storage, run=REF))
    run._open(OpenRequest())
    storage.away = True
    for i in range(10):
        run.log({"a": i})
    run.finish()
    said = capsys.readouterr().err.splitlines()[-1]
    assert "not all of it is in the store" in said
    assert f"is kept in {url}/p/r1/j/" in said
    with init(dir=url, project="p", id="r1") as again:
        assert again.step == 10
    assert column(url, "p/r1", "a") == {i: i for i in range(10)}
