"""A run that a sync makes of a superseded writer's rows has all of them, whatever others do to the run meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from rewind_logger.errors import ConfigError, FencedError
from rewind_logger.format.names import RunPaths
from rewind_logger.history import catalog, claims, reader, superseded, view
from rewind_logger.history.collect import collect
from rewind_logger.history.journals.abandoned import abandoned
from rewind_logger.history.journals.part import Part
from rewind_logger.history.journals.roots import journal_root
from rewind_logger.history.opening import OpenRequest, new_claim
from rewind_logger.history.remove import Removed, remove_revision, remove_run
from rewind_logger.history.superseded import fork_of
from rewind_logger.history.sync import Synced, sync_store
from rewind_logger.history.verify import verify
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import Fault, FaultyStorage, Request
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import Row, RunRef
from tests.figures import count
from tests.history.clocked import DAY, Clocked
from tests.history.lines import RUN, Line, end, line, log, opened, read, rewound, value
from tests.history.machine import Killed, Machine, die, dying, release, requests_of, waiting
from tests.history.synced import logged, only


@pytest.fixture
def merging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every opening merge what it builds on."""
    monkeypatch.setattr(view, "LONG_LINEAGE", 1)


def go_on(storage: Storage, *starts: int) -> None:
    """Open the run again and again, with four rows each time."""
    for start in starts:
        writer = opened(storage)
        log(writer, range(start, start + 4), turn=1)
        end(writer)


def nonce(writer: Writer) -> str:
    assert writer._outbox is not None
    return writer._outbox.nonce


def assert_has(storage: Storage, run: RunRef | None, expected: Line) -> None:
    assert run is not None
    found = read(storage, run=run)
    count("rows checked", len(expected))
    count("rows lost", len(set(expected) - set(found)))
    assert found == expected
    report = verify(storage)
    assert report.ok, str(report)


@pytest.mark.usefixtures("merging")
@pytest.mark.parametrize("first", ["the sync", "the collection"])
def test_a_fork_that_is_made_during_a_collection_has_all_rows(first: str, tmp_path: Path) -> None:
    """Found by the model check: the fork referred to segments that were there still, and that only it needed."""

    def race(number: int | None) -> int:
        store = Clocked(MemoryStorage(f"memory://superseded-{first}-{number}"))
        machine = Machine(store, tmp_path / f"{number}")
        zombie = logged(machine, range(4), range(4, 6))
        go_on(store, 4, 8, 12)
        die(zombie)
        store.time += 8 * DAY
        made: list[Synced] = []

        def sync(storage: Storage) -> None:
            made.extend(sync_store(storage, as_fork=True))

        def sweep(storage: Storage) -> None:
            collect(storage, dry_run=False)

        work, other = (sync, sweep) if first == "the sync" else (sweep, sync)

        def meanwhile(request: Request) -> None:
            if request.number == number:
                other(machine)

        faulty = FaultyStorage(machine, meanwhile)
        work(faulty)
        if number is not None:
            assert_has(store, only(made).fork, line(range(6)))
        return faulty._number

    for number in range(0, race(None), 2):
        race(number)


@pytest.mark.parametrize("remove", [remove_run, partial(remove_revision, revision=1)], ids=["run", "revision"])
def test_a_fork_that_is_made_during_a_removal_has_all_rows_or_those_of_the_journal(
    remove: Callable[..., Removed], tmp_path: Path
) -> None:
    def race(number: int | None) -> int:
        store = MemoryStorage(f"memory://superseded-{remove}-{number}")
        machine = Machine(store, tmp_path / f"{number}")
        zombie = logged(machine, range(4), range(4, 6))
        end(rewound(store, 1))
        die(zombie)

        def meanwhile(request: Request) -> None:
            if request.number == number:
                with contextlib.suppress(ConfigError):  # the fork is being made
                    remove(store, RUN, dry_run=False)

        faulty = FaultyStorage(machine, meanwhile)
        made = only(sync_store(faulty, as_fork=True)).fork
        assert made is not None
        whole = len(read(store, run=made)) > 2
        assert_has(store, made, line(range(6)) if whole else line([4, 5]))
        return faulty._number

    for number in range(race(None)):
        race(number)


