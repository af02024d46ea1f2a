"""The Lightning logger."""

from __future__ import annotations

import contextlib
import logging
import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any, Optional, Union

from lightning.fabric.utilities.logger import _add_prefix, _convert_params
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from rewind_logger.errors import ConfigError, FencedError, StorageError
from rewind_logger.format.run_names import check_name
from rewind_logger.format.wording import kind_of
from rewind_logger.history.opening import OpenRequest
from rewind_logger.lightning.attachment import Attachment
from rewind_logger.lightning.checkpoint import Loaded
from rewind_logger.lightning.evaluation import Evaluation
from rewind_logger.lightning.fit import Fit
from rewind_logger.lightning.identity import default_id
from rewind_logger.lightning.last import last_checkpoint
from rewind_logger.lightning.media import LogsMedia
from rewind_logger.lightning.models import LogModel
from rewind_logger.lightning.resume import OnResume, Wanted, resumed_run
from rewind_logger.lightning.unattended import Unattended
from rewind_logger.sdk.metadata import Labels, config_of
from rewind_logger.sdk.run import FINISH_TIMEOUT_S, Run
from rewind_logger.sdk.run_spec import OnBackwardStep, RunSpec
from rewind_logger.sdk.source import Given
from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.redact import public_url
from rewind_logger.types import RunRef

LOG = logging.getLogger("rewind_logger")

PICKLE_WAIT_S = 10.0
"""How long a copy for another process waits for the store."""


