"""Paths within a folder that somebody else may have filled: no link leads out of it, and only files are opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rewind_logger.errors import StorageError


def locate(root: Path, path: str) -> Path:
    """Return where a path within a folder lies.

    Args:
        root: The folder; it may be a link, and lie behind links.
        path: As `base.check_path` takes it; it need not exist.

    Raises:
        StorageError: If a link on the way leads out of the folder, or what is there is neither a file nor a folder: to
            open a pipe would wait for ever.
    """
    at = str(root)
    mode = stat.S_IFDIR
    for part in path.split("/"):
        at = f"{at}/{part}"
        try:
            mode = os.lstat(at).st_mode
        except (OSError, ValueError):  # what is not there, or cannot be looked at, is for whoever opens it to say
            break
        if stat.S_ISLNK(mode):
            mode = _follow(root, at)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise StorageError(f"{at} is neither a file nor a folder, and is not opened. Remove it.")
    return root / path


def is_file(path: str | os.PathLike[str]) -> bool:
    """Say whether there is a file, and no link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _follow(root: Path, at: str) -> int:
    """Return the mode of what a link within a folder points to; refuse one that leads out."""
    target, home = os.path.realpath(at), os.path.realpath(root)
    if os.path.commonpath([target, home]) != home:
        raise StorageError(
            f"{at} is a link that leads out of the store, to {target}, and is not followed. Put there what it points "
            "to, mount it there, or make the folder of the whole store a link."
        )
    try:
        return os.stat(at).st_mode
    except OSError:
        return stat.S_IFREG  # it leads nowhere, or round in circles, as who opens it will find
