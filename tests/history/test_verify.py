"""`verify`: whatever is damaged, missing or against the protocol is found and named, and nothing else is."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rewind_logger.errors import ConfigError, RunNotFoundError, TransientStorageError
from rewind_logger.format import documents, names, segment
from rewind_logger.format.documents import Base, decode_base, encode_base
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims, compact, opening, view
from rewind_logger.history.evaluation import EvaluationWriter
from rewind_logger.history.needs import roots
from rewind_logger.history.verify import verify
from rewind_logger.history.verifying.report import Problem, VerifyReport
from rewind_logger.history.view import resolve
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import CountingStorage, FaultyStorage, Request
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.figures import count
from tests.history.lines import RUN, end, forked, log, opened, rewound
from tests.history.machine import Machine, die, journals

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


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make everything happen after a few rows that else takes thousands."""
    monkeypatch.setattr(compact, "CLOSING_PARTS", 4)
    monkeypatch.setattr(view, "LONG_LINEAGE", 3)


@pytest.fixture
def filled(memory: MemoryStorage) -> MemoryStorage:
    fill(memory)
    return memory


def paths(storage: Storage, folder: str = "") -> Iterator[str]:
    """Yield every object of a store."""
    for info in storage.list(folder):
        path = f"{folder}/{info.name}" if folder else info.name
        if info.size is None:
            yield from paths(storage, path)
        else:
            yield path


def test_a_store_that_is_as_it_should_be(storage: Storage) -> None:
    fill(storage)
    report = verify(storage)
    assert report.ok, report
    kinds = ["bases", "claims", "closing marks", "evaluations", "merge records", "pins", "segments", "snapshots"]
    assert sorted(report.objects) == kinds
    assert sum(report.objects.values()) == len([path for path in paths(storage) if "/j/" not in path])
    assert "everything is as it should be" in str(report)
    assert report.runs == 2
    count("rows checked", report.rows)


def test_one_run_with_what_it_needs_of_others(filled: MemoryStorage) -> None:
    alone = verify(filled, FORK)
    assert alone.ok
    assert (alone.name, alone.runs, alone.objects["claims"]) == ("p/b", 1, 1)
    assert alone.objects["segments"] > len(segments_of(filled, "p/b"))
    with pytest.raises(RunNotFoundError, match="There is no run p/c"):
        verify(filled, RunRef("p", "c"))


def test_nothing_is_written(filled: MemoryStorage) -> None:
    requests: list[Request] = []
    verify(FaultyStorage(filled, lambda request: requests.append(request)))
    assert {request.verb for request in requests} <= {"read", "read_range", "list", "size"}


@pytest.mark.parametrize("seed", [1, *(pytest.param(i, marks=pytest.mark.exhaustive) for i in range(2, 20))])
def test_a_bit_that_was_flipped_in_any_object_is_found(seed: int, filled: MemoryStorage) -> None:
    chance = random.Random(seed)
    for path in list(paths(filled)):
        data = filled.read(path)
        for at in (chance.randrange(len(data)),):
            damaged = bytearray(data)
            damaged[at] ^= 1 << chance.randrange(8)
            filled.put(path, bytes(damaged))
            found = verify(filled).problems
            assert path in [problem.path for problem in found], f"byte {at} of {path}"
            assert all(problem.cost and problem.remedy for problem in found)
            count("bytes flipped")
        filled.put(path, data)
    assert verify(filled).ok


MAY_BE_MISSING = ("end.json", "alive.json", "merge.json")
"""A run reads the same without them, and so it does without snapshots."""


def test_an_object_that_is_missing_is_found(filled: MemoryStorage) -> None:
    for path in list(paths(filled)):
        name = path.rpartition("/")[2]
        if name in MAY_BE_MISSING or "/summary/" in path:
            continue
        if "/s/" in path and (not is_read(filled, path) or is_last(filled, path)):
            continue
        data = filled.read(path)
        filled.delete(path)
        report = verify(filled)
        assert not report.ok, f"nobody misses {path}"
        filled.put(path, data)


def terms(storage: Storage, run: RunRef = RUN) -> list[str]:
    """Return the folders of the terms of a run, in their order."""
    folder = RunPaths(run).terms
    return [f"{folder}/{info.name}" for info in storage.list(folder)]


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