class RewindLogger(Logger, LogsMedia):
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
        save_dir: The store: a folder, or a URL such as `s3://bucket/prefix`. Checkpoints lie in it too (but for SFTP),
            where `ModelCheckpoint` is not told otherwise.
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
        console: Record what the process prints, from when the logger is first used to the end of a fit.
        system_metrics: Record how processor, memory, disk, network and GPUs are used while a fit goes on.
        log_model: Whether checkpoints are logged as versions of the artifact "model-ID", besides being marked where
            they lie: True, those that `ModelCheckpoint` has kept when the fit ends (each at once, with save_top_k=-1);
            "all", each when it is saved.
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
        console: bool = True,
        system_metrics: bool = True,
        log_model: LogModel = False,
        storage_options: Optional[dict[str, Any]] = None,  # noqa: UP045
    ) -> None:
        super().__init__()
        if on_resume not in ("rewind", "fork", "error"):
            raise ConfigError(f"on_resume={on_resume!r}: use 'rewind', 'fork' or 'error'.")
        if on_backward_step not in ("keep", "error"):
            raise ConfigError(f"on_backward_step={on_backward_step!r}: use 'keep' or 'error'.")
        if log_model not in (True, False, "all"):
            raise ConfigError(f"log_model={log_model!r}: use True, False or 'all'.")
        if resume_from is not None and fork_from is not None:
            raise ConfigError("resume_from goes back in a run, fork_from begins another: give one of them.")
        if isinstance(version, int):
            version = f"version_{version}"
        if run_name is not None and not isinstance(run_name, str):
            raise ConfigError(f"run_name={run_name!r} is {kind_of(run_name)}: it must be a str.")
        if not isinstance(save_dir, (str, os.PathLike)):
            raise ConfigError(f"save_dir={save_dir!r} is {kind_of(save_dir)}: give a folder or a URL.")
        self._save_dir = os.fspath(save_dir)
        self._url = public_url(self._save_dir) if "://" in self._save_dir else self._save_dir
        self._name = _check_project(name)
        self._named = version is not None
        self._version = None if version is None else check_name("run id", version)
        self._on_resume: OnResume = on_resume
        self._resume_from: Given | None = resume_from
        self._fork_from: Given | None = fork_from
        self._on_backward_step = on_backward_step
        self._prefix = prefix
        self._labels = Labels(name=run_name, tags=tags, notes=notes, group=group)  # type: ignore[arg-type]
        self._config = config_of(config)
        self._console = console
        self._system_metrics = system_metrics
        self._log_model: LogModel = log_model
        self._storage_options = storage_options
        self._storage: Storage | None = None
        self._run: Run | None = None
        self._idle: Run | None = None  # of a rank that does not write
        self._attachment: Attachment | None = None
        self._fit: Fit | None = None  # that is running, or was the last
        self._next_step: int | None = None  # the position at which the next fit begins
        self._counted = False  # whether that is counted from where the run will be opened
        self._unopened: Loaded | None = None  # what the last fit had loaded, and could not open its run for
        self._sought = False  # whether `version` was asked for before a trainer was there
        self._unattended = Unattended(self)

    # What Lightning asks for; on every rank, without a look into the store

    @property
    def save_dir(self) -> str | None:
        """The store, without credentials; None for SFTP, where Lightning cannot write checkpoints.

        They then lie in the trainer's `default_root_dir`.
        """
        # fsspec's transactions write below /tmp of the server first, and its `makedirs` takes a URL for a path.
        return None if self._url.startswith(("sftp://", "ssh://")) else self._url

    @property
    def name(self) -> str:
        """The project."""
        return self._name

    @property
    def version(self) -> str:
        """The run's id."""
        if self._attachment is None:  # as Lightning does for ckpt_path="last", which it finds only in a run it knows
            self._sought = True
        return self._id

    @property
    def log_dir(self) -> str:
        """The folder or URL of the run."""
        return os.path.join(self._url, self._name, self._id)

    @property
    def last_checkpoint(self) -> str | None:
        """The newest checkpoint of the run that can be loaded, None without one: for `fit(ckpt_path=...)`.

        As `ckpt_path="last"`, but also in a bucket, where Lightning does not look, and without `save_last=True`; and
        never one that was cut short by a kill, or that the run was rewound behind. It is looked up at each call.

        Raises:
            StorageError: If the store fails.
        """
        return last_checkpoint(self._open_storage(), self._ref, self._storage_options)

    @property
    def experiment(self) -> Run:
        """The run, for everything that a logger has no method for; it is opened when `fit` begins to train.

        On every rank but 0 it is one that takes everything and writes nothing, as with `mode="disabled"`.
        """
        if getattr(rank_zero_only, "rank", 0) == 0:
            return self._active_run()
        if self._idle is None or self._idle._ref != self._ref:  # by now it is known which run it is
            storage, config, labels = self._open_storage(), self._config, self._labels
            self._idle = Run(RunSpec(storage=storage, run=self._ref, config=config, labels=labels, disabled=True))
            self._idle._open(OpenRequest())
        return self._idle

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a row.

        Args:
            metrics: Values by name.
            step: Kept beside the row where it differs from the training step, at which rows are always stamped. Where
                there is no trainer, it is the training step.
        """
        values = _add_prefix(metrics, self._prefix, self.LOGGER_JOIN_CHAR)
        (self._unattended if self._attachment is None else self._attachment).log(values, step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None, *args: Any, **kwargs: Any) -> None:
        """Add to the run's config. Objects of any kind are taken; nothing in them is called."""
        config = _convert_params(params)
        if self._attachment is not None:
            self._attachment.log_config(config)
        else:
            self._active_run().config.update(config)

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
        if self._fit is not None:
            self._fit.saved(checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Bring everything into the store at the end of a call of the trainer; the logger can be used on."""
        attachment = self._attachment
        if status == "finished" and isinstance(attachment, Fit):  # to be requeued: it trains until it is killed
            attachment.flush("The job is about to be requeued, and not all of its history is in the store")
            return
        if attachment is not None:
            attachment.end()
            if status == "success" and isinstance(attachment, Fit):
                attachment.log_models()
            self._attachment = attachment.outer
        elif status != "failed":
            self._unattended.bring_in()
        run = self._active_run()
        trouble = run._settle("failed" if status == "failed" else "finished", FINISH_TIMEOUT_S)
        if trouble is not None:
            run._complain(trouble)

    # For the callback

    def _attach(self, trainer: Any, stage: str, index: int) -> None:
        """Begin to log a call of a trainer."""
        self._active_run()._drive(True)
        if stage == "fit":
            self._unattended.attend(None)
            self._attachment = self._fit = Fit(self, trainer, index)
            return
        made = self._attachment = Evaluation(self, trainer, index, stage, outer=self._attachment)
        if self._fit is None or (made.outer is None and self._active_run()._opened is None):
            self._unattended.attend(made)

    def _active_run(self) -> Run:
        if self._run is None or self._run._state == "finished":
            self._next_step, self._counted = self._reached, False
            spec = RunSpec(
                storage=self._open_storage(),
                run=self._ref,
                config=self._config,
                labels=self._labels,
                on_backward_step=self._on_backward_step,
                driven=True,
                environment=True,
                console=self._console,
                system_metrics=self._system_metrics,
            )
            self._run = Run(spec)
            self._run._companions.prepare()
            self._unattended.watch()
        return self._run

    @property
    def _reached(self) -> int | None:
        """The position at which the next fit begins; None where that is not known."""
        run = self._run
        if not self._counted or self._next_step is None:
            return self._next_step
        if run is None or run._opened is None or (run._counting and run._state == "finished"):
            return None
        return self._next_step if run._counting else run._place(self._next_step)

    @property
    def _id(self) -> str:
        if self._version is None:
            self._version, self._named = default_id()
        return self._version

    @property
    def _ref(self) -> RunRef:
        return RunRef(self._name, self._id)

    def _wanted(self, index: int = 0) -> Wanted:
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
            attended=self._attachment is not None,
            sought=self._sought,
        )

    def _identify(self) -> tuple[str, str, bool]:
        """Return the run that is logged to, as far as that is known before a checkpoint is loaded: for all ranks."""
        if not self._named and self._resume_from is not None:
            with contextlib.suppress(StorageError):  # it is found at the start
                self._retarget(resumed_run(self._wanted()))
        return self._name, self._id, self._named

    def _retarget(self, run: RunRef) -> None:
        """Log to another run than was thought, before or after the first opening."""
        if run == self._ref:
            return
        self._name, self._version = run.project, run.id
        if self._run is not None and self._run._opened is not None:
            self._run.finish()
        elif self._run is not None:
            self._run._retarget(run)

    def _open_storage(self) -> Storage:
        if self._storage is None:
            self._storage = open_storage(self._save_dir, self._storage_options)
        return self._storage

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy in another process needs; live handles stay here, after a flush."""
        state = self.__dict__.copy()
        state["_version"] = self._id
        run = self._run
        if run is not None and run._opened is not None:
            with contextlib.suppress(FencedError, StorageError):  # said where it happened
                run._flush_rows(PICKLE_WAIT_S)
        elif run is not None:
            state["_config"] = dict(run._metadata.given)
        state.update(_run=None, _idle=None, _storage=None, _attachment=None, _fit=None)
        state.update(_next_step=None if self._counted else self._next_step, _counted=False, _unopened=None)
        del state["_unattended"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it in the other process."""
        self.__dict__.update(state)
        self._unattended = Unattended(self)


def _check_project(name: str) -> str:
    """Return `project` or `entity/project`, or refuse it."""
    if "/" not in str(name):
        return check_name("project", name)
    entity, _, project = name.partition("/")
    return f"{check_name('entity', entity)}/{check_name('project', project)}"
