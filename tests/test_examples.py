"""The numbered examples run as they stand, and do what they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import Store, open_store

LRS = ("0.01", "0.1", "0.5")

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))


def columns(store: Store, run: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = store.run(run).history().to_arrow().to_pydict()
    return columns


def resumed(store: Store, printed: str) -> None:
    run, archived = columns(store, "lines/a"), columns(store, "lines/a@1")
    assert run["_step"] == list(range(100))
    assert archived["_step"] == list(range(50))
    assert run["loss"][:40] == archived["loss"][:40], "the last checkpoint is of step 40"
    assert "Died: the power fails.\na@1 (archived): History(50 rows" in printed
    assert "\na@2 (the run): History(100 rows" in printed


def rewound_and_forked(store: Store, printed: str) -> None:
    rewound, fork = sorted(store.runs("curves"), key=lambda run: run.revision, reverse=True)
    assert (rewound.immutable_id, fork.immutable_id) == (f"{rewound.id}@2", f"{fork.id}@1")
    kept = columns(store, f"{rewound.path}@1")["metric"][:501]
    for run in (rewound, fork):
        assert columns(store, run.path)["_step"] == list(range(1001))
        assert columns(store, run.path)["metric"][:501] == kept
    assert (rewound.config, fork.config) == ({"frequency": 0.01}, {"frequency": 0.02})
    assert (rewound.name, rewound.tags, fork.tags) == ("baseline", ("rewound",), ())
    assert [line.split(",")[0] for line in printed.splitlines()] == [
        f"{rewound.id}@1: 1000 rows",
        f"{rewound.id}@2: 1001 rows",
        f"{fork.id}@1: 1001 rows",
    ]


def compared(store: Store, printed: str) -> None:
    assert [run.id for run in store.runs("lines")] == ["base", "lr-0.01", "lr-0.1", "lr-0.5"]
    base, forks = columns(store, "lines/base")["loss"], [columns(store, f"lines/lr-{lr}")["loss"] for lr in LRS]
    assert len(base) == 60
    assert all(len(fork) == 100 and fork[:50] == base[:50] and fork[52:60] != base[52:60] for fork in forks)
    assert [store.run(f"lines/lr-{lr}").lineage[0] for lr in LRS] == ["lines/base@1?_step=49"] * 3
    best = [line.split()[1] for line in printed.splitlines() if line.startswith("│ lr-")]
    assert best == ["lr-0.5", "lr-0.1", "lr-0.01"]
    assert "\n99          NaN" in printed, "the base ends before the forks do"


def retried(store: Store, printed: str) -> None:
    diverged, run = store.run("lines/a@1"), store.run("lines/a")
    assert (run.revision, diverged.config["peak"], run.config["peak"]) == (2, 2.0, 1.0)
    before, after = columns(store, "lines/a@1")["loss"], columns(store, "lines/a")["loss"]
    assert before[:40] == after[:40], "the checkpoint is of step 40"
    assert max(before) > 1e3 > 1e-3 > after[-1]
    assert "Diverged after step " in printed
    assert "\na@1: peak 2.0, last loss " in printed
    assert "\na@2: peak 1.0, last loss " in printed


def watched(store: Store, printed: str) -> None:
    told = printed.splitlines()
    assert told[0].startswith("running: "), "it was seen before its end"
    assert "up to step 299," in told[-1]
    assert sum(int(line.split()[1]) for line in told) == 300, "each row was seen once"


def used(store: Store, printed: str) -> None:
    archived, run = store.run("lines/a@1"), store.run("lines/a")
    assert [(one.version, one.step) for one in archived.artifacts] == [("v0", 19), ("v1", 39), ("v2", 59)]
    assert [(one.version, one.step, one.revision) for one in run.artifacts] == [("v0", 19, 1), ("v1", 39, 2)]
    (model,) = store.run("lines/evaluation").used_artifacts
    assert model.qualified_name == "lines/a@1/model:v2"
    assert "of step 59" in printed


@pytest.mark.parametrize(
    ("example", "check"),
    list(zip(EXAMPLES, [resumed, rewound_and_forked, compared, watched, retried, used], strict=True)),
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_example(example: Path, check: Callable[[Store, str], None], tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    check(open_store(tmp_path / "rewind_logs"), done.stdout)
