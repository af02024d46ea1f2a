"""A call of `validate`, `test` or `predict`, as one logger sees it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rewind_logger.errors import ConfigError, RewindError, RunNotFoundError, StorageError
from rewind_logger.history.evaluation import EvaluationWriter, move
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.view import resolve
from rewind_logger.lightning.attachment import Attachment
from rewind_logger.lightning.checkpoint import Loaded, read_checkpoint
from rewind_logger.lightning.marked import in_term
from rewind_logger.lightning.resume import choose, settle
from rewind_logger.sdk import notice
from rewind_logger.sdk.media.logged import encode, sort
from rewind_logger.types import Scalar, Stream

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from rewind_logger.lightning.logger import RewindLogger

LOG = logging.getLogger("rewind_logger")

EVALUATED = "evaluated_step"
"""The column that says of which checkpoint a row is, by its last step, where the run is logged to at another step."""


MOST_WAITING = 1 << 16
"""Rows that wait in memory for a store that is away, until it is known where they belong; then those that come are
dropped."""


class Evaluation(Attachment):
    """Logs what a model is measured at.

    In the process that trained, rows go to the run at its present step, and say what was evaluated. Elsewhere they
    become an evaluation of the run, which claims nothing: another process may be training it.
    """

    def __init__(
        self, logger: RewindLogger, trainer: Trainer, index: int, kind: str, outer: Attachment | None = None
    ) -> None:
        """As `Attachment`.

        Args:
            logger: The logger.
            trainer: Whose loggers it is among.
            index: Its place among the trainer's loggers of ours.
            kind: "validate", "test" or "predict".
            outer: As `Attachment`.
        """
        super().__init__(logger, trainer, index, outer)
        self._kind = kind
        self._writer: EvaluationWriter | None = None
        self._waiting: list[tuple[Mapping[str, Any], int | None]] = []  # for a store that is away
        self._dropped = 0
        self._read = False
        self._run._diverted = self.log  # what `experiment.log` is given

    def log(self, values: Mapping[str, Any], step: int | None) -> None:
        """Log a row."""
        if self._run._opened is not None:
            evaluated = self._evaluated_step()
            values = values if evaluated is None else {**values, EVALUATED: evaluated}
            with self._run._lock:  # a run whose store was away may be opened at any moment, and its steps move
                self._run._record(values, self._run.step, step)
            return
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append((dict(values), step))
        else:
            self._dropped += 1
        if len(self._waiting) == 1 or self._writer is not None:
            self._pass_on()

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Keep hyperparameters for a fit that may follow. They are not the run's: they may differ."""
        if self._run._opened is None:
            self._run._metadata.give(config)

    def end(self) -> None:
        """Bring every row into the store. One that comes later is part of the evaluation too, until there is a fit."""
        if self.outer is not None or self._run._opened is not None:
            self._run._diverted = None
        self.flush()

    def take_over(self) -> None:
        """Take what was logged before, for a fit that has not come: the run may be another process's."""
        run = self._run
        try:
            self._writer = self._writer or self._begin()
            if self._writer is None:  # there is no such run, so nobody is disturbed
                run._open(OpenRequest(reason=self._kind))
                return
            with run._lock:
                move(run._writer._begin_outbox(), self._writer)
        except (RewindError, OSError) as error:
            LOG.error(
                "Rows that were logged before %s of run %s wait in the journal %s: %s",
                self._kind,
                run._ref,
                run._writer.journal or "",
                error,
            )

    def flush(self) -> None:
        """Bring every row into the store, or say that this failed."""
        self._pass_on()
        if self._writer is not None:
            try:
                self._writer.flush()
            except StorageError as error:
                LOG.error("Rows of an evaluation are not in the store: %s", error)
        lost = self._dropped + len(self._waiting)
        if lost:
            LOG.error("%d rows of %s were not kept, since the store was away.", lost, self._kind)
            self._dropped, self._waiting = 0, []

    def _pass_on(self) -> None:
        """Log the rows that wait."""
        if not self._waiting:
            return
        try:
            if self._writer is None:
                self._writer = self._begin()
            if self._writer is None:  # there is no such run, so nobody is disturbed
                self._run._open(OpenRequest(reason=self._kind))
        except StorageError as error:
            LOG.error("Where to log %s of run %s could not be found out: %s", self._kind, self._logger._ref, error)
            return
        waiting, self._waiting = self._waiting, []
        for values, step in waiting:
            if self._writer is None:
                self._run._record(values, self._run.step, step)
            else:
                self._append(self._writer, values, step)

    def _append(self, writer: EvaluationWriter, values: Mapping[str, Any], step: int | None) -> None:
        good, media, bad = sort(values)
        texts, unfit = encode(media, writer.attach)
        for sentence in (*bad.values(), *unfit.values()):
            LOG.error("A value was not logged: %s", sentence)
        rows: tuple[tuple[Mapping[str, Scalar], Stream], ...] = ((good, "metrics"), (texts, "media"))
        for row, stream in rows:
            try:
                writer.append(row, step, stream)
            except StorageError as error:
                LOG.warning("Rows of an evaluation wait: %s", error)

    def _begin(self) -> EvaluationWriter | None:
        """Find the run and the position that are evaluated; None if the run does not exist.

        Raises:
            StorageError: If the store is away.
        """
        wanted, loaded = self._logger._wanted(self._index), self._checkpoint()
        mark = None
        try:
            loaded = None if loaded is None else settle(wanted, loaded, going_on=False)
        except ConfigError as error:  # it is one of the run as it is now: better than of a step that it may not be of
            LOG.warning("Where the evaluated checkpoint stands is not known: %s", error)
            loaded = None if loaded is None else Loaded(loaded.path, (), None)
        if loaded is not None:
            mark, here = choose(wanted, loaded)
            mark = mark if here else None
        run = wanted.run if mark is None else mark.run
        try:
            view = resolve(wanted.storage, run)
        except RunNotFoundError:
            return None
        revision, next_step = view.revision, view.next_step
        if mark is not None:
            revision, next_step = mark.revision, mark.next_step
        elif loaded is not None and loaded.next_step is not None:
            next_step = loaded.next_step
        notice.say(f"{self._kind} is logged as an evaluation of run {run}@{revision} at step {next_step - 1}.")
        return EvaluationWriter(
            wanted.storage,
            run,
            kind=self._kind,
            revision=revision,
            next_step=next_step,
            checkpoint=None if loaded is None else loaded.path,
        )

    def _evaluated_step(self) -> int | None:
        """Return the last step of the checkpoint that is evaluated, None if none of the run was loaded."""
        loaded, ref = self._checkpoint(), self._run._ref
        if loaded is None or self._run._counting:
            return None
        found = (mark if mark.opened else in_term(mark, self._run._is_open().base) for mark in loaded.marks)
        return next((mark.next_step - 1 for mark in found if mark is not None and mark.run == ref), None)

    def _checkpoint(self) -> Loaded | None:
        """Return what was loaded; of a checkpoint with weights only, which callbacks do not see, by its path."""
        path = getattr(self._trainer(), "ckpt_path", None)
        if self.loaded is None and path and not self._read:
            self._read = True
            try:
                self.loaded = read_checkpoint(path, self._logger._storage_options)
            except RewindError as error:
                LOG.warning("Where the evaluated checkpoint stands is not known: %s", error)
        return self.loaded
