"""The numbered examples run as they stand, and do what they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import Store, open_store

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
    assert [run.id for run in store.runs("descent")] == ["base", "lr-0.01", "lr-0.1", "lr-0.3"]
    best = [line.split()[1] for line in printed.splitlines() if line.startswith("│ lr-")]
    assert best == ["lr-0.3", "lr-0.1", "lr-0.01"]
    assert "\n50         NaN" in printed, "the base ends before the forks do"


def watched(store: Store, printed: str) -> None:
    told = printed.splitlines()
    assert told[0].startswith("running: "), "it was seen before its end"
    assert "up to step 299," in told[-1]
    assert sum(int(line.split()[1]) for line in told) == 300, "each row was seen once"


@pytest.mark.parametrize(
    ("example", "check"),
    list(zip(EXAMPLES, [resumed, rewound_and_forked, compared, watched], strict=True)),
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_example(example: Path, check: Callable[[Store, str], None], tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    check(open_store(tmp_path / "rewind_logs"), done.stdout)