@pytest.mark.parametrize("remove", [remove_run, partial(remove_revision, revision=1)], ids=["run", "revision"])
def test_a_sync_that_is_killed_and_finds_less_the_next_time_is_what_verify_expects(
    remove: Callable[..., Removed], tmp_path: Path
) -> None:
    """Found by the model check: `verify` went by what the attempt that was killed had meant."""

    def race(number: int | None) -> int:
        store = MemoryStorage(f"memory://superseded-twice-{remove}-{number}")
        machine = Machine(store, tmp_path / f"{number}")
        zombie = logged(machine, range(4), range(4, 6))
        end(rewound(store, 1))
        die(zombie)
        made = fork_of(RUN, nonce(zombie))

        def kill(request: Request) -> Fault | None:
            claimed = request.verb == "create" and request.path.startswith(RunPaths(made).claims)
            return Fault("after", Killed()) if claimed else None

        def meanwhile(request: Request) -> None:
            if request.number == number:
                with contextlib.suppress(Killed):
                    sync_store(FaultyStorage(machine, kill), as_fork=True)
                release(tmp_path)
                count("requests cut short")

        faulty = FaultyStorage(store, meanwhile)
        with contextlib.suppress(ConfigError):  # the fork is being made
            remove(faulty, RUN, dry_run=False)
        sync_store(machine, as_fork=True)
        whole = len(read(store, run=made)) > 2
        assert_has(store, made, line(range(6)) if whole else line([4, 5]))
        return faulty._number

    for number in range(race(None)):
        race(number)


def test_no_fork_is_made_while_who_takes_the_run_over_has_only_claimed_it(tmp_path: Path) -> None:
    """No base says yet where the writer's term ends: the rows may still come into the run, as they do then."""

    def race(number: int | None) -> str:
        store = MemoryStorage(f"memory://claimed-{number}")
        machine = Machine(store, tmp_path / f"{number}")
        die(logged(machine, range(4), range(4, 6)))

        def claim(request: Request) -> None:
            if request.number == number:
                paths = RunPaths(RUN)
                claims.fence(store, paths, new_claim("f00d", "opened", ""), claims.count(store, paths))

        faulty = FaultyStorage(machine, claim)
        done = only(sync_store(faulty, as_fork=True))
        if number is None:
            return str(faulty._number)
        assert done.what == "brought in" or waiting(machine) == [4, 5]
        end(opened(machine))
        assert_has(store, RUN, line(range(6)))
        return done.what

    done = [race(number) for number in range(int(race(None)))]
    assert {"waiting"} <= set(done) <= {"waiting", "brought in"}, "who made that claim lives, and may be opening it"


def test_a_fork_of_rows_whose_revision_was_removed_begins_with_the_first_flush_that_is_left(
    machine: Machine, memory: MemoryStorage
) -> None:
    """Found by the model check: the fork lacked the flushes that went with the revision."""
    first = logged(machine, range(3), range(3, 6))
    end(rewound(memory, 1))
    die(first)
    remove_revision(memory, RUN, 1, dry_run=False)
    assert_has(memory, only(sync_store(machine, as_fork=True)).fork, line(range(3, 6)))


def test_a_row_from_before_the_opening_keeps_its_step_though_its_revision_was_removed(
    machine: Machine, memory: MemoryStorage
) -> None:
    """Found by the model check: what the removal puts aside tells at which step the run was opened."""
    end(logged(memory, range(4), range(0)))
    early = Writer(machine, RUN, background=False)
    early.append("metrics", {"a": 4}, None)
    early.open(OpenRequest())
    end(rewound(memory, 1))
    with pytest.raises(FencedError):
        early.flush()
    die(early)
    remove_revision(memory, RUN, 1, dry_run=False)
    assert_has(memory, only(sync_store(machine, as_fork=True)).fork, line([4]))


