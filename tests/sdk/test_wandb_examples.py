"""The examples of W&B's pages on rewinding and forking, as they stand there, with another import."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import rewind_logger as wandb
from tests.sdk.reading import column, rows

PROJECT = "your_entity_name/your_project_name"
STORE = "rewind_logs"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_rewind_by_name_and_fork_by_id() -> None:
    """Log 1,000 steps, rewind to 500, log on; fork at 500, log on."""
    # Initialize and log some data
    run = wandb.init(project="your_project_name", entity="your_entity_name", name="your_run_name")
    for i in range(1000):
        run.log({"metric": i**2})
    run.finish()

    # Rewind the run to step 500
    rewind_run = wandb.init(
        project="your_project_name", entity="your_entity_name", resume_from="your_run_name", step=500
    )

    # Log new data from step 500 onwards
    for i in range(500, 1000):
        rewind_run.log({"metric": i * 2})
    rewind_run.finish()

    # Fork the run from a specific step
    forked_run = wandb.init(
        project="your_project_name",
        entity="your_entity_name",
        fork_from=f"{rewind_run.id}?_step=500",
    )

    # Continue logging in the new run
    for i in range(500, 1000):
        forked_run.log({"metric": i * 3})
    forked_run.finish()

    kept = {step: step**2 for step in range(501)}
    assert rewind_run.id == run.id
    assert column(STORE, f"{PROJECT}/{run.id}", "metric") == kept | {i + 1: i * 2 for i in range(500, 1000)}
    assert forked_run.id != run.id
    forked = column(STORE, f"{PROJECT}/{forked_run.id}", "metric")
    assert forked == kept | {i + 1: i * 3 for i in range(500, 1000)}
    assert len(forked) == 1001, "steps 0 to 1000"
    assert forked[501] == 1500, "i = 500 is logged at step 501: the step that was named is kept"
    archived = column(STORE, f"{PROJECT}/{run.id}@1", "metric")
    assert archived == {step: step**2 for step in range(1000)}


def test_rewind_by_id_with_a_metric_called_step() -> None:
    """The other example: it logs its own count under the name `step`, twice at each turn."""
    run1 = wandb.init(project="your_project_name", entity="your_entity_name")
    for i in range(300):
        run1.log({"metric": i})
    run1.finish()

    run2 = wandb.init(project="your_project_name", entity="your_entity_name", resume_from=f"{run1.id}?_step=200")
    for i in range(200, 300):
        if i < 250:
            run2.log({"metric": i, "step": i})
        else:
            subtle_spike = i + (2 * math.sin(i / 3.0))
            run2.log({"metric": subtle_spike, "step": i})
        run2.log({"additional_metric": i * 1.1, "step": i})
    run2.finish()

    found = rows(STORE, f"{PROJECT}/{run1.id}")
    assert [row["_step"] for row in found] == list(range(401))
    assert found[200] == {"_step": 200, "metric": 200.0}
    assert found[201] == {"_step": 201, "metric": 200.0, "step": 200}
    assert found[202] == {"_step": 202, "additional_metric": pytest.approx(220.0), "step": 200}
    assert found[-1] == {"_step": 400, "additional_metric": pytest.approx(328.9), "step": 299}


def test_fork_then_log_a_new_metric() -> None:
    """The example of the page on forking, which names the project by position."""
    run1 = wandb.init("your_project_name", entity="your_entity_name")
    for i in range(300):
        run1.log({"metric": i})
    run1.finish()

    run2 = wandb.init("your_project_name", entity="your_entity_name", fork_from=f"{run1.id}?_step=200")
    for i in range(200, 300):
        if i < 250:
            run2.log({"metric": i})
        else:
            subtle_spike = i + (2 * math.sin(i / 3.0))
            run2.log({"metric": subtle_spike})
        run2.log({"additional_metric": i * 1.1})
    run2.finish()

    assert len(rows(STORE, f"{PROJECT}/{run1.id}")) == 300, "the parent is as it was"
    assert len(rows(STORE, f"{PROJECT}/{run2.id}")) == 401
    metric = column(STORE, f"{PROJECT}/{run2.id}", "metric")
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
