"""Processes and threads that race for names; importable by processes that are started."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from threading import Barrier

from rewind_logger.storage import Storage

_barrier: Barrier


def content_of(racer: int, name: str) -> bytes:
    """What a racer writes: long enough to be seen half written."""
    return f"{racer} {name} ".encode() * 500


def race(storage: Storage, racer: int, names: Sequence[str], start: Barrier | None = None) -> list[str]:
    """Create every name at the same time as the others; return those that this racer was told to have created."""
    start = start or _barrier
    storage.list("race")  # Connects, and in a started process imports.
    won = []
    for name in names:
        start.wait(timeout=120)
        if storage.create(f"race/{name}", content_of(racer, name)):
            won.append(name)
    return won


def race_of_processes(storage: Storage, names: Sequence[str], racers: int = 4) -> list[list[str]]:
    """Let started processes race; return what each was told to have created."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(racers, context, _set_barrier, (context.Barrier(racers),)) as pool:
        return _results(lambda racer: pool.submit(race, storage, racer, names).result, racers)


def race_of_threads(storage: Storage, names: Sequence[str], racers: int = 4) -> list[list[str]]:
    """Let threads race; return what each was told to have created."""
    start = Barrier(racers)
    with ThreadPoolExecutor(racers) as pool:
        return _results(lambda racer: pool.submit(race, storage, racer, names, start).result, racers)


def _results(begin: Callable[[int], Callable[[], list[str]]], racers: int) -> list[list[str]]:
    """Begin all before waiting for any."""
    return [result() for result in [begin(racer) for racer in range(racers)]]


def _set_barrier(barrier: Barrier) -> None:
    """Give a process its barrier, which can only be inherited."""
    global _barrier
    _barrier = barrier
