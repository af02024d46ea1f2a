"""The catalog: which runs a store holds."""

from __future__ import annotations

from rewind_logger.errors import RunNotFoundError
from rewind_logger.format.names import RESERVED_NAMES
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef

_DEPTH = 3
"""entity/project/id."""


def runs(storage: Storage, project: str | None = None) -> list[RunRef]:
    """Return the runs of a store, or of one project, sorted by name.

    Costs one listing for each folder down to the runs.

    Args:
        storage: The store.
        project: `project` or `entity/project`; None for all.
    """
    found: list[RunRef] = []
    level = [""] if project is None else [project]
    for _ in range(_DEPTH + 1):
        listings = storage.map_lists(level)
        below: list[str] = []
        for folder, infos in zip(level, listings, strict=True):
            children = [info.name for info in infos if info.size is None]
            if "m" in children and "/" in folder and folder != project:
                parent, _, name = folder.rpartition("/")
                if project is None or parent == project:
                    found.append(RunRef(parent, name))
            below += [f"{folder}/{name}" if folder else name for name in children if name.lower() not in RESERVED_NAMES]
        level = [folder for folder in below if folder.count("/") < _DEPTH]
    return sorted(found, key=str)


def find(storage: Storage, name: str) -> RunRef:
    """Return the run that a name means: `project/id`, `entity/project/id`, or an id that only one project has.

    Raises:
        RunNotFoundError: If there is none; or several, which the message lists.
    """
    project, _, run_id = name.rpartition("/")
    if project:
        return RunRef(project, run_id)
    found = [run for run in runs(storage) if run.id == run_id]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RunNotFoundError(f"There is no run {name!r} in {storage.url}. `open_store(url).runs()` lists all.")
    several = ", ".join(map(str, found))
    raise RunNotFoundError(f"Several runs in {storage.url} have the id {name!r}: {several}. Name one with its project.")
