"""A run is rewound and goes another way; its model from before is used all the same, from the archived revision.

Run it with `python 06_artifact_from_archive.py`. It writes to ./rewind_logs and ./artifacts.
"""

from __future__ import annotations

import json
from pathlib import Path

import rewind_logger
from rewind_logger import Artifact, Run


def train(run: Run, stop: int, lr: float, slope: float) -> None:
    """Fit y = 2x by gradient descent, and log the model every 20 steps."""
    for step in range(run.step, stop):
        slope -= lr * 2 * (slope - 2)
        if step % 20 == 19:
            model = Artifact("model", type="model", metadata={"lr": lr})
            with model.new_file("slope.json") as file:
                json.dump(slope, file)
            run.log_artifact(model, aliases=["final"] if step == stop - 1 else None)  # at this step
        run.log({"loss": (slope - 2) ** 2})  # the next one begins


def slope_of(model: Artifact) -> float:
    """Return what was learned."""
    return float(json.loads(Path(model.download()).joinpath("slope.json").read_text()))


with rewind_logger.init(project="lines", id="a") as run:
    train(run, stop=60, lr=0.02, slope=0.0)

# From step 20 on with another learning rate. The model of step 19 is the newest there is at that point.
with rewind_logger.init(project="lines", resume_from="a?_step=19") as run:
    train(run, stop=40, lr=0.1, slope=slope_of(run.use_artifact("model:latest")))

# What was logged after step 19 the first time is no longer the run's, and still there.
with rewind_logger.init(project="lines", id="evaluation") as run:
    model = run.use_artifact("a@1/model:final")
    print(f"{model.qualified_name} of step {model.step}, lr {model.metadata['lr']}: slope {slope_of(model):.3f}")

store = rewind_logger.open_store("rewind_logs")
for name in ("lines/a", "lines/a@1"):
    for one in store.run(name).artifacts:
        print(f"{name}: {one.name}:{one.version} of step {one.step}, made by revision {one.revision}, {one.aliases}")
