"""The checkpoints that are saved in a fit, marked in the file and in the run."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any

from rewind_logger.history import reader
from rewind_logger.history.view import resolve
from rewind_logger.lightning.mark import Mark
from rewind_logger.lightning.position import checkpoint_info, row_pending
from rewind_logger.sdk import told
from rewind_logger.sdk.run import Run
from rewind_logger.storage.redact import public_url

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


SETTLED = "settled"
"""In a row about a checkpoint: everything of its own step was logged."""


class Saves:
    """Marks checkpoints. The mark is made while one is saved; its path is added when Lightning tells it."""

    def __init__(self) -> None:
        self._last: str | None = None  # the nonce of the mark that has no path yet
        self._open: dict[str, int] = {}  # nonces and positions of checkpoints at whose own step rows may follow

    def mark(self, run: Run, trainer: Trainer, next_step: int) -> Mark:
        """Add a checkpoint to the run's list, and return what the file says of it.

        Args:
            run: The run, open.
            trainer: Which saves it.
            next_step: The first step that it does not contain.
        """
        base = run._is_open().base
        self._last = secrets.token_hex(8)
        self._add(run, trainer, self._last, next_step, None, None)
        pending = row_pending(trainer)
        if pending:
            self._open[self._last] = next_step
        return Mark(
            nonce=self._last,
            store=run._storage.url,
            project=run._ref.project,
            run_id=run._ref.id,
            revision=run.revision,
            claim=base.number,
            claim_nonce=base.nonce,
            next_step=next_step,
            row_pending=pending,
        )

    @staticmethod
    def mark_unopened(run: Run, journal: str, next_step: int) -> Mark:
        """Return what a file says of a checkpoint that is saved while the store is away, or when the run is finished.

        The run's list does not have the checkpoint.

        Args:
            run: The run, which is not open.
            journal: The nonce of its journal. The term has it that is, or was, opened for that, or that takes it over:
                it tells where the rows up to the checkpoint came.
            next_step: The first step that the checkpoint does not contain.
        """
        return Mark(
            nonce=secrets.token_hex(8),
            store=run._storage.url,
            project=run._ref.project,
            run_id=run._ref.id,
            revision=0,
            claim=0,
            claim_nonce=journal,
            next_step=next_step,
            row_pending=False,
            opened=False,
            counted=run._counting and not run._steps_given,
        )

    @property
    def row_pending(self) -> bool:
        """Whether rows may follow at the own step of a checkpoint."""
        return bool(self._open)

    def settle(self, run: Run) -> None:
        """Say that all rows of the checkpoints' own steps were logged: one that is missing then never was."""
        while self._open:
            nonce, next_step = self._open.popitem()
            run._mark({"path": json.dumps({"nonce": nonce, SETTLED: True})}, next_step - 1)

    @staticmethod
    def is_settled(run: Run, mark: Mark) -> bool | None:
        """Return whether that was said of a checkpoint before the run's present opening.

        Returns:
            None if the run's list does not have the checkpoint, as far as that is in the store.

        Raises:
            StorageError: If the store fails.
        """
        rows = reader.read_rows(run._storage, resolve(run._storage, run._ref), "checkpoints")
        told = [(name, _fields(text)) for row in rows for name, text in row.values.items()]
        mine = [(name, fields) for name, fields in told if fields.get("nonce") == mark.nonce]
        if not any(name == "mark" for name, _ in mine):
            return None
        return any(fields.get(SETTLED) for name, fields in mine if name == "path")

    def saved(self, run: Run, trainer: Trainer, next_step: int, saver: Any) -> None:
        """Add the path of a checkpoint that a `ModelCheckpoint` has just written.

        One that holds weights only bears no mark in the file, but the run's list has it.
        """
        path = getattr(saver, "_last_checkpoint_saved", None)
        if not path:
            return
        relative = _relative(os.fspath(path), run._storage.url)
        nonce, self._last = self._last, None
        if nonce is None or getattr(saver, "save_weights_only", False):
            self._add(run, trainer, secrets.token_hex(8), next_step, relative, saver)
            return
        info = checkpoint_info(trainer, saver)
        told = {"nonce": nonce, "path": relative, "score": info.score, "monitor": info.monitor}
        run._mark({"path": json.dumps(told)}, next_step - 1)

    def loaded(self, run: Run, mark: Mark, path: str) -> None:
        """Say where a checkpoint was loaded from: of one that no `ModelCheckpoint` saved, nothing told its path yet."""
        told = {"nonce": mark.nonce, "loaded": _relative(path, run._storage.url)}
        run._mark({"path": json.dumps(told)}, mark.next_step - 1)

    def _add(self, run: Run, trainer: Trainer, nonce: str, next_step: int, path: str | None, saver: Any) -> None:
        info = checkpoint_info(trainer, saver)
        told = {
            "nonce": nonce,
            "next_step": next_step,
            "revision": run.revision,
            "global_step": info.global_step,
            "epoch": info.epoch,
            "monitor": info.monitor,
            "score": info.score,
            "path": path,
        }
        run._mark({"mark": json.dumps(told)}, next_step - 1)


def _relative(path: str, store: str) -> str:
    """Write a path within the store relative to it, for it may be moved; another one in full, without credentials.

    Relative to the store, not the run: a fork shows the checkpoints of its parent too.
    """
    if "://" in path:
        path = public_url(path)
        root = f"{store.rstrip('/')}/"
    else:
        path, root = os.path.realpath(path), f"{os.path.realpath(store)}/"
    return "./" + path[len(root) :] if path.startswith(root) else path


def _fields(text: object) -> dict[str, Any]:
    """Return the JSON object in a text, an empty one if it is none."""
    try:
        found = told.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
