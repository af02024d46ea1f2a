"""The catalog: which runs a store holds."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from datetime import datetime, timezone

from rewind_logger.errors import CorruptError, RunNotFoundError, StorageError, TransientStorageError
from rewind_logger.format.documents import decode_removal
from rewind_logger.format.names import RunPaths
from rewind_logger.format.run_names import is_name
from rewind_logger.history import claims, damage
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef

_DEPTH = 3
"""entity/project/id."""

_REMOVED = "removed.json"
"""In the folder of a run: a run of that name was removed once."""

_NAMED = 5
"""How many names a message lists."""


def runs(
    storage: Storage,
    project: str | None = None,
    *,
    marks: Collection[str] = ("m",),
    removed: bool = False,
    unread: Callable[[str], None] | None = damage.report,
) -> list[RunRef]:
    """Return the runs of a store, or of one project, sorted by name.

    Costs one listing for each folder down to the runs, and a few requests for each run of a name that was removed.

    Args:
        storage: The store.
        project: `project` or `entity/project`; None for all.
        marks: The folders of which a run has one at least.
        removed: Whether those are named too that were removed: their claims stay.
        unread: Told of each folder that cannot be listed, such as one that is not ours, and that is left out; None for
            who has to know all of them.

    Raises:
        StorageError: If the store, or the project, cannot be listed; if a folder cannot and `unread` is None.
        TransientStorageError: If the store fails in a way that may pass.
    """
    found: list[RunRef] = []
    doubtful: list[RunRef] = []
    level = [""] if project is None else [project]
    for _ in range(_DEPTH + 1):
        below: list[str] = []
        for folder, infos in zip(level, storage.list_each(level), strict=True):
            if isinstance(infos, Exception):
                stays = isinstance(infos, StorageError) and not isinstance(infos, TransientStorageError)
                if unread is None or not stays or folder in ("", project):
                    raise infos
                unread(f"What is below {storage.url}/{folder} is left out: {infos}")
                continue
            children = [info.name for info in infos if info.size is None]
            if not set(marks).isdisjoint(children) and "/" in folder and folder != project:
                parent, _, name = folder.rpartition("/")
                if project is None or parent == project:
                    marked = any(info.name == _REMOVED and info.size is not None for info in infos)
                    (doubtful if marked and not removed else found).append(RunRef(parent, name))
            below += [f"{folder}/{name}" if folder else name for name in children if is_name(name)]
        level = [folder for folder in below if folder.count("/") < _DEPTH]
    found += [run for run in doubtful if claims.exists(storage, run)]
    return sorted(found, key=str)


def find(storage: Storage, name: str) -> RunRef:
    """Return the run that a name means: `project/id`, `entity/project/id`, or an id that only one project has.

    Raises:
        RunNotFoundError: If there is none; or several, which the message lists.
    """
    named = RunRef.split(name)
    if named.project:
        return named
    every = runs(storage)
    found = [run for run in every if run.id == named.id]
    if len(found) == 1:
        return found[0]
    if not found:
        known = f"It has {_listed(_closest(name, list(map(str, every))))}." if every else _EMPTY
        raise RunNotFoundError(f"There is no run {name!r} in {storage.url}. {known}")
    several = ", ".join(map(str, found))
    raise RunNotFoundError(f"Several runs in {storage.url} have the id {name!r}: {several}. Name one with its project.")


def not_found(storage: Storage, run: RunRef) -> RunNotFoundError:
    """Return the error for a run that does not exist; its message says what there is instead."""
    path = RunPaths(run).removed
    try:
        removal = decode_removal(storage.read(path), path)
    except (FileNotFoundError, CorruptError):  # it only tells more
        return RunNotFoundError(f"There is no run {run} in {storage.url}.{there_is(storage, run)}")
    when = datetime.fromtimestamp(removal.at_ms / 1000, timezone.utc)
    return RunNotFoundError(
        f"There is no run {run} in {storage.url}: it was removed on {when:%Y-%m-%d %H:%M} UTC from {removal.host}."
    )


def there_is(storage: Storage, run: RunRef) -> str:
    """Return a sentence, after a space, on what there is where a run was looked for; it takes a few listings."""
    try:
        folders = _folders(storage, run.project)
        siblings = _closest(run.id, [name for name in folders if name != run.id])
        # A folder without a claim is that of a run which was never opened; a journal may lie there.
        listings = storage.list_each([f"{run.project}/{name}" for name in siblings])
        siblings = [
            name
            for name, found in zip(siblings, listings, strict=True)
            if not isinstance(found, Exception)
            and any(i.name == "m" for i in found)
            and not any(i.name == _REMOVED for i in found)
        ]
        if siblings:
            return f" Project {run.project} has {_listed(siblings)}."
        if run.id in folders and storage.list(RunPaths(run).claims):
            return " An opening that would have begun it was cut short."
        if projects := [name for name in _folders(storage, "") if name != run.project]:
            return f" There is no project {run.project} either, but {_listed(_closest(run.project, projects))}."
    except StorageError:
        return ""
    return f" {_EMPTY}"


_EMPTY = "Nothing is there: is it the right store?"


def _folders(storage: Storage, folder: str) -> list[str]:
    return [info.name for info in storage.list(folder) if info.size is None and is_name(info.name)]


def _closest(name: str, names: list[str]) -> list[str]:
    """Return the names most like one, the most alike first; one too many, where there are more than are listed."""
    return difflib.get_close_matches(name, names, _NAMED + 1, 0.0)


def _listed(names: list[str]) -> str:
    """Return names as a list for people."""
    return ", ".join(names[:_NAMED]) + (" and others" if len(names) > _NAMED else "")
