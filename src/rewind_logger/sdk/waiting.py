"""What is said while somebody waits for a store."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rewind_logger.format.wording import counted
from rewind_logger.sdk import notice
from rewind_logger.sdk.console import tap
from rewind_logger.types import RunRef

FIRST_S = 2.0
"""How long nothing is said: most waits are shorter."""

REPEATED_S = 10.0
"""How often a line is said where it cannot be written over."""


class Waiting:
    """Says how far it is, to be called about once a second: one line that changes on a terminal, else a line at times.

    Used as a context, at whose end the line on the terminal is wiped.
    """

    def __init__(self, describe: Callable[[], str], now: Callable[[], float] = time.monotonic) -> None:
        """Begin to wait.

        Args:
            describe: Returns the sentence.
            now: Seconds, on a clock that is monotonic.
        """
        self._describe = describe
        self._now = now
        self._next = now() + FIRST_S
        self._terminal: TextIO | None = None  # on which a line stands

    def __call__(self) -> None:
        """Say how far it is, if it is time."""
        if self._now() < self._next or notice.is_quiet():
            return
        if _is_terminal(sys.stderr):
            self._next = self._now()
            self._write(sys.stderr, f"rewind-logger: {self._describe()}")
            self._terminal = sys.stderr
        else:
            self._next = self._now() + REPEATED_S
            notice.say(self._describe())

    def __enter__(self) -> Waiting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wipe the line."""
        if self._terminal is not None:
            self._write(self._terminal, "")

    def _write(self, terminal: TextIO, text: str) -> None:
        with contextlib.suppress(Exception), tap.unheard():  # as `notice.say`
            terminal.write(f"\r\x1b[K{text}")
            terminal.flush()


def rows_left(run: RunRef, store: str, rows: int, seconds: float) -> str:
    """Say what the end of a run waits for.

    Args:
        run: The run.
        store: Where its store is.
        rows: How many rows are not there yet.
        seconds: How much longer it waits at most.
    """
    what = f"{counted(rows, 'row')} {'is' if rows == 1 else 'are'} still to come into" if rows else _TO_BE_NOTED
    return f"run {run}: {what} {store}; waiting {max(0.0, seconds):.0f} s."


_TO_BE_NOTED = "that it ends is still to be noted in"


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False
