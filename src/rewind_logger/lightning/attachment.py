"""An attachment: one logger at one call of a trainer's `fit`, `validate`, `test` or `predict`."""

from __future__ import annotations

import json
import logging
import os
import secrets
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rewind_logger.errors import FencedError, RewindError, RunNotFoundError, StorageError
from rewind_logger.format.values import flatten
from rewind_logger.history import reader
from rewind_logger.history.evaluation import EvaluationWriter
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.view import resolve
from rewind_logger.lightning.checkpoint import Loaded, read_checkpoint
from rewind_logger.lightning.mark import Mark
from rewind_logger.lightning.position import FitClock, checkpoint_info, row_pending
from rewind_logger.lightning.resume import choose, decide
from rewind_logger.sdk import notice
from rewind_logger.types import RunRef

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from rewind_logger.lightning.logger import RewindLogger

LOG = logging.getLogger("rewind_logger")

CHECKPOINT_WAIT_S = 30.0
"""How long a checkpoint waits for the history before it; then it is saved with a warning."""


class Attachment:
    """What a logger knows of the call that it logs. Lives on rank 0 only, from `setup` to `finalize`."""

    def __init__(self, logger: RewindLogger, trainer: Trainer, stage: str, index: int) -> None:
        """Attach a logger.

        Args:
            logger: The logger.
            trainer: Whose loggers it is among.
            stage: "fit", "validate", "test" or "predict".
            index: Its place among the trainer's loggers of ours.
        """
        self._logger = logger
        self._trainer = weakref.ref(trainer)
        self.stage = stage
        self.index = index
        self.loaded: Loaded | None = None
        self._clock: FitClock | None = None
        self._evaluation: EvaluationWriter | None = None
        self._evaluated: tuple[int | None] | None = None
        self._unsaved_row = False
        self._last_mark: str | None = None

    # The fit

    def start(self) -> None:
        """Open the run where the fit begins: decided now, when everything that a resume restores is restored."""
        self._try_open()
        self._clock = FitClock(self._start())

    def start_batch(self) -> None:
        """Note that a batch begins; the rows of the step before are all logged."""
        self._unsaved_row = False
        if self._clock is not None and (trainer := self._trainer()) is not None:
            self._clock.start_batch(trainer)
            self._logger._active_run()._advance(self._clock.now(trainer))

    def now(self) -> int | None:
        """Return the clock of a row that is logged now; None if only an opening to come can tell."""
        trainer = self._trainer()
        if self._clock is not None and trainer is not None:
            return self._clock.now(trainer)
        return None

    def save(self) -> None:
        """Bring rows of a checkpoint's own step, which come after the save, into the store at once."""
        if self._unsaved_row:
            self._flush("The row of a checkpoint's own step is not in the store yet")

    def end(self) -> None:
        """Keep where the fit ended: the next one goes on there."""
        trainer = self._trainer()
        if self._clock is not None and trainer is not None:
            self._logger._next_step = self._clock.next_step(trainer)
        if self._evaluation is not None:
            self._guard(self._evaluation.flush)

    def _start(self) -> int:
        """Return the clock at which the fit begins."""
        if self._logger._next_step is not None:
            return self._logger._next_step
        return self.loaded.next_step or 0 if self.loaded is not None else 0

    def _try_open(self) -> None:
        """Open the run; a store that is away does not end training."""
        logger = self._logger
        run = logger._active_run()
        try:
            if run._opened is not None and (self.loaded is None or self._stands_still(self.loaded)):
                return
            decision = decide(logger._wanted(self.index), self.loaded)
            logger._retarget(decision.run)
            run = logger._active_run()
            opened = run._open(decision.request)
        except StorageError as error:
            LOG.error(
                "Run %s could not be opened: %s Training goes on, and its rows wait in the journal.",
                logger._ref,
                error,
            )
            logger._next_step = None
            return
        logger._next_step = opened.start
        for note in decision.notes:
            notice.say(note)
        trainer = self._trainer()
        if opened.start and self.loaded is None and opened.kind == "resumed" and trainer is not None:
            notice.say(
                f"training begins anew in run {logger._ref}, which has {opened.start} steps: its rows go on from there."
                " To resume, pass ckpt_path to fit; to keep them apart, give the logger another version."
            )
        self._find_gap(opened.start)

    def _stands_still(self, loaded: Loaded) -> bool:
        """Say whether a checkpoint is of this process, at the position where the run still is: that is no resume."""
        run = self._logger._active_run()
        return any(
            mark.run == run._ref and mark.revision == run.revision and mark.next_step == self._logger._next_step
            for mark in loaded.marks
        )

    def _find_gap(self, start: int) -> None:
        """Record rows that were lost with their machine: logged after the checkpoint, and not in the store yet."""
        marks = [mark for mark in self.loaded.marks if mark.next_step == start] if self.loaded is not None else []
        if not (marks and marks[0].row_pending):
            return
        run, step = self._logger._active_run(), start - 1
        view = resolve(run._storage, run._ref)
        if reader.count(run._storage, view, "metrics", start=step) == 0:
            run._note({"gap": json.dumps([step, start])}, step)
            notice.say(f"rows of step {step}, logged after its checkpoint was saved, were lost with their machine.")

    # Checkpoints

    def mark(self) -> Mark | None:
        """Bring the history before a checkpoint into the store, and say where it stands."""
        trainer, clock, run = self._trainer(), self._clock, self._logger._active_run()
        if trainer is None or clock is None:
            return None
        if run._opened is None:
            self._try_open()
        if run._opened is None:
            return None
        next_step = clock.next_step(trainer)
        pending = row_pending(trainer)
        mark = Mark(
            nonce=secrets.token_hex(8),
            store=run._storage.url,
            project=run._ref.project,
            run_id=run._ref.id,
            revision=run.revision,
            claim=run._opened.base.number,
            claim_nonce=run._opened.base.nonce,
            next_step=next_step,
            row_pending=pending,
        )
        self._last_mark = mark.nonce
        self._add_mark(trainer, mark.nonce, next_step, None, None)
        self._unsaved_row = self._unsaved_row or pending
        self._flush("A checkpoint is saved before its history is in the store")
        return mark

    def saved(self, saver: Any) -> None:
        """Add the path of a checkpoint that was just written."""
        trainer, run, path = self._trainer(), self._logger._active_run(), getattr(saver, "_last_checkpoint_saved", None)
        if trainer is None or self._clock is None or run._opened is None or not path:
            return
        relative = self._relative(os.fspath(path))
        next_step = self._clock.next_step(trainer)
        nonce, self._last_mark = self._last_mark, None
        if nonce is None:  # it holds weights only, and no mark
            self._add_mark(trainer, secrets.token_hex(8), next_step, relative, saver)
            return
        info = checkpoint_info(trainer, saver)
        told = {"nonce": nonce, "path": relative, "score": info.score, "monitor": info.monitor}
        run._mark({"path": json.dumps(told)}, next_step - 1)

    def _add_mark(self, trainer: Trainer, nonce: str, next_step: int, path: str | None, saver: Any) -> None:
        info = checkpoint_info(trainer, saver)
        told = {
            "nonce": nonce,
            "next_step": next_step,
            "revision": self._logger._active_run().revision,
            "global_step": info.global_step,
            "epoch": info.epoch,
            "monitor": info.monitor,
            "score": info.score,
            "path": path,
        }
        self._logger._active_run()._mark({"mark": json.dumps(told)}, next_step - 1)

    def _relative(self, path: str) -> str:
        """Write a path within the store relative to it, for it may be moved; another one in full.

        Relative to the store, not the run: a fork shows the checkpoints of its parent too.
        """
        path = path if "://" in path else os.path.abspath(path)
        root = f"{self._logger._active_run()._storage.url.rstrip('/')}/"
        return "./" + path[len(root) :] if path.startswith(root) else path

    # Evaluation

    def evaluate(self, values: Mapping[str, Any], step: int | None) -> None:
        """Log a row of `validate` or `test`."""
        run = self._logger._active_run()
        if run._opened is not None:
            run._record(values, run.step, self._evaluated_step(run._ref))
            return
        if self._evaluation is None:
            self._evaluation = self._begin_evaluation()
        if self._evaluation is None:  # there is no such run, so nobody is disturbed
            run._open(OpenRequest(reason=self.stage))
            run._record(values, run.step, step)
            return
        good, bad = flatten(values)
        for sentence in bad.values():
            LOG.error("A value was not logged: %s", sentence)
        evaluation = self._evaluation
        self._guard(lambda: evaluation.append(good, step))

    def _begin_evaluation(self) -> EvaluationWriter | None:
        """Find the run and the position that are evaluated; None if the run does not exist."""
        wanted, loaded = self._logger._wanted(self.index), self._checkpoint()
        mark, here = choose(wanted, loaded) if loaded is not None else (None, False)
        run = mark.run if mark is not None and here else wanted.run
        try:
            view = resolve(wanted.storage, run)
        except RunNotFoundError:
            return None
        same = mark is not None and here
        next_step = view.next_step if loaded is None or loaded.next_step is None else loaded.next_step
        return EvaluationWriter(
            wanted.storage,
            run,
            kind=self.stage,
            revision=mark.revision if same and mark is not None else view.revision,
            next_step=mark.next_step if same and mark is not None else next_step,
            checkpoint=None if loaded is None else loaded.path,
        )

    def _evaluated_step(self, run: RunRef) -> int | None:
        """Return the last step of the checkpoint that is evaluated, None if none was loaded."""
        if self._evaluated is None:
            loaded = self._checkpoint()
            found = [mark.next_step - 1 for mark in loaded.marks if mark.run == run] if loaded is not None else []
            self._evaluated = (found[0] if found else None,)
        return self._evaluated[0]

    def _checkpoint(self) -> Loaded | None:
        """Return what was loaded; of a checkpoint with weights only, which callbacks do not see, by its path."""
        trainer = self._trainer()
        path = getattr(trainer, "ckpt_path", None)
        if self.loaded is None and path:
            try:
                self.loaded = read_checkpoint(path, self._logger._storage_options)
            except RewindError as error:
                LOG.warning("Where the evaluated checkpoint stands is not known: %s", error)
        return self.loaded

    # Within

    def _flush(self, otherwise: str) -> None:
        """Flush, waiting a bounded time; say what it means if that was not enough."""
        try:
            if not self._logger._active_run().flush(CHECKPOINT_WAIT_S):
                LOG.warning("%s: %s does not answer.", otherwise, self._logger._active_run()._storage.url)
        except FencedError:
            pass  # said when it happened
        except StorageError as error:
            LOG.warning("%s: %s", otherwise, error)

    def _guard(self, request: Any) -> None:
        try:
            request()
        except StorageError as error:
            LOG.error("Rows of an evaluation are not in the store: %s", error)
