"""How far a verification has come, in a file, so that one which was interrupted goes on."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rewind_logger.errors import ConfigError
from rewind_logger.history.verifying.report import Problem

Facts = tuple[int, int, int]
"""Of a segment: its smallest and its largest row number (both inclusive), and how many rows it has."""

NO_ROWS: Facts = (0, -1, 0)


@dataclass(slots=True)
class Step:
    """What looking at a few objects came to."""

    folder: str = ""
    """Of a stream …"""
    segments: dict[str, Facts | None] = field(default_factory=dict)
    """… the names of the segments that were looked at; None for a damaged one."""
    prefix: str | None = None
    """The folder of blobs that was looked at whole."""
    blobs: list[str] = field(default_factory=list)
    """Those that were read and hold what they should."""
    counts: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    def took(self, kind: str, size: int) -> None:
        """Count an object that was read."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.bytes += size


class State:
    """What was checked so far, and what it came to: a file of JSON lines, to which each step adds one.

    Without a file nothing is remembered beyond this verification.
    """

    def __init__(self, path: Path | None, url: str, name: str | None) -> None:
        """Read the file, if there is one.

        Raises:
            ConfigError: If it is of another store or run, or none of ours.
            OSError: If it cannot be read or written.
        """
        self._path = path
        self._about = {"verify": 1, "store": url, "run": name}
        self._begun = False
        self.counts: Counter[str] = Counter()
        self.rows = 0
        self.bytes = 0
        self.problems: list[Problem] = []
        self.segments: dict[str, dict[str, Facts | None]] = {}
        """Of an earlier verification, by folder of a stream and name."""
        self.blobs: set[bytes] = set()
        """Of an earlier verification, those that hold what they should."""
        self.prefixes: set[str] = set()
        """Folders of blobs that were all checked."""
        if path is not None:
            self._load(path)

    def add(self, step: Step) -> None:
        """Note what a step came to.

        Raises:
            OSError: If the file cannot be written.
        """
        self._count(step)
        if self._path is not None:
            lines = [asdict(step)] if self._begun else [self._about, asdict(step)]
            with open(self._path, "a" if self._begun else "w", encoding="utf-8") as file:
                file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
            self._begun = True

    def remove(self) -> None:
        """Remove the file: there is nothing left to do."""
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    def _load(self, path: Path) -> None:
        """Read what an earlier verification wrote, and go on where its last whole line ends."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        try:
            about, *lines = map(json.loads, whole.splitlines())
            if about != self._about:
                raise ValueError(f"it says {about}")
            for line in lines:
                self._take(Step(**{**line, "problems": [Problem(**fields) for fields in line["problems"]]}))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path} is not the state of a verification of {self._about['run'] or 'all runs'} in "
                f"{self._about['store']}: name another file, or delete it to begin anew. ({error})"
            ) from error
        os.truncate(path, len(whole))
        self._begun = True

    def _take(self, step: Step) -> None:
        """Remember a step of an earlier verification."""
        self._count(step)
        known = self.segments.setdefault(step.folder, {})
        for name, facts in step.segments.items():
            known[name] = None if facts is None else (facts[0], facts[1], facts[2])
        self.blobs.update(map(bytes.fromhex, step.blobs))
        if step.prefix is not None:
            self.prefixes.add(step.prefix)

    def _count(self, step: Step) -> None:
        self.counts.update(step.counts)
        self.rows += step.rows
        self.bytes += step.bytes
        self.problems += step.problems
