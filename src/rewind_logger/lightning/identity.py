"""The id of a run that was given none: the same for a job that is started again, where its scheduler tells."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter

from rewind_logger.errors import ConfigError
from rewind_logger.format.run_names import FORBIDDEN, UNPRINTABLE, check_name, is_name
from rewind_logger.sdk.target import new_id

ID = "REWIND_LOGGER_RUN_ID"
"""The environment variable that names the run."""

_taken: Counter[str] = Counter()
_lock = threading.Lock()


def default_id() -> tuple[str, bool]:
    """Return an id, and whether it comes again: of the environment, of the SLURM or torchelastic job, or a new one.

    A job that is requeued or restarted keeps its id, so its run goes on. The second logger of a process that asks gets
    the id with "-2", and so on: a script that makes its loggers in the same order finds the same runs again.

    Raises:
        ConfigError: If no run can be called as our own variable says.
    """
    stable = _own_id() or _as_name(_slurm_id() or _torchelastic_id())
    if not stable:
        return new_id(), False
    with _lock:
        _taken[stable] += 1
        count = _taken[stable]
    return (stable if count == 1 else f"{stable}-{count}"), True


def _own_id() -> str | None:
    """Return the id that a person gave."""
    given = os.environ.get(ID)
    if not given:
        return None
    try:
        return check_name("run id", given)
    except ConfigError as error:
        raise ConfigError(f"The environment variable {ID} is no run id. {error}") from None


def _as_name(id: str | None) -> str | None:
    """Return a scheduler's id as one of a run, which may not hold all of its characters: always the same for the same.

    Where it has to be another, some digits of its digest keep it apart from those that would become the same.
    """
    if id is None or is_name(id):
        return id
    plain = UNPRINTABLE.sub("-", FORBIDDEN.sub("-", id)).encode()[:_MOST_BYTES].decode(errors="ignore")
    return f"{plain}-{hashlib.sha256(id.encode(errors='surrogatepass')).hexdigest()[:8]}"


_MOST_BYTES = 100


def _slurm_id() -> str | None:
    """Return the id of the batch job; an interactive one may start any number of trainings."""
    job = os.environ.get("SLURM_JOB_ID")
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive") or "SLURM_NTASKS" not in os.environ
    return f"slurm-{job}" if job and not interactive else None


def _torchelastic_id() -> str | None:
    """Return the id that `torchrun --rdzv-id` was given; it is "none" where none was."""
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"elastic-{run}" if run and run != "none" else None