def is_last(storage: Storage, path: str) -> bool:
    """Say whether a segment is the last of a folder that is not sealed: no other object tells that it was there."""
    folder, _, name = path.rpartition("/")
    open_folders = [terms(storage)[-1], *terms(storage, FORK)[-1:], RunPaths(RUN).evaluations]
    return any(path.startswith(f"{one}/") for one in open_folders) and name == storage.list(folder)[-1].name


def damage(storage: Storage, path: str) -> None:
    data = storage.read(path)
    storage.put(path, data[:-1])


def only(report: VerifyReport) -> Problem:
    """Return the one problem of a report."""
    assert len(report.problems) == 1, report
    return report.problems[0]


def segments_of(storage: Storage, folder: str) -> list[str]:
    return [path for path in paths(storage, folder) if "/s/" in path]


def test_a_problem_says_which_steps_of_which_revisions_are_lost(memory: MemoryStorage) -> None:
    writer = opened(memory)
    for start in (0, 10, 20):
        log(writer, range(start, start + 10))
        writer.flush()
    writer.close()
    rewound(memory, 15).close()
    forked(memory, "b", 12).close()
    forked(memory, "c", 10).close()
    second = next(path for path in segments_of(memory, terms(memory)[0]) if "_10_19" in path)
    damage(memory, second)
    cost = "rows of metrics in p/a@1 (steps 10 to 19), p/a@2 (steps 10 to 14), p/b@1 (steps 10 to 11)"
    for report in (verify(memory), verify(memory, RUN)):
        problem = only(report)
        assert (problem.path, problem.harm, problem.cost) == (second, "loss", cost)
        assert "backup" in problem.remedy
        assert "1 problem.\n" in str(report) and second in str(report) and cost in str(report)
    assert only(verify(memory, FORK)).cost == "rows of metrics in p/b@1 (steps 10 to 11)"
    assert verify(memory, RunRef("p", "c")).lost == ()
    memory.delete(second)
    gap = next(problem for problem in verify(memory).problems if "Flush 1 is missing" in problem.what)
    lost = "p/a@1 (steps 9 to 20), p/a@2 (steps 9 to 14), p/b@1 (steps 9 to 11), p/c@1 (step 9)"
    assert gap.cost == f"rows of metrics in {lost}", "which flushes these steps were in is not known"


def rebase(storage: Storage, change: Callable[[Base], Base], run: RunRef = RUN) -> str:
    """Write the base of the head anew, with a right checksum; return its path."""
    path = names.base(terms(storage, run)[-1])
    storage.put(path, encode_base(change(decode_base(storage.read(path), run, path)), run))
    return path


def earlier_seal(base: Base) -> Base:
    first, *others = base.lineage
    return replace(base, lineage=(replace(first, sealed={s: n - 1 for s, n in first.sealed.items() if n}), *others))


def later_cut(base: Base) -> Base:
    *others, last = base.lineage
    return replace(base, lineage=(*others, replace(last, cut=0)))


def without_parent(base: Base) -> Base:
    return replace(base, lineage=base.lineage[1:])


def twice(base: Base) -> Base:
    return replace(base, lineage=(*base.lineage, base.lineage[0]))


def of_another_claim(base: Base) -> Base:
    return replace(base, number=base.number + 1)


def another_history(base: Base) -> Base:
    first, *others = base.revisions
    return replace(base, revisions=(replace(first, sealed={"metrics": 0}), *others))


def without_revision(base: Base) -> Base:
    return replace(base, revisions=base.revisions[1:])


def other_plan(base: Base) -> Base:
    plan = {
        folder: {s: [(name, size + 1) for name, size in files] for s, files in streams.items()}
        for folder, streams in base.plan.items()
    }
    assert plan
    return replace(base, plan=plan)


BREAKS: dict[Callable[[Base], Base], str] = {
    earlier_seal: "sealed at",
    later_cut: "cut at a later step",
    without_parent: "not what that folder was built on",
    twice: "names a folder twice",
    of_another_claim: "base of claim",
    another_history: "other things of revisions|sealed at",
    without_revision: "has the number",
    other_plan: "A base says that it is read",
}


