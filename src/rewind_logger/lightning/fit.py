"""A fit, as one logger sees it."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rewind_logger.errors import FencedError, RewindError, StorageError
from rewind_logger.history import reader
from rewind_logger.history.outage import duration
from rewind_logger.history.view import resolve
from rewind_logger.lightning.attachment import Attachment
from rewind_logger.lightning.checkpoint import Loaded
from rewind_logger.lightning.mark import Mark
from rewind_logger.lightning.models import Models
from rewind_logger.lightning.position import FitClock, checkpoint_info
from rewind_logger.lightning.resume import Decision, decide
from rewind_logger.lightning.saves import Saves
from rewind_logger.sdk import notice
from rewind_logger.types import RunRef

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from rewind_logger.lightning.logger import RewindLogger

LOG = logging.getLogger("rewind_logger")

CHECKPOINT_WAIT_S = 30.0
"""How long a checkpoint waits for the history before it; then it is saved with a warning."""

NEXT_CHECKPOINT_WAIT_S = 5.0
"""How long the next ones wait while the store stays away: it was said, and training is not to wait for it each time."""


class Fit(Attachment):
    """Opens the run where the fit begins, stamps its rows and marks its checkpoints."""

    def __init__(self, logger: RewindLogger, trainer: Trainer, index: int) -> None:
        """As `Attachment`."""
        super().__init__(logger, trainer, index)
        self._decision: Decision | None = None
        self._clock: FitClock | None = None  # from the start on
        self._open_since_start = False  # not while the store is away
        self._away_since: float | None = None  # when the run was to be opened
        self._still_away: tuple[object, ...] = ()  # what was said of it last
        self._waited_for: float | None = None  # since when the store was away for which a checkpoint has waited
        self._saves = Saves()
        self._models = Models(logger._log_model)
        # What an open run is given before it is known where the fit begins: a rewind would cut it.
        self._held_rows: list[tuple[Mapping[str, Any], int | None]] = []
        self._held_config: dict[str, Any] = {}
        self._run._companions.prepare()

    def is_of(self, trainer: Trainer) -> bool:
        """Say whether it is, or was, a fit of this trainer."""
        return self._trainer() is trainer

    @property
    def started(self) -> bool:
        """Whether training has begun."""
        return self._clock is not None

    # The beginning

    def load(self, loaded: Loaded) -> RunRef:
        """Note the checkpoint that is loaded, and return the run that the fit will go on with.

        Raises:
            RewindError: As `decide` does; but where the store is away, that is decided at the start.
        """
        self.loaded, self._decision = loaded, None
        if not self._goes_on():
            with contextlib.suppress(StorageError):
                self._decision = decide(self._logger._wanted(self._index), loaded)
        return self._logger._ref if self._decision is None else self._decision.run

    def start(self) -> None:
        """Open the run: only now is everything restored that a resume restores, and training certain to begin."""
        trainer = self._trainer()
        if trainer is None:
            return
        try:
            self._open()
        except StorageError as error:
            self._away_since = time.monotonic()
            LOG.error(
                "Run %s could not be opened: %s Training goes on, and its rows wait in the journal.",
                self._logger._ref,
                error,
            )
        self._run._companions.begin()
        self._clock = FitClock(self._position())
        self._release(self._clock.now(trainer))

    def start_batch(self) -> None:
        """Note that a batch begins; the rows of the step before are all logged."""
        trainer = self._trainer()
        self._saves.settle(self._run)
        if self._clock is not None and trainer is not None:
            self._clock.start_batch(trainer)
            self._run._advance(self._clock.now(trainer))

    # Rows

    def log(self, values: Mapping[str, Any], step: int | None) -> None:
        """Log a row at the step of the fit; before the start, keep it until that is known."""
        trainer = self._trainer()
        if self._clock is not None and trainer is not None:
            self._run._record(values, self._clock.now(trainer), step)
        elif self._run._opened is not None:
            self._held_rows.append((dict(values), step))
        else:
            self._run._record(values, None, step)

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Keep hyperparameters: Lightning gives them before the start, and they belong to what the start opens."""
        if self._clock is None and self._run._opened is not None:
            self._held_config.update(config)
        else:
            self._run.config.update(config)

    # Checkpoints

    def mark(self) -> Mark | None:
        """Bring the history before a checkpoint into the store, and say where it stands; None if no run is open."""
        trainer = self._trainer()
        if self._clock is None or trainer is None or not self._retry():
            return None
        mark = self._saves.mark(self._run, trainer, self._clock.next_step(trainer))
        self.flush("A checkpoint is saved before its history is in the store")
        return mark

    def saved(self, saver: Any) -> None:
        """Add the path of a checkpoint that a `ModelCheckpoint` has just written."""
        trainer = self._trainer()
        if self._clock is not None and trainer is not None and self._open_since_start:
            next_step = self._clock.next_step(trainer)
            self._saves.saved(self._run, trainer, next_step, saver)
            self._models.saved(self._run, next_step, checkpoint_info(trainer, saver), saver)

    def save(self) -> None:
        """Bring rows of a checkpoint's own step, which come after the save, into the store at once."""
        if self._saves.row_pending:
            self.flush("The row of a checkpoint's own step is not in the store yet")

    # The end

    def end(self) -> None:
        """Keep where the fit ended: the next one goes on there."""
        trainer = self._trainer()
        if self._clock is not None and trainer is not None:
            self._retry()
            self._saves.settle(self._run)
            self._logger._next_step = self._clock.next_step(trainer)
        elif self._run._opened is not None:
            self._release(self._run.step)

    def log_models(self) -> None:
        """Log the checkpoints that are kept, after a fit that went well."""
        trainer = self._trainer()
        if self._open_since_start and trainer is not None:
            self._models.finish(self._run, trainer.checkpoint_callbacks)

    # Within

    def _goes_on(self) -> bool:
        """Say whether the run, which this process has open, just goes on."""
        run, loaded = self._run, self.loaded
        if run._opened is None:
            return False
        if loaded is None:
            return True
        # A checkpoint of this process, at the position where the run still is: that is no resume.
        return any(
            mark.run == run._ref and mark.revision == run.revision and mark.next_step == self._logger._next_step
            for mark in loaded.marks
        )

    def _open(self) -> None:
        """Open the run as was decided, or is decided now.

        Raises:
            RewindError: As `decide` and `open_run` do; this may be called again.
        """
        logger = self._logger
        if not self._goes_on():
            decision = self._decision = self._decision or decide(logger._wanted(self._index), self.loaded)
            logger._retarget(decision.run)
            self._run._metadata.give(self._held_config)
            opened = self._run._open(decision.request)
            self._held_config = {}
            start = opened.start
            if decision.request.at is None and self.loaded is not None:  # the run is without the checkpoint's history
                start = max(start, self.loaded.position)
            elif decision.request.at is None and logger._next_step is not None:  # an earlier fit had no store
                start = max(start, logger._next_step)
            logger._next_step = start
            for note in decision.notes:
                notice.say(note)
            if opened.kind == "resumed" and opened.start and self.loaded is None:
                # Lightning 2.6 looks for "last" with the file system of the current folder.
                path = '"last"' if self._run._storage.local_path else "logger.last_checkpoint"
                notice.say(
                    f"training begins anew in run {logger._ref}, which has {opened.start} steps: its rows go on from "
                    f"there. To resume, call fit with ckpt_path={path}; to keep them apart, give the logger another "
                    "version."
                )
            if self.loaded is not None:
                self._look_at(self.loaded, opened.start)
        else:
            self._run._writer.go_on()
        self._open_since_start = True

    def _retry(self) -> bool:
        """Open the run if the store was away at the start; return whether it is open."""
        if not self._open_since_start:
            try:
                self._open()
            except RewindError as error:
                if error.args != self._still_away:
                    self._still_away = error.args
                    LOG.error(
                        "Run %s could still not be opened: %s Its rows wait in the journal.", self._run._ref, error
                    )
            else:
                away = duration(time.monotonic() - (self._away_since or time.monotonic()))
                LOG.warning("Run %s was opened after %s: what waited comes into its store.", self._run._ref, away)
        return self._open_since_start

    def _position(self) -> int:
        """Return the clock at which the fit begins."""
        if not self._open_since_start and self.loaded is not None:
            return self.loaded.position
        known = self._logger._next_step
        if known is None and self._open_since_start:
            return self._run.step
        return known or 0

    def _release(self, clock: int) -> None:
        """Log what was held."""
        for values, step in self._held_rows:
            self._run._record(values, clock, step)
        self._run.config.update(self._held_config)
        self._held_rows, self._held_config = [], {}

    def _look_at(self, loaded: Loaded, start: int) -> None:
        """Note where the checkpoint lies with which the run goes on, and what is missing before it."""
        mark = next((mark for mark in loaded.marks if mark.next_step == start), None)
        if mark is None:
            return
        if loaded.path is not None:
            self._saves.loaded(self._run, mark, loaded.path)
        if mark.row_pending:
            self._find_gap(mark)

    def _find_gap(self, mark: Mark) -> None:
        """Record rows that were lost with their machine: logged after the checkpoint, and not in the store yet."""
        run, start, step = self._run, mark.next_step, mark.next_step - 1
        try:
            rows = reader.count(run._storage, resolve(run._storage, run._ref), "metrics", start=step)
            lost = rows == 0 and not self._saves.is_settled(run, mark)
        except StorageError as error:
            LOG.warning("Whether step %d of run %s is whole could not be found out: %s", step, run._ref, error)
            return
        if lost:
            run._note({"gap": json.dumps([step, start])}, step)
            notice.warn(f"rows of step {step}, logged after its checkpoint was saved, were lost with their machine.")

    def flush(self, otherwise: str) -> None:
        """Flush, waiting a bounded time; say what it means if that was not enough, once while the store is away."""
        writer = self._run._writer
        known = writer.away_since is not None and writer.away_since == self._waited_for
        try:
            if self._run._flush_rows(min(CHECKPOINT_WAIT_S, NEXT_CHECKPOINT_WAIT_S) if known else CHECKPOINT_WAIT_S):
                return
            why = f"{self._run._storage.url} does not answer."
        except FencedError:
            return  # said when it happened
        except (RewindError, OSError) as error:  # whatever it is, it ends no training
            why = str(error)
        self._waited_for = writer.away_since
        if not known:
            LOG.warning("%s: %s", otherwise, why)
