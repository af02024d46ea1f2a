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
WINDOW = 15
"""Rows whose mean is drawn."""

INK, GREY, RED, BLUE, GREEN = "#1f2933", "#8a94a0", "#c8382e", "#1f5fbf", "#0f8a62"


def draw(store: Store, append_only: Path, image: Path) -> None:
    """Draw both histories of run `digits/a`, and the fork `digits/b`.

    Args:
        store: The store of both runs.
        append_only: The file of the other logger.
        image: Where to write the picture.
    """
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9.5, "text.color": INK, "axes.labelcolor": INK})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.3), sharey=True, layout="constrained")
    present, archived, fork = (curve(store, name) for name in ("digits/a", "digits/a@1", "digits/b"))
    cut = store.run("digits/a").revisions[-1].cut or 0
    forked = store.run("digits/b").revisions[0].cut or 0
    before = int(archived[0][-1])

    rows = [json.loads(line) for line in append_only.read_text().splitlines()]
    steps = np.array([row["step"] for row in rows])
    left.plot(steps, smooth(np.array([row[KEY] for row in rows])), color=RED, lw=1.4)
    left.axvspan(cut, before, color=RED, alpha=0.08, lw=0)
    told = f"steps {cut} to {before} twice:\nkilled at {before}, resumed\nfrom the checkpoint of {cut}"
    left.text(0.99, 0.95, told, transform=left.transAxes, color=RED, va="top", ha="right", linespacing=1.5)
    title(
        left, "An append-only logger", f"{len(rows)} rows for {int(steps.max()) + 1} steps: doubled, and in part stale"
    )

    tail, branch = after(archived, cut), after(fork, forked)
    right.plot(*tail, color=GREY, lw=1.4, ls=(0, (3, 1.2)))
    right.plot(*present, color=BLUE, lw=1.6)
    right.plot(*branch, color=GREEN, lw=1.6)
    for line, color in ((tail, GREY), (branch, GREEN)):
        right.plot(line[0][0], line[1][0], "o", color=color, ms=5, mec="white", mew=1)
    top = int(np.argmax(tail[1]))
    peak = int(np.argmax(np.where(present[0] >= forked, present[1], 0)))
    label(right, "archived: a@1", (tail[0][top], tail[1][top]), (0, 7), GREY)
    label(right, "the run: a@2", (present[0][peak], present[1][peak]), (0, 7), BLUE)
    label(right, "a fork: b, with\nlearning rate 0.01", (branch[0][0], branch[1][0]), (-6, -62), GREEN, ha="right")
    title(right, "Rewind Logger", f"{len(present[0])} rows, one a step: the history of the model you have")
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


def label(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], color: str, ha: str = "center"
) -> None:
    """Write beside a curve what it is."""
    axes.annotate(text, at, offset, textcoords="offset points", color=color, ha=ha, fontweight="bold", linespacing=1.4)


def finish(panels: tuple[Axes, ...]) -> None:
    """Give the panels their axes."""
    for axes in panels:
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.yaxis.set_major_locator(FixedLocator([0.05, 0.1, 0.2, 0.5, 1, 2]))
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
