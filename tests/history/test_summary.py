"""The summary is what the visible rows give: now, after a rewind, in a fork, and of any place that is read."""

from __future__ import annotations

import random
import secrets

import pytest

from rewind_logger import Run, init, open_store
from rewind_logger.types import Scalar
from tests.format.strategies import exactly

Rows = list[tuple[int, dict[str, Scalar]]]


def summary_of(rows: Rows, next_step: int | None = None) -> dict[str, object]:
    """Return the last value of each metric before a step, by the rule; NaNs comparable."""
    last: dict[str, object] = {}
    for step, values in rows:
        if next_step is None or step < next_step:
            last.update({key: exactly(value) for key, value in values.items()})
    return last


def found(summary: object) -> dict[str, object]:
    assert hasattr(summary, "as_dict")
    return {key: exactly(value) for key, value in summary.as_dict().items()}


def log_at_random(chance: random.Random, run: Run, rows: Rows) -> None:
    """Log rows with some metrics each, several at a step now and then, and some for steps gone by."""
    choices: list[Scalar] = [float("nan"), -0.0, 0.0, float("inf"), 1, 2**60, True, False, "text", 0.1]
    for _ in range(chance.randrange(12)):
        values = {key: chance.choice(choices) for key in chance.sample(["a", "b", "c/d", "e"], chance.randint(1, 3))}
        rows.append((run.step, values))
        if chance.random() < 0.2 and run.step > 0:
            run.log(values, step=run.step - 1)  # kept at the present step
        else:
            run.log(values, commit=chance.choice([None, False]))


@pytest.mark.filterwarnings("ignore:Step")
@pytest.mark.parametrize("seed", range(25))
def test_the_summary_equals_the_last_values_of_the_visible_rows(seed: int) -> None:
    chance = random.Random(seed)
    url = f"memory://test-{secrets.token_hex(6)}"
    rows: dict[str, Rows] = {"r": []}
    with init(dir=url, project="p", id="r") as run:
        log_at_random(chance, run, rows["r"])
        assert found(run.summary) == summary_of(rows["r"]), "not yet in the store"
    for turn in range(6):
        name = chance.choice(list(rows))
        last = open_store(url).run(f"p/{name}").last_step
        step = chance.randint(-1, -1 if last is None else last)
        if chance.random() < 0.5:
            run = init(dir=url, project="p", resume_from=f"{name}?_step={step}")
        elif step >= 0:
            child = f"fork{turn}"
            run = init(dir=url, project="p", id=child, fork_from=f"p/{name}?_step={step}")
            rows[child] = list(rows[name])
            name = child
        else:
            run = init(dir=url, project="p", id=name)
            step = run.step - 1
        with run:
            assert run.step == step + 1
            rows[name] = [row for row in rows[name] if row[0] <= step]
            assert found(run.summary) == summary_of(rows[name]), "as of the cut"
            log_at_random(chance, run, rows[name])
            assert found(run.summary) == summary_of(rows[name])
    for name, logged in rows.items():
        stored = open_store(url).run(f"p/{name}")
        assert found(stored.summary) == summary_of(logged)
        for step in range(stored.last_step or 0):
            assert found(open_store(url).run(f"p/{name}?_step={step}").summary) == summary_of(logged, step + 1)
