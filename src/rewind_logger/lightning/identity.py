"""The id of a run that was given none: the same for a job that is started again, where its scheduler tells."""

from __future__ import annotations

import os
import threading
from collections import Counter

from rewind_logger.sdk.target import new_id

ID = "REWIND_LOGGER_RUN_ID"
"""The environment variable that names the run."""

_taken: Counter[str] = Counter()
_lock = threading.Lock()


def default_id() -> tuple[str, bool]:
    """Return an id, and whether it comes again: of the environment, of the SLURM or torchelastic job, or a new one.

    A job that is requeued or restarted keeps its id, so its run goes on. The second logger of a process that asks gets
    the id with "-2", and so on: a script that makes its loggers in the same order finds the same runs again.
    """
    stable = os.environ.get(ID) or _slurm_id() or _torchelastic_id()
    if not stable:
        return new_id(), False
    with _lock:
        _taken[stable] += 1
        count = _taken[stable]
    return (stable if count == 1 else f"{stable}-{count}"), True


def _slurm_id() -> str | None:
    """Return the id of the batch job; an interactive one may start any number of trainings."""
    job = os.environ.get("SLURM_JOB_ID")
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive") or "SLURM_NTASKS" not in os.environ
    return f"slurm-{job}" if job and not interactive else None


def _torchelastic_id() -> str | None:
    """Return the id that `torchrun --rdzv-id` was given; it is "none" where none was."""
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"elastic-{run}" if run and run != "none" else None
