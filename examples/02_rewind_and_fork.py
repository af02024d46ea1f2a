"""Rewind and fork as in W&B, with another import: log 1,000 steps, rewind to 500, log on; fork at 500, log on.

Run it with `python 02_rewind_and_fork.py`. It writes to ./rewind_logs.
"""

from __future__ import annotations

import math

import rewind_logger as wandb


def main() -> None:
    """Log, rewind, fork."""
    with wandb.init(project="curves", name="baseline", config={"frequency": 0.01}) as run:
        for step in range(1000):
            run.log({"metric": math.sin(step * run.config["frequency"])})

    # Step 500 is kept, and so is the config; the next step is 501.
    with wandb.init(project="curves", resume_from=f"{run.id}?_step=500", tags=["rewound"]) as rewound:
        for step in range(500, 1000):
            rewound.log({"metric": 0.5 * math.sin(step * rewound.config["frequency"])})

    # The fork is a run of its own. It could begin at an archived revision just as well: "…@1?_step=500".
    with wandb.init(project="curves", fork_from=f"{run.id}?_step=500", config={"frequency": 0.02}) as fork:
        for step in range(500, 1000):
            fork.log({"metric": math.sin(step * fork.config["frequency"])})

    store = wandb.open_store("rewind_logs")
    for name in (f"{run.id}@1", run.id, fork.id):
        stored = store.run(f"curves/{name}")
        print(f"{stored.immutable_id}: {len(stored.history())} rows, last metric {stored.summary['metric']:.3f}")


if __name__ == "__main__":
    main()
