"""The Lightning logger."""

from __future__ import annotations

import contextlib
import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any, Optional, Union

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.logger import _add_prefix, _convert_params
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from rewind_logger.errors import ConfigError, FencedError, StorageError
from rewind_logger.format.names import check_name
from rewind_logger.history.opening import OpenRequest
from rewind_logger.lightning import entry
from rewind_logger.lightning.attachment import Attachment
from rewind_logger.lightning.identity import default_id
from rewind_logger.lightning.resume import OnResume, Wanted
from rewind_logger.sdk.metadata import Labels, config_of
from rewind_logger.sdk.run import FINISH_TIMEOUT_S, Run
from rewind_logger.sdk.run_spec import OnBackwardStep, RunSpec
from rewind_logger.sdk.source import Given
from rewind_logger.storage import Storage, open_storage
from rewind_logger.types import RunRef

PICKLE_WAIT_S = 10.0
"""How long a copy for another process waits for the store."""


class RewindLogger(Logger):
    """Log to a folder or an object store, with a history that is rewound when training is resumed from a checkpoint.

    The history always agrees with the model: `fit(ckpt_path=...)` takes the run back to exactly that checkpoint. What
    is cut off stays as an archived revision, which can be read, restored and forked.

    Give `version` a name that stays the same when the job is started again; without one, the id of a SLURM or
    torchelastic job is taken, and else a new one.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from rewind_logger import RewindLogger
        >>> trainer = Trainer(logger=RewindLogger("memory://docs", name="digits", version="a"), accelerator="cpu")
        >>> trainer.logger.version
        'a'

    Args:
        save_dir: The store: a folder, or a URL such as `s3://bucket/prefix`. Checkpoints lie in it too, where
            `ModelCheckpoint` is not told otherwise.
        name: The project, `project` or `entity/project`.
        version: The run's id, which never changes. An integer n is "version_n".
        on_resume: What a resume from a checkpoint does: "rewind" the run to it, "fork" a new run from it, or "error".
        resume_from: A moment (`run?_step=N` keeps step N) or a checkpoint to go back to when training starts.
        fork_from: A moment or a checkpoint from which this run begins, if it does not exist yet.
        on_backward_step: What `logger.experiment.log(..., step=...)` does about a step before the present one, outside
            of a trainer: "keep" the row at the present step, or "error".
        prefix: Put before the name of every metric, with a "-".
        run_name: What people call the run.
        tags: Texts to find the run by.
        notes: A text about the run.
        group: Which runs it belongs to.
        config: Hyperparameters, besides those that Lightning logs.
        storage_options: What fsspec's backend for the store takes, such as credentials or an endpoint.

    Raises:
        ConfigError: If a name cannot be one, or arguments exclude one another.
    """

    LOGGER_JOIN_CHAR = "-"

    # Optional and Union, not `|`: jsonargparse reads these on Python 3.10 too.
    def __init__(
        self,
        save_dir: Union[str, os.PathLike] = "rewind_logs",  # type: ignore[type-arg]  # noqa: UP007
        name: str = "default",
        version: Optional[Union[int, str]] = None,  # noqa: UP007, UP045
        *,
        on_resume: OnResume = "rewind",
        resume_from: Optional[Union[str, os.PathLike, Any]] = None,  # type: ignore[type-arg]  # noqa: UP007, UP045
        fork_from: Optional[Union[str, os.PathLike, Any]] = None,  # type: ignore[type-arg]  # noqa: UP007, UP045
        on_backward_step: OnBackwardStep = "keep",
        prefix: str = "",
        run_name: Optional[str] = None,  # noqa: UP045
        tags: Optional[list[str]] = None,  # noqa: UP045
        notes: Optional[str] = None,  # noqa: UP045
        group: Optional[str] = None,  # noqa: UP045
        config: Optional[dict[str, Any]] = None,  # noqa: UP045
        storage_options: Optional[dict[str, Any]] = None,  # noqa: UP045
    ) -> None:
        super().__init__()
        if on_resume not in ("rewind", "fork", "error"):
            raise ConfigError(f"on_resume={on_resume!r}: use 'rewind', 'fork' or 'error'.")
        if on_backward_step not in ("keep", "error"):
            raise ConfigError(f"on_backward_step={on_backward_step!r}: use 'keep' or 'error'.")
        if resume_from is not None and fork_from is not None:
            raise ConfigError("resume_from goes back in a run, fork_from begins another: give one of them.")
        if isinstance(version, int):
            version = f"version_{version}"
        self._save_dir = os.fspath(save_dir)
        self._name = _check_project(name)
        self._named = version is not None
        self._version = None if version is None else check_name("run id", version)
        self._on_resume: OnResume = on_resume
        self._resume_from: Given | None = resume_from
        self._fork_from: Given | None = fork_from
        self._on_backward_step = on_backward_step
        self._prefix = prefix
        self._labels = Labels(name=run_name, tags=None if tags is None else tuple(tags), notes=notes, group=group)
        self._config = config_of(config)
        self._storage_options = storage_options
        self._storage: Storage | None = None
        self._run: Run | None = None
        self._attachment: Attachment | None = None
        self._next_step: int | None = None  # the position at which the next fit begins

    # What Lightning asks for; on every rank, without a look into the store

    @property
    def save_dir(self) -> str:
        """The store."""
        return self._save_dir

    @property
    def name(self) -> str:
        """The project."""
        return self._name

    @property
    def version(self) -> str:
        """The run's id."""
        if self._version is None:
            self._version, self._named = default_id()
        return self._version

    @property
    def log_dir(self) -> str:
        """The folder or URL of the run."""
        return os.path.join(self._save_dir, self._name, self.version)

    @property
    @rank_zero_experiment
    def experiment(self) -> Run:
        """The run, for everything that a logger has no method for; it is opened when `fit` begins to train."""
        return self._active_run()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a row.

        Args:
            metrics: Values by name.
            step: Kept beside the row where it differs from the training step, at which rows are always stamped.
        """
        values = _add_prefix(metrics, self._prefix, self.LOGGER_JOIN_CHAR)
        run, attachment = self._active_run(), self._attachment
        if attachment is None and entry.fabric_in_use and run._opened is None:
            self._open_plainly()
        if attachment is not None and attachment.stage in ("validate", "test"):
            attachment.evaluate(values, step)
        elif attachment is not None or run._opened is None:
            run._record(values, None if attachment is None else attachment.now(), step)
        elif self._next_step is None:  # no trainer keeps the clock
            run.log(values, step=step)
        else:
            run._record(values, run.step, step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None, *args: Any, **kwargs: Any) -> None:
        """Add to the run's config. Objects of any kind are taken; nothing in them is called."""
        self._active_run().config.update(_convert_params(params))

    @rank_zero_only
    def log_graph(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: graphs are not kept."""

    @rank_zero_only
    def save(self) -> None:
        """Bring in what must not wait; Lightning calls it after every row, so most of the time that is nothing."""
        if self._attachment is not None:
            self._attachment.save()

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Add the path of a checkpoint to the run's list."""
        if self._attachment is not None:
            self._attachment.saved(checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Bring everything into the store at the end of a call of the trainer; the logger can be used on."""
        attachment, run = self._attachment, self._run
        if attachment is not None:
            attachment.end()
            if status != "finished":  # a job that is requeued trains on until it is killed
                self._attachment = None
        if run is None:
            return
        if run._opened is None and run._writer.waiting and (attachment is None or status == "success"):
            self._open_plainly()
        trouble = run._settle("failed" if status == "failed" else "finished", FINISH_TIMEOUT_S)
        if trouble is not None:
            run._complain(trouble)

    # For the callback

    def _attach(self, trainer: Any, stage: str, index: int) -> None:
        """Begin to log a call of a trainer."""
        self._attachment = Attachment(self, trainer, stage, index)

    def _active_run(self) -> Run:
        if self._run is None:
            spec = RunSpec(
                storage=self._open_storage(),
                run=self._ref,
                config=self._config,
                labels=self._labels,
                on_backward_step=self._on_backward_step,
                driven=True,
            )
            self._run = Run(spec)
        return self._run

    @property
    def _ref(self) -> RunRef:
        return RunRef(self._name, self.version)

    def _wanted(self, index: int) -> Wanted:
        """Return what the arguments ask for."""
        return Wanted(
            storage=self._open_storage(),
            run=self._ref,
            named=self._named,
            index=index,
            on_resume=self._on_resume,
            resume_from=self._resume_from,
            fork_from=self._fork_from,
            storage_options=self._storage_options,
        )

    def _retarget(self, run: RunRef) -> None:
        """Log to another run than was thought, before or after the first opening."""
        if run == self._ref:
            return
        self._name, self._version = run.project, run.id
        if self._run is not None and self._run._opened is not None:
            self._run.finish()
            self._run = None
        elif self._run is not None:
            self._run._retarget(run)

    def _open_plainly(self) -> None:
        """Open the run where no trainer does."""
        run = self._active_run()
        run._drive(False)
        run._open(OpenRequest())

    def _open_storage(self) -> Storage:
        if self._storage is None:
            self._storage = open_storage(self._save_dir, self._storage_options)
        return self._storage

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy in another process needs; live handles stay here, after a flush."""
        state = self.__dict__.copy()
        state["_version"] = self.version
        run = self._run
        if run is not None and run._opened is not None:
            with contextlib.suppress(FencedError, StorageError):  # said where it happened
                run.flush(PICKLE_WAIT_S)
        elif run is not None:
            state["_config"] = dict(run._given_config)
        state.update(_run=None, _storage=None, _attachment=None)
        return state


def _check_project(name: str) -> str:
    """Return `project` or `entity/project`, or refuse it."""
    if "/" not in str(name):
        return check_name("project", name)
    entity, _, project = name.partition("/")
    return f"{check_name('entity', entity)}/{check_name('project', project)}"
