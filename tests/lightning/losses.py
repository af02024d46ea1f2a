"""What Lightning itself loses when a run is killed and resumed, even where the logger keeps the exact rule.

`lightning_losses.json` holds, for each configuration of the matrix, in which cases what differs from the history of the
uninterrupted run; a case that is not listed is exact. `design/003-lightning-facts.md` explains the classes. After a
release of Lightning that resumes otherwise, look at what changed and write the file anew:
`python -m tests.lightning.losses`.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.lightning import matrix
from tests.lightning.matrix import Case
from tests.lightning.oracle import Oracle, Series, series

FILE = Path(__file__).with_name("lightning_losses.json")

_KINDS = {
    "seen": "steps",
    "loss_step": "steps",
    "loss_epoch": "means of epochs",
    "epoch_end_seen": "ends of epochs",
    "by_hand": "starts of epochs",
    "val": "validations",
    "val_step": "validations",
    "val_epoch": "validations",
}

_WORSE = ("exact", "values", "moved", "rows")
"""Other values at the same clocks; the same values in their order at other clocks; rows too many or too few."""


def expected(case: Case) -> str:
    """Return what is known to differ in a case."""
    differing = _known().get(case.configuration, {})
    return next((differences for differences, variants in differing.items() if case.variant in variants), "")


def found(case: Case, oracle: Oracle) -> str:
    """Return what differs from the uninterrupted run, such as `ends of epochs: rows; steps: moved`."""
    kept, whole = series(oracle.history()), _uninterrupted(case.uninterrupted)
    worst: dict[str, str] = defaultdict(lambda: "exact")
    for key in kept.keys() | whole.keys():
        # Lightning adds `epoch` to most rows; what happens to it happens to them.
        if key == "epoch":
            continue
        kind = _KINDS.get(key, "learning rates")
        worst[kind] = max(worst[kind], _difference(kept.get(key, []), whole.get(key, [])), key=_WORSE.index)
    return "; ".join(f"{kind}: {difference}" for kind, difference in sorted(worst.items()) if difference != "exact")


def _difference(kept: list[tuple[int, float]], whole: list[tuple[int, float]]) -> str:
    if kept == whole:
        return "exact"
    if [value for _, value in kept] == [value for _, value in whole]:
        return "moved"
    return "values" if [clock for clock, _ in kept] == [clock for clock, _ in whole] else "rows"


@functools.cache
def _known() -> dict[str, dict[str, list[str]]]:
    known: dict[str, dict[str, list[str]]] = json.loads(FILE.read_text())["losses"]
    return known


@functools.cache
def _uninterrupted(case: Case) -> Series:
    with tempfile.TemporaryDirectory() as folder:
        return series(matrix.run(case, Path(folder)).history())


def _write() -> None:
    """Run the whole matrix and write down what Lightning loses."""
    import lightning

    losses: dict[str, dict[str, list[str]]] = {}
    for configuration, cases in matrix.configurations().items():
        differing: dict[str, list[str]] = defaultdict(list)
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                differences = found(case, matrix.run(case, Path(folder)))
            if differences:
                differing[differences].append(case.variant)
        losses[configuration] = dict(differing)
    lines = [
        f"  {json.dumps(configuration)}: {{\n"
        + ",\n".join(f"   {json.dumps(what)}: {json.dumps(variants)}" for what, variants in differing.items())
        + "\n  }"
        for configuration, differing in losses.items()
        if differing
    ]
    version = json.dumps(lightning.__version__)
    FILE.write_text(f'{{\n "lightning": {version},\n "losses": {{\n' + ",\n".join(lines) + "\n }\n}\n")


if __name__ == "__main__":
    _write()
