"""Runs to remove, and how they are removed."""

from __future__ import annotations

from rewind_logger.history.remove import Removed, remove_revision, remove_run
from rewind_logger.history.verify import verify
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef
from tests.history.clocked import flushes, objects
from tests.history.lines import RUN, end, log, opened, rewound

CHILD = RunRef("p", "b")


def fill(storage: Storage) -> None:
    """Two revisions: steps 0 to 9, and 0 to 3 with another 4."""
    writer = opened(storage)
    flushes(writer, range(10))
    end(writer)
    writer = rewound(storage, 4)
    log(writer, [4], turn=1)
    end(writer)


def removed(storage: Storage, run: RunRef = RUN, revision: int | None = None, *, adopt: bool = False) -> Removed:
    """Remove; what would be removed was said before, and nothing but that goes."""
    before = objects(storage)

    def remove(dry_run: bool) -> Removed:
        if revision is None:
            return remove_run(storage, run, dry_run=dry_run, adopt=adopt)
        return remove_revision(storage, run, revision, dry_run=dry_run, adopt=adopt)

    would = remove(True)
    assert objects(storage) == before
    done = remove(False)
    assert (would.objects, would.bytes) == (done.objects, done.bytes)
    return done


def assert_sound(storage: Storage) -> None:
    report = verify(storage)
    assert not report.problems, str(report)
