"""Archived revisions are removed as a whole or not at all, and never what anybody else needs."""

from __future__ import annotations

from contextlib import suppress

import pytest

from rewind_logger.errors import ConfigError, CorruptError, RunNotFoundError
from rewind_logger.format import documents
from rewind_logger.format.names import RunPaths
from rewind_logger.history import evaluation, opening
from rewind_logger.history.claims import life
from rewind_logger.history.collect import collect
from rewind_logger.history.damage import report
from rewind_logger.history.evaluation import EvaluationWriter
from rewind_logger.history.opening import new_claim
from rewind_logger.history.remove import Removed, remove_revision
from rewind_logger.history.view import resolve
from rewind_logger.storage.base import Storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.figures import count
from tests.history.clocked import DAY, Clocked, flushes, objects
from tests.history.lines import RUN, end, forked, line, opened, read, rewound
from tests.history.machine import Killed, dying, requests_of
from tests.history.removing import CHILD, assert_sound, fill, removed

pytestmark = pytest.mark.usefixtures("one_segment_a_step")


def test_an_archived_revision_goes_and_what_it_shares_stays(store: Clocked) -> None:
    fill(store)
    head = read(store)
    done = removed(store, revision=1)
    assert done.objects == 6, "the segments of steps 4 to 9"
    with pytest.raises(RunNotFoundError, match="Revision 1 of run p/a was removed"):
        read(store, 1)
    with pytest.raises(RunNotFoundError, match="Revision 1 of run p/a was removed"):
        rewound(store, 2, revision=1)
    assert read(store) == head
    assert_sound(store)
    end(rewound(store, 3))
    assert read(store) == line(range(3))
    assert read(store, 2) == head
    assert removed(store, revision=1).objects == 0
    store.time += 8 * DAY
    collect(store, dry_run=False)
    assert read(store, 2) == head
    assert_sound(store)


@pytest.fixture
def damage_is_told_anew() -> None:
    report.cache_clear()


@pytest.mark.usefixtures("damage_is_told_anew")
def test_a_damaged_record_of_what_went_hides_no_row(
    store: Clocked, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what is missing with good reason; without it only that is not known."""
    monkeypatch.setattr(opening, "PLANNED_FILES", 0)  # of a plan nothing is missing
    fill(store)
    head = read(store)
    removed(store, revision=1)
    [path] = [path for path in objects(store) if path.endswith("/trimmed.json")]
    data = store.read(path)
    store.put(path, data[:-1])
    assert read(store) == head
    assert [path in one.getMessage() for one in caplog.records] == [True, False]
    assert "Flushes 4 to 9 of metrics" in caplog.records[1].getMessage()
    end(rewound(store, 4))
    assert read(store, 2) == head
    store.put(path, data)
    assert_sound(store)


def test_a_base_that_was_put_aside_from_another_term_is_not_taken(store: Clocked) -> None:
    """As no base is that lies in its place."""
    fill(store)
    end(rewound(store, 3))
    removed(store, revision=1)
    removed(store, revision=2)
    aside = [path for path in objects(store, RunPaths(RUN).terms) if path.endswith("/removed.json")]
    assert len(aside) == 2
    store.put(aside[0], store.read(aside[1]))
    with pytest.raises(CorruptError, match="objects were mixed up"):
        life(store, RUN, 1)


def test_the_present_revision_cannot_be_removed_alone(store: Clocked) -> None:
    fill(store)
    with pytest.raises(ConfigError, match=r"p/a@2 is the run's present revision.*restore.*whole run, 'p/a'"):
        removed(store, revision=2)
    with pytest.raises(RunNotFoundError, match="has no revision 3: it has revisions 1 to 2"):
        removed(store, revision=3)
    with pytest.raises(RunNotFoundError, match="no run p/x"):
        removed(store, RunRef("p", "x"), 1)


def test_a_revision_that_a_fork_needs_is_refused_or_shared(store: Clocked) -> None:
    fill(store)
    end(forked(store, "b", 8, revision=1))
    end(forked(store, "c", 2, revision=1))  # of which the present revision has all
    with pytest.raises(ConfigError, match=r"p/a@1 cannot be removed .*: p/b needs rows of it"):
        removed(store, revision=1)
    done = removed(store, revision=1, adopt=True)
    assert (done.objects, done.forks) == (2, ("p/b",)), "steps 8 and 9"
    assert read(store, run=CHILD) == line(range(8))
    with pytest.raises(RunNotFoundError):
        read(store, 1)
    assert_sound(store)


def test_a_restored_revision_keeps_what_it_was_restored_from(store: Clocked) -> None:
    fill(store)
    end(rewound(store, None, revision=1))
    removed(store, revision=1)
    removed(store, revision=2)
    assert read(store) == line(range(10))
    store.time += 8 * DAY
    collect(store, dry_run=False)
    assert read(store) == line(range(10))
    assert_sound(store)


def test_a_live_writer_goes_on_while_a_revision_is_removed(store: Clocked) -> None:
    fill(store)
    live = opened(store)
    flushes(live, [5])
    removed(store, revision=1)
    flushes(live, [6, 7])
    end(live)
    assert read(store) == line(range(4)) + line([4], turn=1) + line(range(5, 8))


def test_nothing_goes_while_the_run_is_being_opened(store: Clocked) -> None:
    """Whoever opens it may be about to go back to that very revision."""
    fill(store)
    store.create(RunPaths(RUN).claim(2), documents.encode_claim(new_claim("abcd", "opened", "")))
    done = remove_revision(store, RUN, 1, dry_run=False)
    assert (done.objects, "is being opened" in str(done)) == (0, True)
    with pytest.raises(RunNotFoundError):
        read(store, 1)
    store.time += 8 * DAY
    assert collect(store, dry_run=False).objects["removed runs and revisions"] == 6


def test_a_removal_of_a_revision_that_is_cut_short_can_be_continued(memory: MemoryStorage) -> None:
    def prepare(number: int) -> Storage:
        storage = MemoryStorage(f"{memory.url}/{number}")
        fill(storage)
        return storage

    def work(storage: Storage) -> Removed:
        return remove_revision(storage, RUN, 1, dry_run=False)

    stages = set()
    for number in range(requests_of(prepare(-1), work)):
        for after in (False, True):
            storage = prepare(2 * number + after)
            with suppress(Killed):  # one that looks for what is missing has no effect to be killed after
                work(dying(storage, number, after=after))
            count("requests cut short")
            with suppress(RunNotFoundError):
                assert read(storage, 1) == line(range(10)), "all of it or nothing"
                stages.add("there")
            assert read(storage) == line(range(4)) + line([4], turn=1)
            work(storage)
            with pytest.raises(RunNotFoundError):
                read(storage, 1)
            assert read(storage) == line(range(4)) + line([4], turn=1)
            assert not [path for path in objects(storage) if path.endswith("_9_9.parquet")]
    assert stages == {"there"}


def test_evaluations_go_with_what_they_are_the_measure_of(store: Clocked) -> None:
    fill(store)
    for revision, next_step in ((1, 3), (1, 9), (2, 5)):
        writer = EvaluationWriter(store, RUN, kind="test", revision=revision, next_step=next_step, checkpoint=None)
        writer.append({"accuracy": 0.5})
        writer.flush()
    removed(store, revision=1)
    left = evaluation.evaluations(store, resolve(store, RUN))
    assert [(one.about.revision, one.about.next_step) for one in left] == [(1, 3), (2, 5)]
    assert len(store.list(RunPaths(RUN).evaluations)) == 2
    removed(store)
    assert store.list(RunPaths(RUN).evaluations) == []
