"""The system metrics of a run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rewind_logger.sdk.companion import Companion
from rewind_logger.sdk.system import sampler
from rewind_logger.sdk.system.sampler import Taker
from rewind_logger.types import Scalar

if TYPE_CHECKING:
    from rewind_logger.sdk.run import Run

LOG = logging.getLogger("rewind_logger")

LOCK_S = 0.1
"""How long a sample waits for a row that is being written, before it is left out."""


class System(Companion):
    """Adds samples to a run's stream `system`, at the step at which they are taken."""

    def __init__(self, run: Run) -> None:
        """Take a run; nothing is measured before `begin`."""
        self._run = run
        self._taker = Taker(self._take)
        self._failed = False

    def prepare(self) -> None:
        """Pause: while the run is opened anew, there is no step to stamp a sample with."""
        sampler.of_process().remove(self._taker)

    def begin(self) -> None:
        """Take samples."""
        sampler.of_process().add(self._taker)

    def rest(self, timeout: float) -> None:
        """Take a last one, and no more."""
        sampler.of_process().remove(self._taker, timeout)

    def _take(self, values: dict[str, Scalar]) -> None:
        run = self._run
        # A signal's handler that ends the run while this thread waits may have come into a row, whose lock it has.
        if not values or not run._lock.acquire(timeout=LOCK_S):
            return
        try:
            run._append("system", values, run._clock)
        except Exception:
            if not self._failed:
                self._failed = True
                LOG.exception("A sample of the machine could not be recorded in run %s.", run._ref)
        finally:
            run._lock.release()
