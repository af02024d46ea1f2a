"""A store to verify, and what is in it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rewind_logger.format import names
from rewind_logger.format.names import RunPaths
from rewind_logger.history.collecting.needs import roots
from rewind_logger.history.evaluation import EvaluationWriter
from rewind_logger.history.verifying.report import Problem, VerifyReport
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef
from tests.history.lines import RUN, end, forked, log, opened, rewound

FORK = RunRef("p", "b")


def fill(storage: Storage) -> None:
    """Write a run with everything that a run can have, and a fork of it."""
    writer = opened(storage)
    for step in range(0, 40, 4):
        log(writer, range(step, step + 4))
        writer.append("events", {"config": "{}"}, step)
        writer.flush()
    end(writer)
    writer = rewound(storage, 20)
    log(writer, range(20, 30), turn=1)
    end(writer)
    for turn in range(2, 6):  # more terms than a lineage may have before its ancestors are merged
        writer = opened(storage)
        start = writer.next_step
        log(writer, range(start, start + 5), turn=turn)
        end(writer)
    child = forked(storage, "b", 25)
    log(child, range(25, 30), turn=9)
    end(child)
    evaluation = EvaluationWriter(storage, RUN, kind="test", revision=2, next_step=25, checkpoint=None)
    evaluation.append({"acc": 0.5})
    evaluation.flush()


def paths(storage: Storage, folder: str = "") -> Iterator[str]:
    """Yield every object of a store."""
    for info in storage.list(folder):
        path = f"{folder}/{info.name}" if folder else info.name
        if info.size is None:
            yield from paths(storage, path)
        else:
            yield path


def terms(storage: Storage, run: RunRef = RUN) -> list[str]:
    """Return the folders of the terms of a run, in their order."""
    folder = RunPaths(run).terms
    return [f"{folder}/{info.name}" for info in storage.list(folder)]


def segments_of(storage: Storage, folder: str) -> list[str]:
    return [path for path in paths(storage, folder) if "/s/" in path]


def is_read(storage: Storage, path: str) -> bool:
    """Say whether anybody reads a segment: one that was merged, or is of ancestors that were, is only kept."""
    folder, _, name = path.rpartition("/")
    of, _, _ = path.partition("/s/")
    if "/t/" in of and not any(roots(storage, run, math.inf).needs.of(of) for run in (RUN, FORK)):
        return False
    found = names.SegmentName.parse(name)
    others = [names.SegmentName.parse(info.name) for info in storage.list(folder)]
    assert found is not None
    return not any(o and o != found and o.first <= found.first and found.last <= o.last for o in others)


def damage(storage: Storage, path: str) -> None:
    data = storage.read(path)
    storage.put(path, data[:-1])


def only(report: VerifyReport) -> Problem:
    """Return the one problem of a report."""
    assert len(report.problems) == 1, report
    return report.problems[0]
