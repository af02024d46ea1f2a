"""Steps that are given to `log`: what is one, and what is said of one before the present one."""

from __future__ import annotations

import operator
from typing import Any

from rewind_logger.errors import PositionError
from rewind_logger.format.wording import kind_of
from rewind_logger.sdk.moment import MAX_STEP
from rewind_logger.types import RunRef


def check_logged_step(step: Any) -> int:
    """Return a step that was given.

    Raises:
        PositionError: If it is none.
    """
    if type(step) is not int:
        try:
            if isinstance(step, bool):
                raise TypeError
            step = operator.index(step)
        except TypeError:  # a tensor of floats has what an index has, and refuses
            raise PositionError(f"step={step!r} is {kind_of(step)}, not a whole number: use int(step).") from None
    if not 0 <= step <= MAX_STEP:
        raise PositionError(f"step={step} is no step: steps are counted from 0, up to 2**62.")
    return int(step)


def backward(run: RunRef, step: int, clock: int, *, refused: bool) -> str:
    """Return the warning about a step that lies before the present one.

    Raises:
        PositionError: If such steps are refused.
    """
    what = f"Step {step} was logged to run {run}, which is at step {clock}, and a run never goes back by itself"
    how = f"To go back, open it with resume_from='{run.id}?_step=N', which keeps step N."
    if refused:
        raise PositionError(f"{what}: the row was refused. {how}")
    return f"{what}: the row is kept at step {clock}, with {step} in the column `step`. {how} This is said once."
