"""Environments: the packages, the code and the machine that a run was opened with.

One is a blob of JSON, so many openings in the same environment keep it once. The value `environment` of a row of the
stream `events` names it; the row follows that of its opening, with clock −1.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewind_logger.errors import CorruptError
from rewind_logger.history import blobs
from rewind_logger.sdk import told
from rewind_logger.sdk.provenance import git
from rewind_logger.sdk.provenance.git import Git
from rewind_logger.sdk.provenance.hardware import Hardware, hardware
from rewind_logger.sdk.provenance.openings import Opening, opening_of, openings
from rewind_logger.storage.base import Storage
from rewind_logger.types import Row, Scalar

ENVIRONMENT = "environment"
"""The value's name."""

FRESH_S = 60.0
"""A process looks around once in so long at most: it may open thousands of runs."""

_FIELD = re.compile(r"^(Name|Version):[ \t]*(.+?)[ \t]*$", re.MULTILINE)

_seen: tuple[str, float, bytes] | None = None
_guard = threading.RLock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a run was opened with."""

    packages: dict[str, str]
    """Every installed Python package and its version, sorted by name."""
    git: Git | None
    """The working tree, None if the script did not run in one."""
    hardware: Hardware


def encode(environment: Environment) -> bytes:
    """Return the JSON of an environment: the same bytes for equal ones."""
    return json.dumps(dataclasses.asdict(environment), sort_keys=True, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> Environment:
    """Return the environment in `data`; what a newer version has added is passed over.

    Raises:
        CorruptError: If it is none.
    """
    try:
        fields = told.loads(data)
        tree = fields["git"]
        return Environment(
            packages=dict(fields["packages"]),
            git=None if tree is None else _known(Git, tree),
            hardware=_known(Hardware, fields["hardware"]),
        )
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise CorruptError(f"An environment is not what it should be: {error!r}.") from error


def _known(kind: type[Any], fields: dict[str, Any]) -> Any:
    names = {field.name for field in dataclasses.fields(kind)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return kind(**{name: value for name, value in values.items() if name in names})


def look_around() -> bytes:
    """Return the present environment, encoded; as it was a minute ago, if it was looked at since.

    Takes up to some seconds in a large working tree.
    """
    global _seen
    directory = _code_directory()
    with _guard:
        if _seen is None or _seen[0] != directory or time.monotonic() - _seen[1] >= FRESH_S:
            found = Environment(packages=packages(), git=git.describe(directory), hardware=hardware())
            _seen = (directory, time.monotonic(), encode(found))
        return _seen[2]


def packages() -> dict[str, str]:
    """Return the packages that can be imported here, with their versions; of two with one name the first counts."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        try:
            # To parse the whole document, its description too, takes twenty times as long.
            fields = dict(_FIELD.findall((distribution.read_text("METADATA") or "")[:4096]))
            name, version = fields.get("Name"), fields.get("Version")
            if name is None or version is None:
                name, version = distribution.metadata["Name"], distribution.version
        except Exception:  # a broken package must not hide the others
            continue
        if name and version:
            found.setdefault(name, version)
    return dict(sorted(found.items(), key=lambda item: (item[0].lower(), item[0])))


def to_value(term: int, digest: str, size: int) -> dict[str, Scalar]:
    """Return the event that says in which environment a term was opened: by the name and the size of its blob."""
    return {ENVIRONMENT: json.dumps({"term": term, "sha256": digest, "size": size})}


def environment_of(storage: Storage, rows: Sequence[Row], next_step: int | None) -> Environment | None:
    """Return the environment of the last opening of which a view keeps steps; None if none was recorded.

    Args:
        storage: The store.
        rows: Of the stream `events`, in the order in which they were logged.
        next_step: Where the view is cut (exclusive); None if it is not.

    Raises:
        CorruptError: If it is damaged.
        StorageError: If the store fails.
    """
    digests: dict[Opening, str] = {}
    opened: Opening | None = None
    for row in rows:
        opened = opening_of(row) or opened
        digest = _digest(row, opened)
        if opened is not None and digest is not None:
            digests[opened] = digest
    for opening in reversed(openings(rows, next_step)):
        if opening in digests:
            try:
                return decode(blobs.read(storage, digests[opening]))
            except FileNotFoundError:  # as in a copy of the run without the blobs
                return None
    return None


def _digest(row: Row, opened: Opening | None) -> str | None:
    """Return what names the environment of an opening, if a row does."""
    try:
        fields = told.loads(row.values.get(ENVIRONMENT))
        return str(fields["sha256"]) if opened is not None and fields["term"] == opened.term else None
    except (ValueError, TypeError, LookupError):
        return None


def _code_directory() -> str:
    """Return the working directory; or the script's, if only that lies in a repository."""
    try:
        here = os.getcwd()
    except OSError:
        here = os.sep
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if git.is_repository(Path(here)) or not script:
        return here
    there = Path(script).resolve().parent
    return str(there) if git.is_repository(there) else here


def forget_after_fork() -> None:
    """Let a forked child look for itself; its parent may have been looking at that moment."""
    global _guard, _seen
    _guard, _seen = threading.RLock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_after_fork)
