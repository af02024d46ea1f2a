"""The folders that hold the journals of a run: in its store, in the user's cache, or for want of better elsewhere."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from rewind_logger.format.names import RunPaths
from rewind_logger.storage import within
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef

SPOOL = "REWIND_LOGGER_SPOOL"
"""The environment variable that names the folder."""


def spool_root() -> Path | None:
    """Return the folder for the journals of remote stores: `REWIND_LOGGER_SPOOL`, or one in the user's cache.

    None where the user has no home, as in a container whose user nobody has made.
    """
    if named := os.environ.get(SPOOL):
        return Path(named)
    try:
        if sys.platform == "win32":
            cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        else:
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return cache / "rewind-logger" / "spool"


def temporary_root(*, make: bool) -> Path | None:
    """Return the folder for journals that have no other place, None where there is none.

    Its name is known to everybody, in a folder where everybody may write: one that is not ours alone is not used, for
    what is found there comes into runs.

    Args:
        make: Whether to make it.
    """
    try:
        uid = os.getuid() if hasattr(os, "getuid") else None
        folder = Path(tempfile.gettempdir()) / ("rewind-logger" if uid is None else f"rewind-logger-{uid}")
        if make:
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    ours = uid is None or (found.st_uid == uid and not found.st_mode & 0o077)
    return folder if stat.S_ISDIR(found.st_mode) and ours else None


def spool_folders(store: str, *, make: bool = False) -> list[Path]:
    """Return the folders for the journals of a store that lie outside it, the best one first; they need not be there.

    Args:
        store: Its URL.
        make: Whether to make one where anybody could; not to look what is there.
    """
    name = hashlib.sha256(store.encode()).hexdigest()[:16]
    return [root / name for root in (spool_root(), temporary_root(make=make)) if root is not None]


def journal_root(storage: Storage, run: RunRef) -> Path | None:
    """Return the folder that holds the journals of a run, None where they are kept in memory.

    A local store holds them itself, so that they move with it; those of a remote store are spooled on this machine. A
    store in memory does not outlive the process, and neither need its journals.

    Raises:
        StorageError: If a link leads out of the store.
    """
    if storage.local_path is not None:
        return within.locate(storage.local_path, RunPaths(run).journals)
    if storage.url.startswith("memory://"):
        return None
    folders = spool_folders(storage.url) or spool_folders(storage.url, make=True)
    return folders[0] / str(run) if folders else None


def journal_roots(storage: Storage, run: RunRef) -> list[Path]:
    """Return every folder in which journals of a run may be."""
    first = journal_root(storage, run)
    return [] if first is None else [first, *further_roots(storage, run)]


def further_roots(storage: Storage, run: RunRef, *, make: bool = False) -> list[Path]:
    """Return the folders for journals that cannot be in the first; `spool_folders` says what `make` is."""
    first = journal_root(storage, run)
    found = [folder / str(run) for folder in spool_folders(storage.url, make=make)]
    return [] if first is None else [root for root in found if root != first]
