"""The benchmarks run and judge; what they measure is for `make bench` to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import histograms, log
from benchmarks.log import FLOOR, NARROW, OURS, WIDE, Result, Results, Workload


def results(ours: Result, floor: Result) -> Results:
    return {
        (workload, name): [result] for workload in (NARROW, WIDE) for name, result in ((OURS, ours), (FLOOR, floor))
    }


@pytest.mark.parametrize("contender", [OURS, FLOOR])
def test_a_contender_is_measured(contender: str, tmp_path: Path) -> None:
    found = log.measure(contender, Workload(rows=30, metrics=2), tmp_path / "bench")
    assert 0 < found.call_us < found.seconds * 1e6
    left = [path for path in (tmp_path / "bench" / "run").rglob("*") if path.is_file()]
    assert found.bytes == sum(path.stat().st_size for path in left) > 0


def test_a_contender_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no such logger failed:[\s\S]*KeyError"):
        log.measure("no such logger", Workload(rows=1, metrics=1), tmp_path / "run")


def test_targets_are_judged_against_the_floor_of_the_same_round() -> None:
    found: Results = results(Result(4.0, 0.3, 1_000_000), Result(20.0, 0.2, 1))
    # 0.2, 0.09 and 0.5 of the floor, so 0.2; the medians by themselves would give 50 / 100, a miss.
    found[NARROW, OURS] += [Result(90.0, 0.5, 4_000_000), Result(50.0, 0.3, 3_000_000)]
    found[NARROW, FLOOR] += [Result(1000.0, 0.2, 1), Result(100.0, 0.2, 1)]
    assert [line.split(":")[0] for line in log.targets(found).splitlines()] == ["- ok", "- MISS", "- ok", "- MISS"]


def test_each_contender_has_a_line() -> None:
    table = log.table(results(Result(4.0, 0.3, 1_500_000), Result(20.0, 0.2, 1)), [OURS, FLOOR])
    assert table.splitlines()[2] == f"| {OURS} | 4.0 µs | 0.20 | 4.0 µs | 0.20 | 0.30 s | 1.50 MB |"


def test_histograms_are_measured(tmp_path: Path) -> None:
    found = histograms.measure(steps=5, layers=3, weights=100, folder=tmp_path)
    assert found.log_us > 0 and found.bytes > 64 / 8
    assert histograms.table([found]).splitlines()[2].startswith("| 5 × 3 × 100 | ")