@pytest.mark.usefixtures("merging")
@pytest.mark.parametrize("overtaken", ["looked first", "looked last"])
def test_a_fork_has_the_rows_of_its_writer_alone_though_two_openings_found_different_ends(
    overtaken: str, machine: Machine, memory: MemoryStorage
) -> None:
    """Found by the model check: an opening that was itself overtaken sealed the term elsewhere than the run did."""
    zombie = logged(machine, range(4), range(0))
    zombie.append("events", {"note": "within step 3"}, 3)
    log(zombie, range(4, 6))

    def flush() -> None:
        with pytest.raises(FencedError):
            zombie.flush()

    def overtake(request: Request) -> None:
        if overtaken == "looked first" and request.path.endswith("base.json") and request.verb == "put":
            flush()
            go_on(memory, 6)
        elif overtaken == "looked last" and claims.count(memory, RunPaths(RUN)) == 2:
            go_on(memory, 4)
            flush()

    with pytest.raises(FencedError):
        opened(FaultyStorage(memory, overtake))
    base = claims.base_of(memory, RUN, _term(memory, 1))
    known = claims.base_of(memory, RUN, _term(memory, 2))
    assert base.lineage[0].sealed != known.lineage[0].sealed
    go_on(memory, 8, 12)
    die(zombie)
    collect(memory, dry_run=False, grace_s=-1.0)
    fork = only(sync_store(machine, as_fork=True)).fork
    assert_has(memory, fork, line(range(6)))
    assert fork is not None
    assert [row.clock for row in reader.read_rows(memory, resolve(memory, fork), "events")] == [3]


@pytest.mark.usefixtures("merging")
def test_a_fork_goes_on_where_its_writer_did_though_another_opening_found_more(
    machine: Machine, memory: MemoryStorage
) -> None:
    """Found by the model check: it showed rows at steps at which its own came after them."""
    zombie = logged(memory, range(4), range(4, 6))

    def overtake(request: Request) -> None:
        if request.path.endswith("base.json") and request.verb == "put":
            with pytest.raises(FencedError):
                zombie.flush()
            go_on(memory, 6, 10)

    writer = Writer(FaultyStorage(machine, overtake), RUN, background=False)
    writer.append("metrics", {"a": value(4, turn=2)}, None)
    with pytest.raises(FencedError):
        writer.open(OpenRequest())
    die(writer)
    collect(memory, dry_run=False, grace_s=-1.0)
    assert_has(memory, only(sync_store(machine, as_fork=True)).fork, line(range(4)) + line([4], turn=2))


def test_only_rows_that_the_journal_can_repeat_are_compared_with_it(
    machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the run shows was held in memory: gigabytes, where it is long."""
    end(logged(memory, range(200), range(0)))
    zombie = logged(machine, range(200, 203), range(203, 206))
    with monkeypatch.context() as context, pytest.raises(Killed):
        context.setattr(Part, "drop", _killed)
        zombie.flush()
    log(zombie, [206, 207])
    end(rewound(memory, 1))
    die(zombie)
    compared = []
    told = superseded._told

    def tell(row: Row) -> bytes:
        compared.append(row.clock)
        return told(row)

    monkeypatch.setattr(superseded, "_told", tell)
    with abandoned(journal_root(machine, RUN)) as (one,):
        assert superseded._first_not_shown(memory, resolve(memory, RUN, 1), one, 200) == {"metrics": 2}
    assert sorted(compared) == [203, 203, 204, 204, 205, 205, 206, 207]


def _killed(part: Part) -> None:
    raise Killed


def _term(storage: Storage, n: int) -> str:
    """Return the folder of the term of claim `n`."""
    terms = RunPaths(RUN).terms
    return next(f"{terms}/{info.name}" for info in storage.list(terms) if info.name.startswith(f"{n:08d}-"))


@pytest.mark.usefixtures("merging")
def test_a_fork_that_somebody_opens_before_it_has_all_its_rows_goes_on_without_them(tmp_path: Path) -> None:
    """The number of a claim in the run was compared with those of the fork, and rows came there with a gap."""

    def race(number: int | None) -> int:
        store = MemoryStorage(f"memory://opened-{number}")
        machine = Machine(store, tmp_path / f"{number}")
        for _ in range(3):
            end(opened(store))
        zombie = logged(machine, range(4), range(4, 6))
        go_on(store, 4, 8)
        die(zombie)
        child = fork_of(RUN, nonce(zombie))
        if number is None:
            return requests_of(machine, lambda storage: sync_store(storage, as_fork=True))
        with contextlib.suppress(Killed):
            sync_store(dying(machine, number, after=True), as_fork=True)
        release(tmp_path)
        count("requests cut short")
        if child in catalog.runs(store):
            end(opened(store, child))
        sync_store(machine, as_fork=True)
        kept = line(waiting(machine))
        assert kept in ([], line([4, 5]))
        whole = not kept or len(read(store, run=child)) == 6  # it was killed before it let go of the journal
        assert_has(store, child, line(range(6 if whole else 4)))
        return number

    total = race(None)
    for number in range(total):
        race(number)