@pytest.mark.parametrize("change", BREAKS, ids=lambda change: change.__name__)
def test_a_base_that_breaks_the_protocol_is_found(change: Callable[[Base], Base], memory: MemoryStorage) -> None:
    for cut in (None, 6, None):
        writer = opened(memory) if cut is None else rewound(memory, cut)
        log(writer, range(writer.next_step, writer.next_step + 8))
        writer.append("events", {"config": "{}"}, writer.next_step)
        writer.flush()
        log(writer, range(writer.next_step, writer.next_step + 4))
        writer.flush()
        writer.close()
    opened(memory).close()
    assert verify(memory).ok
    rebase(memory, change)
    found = verify(memory).problems
    assert any(part in problem.what for problem in found for part in BREAKS[change].split("|")), found


def test_a_fork_that_begins_elsewhere_and_one_whose_parent_does_not_know_it(filled: MemoryStorage) -> None:
    pin = next(iter(paths(filled, RunPaths(RUN).pins)))
    filled.put(pin, documents.encode_pin(RunRef("p", "z")))
    assert (only(verify(filled)).harm, only(verify(filled)).path) == ("risk", pin)
    filled.put(pin, documents.encode_pin(FORK))
    rebase(filled, lambda base: replace(base, revisions=(replace(base.revisions[0], cut=3),)), FORK)
    assert "was to be forked from p/a@2?_step=24" in only(verify(filled)).what


def test_rows_that_come_twice_are_found(memory: MemoryStorage) -> None:
    writer = opened(memory)
    log(writer, range(4))
    writer.flush()
    writer.close()
    (path,) = segments_of(memory, terms(memory)[0])
    rows = segment.to_rows(segment.decode(memory.read(path)))
    name = names.SegmentName(1, 1, 0, 3)
    memory.put(
        names.segment(terms(memory)[0], "metrics", name), segment.encode(rows, stream="metrics", first=1, last=1)
    )
    problem = only(verify(memory))
    assert "begins with row 0" in problem.what and "p/a@1 (steps 0 to 3)" in problem.cost


def test_a_segment_under_the_name_of_another_is_found(filled: MemoryStorage) -> None:
    found = [path for path in segments_of(filled, terms(filled)[0]) if is_read(filled, path)]
    for path in found:
        data = filled.read(path)
        filled.put(path, next(filled.read(other) for other in found if other != path))
        assert only(verify(filled)).path == path
        filled.put(path, data)


def test_a_term_without_a_claim_is_found(filled: MemoryStorage) -> None:
    """In a store that replaces what it was asked only to create, the second of two writers takes the first one's."""
    path = RunPaths(RUN).claim(3)
    claim = claims.read(filled, RunPaths(RUN), 3)
    assert claim is not None
    filled.put(path, documents.encode_claim(replace(claim, nonce="0123456789abcdef")))
    assert any(
        problem.path == terms(filled)[3] and "No claim bears" in problem.what for problem in verify(filled).problems
    )


def test_what_nobody_reads_costs_nothing(memory: MemoryStorage) -> None:
    zombie = opened(memory)
    log(zombie, range(4))
    zombie.flush()
    opened(memory).close()
    log(zombie, range(4, 8))
    with pytest.raises(RuntimeError):
        zombie.flush()
    zombie.close()
    damage(memory, segments_of(memory, terms(memory)[0])[1])
    assert (only(verify(memory)).harm, verify(memory).lost) == ("none", ())


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_no_false_alarm_whatever_a_writer_is_in_the_midst_of(every: int, memory: MemoryStorage) -> None:
    checked = 0

    def look(request: Request) -> None:
        nonlocal checked
        if request.number % every:
            return
        report = verify(memory)
        assert report.ok, f"before {request}: {report}"
        checked += 1

    fill(FaultyStorage(memory, look))
    assert checked > 150 // every


def test_no_false_alarm_while_a_run_is_collected_or_removed(filled: MemoryStorage) -> None:
    """A merged segment's parts, or a whole run, go between the look at their names and at their content."""
    parts = [path for path in segments_of(filled, "p/a") if not is_read(filled, path)]
    assert parts

    def gone(victims: list[str]) -> Callable[[Request], None]:
        def remove(request: Request) -> None:
            if request.verb == "read" and request.path.endswith(".parquet"):
                for path in victims:
                    filled.delete(path)

        return remove

    assert verify(FaultyStorage(filled, gone(parts))).ok
    report = verify(FaultyStorage(filled, gone(list(paths(filled, "p/b")))))
    assert report.ok, report


