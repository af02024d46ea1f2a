"""Checkpoints as artifacts: `RewindLogger(log_model=...)`."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Union

from rewind_logger.errors import RewindError
from rewind_logger.lightning.checkpoint import read_checkpoint
from rewind_logger.lightning.position import CheckpointInfo
from rewind_logger.sdk.artifacts.artifact import Artifact
from rewind_logger.sdk.run import Run
from rewind_logger.storage.external import read_chunks

LOG = logging.getLogger("rewind_logger")

LogModel = Union[bool, Literal["all"]]  # noqa: UP007  (jsonargparse reads it on Python 3.10 too)
"""True: what a `ModelCheckpoint` has kept when the fit ends. "all": each one, when it is saved."""

FILE = "model.ckpt"
"""What a checkpoint is called in its artifact, whatever it is called elsewhere."""

_OPTIONS = ("monitor", "mode", "save_last", "save_top_k", "save_weights_only", "_every_n_train_steps")


@dataclass(frozen=True, slots=True)
class _Save:
    """One that was saved in this fit."""

    path: str
    next_step: int
    info: CheckpointInfo | None
    """None of one that an earlier fit saved."""
    saver: Any
    """A `ModelCheckpoint`, or a weak reference to one, which is what Lightning gives."""


class Models:
    """Logs the checkpoints of a fit, which are versions of one artifact. Nothing of it ends the training."""

    def __init__(self, when: LogModel) -> None:
        """Take what is wanted."""
        self._when = when
        self._saves: dict[str, _Save] = {}  # the last one at each path
        self._logged: set[str] = set()  # paths whose last save is logged

    def saved(self, run: Run, next_step: int, info: CheckpointInfo, saver: Any) -> None:
        """Log a checkpoint that was just saved, or remember it.

        Args:
            run: The run, open.
            next_step: The first step that it does not contain.
            info: What the run's list of checkpoints says of it.
            saver: The `ModelCheckpoint` that saved it.
        """
        path = getattr(saver, "_last_checkpoint_saved", None)
        if not self._when or not path:
            return
        path = os.fspath(path)
        self._saves[path] = _Save(path, next_step, info, saver)
        self._logged.discard(path)
        if self._when == "all" or getattr(saver, "save_top_k", 1) == -1:
            self._guarded(path, partial(self._log, run, self._saves[path]))

    def finish(self, run: Run, savers: Iterable[Any]) -> None:
        """Log what is kept at the end of a fit: the best ones and the last, in the order of their steps.

        Args:
            run: The run, open.
            savers: The trainer's callbacks that save checkpoints; one that keeps all has logged each when it was saved.
        """
        for saver in savers if self._when is True else ():
            if not hasattr(saver, "best_model_path") or getattr(saver, "save_top_k", 1) == -1:
                continue
            kept: dict[int, _Save] = {}  # by their positions: the last one may be one of the best, under another name
            for path in (saver.best_model_path, *getattr(saver, "best_k_models", ()), saver.last_model_path):
                if not path or path in self._logged:
                    continue
                save = self._found(run, os.fspath(path), saver)
                if save is not None:
                    kept.setdefault(save.next_step, save)
            for _, save in sorted(kept.items()):
                self._guarded(save.path, partial(self._log, run, save))

    def _found(self, run: Run, path: str, saver: Any) -> _Save | None:
        """Return what is known of a checkpoint; of one that an earlier fit saved it says so itself."""
        if path in self._saves:
            return self._saves[path]
        try:
            position = read_checkpoint(path, run._storage.options_for(path)).position(run._ref)
        except (RewindError, OSError):  # it is gone, or in folders
            return None
        return _Save(path, position, None, saver)

    def _log(self, run: Run, save: _Save) -> None:
        """Log one, at the last step that it contains: a rewind to it keeps it."""
        saver, path = save.saver, save.path
        info = save.info
        score = getattr(saver, "best_k_models", {}).get(path, info.score if info else None)
        name = Path(path).name if "://" not in path else path.rpartition("/")[2]
        artifact = Artifact(
            re.sub(r"[^A-Za-z0-9_.-]", "-", f"model-{run.id}")[:128],
            "model",
            metadata={
                "score": None if score is None else float(score),
                "monitor": getattr(saver, "monitor", None),
                "epoch": info.epoch if info else None,
                "global_step": info.global_step if info else None,
                "next_step": save.next_step,
                "original_filename": name,
                saver.__class__.__name__: {key: getattr(saver, key) for key in _OPTIONS if hasattr(saver, key)},
            },
        )
        if "://" in path:
            with artifact.new_file(FILE, "xb") as file:
                for piece in read_chunks(path, run._storage.options_for(path)):
                    file.write(piece)
        elif os.path.isdir(path):
            artifact.add_dir(path, FILE)
        elif os.path.exists(path):
            artifact.add_file(path, FILE)
        else:
            return  # a better one took its place
        aliases = ["best"] if path == getattr(saver, "best_model_path", None) else []
        if path not in self._saves and self._again(run, artifact, aliases):
            return
        run._artifacts.log(artifact, aliases, save.next_step - 1)
        self._logged.add(path)

    @staticmethod
    def _again(run: Run, artifact: Artifact, aliases: list[str]) -> bool:
        """Move the aliases to a version that an earlier fit logged of this very checkpoint, if there is one."""
        digest = artifact.digest
        for version in run._artifacts.rows.versions().by_name.get(artifact.name, []):
            if version.manifest == digest:
                run._artifacts.realias(version, aliases, [])
                return True
        return False

    @staticmethod
    def _guarded(path: str, call: Callable[[], None]) -> None:
        try:
            call()
        except (RewindError, OSError) as error:
            LOG.error("The checkpoint %s was not logged as an artifact: %s", path, error)
        except Exception:  # a bug must not end the training
            LOG.exception("The checkpoint %s was not logged as an artifact.", path)
