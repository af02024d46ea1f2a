"""Files that are written."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def open_file(path: Path, flags: int) -> int:
    """Open a file as `os.open` does, but never as standard input, output or error.

    Where a process has closed one of these, the next file would get its number, and what is printed would go into it.
    SQLite guards its files in the same way (`SQLITE_MINIMUM_FILE_DESCRIPTOR`). The number is left to the null device.
    """
    descriptor = os.open(path, flags, 0o666)
    while descriptor <= 2:
        standard, descriptor = descriptor, os.dup(descriptor)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, standard)
        os.close(null)
    return descriptor


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give the name of a file to be written, which replaces `target` if that succeeds; the folder is made.

    Raises:
        OSError: If the folder cannot be made, or the file not be replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
