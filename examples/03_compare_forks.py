"""Fork one run with several learning rates, and compare the forks with polars and with pandas.

Run it with `python 03_compare_forks.py`. It writes to ./rewind_logs.
"""

from __future__ import annotations

import pandas as pd
import polars as pl

import rewind_logger
from rewind_logger import Run, open_store


def descend(run: Run, x: float, steps: int) -> float:
    """Walk down f(x) = x² by gradient descent, logging each step."""
    for _ in range(steps):
        x -= run.config["lr"] * 2 * x
        run.log({"x": x, "loss": x**2})
    return x


def main() -> None:
    """Train a base, fork it, compare."""
    with rewind_logger.init(project="descent", id="base", config={"lr": 0.02}) as base:
        x = descend(base, x=1.0, steps=50)
    for lr in (0.01, 0.1, 0.3):
        fork_from = f"base?_step={base.step - 1}"
        with rewind_logger.init(project="descent", id=f"lr-{lr}", fork_from=fork_from, config={"lr": lr}) as fork:
            descend(fork, x, steps=50)

    runs = open_store("rewind_logs").runs("descent")
    # Each fork has the 50 steps of its parent too: its history is whole.
    forks = pl.concat(
        run.history("loss").to_polars().with_columns(run=pl.lit(run.id), lr=run.config["lr"])
        for run in runs
        if run.id != "base"
    )
    table = forks.group_by("run", "lr").agg(rows=pl.len(), last=pl.col("loss").last()).sort("last")
    print(table)

    # The same in pandas, as one column a run.
    curves = pd.concat({run.id: run.history("loss").to_pandas().set_index("_step")["loss"] for run in runs}, axis=1)
    print(curves.iloc[[0, 49, 50, 99]])


if __name__ == "__main__":
    main()
