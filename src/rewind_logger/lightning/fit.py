"""A fit, as one logger sees it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rewind_logger.errors import ConfigError, FencedError, RewindError, StorageError, TransientStorageError
from rewind_logger.history import claims
from rewind_logger.history.opening import Opened, OpenRequest
from rewind_logger.history.outage import duration
from rewind_logger.lightning import gap
from rewind_logger.lightning.attachment import Attachment
from rewind_logger.lightning.checkpoint import Loaded
from rewind_logger.lightning.mark import Mark
from rewind_logger.lightning.models import Models
from rewind_logger.lightning.position import FitClock, checkpoint_info
from rewind_logger.lightning.resume import Decision, decide, settle
from rewind_logger.lightning.saves import Saves
from rewind_logger.sdk import notice
from rewind_logger.sdk.run import Run
from rewind_logger.types import RunRef

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from rewind_logger.lightning.logger import RewindLogger

LOG = logging.getLogger("rewind_logger")

CHECKPOINT_WAIT_S = 30.0
"""How long a checkpoint waits for the history before it; then it is saved with a warning."""

NEXT_CHECKPOINT_WAIT_S = 5.0
"""How long the next ones wait while the store stays away: it was said, and training is not to wait for it each time."""


LAST = '"last"'
"""What Lightning takes for the newest checkpoint that it finds in the run's folder."""


