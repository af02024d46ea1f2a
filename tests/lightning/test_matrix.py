"""The resume matrix: each case is compared row for row with what the exact rule keeps.

A sample of the cases runs with every `make test`, all of them, one test a configuration, with `make test-all`.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pytest

import rewind_logger
from tests.lightning import losses, matrix
from tests.lightning.matrix import Case, Plugin
from tests.lightning.oracle import points


@pytest.mark.parametrize("case", matrix.sample(), ids=str)
def test_sample(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("configuration", matrix.configurations())
def test_configuration(configuration: str, tmp_path: Path) -> None:
    for number, case in enumerate(matrix.configurations()[configuration]):
        check(case, tmp_path / str(number))


def check(case: Case, folder: Path) -> None:
    """Train as a case tells, and compare what the store holds with the oracle, and Lightning with what it is known for.

    Args:
        case: The cell of the matrix.
        folder: An empty folder.
    """
    store = str(folder / "store")

    def plug() -> Plugin:
        logger = rewind_logger.RewindLogger(store, name="matrix", version="run")
        return Plugin(logger)

    oracle = matrix.run(case, folder, plug)  # the default ModelCheckpoint saves below our run
    table = rewind_logger.open_store(store).run("matrix/run").history().to_long("arrow")
    assert _stored(table) == points(oracle.history())
    assert losses.found(case, oracle) == losses.expected(case)


def _stored(table: pa.Table) -> dict[str, list[tuple[int, int | None, float]]]:
    """Return what `History.to_long` gives, key by key, as the oracle's `points` do."""
    found: dict[str, list[tuple[int, int | None, float]]] = defaultdict(list)
    for row in table.to_pylist():
        found[row["key"]].append((row["_step"], row.get("step"), row["value"]))
    return dict(found)
