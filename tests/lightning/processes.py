"""New processes in which lightning is loaded already: real ones, that can be killed, within milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.lightning.small", "rewind_logger.lightning.callback", "s3fs"])


class Ended(NamedTuple):
    """What is left of a process."""

    code: int | None
    """Negative if a signal ended it."""
    stderr: str


def run(folder: Path, function: Callable[..., object], *args: Any, **environment: str) -> Ended:
    """Call a function of a module in a new process, and wait for the end of that.

    Args:
        folder: Where it keeps what is said.
        function: What to call; its module is imported there.
        args: For the function; these are pickled.
        environment: Further variables.
    """
    said = folder / f"{function.__name__}.stderr"
    process = _context.Process(target=_call, args=(function, args, environment, str(said)))
    process.start()
    process.join(120)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"{function.__name__} did not end; it said:\n{said.read_text()}")
    return Ended(process.exitcode, said.read_text())


def _call(function: Callable[..., object], args: tuple[Any, ...], environment: dict[str, str], said: str) -> None:
    with open(said, "w") as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.update(environment)
    warnings.simplefilter("ignore")
    function(*args)
