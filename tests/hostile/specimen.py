"""A small store with an object of every kind, and what it should read as."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

from rewind_logger.errors import RewindError
from rewind_logger.format import documents, names, segment
from rewind_logger.format.documents import Alive
from rewind_logger.history import blobs, compact, cumulative
from rewind_logger.history.evaluation import EvaluationWriter
from rewind_logger.history.view import resolve
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef
from tests.history.lines import RUN, Line, end, forked, line, log, opened, read, rewound

FORK = RunRef("p", "b")

HEAD, ARCHIVED = (RUN, None), (RUN, 1)
PLACES: list[tuple[RunRef, int | None]] = [HEAD, ARCHIVED, (FORK, None)]
"""What is read: a head that was rewound, what was archived then, and a fork of that."""

EXPECTED: list[Line] = [
    line(range(5)) + line(range(5, 11), turn=1),
    line(range(10)),
    line(range(9)) + line(range(9, 11), turn=2),
]


def fill(storage: Storage) -> None:
    """Write the specimen."""
    with (
        mock.patch.multiple(cumulative, DUE_SEGMENTS=2, CLOSING_SEGMENTS=1, DUE_SHARE=0.0),
        mock.patch.object(compact, "CLOSING_PARTS", 2),
    ):
        writer = opened(storage)
        log(writer, range(4))
        writer.flush()
        log(writer, range(4, 7))
        writer.append("events", {"config": '{"lr":0.1}'}, 6)
        end(writer)
        writer = opened(storage)
        log(writer, range(7, 10))
        end(writer)
        writer = rewound(storage, 5)
        log(writer, range(5, 9), turn=1)
        writer.append("console", {"stdout": "epoch 1", "line": 0}, 8)
        end(writer)
        writer = opened(storage)
        log(writer, range(9, 11), turn=1)
        end(writer)
        writer = forked(storage, FORK.id, 9, 1)
        log(writer, range(9, 11), turn=2)
        end(writer)
    for run, revision, value in ((RUN, 2, 0.5), (RUN, 2, 0.6), (FORK, 1, 0.7)):
        evaluation = EvaluationWriter(
            storage, run, kind="test", revision=revision, next_step=6, checkpoint="step=6.ckpt"
        )
        evaluation.append({"acc": value})
        evaluation.flush()
    head = resolve(storage, RUN)
    for folder in (head.folder, head.entries[0].folder, resolve(storage, FORK).folder):
        alive = Alive(nonce=names.writer(folder) or "", at_ms=1_763_888_888_888)
        storage.put(names.alive(folder), documents.encode_alive(alive))
    forked(storage, "d", 3).close()
    blobs.put(storage, b"a blob that nothing refers to")


def objects(storage: Storage, folder: str = "") -> Iterator[str]:
    """Yield the paths of all objects, in order."""
    for info in storage.list(folder):
        path = f"{folder}/{info.name}".lstrip("/")
        if info.size is None:
            yield from objects(storage, path)
        else:
            yield path


class Outcome(NamedTuple):
    """What one place read as."""

    rows: Line | None
    """None: not at all."""
    error: str


def read_all(storage: Storage) -> list[Outcome]:
    """Read every place; an error that is none of ours is not caught."""
    found = []
    for run, revision in PLACES:
        try:
            found.append(Outcome(read(storage, revision, run=run), ""))
        except RewindError as error:
            found.append(Outcome(None, str(error)))
    return found


def rows_in(path: str, data: bytes) -> Line:
    """Return the rows that an object holds, if it is a segment of metrics."""
    if "/s/metrics/" not in path:
        return []
    return [(row.clock, row.values["a"]) for row in segment.to_rows(segment.decode(data)) if "a" in row.values]
