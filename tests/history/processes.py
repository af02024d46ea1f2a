"""Scripts in processes of their own, which tests talk to line by line, kill, and wait for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Script:
    """A script that runs; it reads a line where it is to wait, and prints what it has to tell."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def hear(self, expected: str = "") -> str:
        """Wait for a line, which begins with `expected`."""
        line = _pipe(self._process.stdout).readline().rstrip("\n")
        if not line.startswith(expected) or not line:
            self._process.kill()
            raise AssertionError(f"{line!r} was heard, not {expected!r}: {self._process.communicate()[1]}")
        return line

    def go_on(self) -> None:
        """Let it read a line."""
        self.tell("")

    def tell(self, line: str) -> None:
        """Let it read this line."""
        stdin = _pipe(self._process.stdin)
        stdin.write(f"{line}\n")
        stdin.flush()

    def kill(self) -> None:
        """Kill it, as `kill -9` does; what it started lives on."""
        self._process.kill()
        self._process.wait()

    def end(self) -> str:
        """Wait for its end, which must be a good one; return what it said on stderr."""
        _, errors = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, errors
        return errors


def _pipe(found: IO[str] | None) -> IO[str]:
    assert found is not None
    return found


@contextmanager
def running(
    code: str, folder: Path, *arguments: str, before: Sequence[str] = (), **environment: str
) -> Iterator[Script]:
    """Run a script in a folder; `sys.argv[1:]` are the arguments, and `before` is what precedes the command."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [*before, sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Script(process)
    finally:
        process.kill()
        process.communicate()


HEAD = """
import sys
from rewind_logger.errors import FencedError
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.writer import Writer
from rewind_logger.storage import open_storage
from rewind_logger.types import Position, RunRef

run = RunRef("p", "a")
storage = open_storage(sys.argv[1])
writer = Writer(storage, run)

def log(*steps):
    for step in steps:
        writer.append("metrics", {"a": step}, step)

def say(*words):
    print(*words, flush=True)
"""
"""How scripts begin that write run p/a of the store that they are given."""
