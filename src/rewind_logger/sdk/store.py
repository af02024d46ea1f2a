"""A store, to read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rewind_logger.errors import ConfigError, PositionError
from rewind_logger.history import catalog
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.view import resolve
from rewind_logger.sdk import metric_moment, moment
from rewind_logger.sdk.run import Run
from rewind_logger.sdk.run_spec import RunSpec
from rewind_logger.sdk.stored import StoredRun
from rewind_logger.storage import Storage, open_storage
from rewind_logger.types import Position, RunRef

if TYPE_CHECKING:
    from rewind_logger.history.verifying.report import VerifyReport


class Store:
    """The runs under one URL; `open_store` opens one.

    Example:
        >>> import rewind_logger
        >>> with rewind_logger.init(dir="memory://docs", project="letters", id="r1") as run:
        ...     run.log({"loss": 0.5})
        >>> rewind_logger.open_store("memory://docs").runs("letters")
        [<StoredRun letters/r1 in memory://docs>]
    """

    def __init__(self, storage: Storage) -> None:
        """Take a storage; nothing is asked of it yet."""
        self.storage = storage

    def __repr__(self) -> str:
        return f"<Store {self.url}>"

    @property
    def url(self) -> str:
        """Where it is."""
        return self.storage.url

    def runs(self, project: str | None = None) -> list[StoredRun]:
        """Return the runs of the store, or of one project, sorted by name.

        Args:
            project: `project` or `entity/project`; None for all.

        Raises:
            StorageError: If the store fails.
        """
        return [StoredRun(self.storage, Position(run, None, None)) for run in catalog.runs(self.storage, project)]

    def run(self, name: str) -> StoredRun:
        """Return a run, one of its revisions, or a run as of a step.

        Args:
            name: `project/id`, `id@2`, `entity/project/id?_step=499`, … : without its project an id that only one
                project has. `?_step=N` shows everything up to step N (inclusive).

        Raises:
            RunNotFoundError: If there is no such run or revision, or an id could be that of several.
            PositionError: If the name is no such text, or the run has no such step; the message names the last one.
            StorageError: If the store fails.
        """
        if moment.is_checkpoint(name) and "?" not in name and "@" not in name and "://" in name:
            raise PositionError(f"{name!r} is a URL: open the store with open_store(url), and name a run within it.")
        named = metric_moment.parse(name, self.storage, None)
        if named.project is None:
            position = named.position(catalog.find(self.storage, named.run).project)
        else:
            position = named.position(named.project)
        view = resolve(self.storage, position.run, position.revision)
        if named.step is not None:
            view.check_step(named.step)
        return StoredRun(self.storage, position)

    def restore(self, name: str) -> StoredRun:
        """Make an archived revision the run's present one again, as a new revision.

        The revision that was the present one is archived in turn. Whoever writes the run at that time is stopped.

        Args:
            name: The immutable id of the revision, such as `project/id@1`.

        Raises:
            ConfigError: If the name is not that of a revision.
            RunNotFoundError: If there is no such run or revision.
            StorageError: If the store fails.
        """
        stored = self.run(name)
        position = stored.position
        if position.revision is None or position.next_step is not None:
            raise ConfigError(f"{name!r} does not name a revision: give an immutable id, such as 'project/id@1'.")
        run = Run(RunSpec(storage=self.storage, run=position.run))
        try:
            run._open(OpenRequest(at=position, typed=True, resume="must", reason=f"restore {name}"))
        finally:
            run.finish()
        return StoredRun(self.storage, Position(position.run, None, None))

    def verify(
        self,
        name: str | None = None,
        *,
        progress: Callable[[str, int, int | None], None] | None = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> VerifyReport:
        """Check every object against its checksum, and all together against what the protocol promises.

        Everything is read, and nothing is written to the store; runs may be logged meanwhile.

        Args:
            name: A run, such as `project/id`, with what it needs of the runs it was forked from. None: all runs, and
                the blobs that no run refers to.
            progress: Called with what is being checked, how much of it is done, and how much there is, as far as known.
            resume: A file on this machine that says how far a verification has come: one that was interrupted goes on
                where it was. It is removed at the end.

        Returns:
            What was checked and what is wrong; `print` it.

        Raises:
            RunNotFoundError: If there is no such run.
            ConfigError: If the name is that of a revision or step, or `resume` is of another verification.
            StorageError: If the store fails; call it again.

        Example:
            >>> import rewind_logger
            >>> with rewind_logger.init(dir="memory://verified", project="digits", id="r1") as run:
            ...     run.log({"loss": 0.5})
            >>> report = rewind_logger.open_store("memory://verified").verify()
            >>> report.ok, report.objects["claims"], report.objects["segments"] > 0
            (True, 1, True)
        """
        from rewind_logger.history.verify import verify

        return verify(self.storage, self._run_of(name), progress=progress, resume=resume)

    def _run_of(self, name: str | None) -> RunRef | None:
        """Return the run that a name means, and refuse one that says more."""
        if name is None:
            return None
        named = moment.parse(name)  # and nothing is read: the run may be too damaged for that
        if named.revision is not None or named.step is not None:
            raise ConfigError(f"{name!r} does not name a whole run: leave the revision and the step out.")
        return named.position(named.project or catalog.find(self.storage, named.run).project).run


def open_store(url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Store:
    """Open a store to read; nothing is asked of it before the first look.

    Args:
        url: A folder, or a URL such as `s3://bucket/prefix`, `gs://…`, `az://…` or `memory://…`.
        storage_options: What fsspec's backend for it takes, such as credentials or an endpoint.

    Raises:
        ConfigError: If that is no URL, or if its backend is not installed; the message names what to install.
    """
    return Store(open_storage(url, storage_options))
