"""Damage: what is said of an object that cannot be read, while the rest is."""

from __future__ import annotations

import functools
import logging

LOG = logging.getLogger("rewind_logger")


@functools.lru_cache(maxsize=4096)
def report(sentence: str) -> None:
    """Name a damaged or missing object in the log, once in a process however often it is met."""
    LOG.error("%s", sentence)
