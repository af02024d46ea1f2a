"""`sync`: bring in what waits on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rewind_logger.history.journals import spool
from rewind_logger.history.sync import Synced, sync_store
from rewind_logger.storage import open_storage
from rewind_logger.types import Progress


def sync(
    url: str | os.PathLike[str] | None = None,
    *,
    as_fork: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> list[Synced]:
    """Bring rows into their store that wait in journals on this machine, whose writers are gone.

    A run that is being written, here or elsewhere, is left alone: a journal whose writer lives is passed by, and so are
    rows that only an opening of their run could bring in. What a writer left that its run went on without stays out of
    the run; with `as_fork` it becomes a run of its own, named after both: all that the writer had, up to its last row.
    What was brought in is removed here, so that a second call finds nothing left to do; one that was cut short goes on.

    Args:
        url: The store whose journals are brought in: a folder, or a URL. None: every remote store that this machine has
            journals for. Those of a local store lie in it, so it has to be named.
        as_fork: Whether rows of writers that a run went on without become forks.
        storage_options: What fsspec's backends for the stores take, such as credentials or an endpoint; without them
            they are looked for in the environment.
        dry_run: Whether only to say what would be done.
        progress: Called before each run with journals: with words, its number, and how many there are.

    Returns:
        What became of each journal; `str` of each is a sentence. What failed is said there, and kept.

    Raises:
        ConfigError: If `url` is no store, or the backend of one is not installed.

    Example:
        >>> import rewind_logger
        >>> for found in rewind_logger.sync("s3://bucket/exp", dry_run=True):
        ...     print(found)
    """
    if url is not None:
        storage = open_storage(url, storage_options)
        return sync_store(storage, as_fork=as_fork, dry_run=dry_run, progress=progress)
    found: list[Synced] = []
    for store in spool.spooled_stores():
        storage = open_storage(store, storage_options)
        found += sync_store(storage, as_fork=as_fork, dry_run=dry_run, progress=progress)
    return found
