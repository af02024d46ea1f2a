"""Measure one contender once, in a process of its own: `python -m benchmarks.worker CONTENDER ROWS METRICS FOLDER`.

A short run of the same contender goes first, so that what it imports on the way, and processes that it starts once, are
not counted. The result is FOLDER.json, since some contenders print until the process has ended.
"""

from __future__ import annotations

import gc
import json
import math
import random
import sys
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns

from benchmarks.contenders import CONTENDERS, Contender, Row

WARM_UP_ROWS = 20


def training_like(rows: int, metrics: int) -> list[Row]:
    """Rows of falling curves with noise in every digit, as losses are: nothing that compresses by being made up."""
    chance = random.Random(0)
    keys = [f"train/metric_{n}" for n in range(metrics)]
    return [
        {key: (1 + n) * math.exp(-5 * step / rows) + 0.05 * chance.random() for n, key in enumerate(keys)}
        for step in range(rows)
    ]


def size_of(folder: Path) -> int:
    """The bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def measure(contender: Contender, rows: list[Row], folder: Path) -> tuple[float, list[int]]:
    """Log `rows`; return the seconds from opening to closing, and the nanoseconds of each call."""
    folder.mkdir(parents=True)
    calls = []
    gc.collect()
    start = perf_counter()
    with contender(folder) as log:
        for step, row in enumerate(rows):
            before = perf_counter_ns()
            log(row, step)
            calls.append(perf_counter_ns() - before)
    return perf_counter() - start, calls


def main(name: str, rows: str, metrics: str, folder: str) -> None:
    """Warm up, measure, write the result."""
    root, data = Path(folder), training_like(int(rows), int(metrics))
    measure(CONTENDERS[name], data[:WARM_UP_ROWS], root / "warm-up")
    warm_up_bytes = size_of(root)
    seconds, calls = measure(CONTENDERS[name], data, root / "run")
    result = {"seconds": seconds, "call_us": median(calls) / 1000, "warm_up_bytes": warm_up_bytes}
    Path(f"{folder}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
