"""Taps on stdout and stderr: whoever listens hears what Python code writes there.

What is written is neither redirected nor buffered: the stream object's own `write` does its work and returns, and then
a copy is passed on. So it does not matter what kind of object it is (a file, a notebook's, the one of a test runner),
nor that others hold it (logging handlers, progress bars) or put a `write` of their own on top of ours.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

LOG = logging.getLogger("rewind_logger")

Listener = Callable[[str, str], None]
"""Takes "stdout" or "stderr", and a text. It must not raise, nor wait: the process is printing."""

_lock = threading.RLock()  # re-entrant: a signal's handler may open a run
_listeners: tuple[Listener, ...] = ()
_taps: list[_Tap] = []
_unheard: set[int] = set()  # threads
_inside = threading.local()  # `tap`: the outermost tapped write that this thread is in


def listen(listener: Listener) -> None:
    """Have a listener hear what is written to what are stdout and stderr now, or were at an earlier call."""
    global _listeners
    _watch_forks()
    with _lock:
        if listener not in _listeners:
            _listeners = (*_listeners, listener)
        _tap()
        _follow_notebook(True)


def leave(listener: Listener) -> None:
    """Let a listener go; the streams are as they were once nobody listens."""
    global _listeners
    with _lock:
        _listeners = tuple(other for other in _listeners if other != listener)
        if not _listeners:
            _taps[:] = [tap for tap in _taps if not tap.remove()]
            _follow_notebook(False)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Let nobody hear what this thread writes within."""
    thread = threading.get_ident()
    _unheard.add(thread)
    try:
        yield
    finally:
        _unheard.discard(thread)


def _tap() -> None:
    """Tap what are stdout and stderr now, unless that was done."""
    for tap in [tap for tap in _taps if not tap.is_there]:
        _taps.remove(tap)
    for source in ("stdout", "stderr"):
        stream = getattr(sys, source, None)
        # Rich puts a proxy there while it shows a bar, which moves the cursor around what is printed meanwhile.
        stream = getattr(stream, "rich_proxied_file", stream)
        if stream is not None and not any(tap.stream is stream for tap in _taps):
            try:
                _taps.append(_Tap(source, stream))
            except Exception as error:
                LOG.debug("What is written to %s, %r, cannot be recorded: %s", source, stream, error)


def _follow_notebook(begin: bool) -> None:
    """Tap anew in each cell: IPython (9) puts a `write` of its own on top for each, and then back what it found."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        with contextlib.suppress(Exception):
            shell.events.unregister("pre_run_cell", _begin_cell)
        if begin:
            shell.events.register("pre_run_cell", _begin_cell)


def _begin_cell(info: object) -> None:
    with _lock:
        if _listeners:
            _tap()


class _Tap:
    """A `write` in the place of a stream's own."""

    def __init__(self, source: str, stream: Any) -> None:
        self.stream = stream
        self._own = stream.write
        self._had = "write" in getattr(stream, "__dict__", ())
        write = _tapped(self, self._own, source)
        stream.write = write
        # Weakly, to see when it is gone: others who had put theirs below ours take it off with their own.
        self._write = weakref.ref(write)

    @property
    def is_there(self) -> bool:
        """Whether the stream still calls it, perhaps by the `write` of somebody else."""
        return self._write() is not None

    def remove(self) -> bool:
        """Put the stream's own `write` back, unless another is on top of ours; return whether it is gone."""
        write = self._write()
        if write is None:
            return True
        try:
            if self.stream.write is not write:
                return False
            if self._had:
                self.stream.write = self._own
            else:
                try:
                    del self.stream.write
                except AttributeError:  # an object that passes on what is set, and not what is deleted
                    self.stream.write = self._own
        except Exception as error:
            LOG.debug("The write of %r could not be put back: %s", self.stream, error)
            return False
        return True


def _tapped(tap: _Tap, own: Callable[..., Any], source: str) -> Callable[..., Any]:
    """Return a `write` that does what `own` does, and then has the listeners hear it."""
    inside, this_thread = _inside, threading.get_ident  # these are there to the very end of the process

    @functools.wraps(own, updated=())
    def write(*args: Any, **kwargs: Any) -> Any:
        # A stream may pass on to the other one, or to one that was here before it: that is one write. One to the same
        # stream comes from a signal's handler, and is another.
        outer = getattr(inside, "tap", None)
        inside.tap = tap
        try:
            result = own(*args, **kwargs)
        finally:
            inside.tap = outer
        if _listeners and (outer is None or outer is tap) and not (_unheard and this_thread() in _unheard):
            text = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(text, str) and text:
                for listener in _listeners:
                    listener(source, text)
        return result

    return write


@functools.cache
def _watch_forks() -> None:
    """Have forked children hear nothing."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_leave_all)


def _leave_all() -> None:
    global _listeners, _lock
    _lock = threading.RLock()
    _listeners = ()
    _unheard.clear()
    _taps[:] = [tap for tap in _taps if not tap.remove()]
