"""The journals of a run on this machine: rows that are not in the store yet."""

from __future__ import annotations

from pathlib import Path

from rewind_logger.errors import CorruptError
from rewind_logger.history import blobs
from rewind_logger.history.journals import place
from rewind_logger.history.journals.abandoned import folders, is_abandoned
from rewind_logger.history.journals.part import parse_part
from rewind_logger.history.journals.place import BLOB, OWNER, PART
from rewind_logger.history.journals.roots import journal_roots
from rewind_logger.history.rescue import sync_command
from rewind_logger.history.verifying.look import Look
from rewind_logger.storage.within import is_file
from rewind_logger.types import RunRef

_KEPT = "What can be read of it comes into the run with the next opening on this machine; the file is kept."
_LEFT = "What can be read of it is in the run. Delete the file once nobody wants to have it looked at."


def check_journals(look: Look, run: RunRef) -> None:
    """Check the files of every journal of a run against their checksums, those of living writers too."""
    for folder in (folder for root in journal_roots(look.storage, run) for folder in folders(root)):
        rows = 0
        remedy = _KEPT if is_file(folder / OWNER) else _LEFT
        # Never the file that is locked: to close a second descriptor of it would give a lock of this process up.
        for path in place.files(folder):
            if PART.fullmatch(path.name):
                rows += _check_part(look, run, path, remedy)
            elif BLOB.fullmatch(path.name):
                _check_blob(look, run, path)
        if rows and is_abandoned(folder.parent, folder.name):
            look.notes.append(
                f"The journal {folder} holds {rows:,} rows, and its writer is gone: the next opening of {run} on this"
                " machine brings in those that are not in the store and still belong to the run. Others become a"
                f" fork with {sync_command(look.storage.url, as_fork=True)}"
            )


def _check_part(look: Look, run: RunRef, path: Path, remedy: str) -> int:
    """Check a part; return how many rows it has."""
    data = _read(path)
    if data is None:
        return 0
    look.took("journal parts", len(data))
    what = "It is damaged, and what follows the damage cannot be read."
    rows = 0
    try:
        batch = parse_part(0, data)
        rows = sum(map(len, batch.rows.values()))
        if not batch.damaged:
            return rows
    except CorruptError as error:
        what = str(error)
    look.wrong(str(path), what, f"rows of {run} that had not come into the store when it was damaged", remedy)
    return rows


def _check_blob(look: Look, run: RunRef, path: Path) -> None:
    data = _read(path)
    if data is None:
        return
    look.took("journal blobs", len(data))
    if blobs.digest_of(data) != path.name.partition(".")[0]:
        look.wrong(
            str(path),
            "Its content is not what its name says.",
            f"a picture, table or other file that rows of {run} refer to",
            "Log it again from where it came.",
        )


def _read(path: Path) -> bytes | None:
    """Return a file of a journal; None if it came into the store meanwhile and is gone."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
