"""The writers of this process that have a run open: in a child that is forked they are its parent's."""

from __future__ import annotations

import functools
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rewind_logger.history.writer import Writer

writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def add(writer: Writer) -> None:
    """Have forked children let go of a writer, until it is discarded from `writers`."""
    _watch_forks()
    writers.add(writer)


@functools.cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_disown_all)


def _disown_all() -> None:
    for writer in list(writers):
        writer._disown()
