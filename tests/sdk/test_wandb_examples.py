"""What W&B's pages on rewinding and forking show, call for call, with another import.

The calls and their arguments are those of the pages; names and curves are ours.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import rewind_logger as wandb
from tests.sdk.reading import column, rows

PROJECT = "team/digits"
STORE = "rewind_logs"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_rewind_by_name_and_fork_by_id() -> None:
    """Log 1,000 steps, rewind to 500, log on; fork at 500, log on."""
    first = wandb.init(project="digits", entity="team", name="baseline")
    for i in range(1000):
        first.log({"metric": i**2})
    first.finish()

    rewound = wandb.init(project="digits", entity="team", resume_from="baseline", step=500)
    for i in range(500, 1000):
        rewound.log({"metric": i * 2})
    rewound.finish()

    fork = wandb.init(project="digits", entity="team", fork_from=f"{rewound.id}?_step=500")
    for i in range(500, 1000):
        fork.log({"metric": i * 3})
    fork.finish()

    kept = {step: step**2 for step in range(501)}
    assert rewound.id == first.id
    again = column(STORE, f"{PROJECT}/{first.id}", "metric")
    assert again == kept | {i + 1: i * 2 for i in range(500, 1000)}
    assert fork.id != first.id
    forked = column(STORE, f"{PROJECT}/{fork.id}", "metric")
    assert forked == kept | {i + 1: i * 3 for i in range(500, 1000)}
    assert len(again) == len(forked) == 1001, "steps 0 to 1000"
    assert (again[501], forked[501]) == (1000, 1500), "i = 500 is at step 501: the step that was named is kept"
    archived = column(STORE, f"{PROJECT}/{first.id}@1", "metric")
    assert archived == {step: step**2 for step in range(1000)}


def wave(i: int) -> float:
    """A curve that leaves the straight line after step 250."""
    return float(i) if i < 250 else i + 2 * math.sin(i / 3)


def test_rewind_by_id_with_a_metric_called_step() -> None:
    """The other way that is shown: two rows a turn, each with a count of its own under the name `step`."""
    first = wandb.init(project="digits", entity="team")
    for i in range(300):
        first.log({"metric": i})
    first.finish()

    rewound = wandb.init(project="digits", entity="team", resume_from=f"{first.id}?_step=200")
    for i in range(200, 300):
        rewound.log({"metric": wave(i), "step": i})
        rewound.log({"extra": i * 1.5, "step": i})
    rewound.finish()

    found = rows(STORE, f"{PROJECT}/{first.id}")
    assert [row["_step"] for row in found] == list(range(401))
    assert found[200] == {"_step": 200, "metric": 200.0}
    assert found[201] == {"_step": 201, "metric": 200.0, "step": 200}
    assert found[202] == {"_step": 202, "extra": 300.0, "step": 200}
    assert found[-1] == {"_step": 400, "extra": 448.5, "step": 299}


def test_fork_then_log_a_new_metric() -> None:
    """As the page on forking shows it, with the project by position."""
    first = wandb.init("digits", entity="team")
    for i in range(300):
        first.log({"metric": i})
    first.finish()

    fork = wandb.init("digits", entity="team", fork_from=f"{first.id}?_step=200")
    for i in range(200, 300):
        fork.log({"metric": wave(i)})
        fork.log({"extra": i * 1.5})
    fork.finish()

    assert len(rows(STORE, f"{PROJECT}/{first.id}")) == 300, "the parent is as it was"
    assert len(rows(STORE, f"{PROJECT}/{fork.id}")) == 401
    metric = column(STORE, f"{PROJECT}/{fork.id}", "metric")
    assert [metric[step] for step in (0, 200, 201, 203)] == [0, 200, 200, 201]


def test_logging_by_the_module() -> None:
    """Scripts that never name the run."""
    wandb.init(project="quick", config={"lr": 0.1})
    run = wandb.run
    assert run is not None
    for i in range(3):
        wandb.log({"loss": wandb.config.lr * i})
    wandb.config.epochs = 3
    assert wandb.summary["loss"] == pytest.approx(0.2)
    wandb.finish()
    assert wandb.run is None
    assert [row["_step"] for row in rows(STORE, run.path)] == [0, 1, 2]
    assert wandb.open_store(STORE).run(run.path).config == {"lr": 0.1, "epochs": 3}


def test_logging_by_the_module_without_a_run_says_what_to_do() -> None:
    wandb.finish()
    with pytest.raises(wandb.ConfigError, match=r"call rewind_logger\.init\(\.\.\.\) first"):
        wandb.log({"loss": 1})
    with pytest.raises(wandb.ConfigError, match=r"rewind_logger\.config needs a run"):
        _ = wandb.config
