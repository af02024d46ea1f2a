"""What a logger is given while no trainer calls: before, between and after its calls, or without any."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rewind_logger.errors import StorageError
from rewind_logger.history.opening import OpenRequest
from rewind_logger.lightning import entry
from rewind_logger.lightning.evaluation import Evaluation
from rewind_logger.lightning.resume import decide
from rewind_logger.sdk import open_runs

if TYPE_CHECKING:
    from rewind_logger.lightning.logger import RewindLogger

LOG = logging.getLogger("rewind_logger")


_awaiting: set[Unattended] = set()
"""Those of whose rows it is not known yet whether a fit comes, which then brings them in; kept until it has."""


class Unattended:
    """Opens the run where no trainer does; but not in a process that only evaluates, which takes it from nobody."""

    def __init__(self, logger: RewindLogger) -> None:
        """Take the logger."""
        self.evaluation: Evaluation | None = None
        """The last one, as long as there was no fit: what comes by hand is part of it."""
        self._logger = logger
        self._away = False  # whether the store was when the run was to be opened
        self._watched = False

    def log(self, values: Mapping[str, Any], step: int | None) -> None:
        """Log a row that a logger was given."""
        run = self._logger._active_run()
        if run._opened is None and self.evaluation is not None:
            self.evaluation.log(values, step)
            return
        if run._opened is None and entry.is_alone(step) and not self._away:
            self._open()
        if run._opened is None:
            self.wait()
            run._record(values, None, step)
        elif run._driven:  # between two calls of a trainer
            run._record(values, run.step, step)
        else:
            run.log(values, step=step)

    def attend(self, evaluation: Evaluation | None) -> None:
        """Note that a trainer calls: to evaluate where there was no fit, or to fit, which is given None."""
        self._flush()
        self.evaluation = evaluation
        if evaluation is None:
            self._logger._active_run()._diverted = None
        else:
            self.wait()

    def wait(self) -> None:
        """See that rows that wait for a fit are not forgotten if the process ends well without one."""
        _awaiting.add(self)

    def arrive(self) -> None:
        """Note that the run is open, and nothing waits any more."""
        _awaiting.discard(self)

    def watch(self) -> None:
        """Have it said at the end of the process if something is left in the journal of a run that was not opened."""
        if not self._watched:
            self._watched = True
            known = weakref.ref(self)  # a process may have thousands of loggers
            open_runs.at_end(lambda died: None if (mine := known()) is None else mine._at_end(died))

    def bring_in(self) -> None:
        """Bring in what waits for a fit, as none comes: into the evaluation if there was one, else into the run."""
        run = self._logger._run
        if run is None or run._opened is not None or not run._writer.waiting:
            return
        if self.evaluation is not None:
            self.evaluation.take_over()
        else:
            self._open()

    def _at_end(self, died: bool) -> None:
        if not died and self in _awaiting and self._logger._fit is None:
            self.bring_in()
        self._flush()
        run = self._logger._run
        if run is not None and run._opened is None and run._writer.waiting:
            run.finish(1)  # which says where its rows are kept

    def _flush(self) -> None:
        if self.evaluation is not None:
            self.evaluation.flush()

    def _open(self) -> None:
        logger, run = self._logger, self._logger._active_run()
        try:
            decision = decide(logger._wanted(), None)
            logger._retarget(decision.run)
            run._drive(False)
            run._open(decision.request)
            self.arrive()
        except StorageError as error:
            if logger._resume_from is None and logger._fork_from is None:
                run._drive(False)
                run._open_later(OpenRequest(), error)  # which says so
            else:
                LOG.error("Run %s could not be opened: %s Its rows wait in the journal.", logger._ref, error)
        self._away = run._opened is None
