"""Which journals there are on this machine: of a store, and of all remote stores."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from rewind_logger.format.names import RunPaths
from rewind_logger.format.run_names import is_name
from rewind_logger.history.journals import locks
from rewind_logger.history.journals.place import OWNER
from rewind_logger.history.journals.roots import spool_folders, spool_root, temporary_root
from rewind_logger.storage import within
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef

_DEPTH = 3
"""entity/project/id."""


def roots(storage: Storage) -> list[tuple[RunRef, list[Path]]]:
    """Return the runs of a store that have journals on this machine, each with the folders of these."""
    found: dict[RunRef, list[Path]] = {}
    if storage.local_path is not None:
        for run, root in _roots(storage.local_path, RunPaths.JOURNALS):
            found.setdefault(run, []).append(root)
    for folder in spool_folders(storage.url):
        for run, root in _roots(folder, None):
            found.setdefault(run, []).append(root)
    return sorted(found.items(), key=lambda item: str(item[0]))


def journals(*roots: Path) -> list[Path]:
    """Return the journals of a run; of one that is in several folders the first."""
    found: dict[str, Path] = {}
    for root in roots:
        try:
            found = {path.name: path for path in root.iterdir() if within.is_file(path / OWNER)} | found
        except OSError:
            continue
    return sorted(found.values())


def spooled_stores() -> list[str]:
    """Return the URLs of stores whose journals wait on this machine outside them; not those that can tell no URL."""
    found = set()
    for folder in (folder for root in (spool_root(), temporary_root(make=False)) for folder in _folders(root)):
        for _, root in _roots(folder, None):
            urls = {url for path in journals(root) if (url := store_of(path)) is not None}
            found |= {url for url in urls if folder in spool_folders(url)}
    return sorted(found)


def store_of(journal: Path) -> str | None:
    """Return the URL of the store that a journal is for; None where it does not tell, or is this process's own."""
    store = _about(journal).get("store")
    return store if isinstance(store, str) else None


def _about(journal: Path) -> dict[str, object]:
    """Return what a journal says of itself, nothing where it is this process's own."""
    try:
        found = json.loads(locks.read(journal / OWNER) or b"{}")
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _roots(base: Path, journals_in: str | None) -> Iterator[tuple[RunRef, Path]]:
    """Yield runs that lie below a folder as in a store, each with its journals: in that folder of it, or in itself."""
    level: list[tuple[Path, tuple[str, ...]]] = [(path, (path.name,)) for path in _folders(base)]
    for _ in range(_DEPTH - 1):
        level = [(path, (*names, path.name)) for folder, names in level for path in _folders(folder)]
        for folder, names in level:
            root = folder if journals_in is None else folder / journals_in
            if journals(root) and all(map(is_name, names)):
                yield RunRef.split("/".join(names)), root


def _folders(folder: Path | None) -> list[Path]:
    """Return the folders in a folder that may be part of a run's name."""
    if folder is None:
        return []
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