@pytest.mark.parametrize("run", [None, RUN], ids=["store", "run"])
def test_a_verification_that_was_interrupted_goes_on_where_it_was(
    run: RunRef | None, filled: MemoryStorage, tmp_path: Path
) -> None:
    damage(filled, segments_of(filled, terms(filled)[1])[0])
    damage(filled, segments_of(filled, terms(filled)[3])[0])
    whole = CountingStorage(filled)
    expected = verify(whole, run)
    state = tmp_path / "state"
    read: list[str] = []
    attempts = 0
    while True:
        attempts += 1
        left = 12

        def fail(request: Request) -> Any:
            nonlocal left
            if request.verb == "read" and "/s/" in request.path:
                left -= 1
                if left < 0:
                    raise TransientStorageError("away")
                read.append(request.path)

        try:
            report = verify(FaultyStorage(filled, fail), run, resume=state)
            break
        except TransientStorageError:
            assert attempts < 40
    assert attempts > 2
    assert not state.exists()
    assert set(report.problems) == set(expected.problems)
    assert (report.objects, report.rows, report.bytes) == (expected.objects, expected.rows, expected.bytes)
    assert verify(filled, run, resume=state).objects == expected.objects, "and then it begins anew"


def test_a_state_of_something_else_is_refused_and_a_torn_one_taken(filled: MemoryStorage, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text('{"verify":1,"store":"memory://other","run":null}\n')
    with pytest.raises(ConfigError, match="is not the state of a verification of all runs"):
        verify(filled, resume=state)
    state.write_text(json.dumps({"verify": 1, "store": filled.url, "run": None}) + '\n{"fold')
    assert verify(filled, resume=state).ok


def test_progress_is_told(filled: MemoryStorage) -> None:
    told: list[tuple[str, int, int | None]] = []
    verify(filled, progress=lambda *what: told.append(what))
    assert {what for what, _, _ in told} == {"documents of runs", "folders of segments", "folders of blobs"}
    for what in dict.fromkeys(what for what, _, _ in told):
        steps = [(done, total) for name, done, total in told if name == what]
        assert steps == [(i, steps[0][1]) for i in range(len(steps))] and steps[-1][0] == steps[-1][1]


def test_a_damaged_journal_is_found_and_rows_that_wait_are_told(machine: Machine) -> None:
    writer = opened(machine)
    log(writer, range(10))
    writer.flush()
    log(writer, range(10, 15))
    report = verify(machine)
    assert (report.ok, report.notes, report.objects["journal parts"]) == (True, (), 1), "its writer lives"
    die(writer)
    report = verify(machine)
    assert report.ok and "holds 5 rows, and its writer is gone" in report.notes[0]
    (part,) = journals(machine)[0].glob("*.part")
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    assert only(verify(machine)).path == str(part)


def test_two_openings_that_overtook_each_other_are_no_problem(memory: MemoryStorage, monkeypatch: Any) -> None:
    first = opened(memory)
    log(first, range(4))
    first.flush()
    publish = opening.publish

    def overtaken(storage: Storage, made: Any, journal: str | None) -> None:
        monkeypatch.setattr(opening, "publish", publish)
        log(first, range(4, 8))  # comes in between the two looks at where the first term ends
        with pytest.raises(RuntimeError):
            first.flush()
        end(rewound(memory, 2))
        publish(storage, made, journal)

    monkeypatch.setattr(opening, "publish", overtaken)
    with pytest.raises(RuntimeError):
        rewound(memory, 3)
    assert resolve(memory, RUN).revision == 2
    assert verify(memory).ok, verify(memory)


def test_a_store_that_cannot_be_written_to(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    fill(storage)
    for folder in [tmp_path, *tmp_path.rglob("*/")]:
        folder.chmod(0o555)
    try:
        assert verify(storage).ok
    finally:
        for folder in [tmp_path, *tmp_path.rglob("*/")]:
            folder.chmod(0o755)
