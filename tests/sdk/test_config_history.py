"""A run's config over its life: what stays, what a cut undoes, and which revision set what."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pytest

from rewind_logger import ConfigError, StoredRun, init, open_store


def shown(run: StoredRun) -> list[tuple[Any, ...]]:
    """Return the changes, without their times."""
    return [(change.key, change.value, change.run, change.revision, change.step) for change in run.config_changes]


def live(url: str) -> None:
    """Make run r, which is changed at step 3, rewound before that, changed at step 2, and resumed."""
    with init(dir=url, project="p", id="r", config={"lr": 0.1, "model": {"depth": 3}}) as run:
        for step in range(6):
            if step == 3:
                run.config.lr = 0.01
                run.config.model.depth = 4
                run.config["late"] = True
            run.log({"loss": step})
    with init(dir=url, project="p", resume_from="r?_step=1", config={"lr": 0.05, "seed": 7}) as run:
        run.config.epochs = 3
        run.log({"loss": 9})
    with init(dir=url, project="p", id="r", config={"lr": 0.05}) as run:
        run.log({"loss": 8})


def test_what_was_given_stays_and_what_was_changed_is_undone_by_a_cut_before(any_url: str) -> None:
    live(any_url)
    store = open_store(any_url)
    assert store.run("p/r").config == {"lr": 0.05, "model": {"depth": 3}, "seed": 7, "epochs": 3}
    assert store.run("p/r@1").config == {"lr": 0.01, "model": {"depth": 4}, "late": True}
    assert store.run("p/r@1?_step=2").config == {"lr": 0.1, "model": {"depth": 3}}
    assert store.run("p/r@1?_step=3").config["late"] is True
    assert store.run("p/r?_step=1").config == {"lr": 0.05, "model": {"depth": 3}, "seed": 7}
    assert store.run("p/r?_step=-1").config == {"lr": 0.05, "model": {"depth": 3}, "seed": 7}
    with init(dir=any_url, project="p", resume_from="r?_step=0") as run:
        assert run.config.as_dict() == {"lr": 0.05, "model": {"depth": 3}, "seed": 7}
        assert run.config.get("epochs") is None
    with init(dir=any_url, project="p", fork_from="r@1?_step=3", id="b", config={"lr": 1}) as run:
        assert run.config.as_dict() == {"lr": 1, "model": {"depth": 4}, "late": True}


def test_which_revision_set_what(any_url: str) -> None:
    began = datetime.now(timezone.utc)
    live(any_url)
    store = open_store(any_url)
    first = [("lr", 0.1, "p/r", 1, None), ("model", {"depth": 3}, "p/r", 1, None)]
    changed = [("lr", 0.01, "p/r", 1, 3), ("model", {"depth": 4}, "p/r", 1, 3), ("late", True, "p/r", 1, 3)]
    assert shown(store.run("p/r@1")) == [*first, *changed]
    assert shown(store.run("p/r@1?_step=2")) == first
    second = [("lr", 0.05, "p/r", 2, None), ("seed", 7, "p/r", 2, None), ("epochs", 3, "p/r", 2, 2)]
    assert shown(store.run("p/r")) == [*first, *second], "what was given again is no change"
    with init(dir=any_url, project="p", fork_from="r@1?_step=3", id="b", config={"lr": 1}):
        pass
    assert shown(store.run("p/b")) == [*first, *changed, ("lr", 1, "p/b", 1, None)]
    times = [change.time for change in store.run("p/b").config_changes]
    assert times == sorted(times)
    assert abs((times[0] - began).total_seconds()) < 3600


def test_restoring_a_revision_brings_its_config_back(any_url: str) -> None:
    live(any_url)
    store = open_store(any_url)
    restored = store.restore("p/r@1")
    assert restored.config == store.run("p/r@1").config
    assert shown(restored) == shown(store.run("p/r@1"))


@dataclass
class Options:
    lr: float = 0.1
    depth: int = 3


@pytest.mark.parametrize("given", [Options(), Namespace(lr=0.1, depth=3), [("lr", 0.1), ("depth", 3)]])
def test_update_takes_what_init_takes(given: Any, url: str) -> None:
    with init(dir=url, project="p", id="r", config={"lr": 1}) as run:
        run.config.setdefaults(given)
        assert run.config.as_dict() == {"lr": 1, "depth": 3}
        run.config.update(given, True)
        assert run.config.as_dict() == {"lr": 0.1, "depth": 3}
        with pytest.raises(ConfigError, match="takes a dict, a dataclass or a Namespace, not 3"):
            run.config.update(3)
    assert open_store(url).run("p/r").config == {"lr": 0.1, "depth": 3}
