"""`verify` finds what is damaged, missing or there twice, and says what that costs whom."""

from __future__ import annotations

import json
import random

import pytest

from rewind_logger.format import names, segment
from rewind_logger.format.names import RunPaths
from rewind_logger.history import compact, heartbeat
from rewind_logger.history.verify import verify
from rewind_logger.history.verifying.report import Problem
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.figures import count
from tests.history.clocked import flushes
from tests.history.lines import RUN, end, exact, forked, line, log, opened, read, rewound
from tests.history.machine import Machine, die, journals
from tests.history.verifying.verified import FORK, damage, is_read, only, paths, segments_of, terms


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
"""No number tells that they were there, nor that snapshots were, nor segments of which the store has the rows twice:
`verify` does not promise to miss them. A run reads the same without them."""


def test_an_object_that_is_missing_is_found(filled: MemoryStorage) -> None:
    """It is named; what is not missed costs no row, but for the last segment of an evaluation."""
    writer = opened(filled)
    digest = writer.attach(b"a picture")
    writer.append("media", {"picture": json.dumps({"sha256": digest, "size": 9})}, writer.next_step)
    end(writer)
    assert verify(filled).ok
    rows = [exact(filled, revision, run) for run, revision in ((RUN, 1), (RUN, 2), (FORK, 1))]
    missed = set()
    for path in list(paths(filled)):
        name = path.rpartition("/")[2]
        optional = name in MAY_BE_MISSING or "/summary/" in path
        optional |= "/s/" in path and (not is_read(filled, path) or has_parts(filled, path))
        last = "/s/" in path and is_last(filled, path)
        data = filled.read(path)
        filled.delete(path)
        problems = verify(filled).problems
        if optional:
            found = [exact(filled, revision, run) for run, revision in ((RUN, 1), (RUN, 2), (FORK, 1))]
            assert found == rows, f"{path} was needed"
        elif not last:
            assert any(names_it(problem, path) for problem in problems), f"{problems} name no {path}"
            missed.add(kind_of(path))
        filled.put(path, data)
    assert missed == {"claim", "base", "segment", "pin", "evaluation", "blob"}


def kind_of(path: str) -> str:
    """Return what an object is."""
    kinds = {"/m/": "claim", "base.json": "base", "/s/": "segment", "/pins/": "pin", "evaluation.json": "evaluation"}
    return next((kind for part, kind in kinds.items() if part in path), "blob")


def names_it(problem: Problem, path: str) -> bool:
    """Say whether a problem is about an object: a segment that is gone is named by its stream, and what it held."""
    folder, _, name = path.rpartition("/")
    found = names.SegmentName.parse(name) if "/s/" in path else None
    if found is not None and problem.path == folder.rpartition("/")[0]:
        first, last = found.first, found.last
        return (f"Flush {first} is" if first == last else f"Flushes {first} to {last} are") in problem.what
    return problem.path == path or path in problem.what


def has_parts(storage: Storage, path: str) -> bool:
    """Say whether what a segment was put together from is there, and read in its place."""
    folder, _, name = path.rpartition("/")
    found = names.SegmentName.parse(name)
    others = [names.SegmentName.parse(info.name) for info in storage.list(folder)]
    assert found is not None
    parts = {flush for one in others if one and one != found for flush in range(one.first, one.last + 1)}
    return parts.issuperset(range(found.first, found.last + 1))


def is_last(storage: Storage, path: str) -> bool:
    """Say whether a segment is the last of an evaluation: no other object tells that it was there."""
    folder, _, name = path.rpartition("/")
    return path.startswith(f"{RunPaths(RUN).evaluations}/") and name == storage.list(folder)[-1].name


def three_flushes(storage: Storage) -> tuple[Writer, list[str]]:
    """Begin a run with three flushes; return its writer, and its segments of metrics."""
    writer = opened(storage)
    for start in (0, 10, 20):
        log(writer, range(start, start + 10))
        writer.append("events", {"config": "{}"}, start)
        writer.flush()
    return writer, [path for path in segments_of(storage, terms(storage)[0]) if "/metrics/" in path]


@pytest.mark.parametrize("gone", [1, 3])
def test_the_last_segments_of_a_run_that_ended_are_missed(
    gone: int, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No number of a flush tells that more followed it, but the closing mark does."""
    monkeypatch.setattr(compact, "CLOSING_PARTS", 100)
    writer, found = three_flushes(memory)
    end(writer)
    for path in found[-gone:]:
        memory.delete(path)
    problem = only(verify(memory, RUN))
    assert problem.path == f"{terms(memory)[0]}/s/metrics"
    assert ("Flush 2 is missing" if gone == 1 else "Flushes 0 to 2 are missing") in problem.what
    assert (problem.harm, problem.cost) == ("loss", "rows of metrics in p/a@1")


@pytest.mark.parametrize("streams", [["metrics"], ["events", "metrics"]])
def test_they_are_missed_too_when_the_run_went_on_without_them(streams: list[str], memory: MemoryStorage) -> None:
    writer, _ = three_flushes(memory)
    end(writer)
    for path in segments_of(memory, terms(memory)[0]):
        if len(streams) == 2 or ("/metrics/" in path and "_29." in path):
            memory.delete(path)
    writer = opened(memory)
    log(writer, range(30, 40))
    end(writer)
    rewound(memory, 12).close()
    problems = verify(memory).problems
    assert [problem.path for problem in problems] == [f"{terms(memory)[0]}/s/{stream}" for stream in streams]
    for problem in problems:
        assert "were stored, as its writer's marks say, and were gone when claim 1 was made" in problem.what
        assert "p/a had last" in problem.cost and problem.harm == "loss"


def test_what_a_killed_writer_said_of_its_rows_is_missed(
    memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last sign of life tells; of what it stored after that, nothing does."""
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.0)
    writer, found = three_flushes(memory)
    writer._delivery.beat()
    log(writer, range(30, 40))
    writer.flush()
    last = next(path for path in segments_of(memory, terms(memory)[0]) if "_30_39" in path)
    memory.delete(last)
    assert verify(memory).ok
    memory.delete(found[-1])
    assert "Flush 2 is missing" in only(verify(memory)).what
    writer.close()


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


def test_a_merged_segment_may_be_deleted_as_it_says(memory: MemoryStorage) -> None:
    """A base names it; what it was put together from is read in its place."""
    writer = opened(memory)
    flushes(writer, range(5))
    end(writer)
    end(opened(memory))
    folder = names.group(terms(memory)[0], "metrics", 0)
    path = f"{folder}/000000000-000000004_0_4.parquet"
    damage(memory, path)
    problem = only(verify(memory))
    assert (problem.path, problem.harm, problem.remedy) == (path, "risk", "Delete it.")
    memory.delete(path)
    assert verify(memory).ok, verify(memory)
    part = f"{folder}/000000002-000000002_2_2.parquet"
    data = memory.read(part)
    damage(memory, part)
    problem = only(verify(memory))
    assert (problem.path, problem.harm, problem.cost) == (part, "loss", "rows of metrics in p/a@1 (step 2)")
    memory.delete(part)
    found = verify(memory).problems
    assert [problem.harm for problem in found] == ["loss", "loss"]
    assert "Flush 2 is missing" in found[0].what and "A base says that it is read" in found[1].what
    memory.put(part, data)
    assert read(memory) == line(range(5))


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
