"""What comes while a removal is at work is none of its business: forks, terms that go on, another run of that name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from rewind_logger.errors import ConfigError, FencedError, RunNotFoundError
from rewind_logger.history import catalog
from rewind_logger.history.collect import collect
from rewind_logger.history.remove import Removed, remove_revision, remove_run
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import FaultyStorage, Request
from rewind_logger.storage.memory import MemoryStorage
from tests.figures import count
from tests.history.clocked import flushes
from tests.history.lines import RUN, end, forked, line, log, opened, read, rewound
from tests.history.machine import Killed, dying, requests_of
from tests.history.removing import CHILD, assert_sound, removed

pytestmark = pytest.mark.usefixtures("one_segment_a_step")


def log_two_revisions(storage: Storage, *, turn: int = 0) -> None:
    """Steps 0 to 2, each a segment, and a rewind to 1."""
    writer = opened(storage)
    for step in range(3):
        log(writer, [step], turn=turn)
        writer.flush()
    end(writer)
    end(rewound(storage, 1))


@pytest.mark.parametrize("revision", [None, 1])
def test_a_fork_that_is_made_at_any_moment_of_a_removal_keeps_its_rows(
    memory: MemoryStorage, revision: int | None
) -> None:
    """Found by the model check: one that came after the removal had listed the runs was not asked what it needs."""

    def race(number: int | None) -> int:
        """Fork the run at one of the requests of a removal; return how many there were."""
        storage = MemoryStorage(f"{memory.url}/{number}")
        log_two_revisions(storage)

        def fork(request: Request) -> None:
            if request.number == number:
                with suppress(RunNotFoundError):
                    end(forked(storage, "b", 3, revision=1))

        faulty = FaultyStorage(storage, fork)
        with suppress(ConfigError):
            if revision is None:
                remove_run(faulty, RUN, dry_run=False)
            else:
                remove_revision(faulty, RUN, revision, dry_run=False)
        if CHILD in catalog.runs(storage):
            count("rows checked", 3)
            found = read(storage, run=CHILD)
            count("rows lost", 3 - len(found))
            assert found == line(range(3)), f"forked at request {number}"
            assert_sound(storage)
        return faulty._number

    for number in range(race(None)):
        race(number)


def test_a_term_that_is_begun_and_forked_at_any_moment_of_a_removal_keeps_its_rows(memory: MemoryStorage) -> None:
    """Found by the model check: what the fork did not need of the term went, for what the run needs was not known."""

    def race(number: int | None) -> int:
        """Go on with the run, and fork it in the midst of that, at one of the requests of a removal."""
        storage = MemoryStorage(f"{memory.url}/{number}")
        log_two_revisions(storage)

        def go_on(request: Request) -> None:
            if request.number == number:
                writer = opened(storage)
                flushes(writer, range(1, 4))
                end(forked(storage, "b", 2))
                writer.close()

        faulty = FaultyStorage(storage, go_on)
        with suppress(ConfigError):
            remove_revision(faulty, RUN, 1, dry_run=False)
        if number is not None:
            count("rows checked", 4)
            assert read(storage) == line(range(4)), f"gone on with at request {number}"
            assert_sound(storage)
        return faulty._number

    for number in range(race(None)):
        race(number)


@pytest.mark.parametrize("remove", [remove_run, partial(remove_revision, revision=1)], ids=["run", "revision"])
def test_a_run_that_is_begun_anew_at_any_moment_of_a_removal_keeps_its_rows(
    memory: MemoryStorage, remove: Callable[..., Removed]
) -> None:
    """What is removed is what was there when it began, and nothing of another run of that name."""

    def race(number: int | None) -> set[int]:
        """Begin the run anew at one of the requests of a removal; return which revisions it has, or all requests."""
        storage = MemoryStorage(f"{memory.url}/{number}")
        log_two_revisions(storage)

        def begin_anew(request: Request) -> None:
            if request.number == number:
                with suppress(RunNotFoundError):
                    remove_run(storage, RUN, dry_run=False)
                log_two_revisions(storage, turn=1)
                end(forked(storage, "b", 2, revision=1))

        faulty = FaultyStorage(storage, begin_anew)
        with suppress(RunNotFoundError, ConfigError):
            remove(faulty, RUN, dry_run=False)
        if number is None:
            return set(range(faulty._number))
        left = set()
        for revision, expected in ((1, line(range(3), turn=1)), (2, line(range(1), turn=1))):
            with suppress(RunNotFoundError):  # whoever looked only now has removed this run
                assert read(storage, revision) == expected, f"begun anew at request {number}"
                left.add(revision)
        assert read(storage, run=CHILD) == line(range(2), turn=1)
        assert_sound(storage)
        return left

    assert [race(number) for number in race(None)][-1] == {1, 2}


def test_a_fork_is_not_made_of_a_run_that_was_removed_and_begun_anew_meanwhile(memory: MemoryStorage) -> None:
    """Found by the model check: that there was a run of that name again was taken for a sign that nothing had gone."""

    def race(number: int | None) -> int:
        """Remove the run and begin it anew at one of the requests of a fork; return how many there were."""
        storage = MemoryStorage(f"{memory.url}/{number}")
        log_two_revisions(storage)

        def begin_anew(request: Request) -> None:
            if request.number == number:
                with suppress(ConfigError):  # the fork is being made
                    remove_run(storage, RUN, dry_run=False)
                    log_two_revisions(storage, turn=1)

        faulty = FaultyStorage(storage, begin_anew)
        with suppress(RunNotFoundError):
            end(forked(faulty, "b", 2, revision=1))
        if CHILD in catalog.runs(storage):
            assert read(storage, run=CHILD) in (line(range(2)), line(range(2), turn=1))
            assert_sound(storage)
        return faulty._number

    for number in range(race(None)):
        race(number)


def _remove_all(storage: Storage) -> None:
    remove_run(storage, RUN, dry_run=False, adopt=True)


def _remove_what_is_left(storage: Storage) -> None:
    end(rewound(storage, 3))
    remove_revision(storage, RUN, 2, dry_run=False)


@pytest.mark.parametrize("remove", [_remove_all, _remove_what_is_left], ids=["run", "revision"])
@pytest.mark.parametrize(
    "work",
    [
        read,
        partial(read, revision=1),
        opened,
        partial(rewound, next_step=2, revision=1),
        partial(forked, child="c", next_step=2),
        partial(forked, child="c", next_step=2, revision=1),
    ],
)
def test_who_meets_a_removal_is_told_of_it_and_of_no_damage(
    memory: MemoryStorage, work: Callable[[Storage], object], remove: Callable[[Storage], None]
) -> None:
    """Found by the model check: terms of which a fork keeps rows seemed to have lost their bases."""

    def race(number: int | None) -> int:
        """Remove within one of the requests of some work; return how many there were."""
        storage = MemoryStorage(f"{memory.url}/{number}")
        log_two_revisions(storage)
        writer = opened(storage)
        flushes(writer, range(1, 4))
        end(writer)
        end(forked(storage, "b", 2, revision=1))

        def meanwhile(request: Request) -> None:
            if request.number == number:
                with suppress(ConfigError):  # somebody is forking it
                    remove(storage)

        faulty = FaultyStorage(storage, meanwhile)
        with suppress(RunNotFoundError, FencedError):
            work(faulty)
        return faulty._number

    for number in range(race(None)):
        race(number)


def test_who_collects_is_not_kept_from_it_by_a_removal_that_was_cut_short(memory: MemoryStorage) -> None:
    def prepare(number: int) -> Storage:
        storage = MemoryStorage(f"{memory.url}/{number}")
        log_two_revisions(storage)
        end(opened(storage, CHILD))
        return storage

    def work(storage: Storage) -> Removed:
        return remove_run(storage, RUN, dry_run=False)

    for number in range(requests_of(prepare(-1), work)):
        storage = prepare(number)
        with suppress(Killed):
            work(dying(storage, number, after=True))
        count("requests cut short")
        assert not collect(storage, dry_run=False).notes
        removed(storage, CHILD)
