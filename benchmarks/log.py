"""What logging costs the training loop, and what it leaves on disk, beside other loggers.

`make bench` runs this. Each round measures every contender once on every workload, each in a process of its own, and
begins with the next contender, so that a machine that slows down for a while slows all of them. Ratios are those of
one round; what is reported is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

from benchmarks import machine
from benchmarks.contenders import CONTENDERS
from benchmarks.worker import size_of

ROOT = Path(__file__).parents[1]
OURS = "rewind-logger"
FLOOR = "JSON line (floor)"
PACKAGES = ("rewind-logger", "msgspec", "pyarrow", "lightning", "trackio", "wandb", "tensorboard", "torch")
OFFLINE = {
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "offline",
}


@dataclass(frozen=True, slots=True)
class Workload:
    """How many rows are logged, and how many metrics each has."""

    rows: int
    metrics: int


NARROW = Workload(rows=20_000, metrics=10)
WIDE = Workload(rows=200, metrics=1_000)


@dataclass(frozen=True, slots=True)
class Result:
    """What one contender took for one workload, once."""

    call_us: float
    """Median of the calls, in microseconds."""
    seconds: float
    """From opening the run to its end."""
    bytes: int
    """On disk after its process has ended."""


Results = dict[tuple[Workload, str], list[Result]]
"""For each workload and contender what each round measured."""


def measure(contender: str, workload: Workload, folder: Path) -> Result:
    """Run one contender once; `folder` must not exist yet."""
    folder.mkdir()
    home = folder.with_suffix(".home")
    home.mkdir()
    # A home of its own: no setting or credential of the person who runs this, and nothing left behind.
    env = {**os.environ, **OFFLINE, "HOME": str(home), "TRACKIO_DIR": str(folder)}
    arguments = [contender, str(workload.rows), str(workload.metrics), str(folder)]
    command = [sys.executable, "-m", "benchmarks.worker", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{contender} failed:\n{done.stdout}{done.stderr}")
    found = json.loads(Path(f"{folder}.json").read_text())
    return Result(found["call_us"], found["seconds"], size_of(folder) - found["warm_up_bytes"])


def measure_all(contenders: Sequence[str], rounds: int, folder: Path) -> Results:
    """Measure every contender on every workload in turn, `rounds` times."""
    results: Results = {}
    for number in range(rounds):
        turn = number % len(contenders)
        for workload in (NARROW, WIDE):
            for place, contender in enumerate((*contenders[turn:], *contenders[:turn])):
                title = f"round {number + 1} of {rounds}: {workload.rows:,} × {workload.metrics:,}, {contender}"
                print(title, file=sys.stderr)
                result = measure(contender, workload, folder / f"{number}-{workload.metrics}-{place}")
                results.setdefault((workload, contender), []).append(result)
    return results


def ratio(results: Results, workload: Workload, contender: str, of: Callable[[Result], float]) -> float:
    """The median over the rounds of a contender's figure divided by the floor's figure of that round."""
    pairs = zip(results[workload, contender], results[workload, FLOOR], strict=True)
    return median(of(mine) / of(floor) for mine, floor in pairs)


def table(results: Results, contenders: Sequence[str]) -> str:
    """The medians, a line a contender."""
    lines = [
        "| | call, 10 floats | × floor | call, 1,000 floats | × floor | 20,000 × 10, open to close | on disk |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for contender in contenders:
        cells = [contender]
        for workload in (NARROW, WIDE):
            cells.append(f"{median(r.call_us for r in results[workload, contender]):,.1f} µs")
            cells.append(f"{ratio(results, workload, contender, lambda r: r.call_us):.2f}")
        cells.append(f"{median(r.seconds for r in results[NARROW, contender]):.2f} s")
        cells.append(f"{median(r.bytes for r in results[NARROW, contender]) / 1e6:.2f} MB")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def targets(results: Results) -> str:
    """What this package promises itself, and whether it holds."""
    found = [
        ("a call of 10 floats, × floor", ratio(results, NARROW, OURS, lambda r: r.call_us), 0.3),
        ("a call of 1,000 floats, × floor", ratio(results, WIDE, OURS, lambda r: r.call_us), 0.1),
        ("20,000 × 10 from open to close, seconds", median(r.seconds for r in results[NARROW, OURS]), 0.4),
        ("20,000 × 10 on disk, MB", median(r.bytes for r in results[NARROW, OURS]) / 1e6, 2.0),
    ]
    return "\n".join(
        f"- {'ok' if is_ <= most else 'MISS'}: {what}: {is_:.3f} (at most {most})" for what, is_, most in found
    )


def main() -> None:
    """Measure, print, and write the dated result file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.log", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, help="print what these give; no file is written")
    arguments = parser.parse_args()
    contenders = [name for name in CONTENDERS if not arguments.only or name in {*arguments.only, FLOOR}]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = measure_all(contenders, arguments.rounds, folder)
        where = machine.describe(folder)
    report = table(results, contenders)
    if OURS in contenders:
        report += f"\n\nTargets:\n\n{targets(results)}"
    print(report)
    if not arguments.only:
        today = date.today().isoformat()
        path = ROOT / "benchmarks" / "results" / f"{today}-log.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"# Logging, {today}\n\n{report}\n\nMedians of {arguments.rounds} rounds, all in one run of `make bench`; "
            f"imports are not counted. {where}. {machine.versions(PACKAGES)}.\n"
        )
        print(f"\nWritten to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
