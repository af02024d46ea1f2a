"""A store, to read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
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
from rewind_logger.types import Position, Progress, RunRef

if TYPE_CHECKING:
    from rewind_logger.history.collect import Collected
    from rewind_logger.history.remove import Removed
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
        shown = str(name)
        if "://" in shown and "?" not in shown and "@" not in shown:
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
        progress: Progress | None = None,
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

    def collect(
        self,
        *,
        dry_run: bool = True,
        grace: timedelta = timedelta(days=7),
        exclusive: bool = False,
        progress: Progress | None = None,
    ) -> Collected:
        """Remove what nobody can need any more: no run, no archived revision and no fork, whoever writes meanwhile.

        These are segments that were put together into larger ones, what interrupted openings and uploads left, what
        belonged to removed runs and revisions, and files of artifacts and media that no row names any more.

        Args:
            dry_run: Whether only to say what would be removed.
            grace: What was written within this time stays, by the clock of the store. At least a day.
            exclusive: Whether nobody else uses the store meanwhile, writer or reader: then `grace` may be shorter.
            progress: Called with what is being done, how much of it is done, and how much there is (None: not known).

        Returns:
            What was removed, or would be; `print` shows a table.

        Raises:
            ConfigError: If `grace` is no timedelta, or too short.
            CorruptError: If something is damaged, so that it cannot be known what is needed. Nothing was removed.
            FormatVersionError: If a newer version of this package wrote to the store. Nothing was removed.
            StorageError: If the store fails, or does not say when its objects were written.
        """
        from rewind_logger.history import collect

        if not isinstance(grace, timedelta):
            raise ConfigError(f"grace={grace!r} is no time: give a timedelta, such as timedelta(days=7).")
        if grace.total_seconds() < (0 if exclusive else collect.LEAST_GRACE_S):
            raise ConfigError(
                f"grace={grace!r} is too short: what writers rely on at this moment could go. Give at least a day; or "
                "exclusive=True, if nobody else uses the store meanwhile."
            )
        return collect.collect(self.storage, dry_run=dry_run, grace_s=grace.total_seconds(), progress=progress)

    def remove(
        self, name: str, *, dry_run: bool = True, adopt: bool = False, progress: Progress | None = None
    ) -> Removed:
        """Remove a run, or an archived revision of one.

        A run is gone at once and as a whole; whoever writes it is told at the next flush, and keeps the rows that were
        not stored in the journal. Its name can be used again. Of a revision goes what only that shows. Lightning's
        checkpoints stay. A removal that was interrupted is continued by the same call.

        Args:
            name: A run, `project/id`; or an immutable id, `project/id@1`.
            dry_run: Whether only to say what would be removed.
            adopt: Whether to remove it although forks need rows of it: these stay where they are, as rows of the forks.
            progress: Called with what is being done, how much of it is done, and how much there is (None: not known).

        Returns:
            What was removed, or would be; `print` shows it.

        Raises:
            ConfigError: If forks need it, which the message lists; if one is being made; if the name is that of a step,
                or of the run's present revision.
            RunNotFoundError: If there is no such run or revision.
            CorruptError: If something is damaged, so that it cannot be known what others need. Nothing was removed.
            StorageError: If the store fails: call it again later.
        """
        from rewind_logger.history import remove

        named = moment.parse(name)
        if named.step is not None:
            raise ConfigError(f"{name!r} names a step: remove the run or an archived revision; a step cannot be.")
        project = catalog.find(self.storage, named.run).project if named.project is None else named.project
        position = named.position(project)
        if position.revision is None:
            return remove.remove_run(self.storage, position.run, dry_run=dry_run, adopt=adopt, progress=progress)
        return remove.remove_revision(
            self.storage, position.run, position.revision, dry_run=dry_run, adopt=adopt, progress=progress
        )


def open_store(url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Store:
    """Open a store to read; nothing is asked of it before the first look.

    Args:
        url: A folder, or a URL such as `s3://bucket/prefix`, `gs://…`, `az://…` or `memory://…`.
        storage_options: What fsspec's backend for it takes, such as credentials or an endpoint.

    Raises:
        ConfigError: If that is no URL, or if its backend is not installed; the message names what to install.
    """
    return Store(open_storage(url, storage_options))
