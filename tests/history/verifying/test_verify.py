"""How `verify` goes about it: it reads everything once, writes nothing, and raises no false alarm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewind_logger.errors import ConfigError, RunNotFoundError, TransientStorageError
from rewind_logger.history.verify import verify
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import CountingStorage, FaultyStorage, Request
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.figures import count
from tests.history.lines import RUN
from tests.history.verifying.verified import FORK, damage, fill, is_read, paths, segments_of, terms


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