class Fit(Attachment):
    """Opens the run where the fit begins, stamps its rows and marks its checkpoints."""

    def __init__(self, logger: RewindLogger, trainer: Trainer, index: int) -> None:
        """As `Attachment`."""
        super().__init__(logger, trainer, index)
        self._decision: Decision | None = None
        self._clock: FitClock | None = None  # from the start on
        self._late = False  # whether that counts from where the run is opened once its store is back
        self._arrived = False  # whether it was, and that was said
        self._open_since_start = False  # not while the store is away
        self._away_since: float | None = None  # when the run was to be opened
        self._still_away: tuple[object, ...] = ()  # what was said of it last
        self._known: Run | None = None  # that is logged to, from the start on
        self._journal = ""  # the nonce of its journal
        self._over = False  # whether the fit has ended
        self._listed: set[str] = set()  # the marks that were added to their runs' lists
        self._waited_for: float | None = None  # since when the store was away for which a checkpoint has waited
        self._saves = Saves()
        self._models = Models(logger._log_model)
        # What an open run is given before it is known where the fit begins: a rewind would cut it.
        self._held_rows: list[tuple[Mapping[str, Any], int | None]] = []
        self._held_config: dict[str, Any] = {}
        self._run._companions.prepare()
        # What an earlier fit has loaded, and could not open its run for: this one goes on with it.
        self.loaded = logger._unopened
        self._carried = self.loaded is not None

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
            RewindError: As `decide` does; but where the store is away, that is decided at the start, unless rows that
                were logged before or the checkpoint itself wait for the store: then nobody knows what follows what.
        """
        try:
            self._bring_in()
            self.loaded, self._decision, self._carried = loaded, None, False
            if not self._goes_on():
                self._decision = self._decide()
        except StorageError as error:
            if self._run._opened is not None or self._carried or not all(mark.opened for mark in loaded.marks):
                raise _needed(error) from error
        return self._logger._ref if self._decision is None else self._decision.run

    def start(self) -> None:
        """Open the run: only now is everything restored that a resume restores, and training certain to begin."""
        trainer = self._trainer()
        if trainer is None or self.started:
            return
        try:
            self._open()
        except StorageError as error:
            self._do_without(error)
        self._run._companions.begin()
        with self._run._lock:  # the run may be opened at any moment, by another thread
            self._late = self._run._counting
            self._clock = FitClock(self._position())
            self._know(self._run)
            self._release(self._now(self._clock, trainer))

    def start_batch(self) -> None:
        """Note that a batch begins; the rows of the step before are all logged."""
        trainer = self._trainer()
        self._saves.settle(self._run)
        if self._clock is not None and trainer is not None:
            self._clock.start_batch(trainer)
            with self._run._lock:
                self._run._advance(self._now(self._clock, trainer))

    # Rows

    def log(self, values: Mapping[str, Any], step: int | None) -> None:
        """Log a row at the step of the fit; before the start, keep it until that is known."""
        trainer = self._trainer()
        if self._clock is not None and trainer is not None:
            self._follow()
            with self._run._lock:
                self._run._record(values, self._now(self._clock, trainer), step)
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
        """Bring the history before a checkpoint into the store, and say where it stands; None before the start."""
        trainer = self._trainer()
        if self._clock is None or trainer is None:
            return None
        if self._was_finished:
            assert self._known is not None
            return self._saves.mark_unopened(self._known, self._journal, self._placed(self._clock.next_step(trainer)))
        otherwise = "A checkpoint is saved before its history is in the store"
        if self._run._counting:
            self.flush(otherwise)  # which opens the run
        self._retry()
        self._follow(again=True)
        with self._run._lock:
            next_step = self._placed(self._clock.next_step(trainer))
            if not self._is_open:
                return self._saves.mark_unopened(self._run, self._run._writer._begin_outbox().nonce, next_step)
            mark = self._saves.mark(self._run, trainer, next_step)
        self.flush(otherwise)
        return mark

    def saved(self, saver: Any) -> None:
        """Add the path of a checkpoint that a `ModelCheckpoint` has just written."""
        trainer = self._trainer()
        if self._clock is not None and trainer is not None and self._is_open:
            next_step = self._placed(self._clock.next_step(trainer))
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
            if self._run._writer.waiting:
                self._follow(again=True)
            with self._run._lock:
                self._logger._next_step = self._placed(self._clock.next_step(trainer))
                self._logger._counted = self._run._counting
            self._logger._unopened = None if self._open_since_start else self.loaded
            self._over = True
        elif self._run._opened is not None:
            self._release(self._run.step)

    def log_models(self) -> None:
        """Log the checkpoints that are kept, after a fit that went well."""
        trainer = self._trainer()
        if self._is_open and trainer is not None:
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
            mark.run == run._ref and mark.revision == run.revision and mark.next_step == self._logger._reached
            for mark in loaded.marks
        )

    @property
    def _is_open(self) -> bool:
        """Whether the run is open for this fit, and its store not away since the start."""
        return self._open_since_start and self._run._opened is not None and not self._run._counting

    @property
    def _was_finished(self) -> bool:
        """Whether the fit is over and its run was finished, which may be another process's by now."""
        return self._over and self._run is not self._known and self._run._opened is None

    def _decide(self) -> Decision:
        """Decide how the run is to be opened; the errors are those of `settle` and `decide`."""
        wanted = self._logger._wanted(self._index)
        if self.loaded is not None:
            self._listed = {mark.nonce for mark in self.loaded.marks if mark.opened}
            self.loaded = settle(wanted, self.loaded, going_on=True)
        return decide(wanted, self.loaded)

    def _open(self) -> None:
        """Open the run as was decided, or is decided now.

        Raises:
            RewindError: As `decide` and `open_run` do; this may be called again.
        """
        logger = self._logger
        if not self._goes_on():
            decision = self._decision = self._decision or self._decide()
            if decision.request.at is None and (self.started or self._carried):
                self._check_is_new(decision.run)
            logger._retarget(decision.run)
            self._run._metadata.give(self._held_config)
            opened = self._run._open(decision.request)
            self._held_config = {}
            start = opened.start
            if decision.request.at is None and self.loaded is not None:  # the run is without the checkpoint's history
                start = max(start, self.loaded.position(logger._ref, self._index))
            reached = logger._reached
            if reached is not None and (self._carried or (decision.request.at is None and self.loaded is None)):
                start = max(start, reached)  # which an earlier fit came to
            logger._next_step, logger._counted, logger._unopened = start, False, None
            for note in decision.notes:
                notice.say(note)
            if self.loaded is None:
                self._say_begins_anew(opened)
            else:
                self._look_at(self.loaded, decision.mark, opened.start)
        else:
            self._run._writer.go_on()
        self._open_since_start = True
        logger._unattended.arrive()

    def _bring_in(self) -> None:
        """Bring in what earlier fits logged while the store was away: it comes before what is loaded now.

        Raises:
            StorageError: If the store is still away.
        """
        if self._run._counting:
            self._run._flush_rows(None)
            if self._run._counting:
                raise TransientStorageError(f"{self._run._storage.url} does not answer.")
        elif self._carried:
            self._open()
            self._open_since_start = False

    def _do_without(self, error: StorageError) -> None:
        """Train without the store, which is away.

        Raises:
            StorageError: If only the store can tell where the fit begins, or the rows before it wait for the store.
        """
        logger, loaded = self._logger, self.loaded
        asked = logger._resume_from is not None or logger._fork_from is not None
        if self._run._opened is not None or (asked and (loaded is None or not loaded.marks)):
            raise _needed(error) from error
        if loaded is None or (not loaded.marks and loaded.next_step is None):
            self._run._open_later(OpenRequest(), error)  # which says so
            self._open_since_start = True
            return
        self._away_since = time.monotonic()
        LOG.error(
            "Run %s could not be opened: %s Training goes on, and its rows wait in the journal.", logger._ref, error
        )

    def _retry(self) -> None:
        """Open the run if the store was away at the start."""
        if self._late and not self._arrived and self._is_open:
            self._arrived = True
            self._say_begins_anew(self._run._is_open())
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

    def _follow(self, *, again: bool = False) -> None:
        """Open the run anew, to go on at its end, if somebody has finished it within the fit.

        Args:
            again: Whether to try it once more if the store was away then.
        """
        run, known, trainer, clock = self._run, self._known, self._trainer(), self._clock
        if known is None or clock is None or trainer is None or not self._open_since_start or self._over:
            return
        if run is known and (run._opened is not None or not again):
            return
        step = clock.next_step(trainer)
        if run is not known:
            placed = self._placed(step)
            clock.lift(0, placed - step)
            self._know(run)
            self._late, step = False, placed
            notice.say(f"run {run._ref} was finished within the fit, which goes on with it.")
        try:
            opened = run._open(OpenRequest(reason="finished within a fit"))
        except RewindError as error:
            LOG.error("Run %s could not be opened anew: %s Its rows wait in the journal.", run._ref, error)
        else:
            # Somebody else may have logged steps meanwhile; rows of the present one then come behind these too.
            clock.lift(opened.start, opened.start - clock.now(trainer) if opened.start > step else 0)

    def _know(self, run: Run) -> None:
        """Note which run is logged to, and in which journal, which is not known any more when the run is finished."""
        self._known, self._journal = run, run._writer._begin_outbox().nonce

    def _check_is_new(self, run: RunRef) -> None:
        """Refuse a run that has rows, but not those before what was loaded: what was logged meanwhile fits nowhere."""
        storage = self._logger._open_storage()
        head = claims.now(storage, run).head
        if head is not None and head.nonce != self._run._writer._begin_outbox().nonce:
            raise ConfigError(
                f"Run {run} exists without the history of {self.loaded}: what was logged while the store was away has"
                " no place in it."
            )

    def _say_begins_anew(self, opened: Opened) -> None:
        """Say that rows go on in a run that has some, though the model does not."""
        if opened.kind != "resumed" or not opened.start:
            return
        local = self._run._storage.local_path is not None
        if self._logger._sought:
            to_resume = self._instead_of_last(local)
        else:
            to_resume = f"call fit with ckpt_path={LAST if local else 'logger.last_checkpoint'}"
        notice.say(
            f"training begins anew in run {opened.run}, which has {opened.start} steps: its rows go on from there. To "
            f"resume, {to_resume}; to keep them apart, give the logger another version."
        )

    def _instead_of_last(self, local: bool) -> str:
        """Say how to resume to somebody who may have called fit with ckpt_path="last", which found nothing."""
        # Lightning 2.6 looks for "last" with the file system of the current folder.
        why = "only ModelCheckpoint(save_last=True) writes it" if local else "it is looked for on local disks only"
        try:
            path = self._logger.last_checkpoint
        except RewindError:
            path = None
        found = "save checkpoints" if path is None else f"call fit with ckpt_path=logger.last_checkpoint, {path}"
        return f'{found} (ckpt_path="last" finds nothing here: {why})'

    def _now(self, clock: FitClock, trainer: Trainer) -> int:
        """Return the clock of a row that is logged now; hold the run's lock until it is."""
        return self._placed(clock.now(trainer))

    def _placed(self, clock: int) -> int:
        """Return a step of the fit as one of the run, as far as it is known where that goes on."""
        known = self._known
        placed = known._place(clock) if known is not None and self._late and not known._counting else clock
        assert placed is not None
        return placed

    def _position(self) -> int:
        """Return the clock at which the fit begins."""
        if not self._open_since_start and self.loaded is not None and not self._carried:
            return self.loaded.position(self._logger._ref, self._index)
        known = self._logger._reached
        return self._run.step if known is None else known

    def _release(self, clock: int) -> None:
        """Log what was held."""
        for values, step in self._held_rows:
            self._run._record(values, clock, step)
        self._run.config.update(self._held_config)
        self._held_rows, self._held_config = [], {}

    def _look_at(self, loaded: Loaded, mark: Mark | None, start: int) -> None:
        """Note where the checkpoint lies with which the run goes on, and what is missing before it."""
        if mark is None or mark.next_step != start:
            return
        if loaded.path is not None:
            self._saves.loaded(self._run, mark, loaded.path)
        gap.find(self._run, mark, listed=mark.nonce in self._listed)

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


def _needed(error: StorageError) -> StorageError:
    return type(error)(
        f"{error} A fit can begin without its store; to go back in a run, to fork one, or to resume after rows, or from"
        " a checkpoint, that wait for the store, it has to answer: try again then."
    )
