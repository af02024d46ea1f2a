"""The state of the git repository that a script runs in. Nothing is asked of the user, and nothing changed."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from rewind_logger.sdk.provenance.masking import without_secrets
from rewind_logger.storage.redact import public_url

MAX_DIFF_BYTES = 1 << 20
MAX_UNTRACKED = 1000
TIMEOUT_S = 5.0
"""For all that is asked of git: in a huge working tree, or on a disk that hangs, it is done without."""

_QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "", "LC_ALL": "C"}
"""No question, and no refreshed index: somebody may be committing at this moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """A working tree at one moment."""

    commit: str | None
    """The hash of HEAD; None before the first commit."""
    branch: str | None
    """None where HEAD is detached."""
    remote: str | None
    """The URL of `origin`, or of the first remote that there is, without user and password."""
    dirty: bool
    """Whether tracked files differ from the commit."""
    diff: str
    """The difference of tracked files from the commit; of binary files only that they differ."""
    diff_cut: bool
    """Whether it was longer, and only its first `MAX_DIFF_BYTES` are here."""
    untracked: tuple[str, ...]
    """Names of files and folders that git does not know; their contents are not kept."""


def describe(directory: str) -> Git | None:
    """Return the state of the working tree that a directory is in; None if it is in none, or git does not tell."""
    if not is_repository(Path(directory)):
        return None
    deadline = time.monotonic() + TIMEOUT_S
    status, _ = _ask(directory, deadline, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal")
    if status is None:
        return None
    about: dict[str, str] = {}
    untracked, dirty = [], False
    fields = iter(_text(status).split("\0"))
    for field in fields:
        kind, _, rest = field.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            about[name] = value
        elif kind == "?":
            untracked.append(rest)
        elif kind in ("1", "2", "u"):
            dirty = True
            if kind == "2":  # renamed: the old name is a field of its own
                next(fields, None)
    commit, branch = about.get("branch.oid"), about.get("branch.head")
    diff, cut = b"", False
    if dirty and commit != "(initial)":
        found, cut = _ask(directory, deadline, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")
        diff = found or b""
    return Git(
        commit=None if commit == "(initial)" else commit,
        branch=None if branch == "(detached)" else branch,
        remote=_remote(directory, deadline),
        dirty=dirty,
        diff=without_secrets(_text(diff)),
        diff_cut=cut,
        untracked=tuple(untracked[:MAX_UNTRACKED]),
    )


def _remote(directory: str, deadline: float) -> str | None:
    found, _ = _ask(directory, deadline, "config", "-z", "--get-regexp", r"^remote\..*\.url$")
    urls = dict(entry.split("\n", 1) for entry in _text(found or b"").split("\0") if "\n" in entry)
    if not urls:
        return None
    return public_url(urls.get("remote.origin.url") or next(iter(urls.values())))


def is_repository(directory: Path) -> bool:
    """Look for a repository, so that git is not started where there is none."""
    try:
        return "GIT_DIR" in os.environ or any((folder / ".git").exists() for folder in (directory, *directory.parents))
    except OSError:
        return False


def _ask(directory: str, deadline: float, *arguments: str) -> tuple[bytes | None, bool]:
    """Return what git says, None if it fails; and whether that was cut."""
    # A monitor of the file system is a program that the repository's configuration names, and so is a pager.
    command = ["git", "--no-pager", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments]
    try:
        with subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **_QUIET},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # on Windows
        ) as process:
            return _read(process, deadline)
    except (OSError, ValueError):  # there is no git, or no such directory any more
        return None, False


def _read(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes | None, bool]:
    """Return what a process says up to the limit, which is all that is held in memory."""
    assert process.stdout is not None
    late = threading.Timer(max(0.0, deadline - time.monotonic()), process.kill)
    late.daemon = True
    late.start()
    try:
        said = process.stdout.read(MAX_DIFF_BYTES + 1)
        if len(said) <= MAX_DIFF_BYTES:
            return (said, False) if process.wait() == 0 else (None, False)
    finally:
        late.cancel()
        process.kill()
    return said[:MAX_DIFF_BYTES], True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
