"""A run that is finished and stays open, as a trainer's does, costs nothing until it is logged to again."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import CountingStorage
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.history.lines import RUN, end, line, log, opened, read
from tests.history.machine import journals
from tests.history.processes import HEAD, running

FINISHED = (
    HEAD
    + """
writer = Writer(storage, run)
writer.open(OpenRequest())
log(*range(10))
assert writer.finish("finished")
"""
)


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="nothing tells the open files here")
def test_finished_runs_hold_neither_threads_nor_files(local: LocalStorage) -> None:
    threads, files, writers = threading.active_count(), descriptors(), []
    for number in range(20):
        writer = opened(local, RunRef(RUN.project, f"r{number}"), background=True)
        log(writer, range(3))
        assert writer.finish("finished")
        writers.append(writer)
    assert (threading.active_count(), descriptors()) == (threads, files)
    for writer in writers:
        end(writer)


def test_rows_that_come_after_the_end_go_on_in_the_same_term(storage: Storage) -> None:
    writer = opened(storage, background=True)
    for turn in range(3):
        log(writer, range(10 * turn, 10 * turn + 10))
        assert writer.finish("finished", 60)
    assert read(storage) == line(range(30))
    assert writer.opened is not None
    assert writer.opened.base.number == 0
    log(writer, [30])
    end(writer)
    assert read(storage) == line(range(31))


def test_rows_that_come_after_the_end_are_flushed_by_themselves(local: LocalStorage) -> None:
    writer = opened(local, background=True)
    log(writer, range(3))
    assert writer.finish("finished")
    assert journals(local) == []
    log(writer, [3])
    assert len(journals(local)) == 1
    assert writer._flusher is not None
    assert writer._flusher.request(60)
    assert read(local) == line(range(4))
    end(writer)


def test_rows_that_come_after_the_end_are_brought_in_after_a_kill(local: LocalStorage, tmp_path: Path) -> None:
    with running(FINISHED + "log(10, 11)\nsay('ready')\ninput()", tmp_path, local.url) as script:
        script.hear("ready")
        script.kill()
    writer = opened(local)
    assert writer.opened is not None
    assert writer.opened.start == 12
    end(writer)
    assert read(local) == line(range(12))
    assert journals(local) == []


def test_to_end_once_more_costs_nothing(memory: MemoryStorage) -> None:
    storage = CountingStorage(memory)
    writer = opened(storage, background=True)
    log(writer, range(3))
    assert writer.finish("finished")
    before = storage.traffic
    end(writer)
    assert storage.traffic == before
