"""What histograms of a model's layers at every step cost: to log, on disk, and to read back.

`python -m benchmarks.histograms` measures in one process. The weights of a layer are normally distributed and change
by a twenty-fifth of their spread a step.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

import rewind_logger
from benchmarks import machine
from rewind_logger import Histogram
from rewind_logger.history import reader
from rewind_logger.history.view import resolve
from rewind_logger.types import RunRef

PACKAGES = ("rewind-logger", "msgspec", "numpy", "pyarrow")
LAYER = "layer0/weight"


@dataclass(frozen=True, slots=True)
class Result:
    """What one size of model took."""

    steps: int
    layers: int
    weights: int
    """Of a layer."""
    count_us: float
    """For numpy to count one histogram, in microseconds: the median."""
    log_us: float
    """To log one, where all of a step are logged together, likewise."""
    bytes: float
    """Of one in the segments that count, once the run is finished."""
    items_s: float
    """To read all of them as items, in seconds."""
    arrays_s: float
    """To make two arrays of these, in seconds."""
    layer_s: float
    """To read those of one layer as two arrays, in seconds."""


def measure(steps: int, layers: int, weights: int, folder: Path) -> Result:
    """Log a run and read it back; `folder` becomes its store."""
    chance = np.random.default_rng(0)
    model = [chance.normal(0, 0.05, weights).astype(np.float32) for _ in range(layers)]
    noise = chance.normal(0, 0.002, weights + 1000).astype(np.float32)
    counting, logging = [], []
    with rewind_logger.init(
        dir=folder, project="p", id="a", console=False, system_metrics=False, config={"layers": layers}
    ) as run:
        for _ in range(steps):
            began = perf_counter()
            found = {}
            for index, layer in enumerate(model):
                start = int(chance.integers(1000))
                layer += noise[start : start + weights]
                found[f"layer{index}/weight"] = Histogram(layer)
            counted = perf_counter()
            run.log(found)
            logging.append((perf_counter() - counted) / layers * 1e6)
            counting.append((counted - began) / layers * 1e6)
    store = rewind_logger.open_store(folder)
    stored = store.run("p/a")
    files = reader.files(store.storage, resolve(store.storage, RunRef("p", "a")), "media")
    began = perf_counter()
    items = stored.media()
    read = perf_counter()
    counts, _ = items.to_numpy()
    converted = perf_counter()
    assert counts.sum() == steps * layers * weights
    assert stored.media(LAYER).to_numpy().counts.shape == (steps, 64)
    return Result(
        steps=steps,
        layers=layers,
        weights=weights,
        count_us=median(counting),
        log_us=median(logging),
        bytes=sum(file.segment.size for file in files) / len(items),
        items_s=read - began,
        arrays_s=converted - read,
        layer_s=perf_counter() - converted,
    )


def table(results: list[Result]) -> str:
    """A line a size of model."""
    lines = [
        "| steps × layers × weights | counting one | logging one | one in the store | all as items | … as arrays |"
        " one layer |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one.steps:,} × {one.layers} × {one.weights:,} | {one.count_us:,.0f} µs | {one.log_us:.0f} µs |"
        f" {one.bytes:.0f} B | {one.items_s:.2f} s | {one.arrays_s:.2f} s | {one.layer_s * 1000:.0f} ms |"
        for one in results
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the dated result file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.histograms", description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--weights", type=int, nargs="+", default=[2_000, 20_000])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = [
            measure(arguments.steps, arguments.layers, weights, Path(name, str(weights)))
            for weights in arguments.weights
        ]
        where = machine.describe(Path(name))
    today = date.today().isoformat()
    path = Path(__file__).parent / "results" / f"{today}-histograms.md"
    report = (
        f"# Histograms of 64 bins, {today}\n\n{table(results)}\n\nLogging is what comes on top of counting; medians of"
        f" the steps. {where}. {machine.versions(PACKAGES)}.\n"
    )
    path.write_text(report)
    print(report)


if __name__ == "__main__":
    main()
