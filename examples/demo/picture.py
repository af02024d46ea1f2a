"""The picture: the same training in an append-only file and in Rewind Logger."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rewind_logger import Store

Curve = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]

KEY = "train/loss"
WINDOW = 25
"""Rows whose mean is drawn."""

INK, GREY, RED, BLUE, GREEN = "#1f2933", "#7a8590", "#c8382e", "#1f5fbf", "#0f8a62"


def draw(store: Store, append_only: Path, image: Path) -> None:
    """Draw both histories of run `digits/a`, and the fork `digits/b`.

    Args:
        store: The store of both runs.
        append_only: The file of the other logger.
        image: Where to write the picture.
    """
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10, "text.color": INK, "axes.labelcolor": INK})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.3), sharey=True, layout="constrained")
    present, archived, fork = (curve(store, name) for name in ("digits/a", "digits/a@1", "digits/b"))
    cut = store.run("digits/a").revisions[-1].cut or 0
    forked = store.run("digits/b").revisions[0].cut or 0
    killed, count = int(archived[0][-1]), len(present[0])

    rows = [json.loads(line) for line in append_only.read_text().splitlines()]
    left.axvspan(cut, killed, color=RED, alpha=0.08, lw=0)
    left.plot([row["step"] for row in rows], smooth(np.array([row[KEY] for row in rows])), color=RED, lw=1.5)
    title(left, "An append-only logger", f"{len(rows)} rows for {count} steps: doubled, and in part stale")
    label(
        left,
        [
            (f"killed at step {killed}, resumed from", RED),
            (f"the checkpoint of step {cut}: {killed - cut + 1} steps", RED),
            ("are there twice, once of a model that is gone", RED),
        ],
    )

    tail, branch = after(archived, cut), after(fork, forked)
    right.plot(*tail, color=GREY, lw=1.5, ls=(0, (3, 1.2)))
    right.plot(*present, color=BLUE, lw=1.6)
    right.plot(*branch, color=GREEN, lw=1.6)
    for line, color in ((tail, GREY), (branch, GREEN)):
        right.plot(line[0][0], line[1][0], "o", color=color, ms=5.5, mec="white", mew=1)
    title(
        right, "Rewind Logger", f"{len(present[0])} rows for {len(present[0])} steps: the history of the model you have"
    )
    label(
        right,
        [
            ("a@2: the run, rewound and resumed", BLUE),
            (f"a@1: what was cut off, steps {cut} to {killed}, archived", GREY),
            (f"b: a fork from step {forked}, with another learning rate", GREEN),
        ],
    )
    finish((left, right))
    figure.savefig(image, dpi=120, facecolor="white")
    plt.close(figure)


def curve(store: Store, name: str) -> Curve:
    """Return the steps and the smoothed loss of a run or a revision."""
    history = store.run(name).history(KEY).to_arrow()
    return history["_step"].to_numpy(), smooth(history[KEY].to_numpy())


def smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean of each value and those before it, as far as the window reaches."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    stops = np.arange(1, len(sums))
    starts = np.maximum(stops - WINDOW, 0)
    means: npt.NDArray[np.float64] = (sums[stops] - sums[starts]) / (stops - starts)
    return means


def after(line: Curve, step: int) -> Curve:
    """Return the part of a curve from the step before `step` on, so that it is joined to what it branched off."""
    shown = line[0] >= step - 1
    return line[0][shown], line[1][shown]


def title(axes: Axes, name: str, what: str) -> None:
    """Head a panel with a name and a sentence."""
    axes.set_title(name, loc="left", fontsize=12, fontweight="bold", pad=22)
    axes.text(0, 1.03, what, transform=axes.transAxes, fontsize=9.5, color=INK)


def label(axes: Axes, lines: list[tuple[str, str]]) -> None:
    """Say in the upper right, where a falling curve leaves room, what is drawn in which colour."""
    for number, (text, color) in enumerate(lines):
        axes.text(0.99, 0.96 - 0.065 * number, text, transform=axes.transAxes, color=color, va="top", ha="right")


def finish(panels: tuple[Axes, ...]) -> None:
    """Give the panels their axes."""
    for axes in panels:
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.yaxis.set_major_locator(FixedLocator([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.tick_params(which="both", color=GREY, labelcolor=INK)
        axes.grid(axis="y", color="#e5e8ec", lw=0.8)
        axes.set_axisbelow(True)
        axes.margins(x=0.01)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color("#c3c9d0")
    panels[0].set_ylabel(f"training loss (mean of {WINDOW} rows)")
