"""The runs that this process has open: finished at its end, and no longer its own in a forked child."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from rewind_logger.types import RunRef

LOG = logging.getLogger("rewind_logger")


class OpenRun(Protocol):
    """What must be done to a run from here."""

    @property
    def failed(self) -> bool:
        """Whether it is known to have failed already."""

    def flush(self, timeout: float | None = None) -> bool:
        """Bring what was logged into the store."""

    def finish(self, exit_code: int = 0) -> None:
        """Finish it."""

    def _disown(self) -> None:
        """Leave it to the parent of this process."""


_open: dict[tuple[str, RunRef], OpenRun] = {}
"""By store and run. Held strongly: a run that a script has let go of is still to be finished."""

_last_calls: list[Callable[[bool], None]] = []
"""What is called before runs are finished, since it may open some; it is given whether the process died."""


def add(store: str, run: RunRef, opened: OpenRun) -> None:
    """Keep a run until `remove`."""
    _watch_process()
    _open[store, run] = opened


def remove(store: str, run: RunRef, finished: OpenRun) -> None:
    """Let a finished run go."""
    if _open.get((store, run)) is finished:
        del _open[store, run]


def get(store: str, run: RunRef) -> OpenRun | None:
    """Return the run of this process that is open under this name, if there is one."""
    return _open.get((store, run))


def at_end(call: Callable[[bool], None]) -> None:
    """Have something called at the end of the process, while runs can still be opened.

    Args:
        call: Is given whether an exception ends the process that nobody caught.
    """
    _watch_process()
    _last_calls.append(call)


@functools.cache
def _watch_process() -> None:
    """Have the end of the process, and forks of it, noticed."""
    # Earlier than atexit: s3fs resolves names in an executor, and by then executors take no more work. It is this
    # registration that executors themselves use; what was registered last is called first.
    register = getattr(threading, "_register_atexit", None)
    try:
        (register or atexit.register)(_end)
    except RuntimeError:  # the interpreter is ending already
        atexit.register(_finish_all)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_disown_all)


def _end() -> None:
    """Finish what is open, once nobody can log to it any more."""
    if not _others_work() or _calls_no_atexit():
        _finish_all()
        return
    # Python calls this before it waits for them, and `atexit` after that. They are not waited for here: one may wait
    # for something that only those who are called after us let go. A store whose backend needs an executor is out of
    # reach by then, so it gets now what there is, and the journal the rest.
    atexit.register(_finish_all)
    for run in list(_open.values()):
        with contextlib.suppress(Exception):  # the end says what is not in the store
            run.flush()


def _others_work() -> bool:
    """Say whether threads go on that Python waits for at its end, such as one that trains."""
    frames = sys._current_frames()
    mine = (threading.current_thread(), threading.main_thread())
    return any(
        not (thread.daemon or thread in mine or _is_idle(frames.get(thread.ident or 0)))
        for thread in threading.enumerate()
    )


def _calls_no_atexit() -> bool:
    """Say whether this is a process of `multiprocessing` that ends by `os._exit`, and so with this very call."""
    processes = sys.modules.get("multiprocessing.process")
    started = None if processes is None else getattr(processes.current_process(), "_start_method", None)
    return started in ("fork", "forkserver")


def _is_idle(frame: FrameType | None) -> bool:
    """Say whether a thread is one of a pool that has no work for it: backends of stores keep such ones."""
    return frame is not None and frame.f_globals.get("__name__") == "concurrent.futures.thread"


def _finish_all() -> None:
    """Finish what is still open."""
    died = _died()
    for call in _last_calls:
        try:
            call(died)
        except Exception:
            LOG.exception("Rows that waited for a run to be opened are kept in its journal.")
    for run in list(_open.values()):
        try:
            run.finish(exit_code=1 if died or run.failed else 0)
        except Exception:
            LOG.exception("A run could not be finished at the end of the process.")
    _last_calls.clear()
    _open.clear()


def _died() -> bool:
    """Say whether the process ends by an exception that nobody caught; in a session with a prompt one is no end."""
    failure = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return failure is not None and not hasattr(sys, "ps1")


def _disown_all() -> None:
    for run in _open.values():
        with contextlib.suppress(Exception):
            run._disown()
    _last_calls.clear()
    _open.clear()
