"""Random interleavings of writers: no acknowledged row is lost, and the check would notice if one were."""

from __future__ import annotations

import functools
import logging
import os
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewind_logger.format import segment
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims, compact, store_clock, uploads
from rewind_logger.history.opening import Opened, OpenRequest, build, new_claim, publish
from rewind_logger.history.view import of_base
from rewind_logger.history.writer import Writer
from tests.figures import count
from tests.history import swift
from tests.history.model import Schedule
from tests.history.rules import CLOCK, NONCES, Rules
from tests.history.swift import Tokens
from tests.small import make_small

PARTS = 12
EXHAUSTIVE = int(os.environ.get("REWIND_LOGGER_SCHEDULES", "30000"))
"""Schedules of the long variants together."""

ONE_AFTER_THE_OTHER: dict[str, Any] = {"writers": 1, "machines": 1, "kill": 0.02, "unflushed_counts": True, "look": 0.0}
"""Writers on one machine that do not meet: then even rows that were never acknowledged are kept."""

CROWDED: dict[str, Any] = {
    "turns": 16,
    "kill": 0.004,
    "lose": 0.004,
    "look": 0.002,
    "sync": 0.2,
    "collect": 0.12,
    "remove": 0.12,
    "erase": 0.05,
    "copy": 0.05,
    "pause": 0.2,
    "rescue": 0.4,
    "clear": 0.5,
    "verify": 0.3,
}
"""Half of the actors are no writers, and most live long enough to come to an end of what takes hundreds of requests."""


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make everything happen after a few rows that else takes thousands."""
    make_small(monkeypatch.setattr)
    monkeypatch.setattr(compact, "MAX_POINTS", 4)
    monkeypatch.setattr(secrets, "token_hex", lambda size: NONCES.randbytes(size).hex())
    monkeypatch.setattr(uploads, "ASK_BYTES", 1)
    monkeypatch.setattr(uploads, "time", CLOCK)  # what a writer remembers, it forgets when a week goes by
    monkeypatch.setattr(store_clock, "ASKED_AGAIN_S", 0.0)  # a schedule has a clock of its own
    # The same bytes are read again at every look, and always say the same.
    monkeypatch.setattr(segment, "decode", functools.lru_cache(1000)(segment.decode))


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be small, and quiet about every writer that is fenced."""
    small(monkeypatch)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder for the disks of the machines: in memory, where that is possible."""
    if not os.path.isdir("/dev/shm"):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="rewind-logger-", dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch, busy: None) -> Tokens:
    """Do without Parquet."""
    return swift.use(monkeypatch)


def check(seeds: range, folder: Path, rules: Rules, tokens: Tokens | None = None) -> Counter[str]:
    """Run schedules and return what happened in them."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        schedule = Schedule(seed, folder, rules, tokens)
        try:
            truth = schedule.run()
        finally:
            if rules.opening is Writer.open:  # else it is broken on purpose
                count("rows lost", schedule.truth.lost)
        seen += truth.seen
        seen["acknowledged rows"] += len(truth.acknowledged)
        seen["checked rows"] += truth.checked
    count("schedules", len(seeds))
    count("takeovers", seen["FencedError"])
    count("faults injected", seen["kills"] + seen["lost requests"])
    count("rows checked", seen["checked rows"])
    print(f"{len(seeds):,} schedules: {', '.join(f'{n:,} {what}' for what, n in seen.most_common())}")
    return seen


WILD = (
    "new",
    "resumed",
    "rewound",
    "forked",
    "FencedError",
    "kills",
    "lost requests",
    "late requests",
    "looks",
    "rescues",
    "verified",
    "sync: forked",
    "weeks",
    "removed runs",
    "collected superseded segments",
)
"""What must happen in a sample, or the schedules are too tame."""


@pytest.mark.parametrize("part", range(4))
def test_no_schedule_loses_an_acknowledged_row(part: int, disk: Path, tokens: Tokens) -> None:
    seen = check(range(part * 40, part * 40 + 40), disk, Rules(), tokens)
    for kind in WILD:
        assert seen[kind] > 0, f"{kind} never happened: the schedules are too tame"


def test_segments_that_are_parquet_make_no_difference(disk: Path) -> None:
    check(range(20), disk, Rules())


@pytest.mark.parametrize("part", range(2))
def test_rows_that_were_logged_outlive_a_kill_where_the_machine_stays(part: int, disk: Path, tokens: Tokens) -> None:
    seen = check(range(part * 30, part * 30 + 30), disk, Rules(**ONE_AFTER_THE_OTHER), tokens)
    assert seen["kills"] > 20
    assert seen["recovered journals"] > 0


CROWD = (
    "sync: forked",
    "removed revisions",
    "erased runs",
    "copied",
    "collected superseded segments",
    "collected removed runs and revisions",
    "collected files that no row refers to",
)
"""What must happen in a sample where many others are at work beside writers."""


def test_no_row_is_lost_among_syncs_collectors_removals_and_copies(disk: Path, tokens: Tokens) -> None:
    seen = check(range(80), disk, Rules(**CROWDED), tokens)
    for kind in CROWD:
        assert seen[kind] > 0, f"{kind} never happened: the schedules are too tame"


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_tens_of_thousands_of_schedules_lose_nothing(part: int, disk: Path, tokens: Tokens) -> None:
    number = EXHAUSTIVE // PARTS
    first = 10_000 + part * number
    crowded, tame = first + number * 5 // 8, first + number * 7 // 8
    seen = check(range(first, crowded), disk, Rules(), tokens)
    seen += check(range(crowded, tame), disk, Rules(**CROWDED), tokens)
    seen += check(range(tame, first + number), disk, Rules(**ONE_AFTER_THE_OTHER), tokens)
    for kind in (
        *WILD,
        *CROWD,
        "restored",
        "completed forks",
        "recovered journals",
        "late events that stay in the run",
    ):
        assert seen[kind] > 0, f"{kind} never happened: the schedules are too tame"


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_schedules_with_segments_that_are_parquet(disk: Path) -> None:
    check(range(5_000, 5_000 + EXHAUSTIVE // 32), disk, Rules())


def look_before_the_fence(writer: Writer, request: OpenRequest) -> Opened:
    """Resume a run in the wrong order: look up what is there, and only then claim."""
    storage, run, paths = writer.storage, writer.run, RunPaths(writer.run)
    predecessor = claims.newest_base(storage, run, claims.count(storage, paths))
    if predecessor is None or request.at is not None:
        return Writer.open(writer, request)
    head = of_base(storage, run, predecessor)
    outbox = writer._begin_outbox()
    n = claims.fence(storage, paths, new_claim(outbox.nonce, "opened", ""), predecessor.number + 1)
    opened = build(run, "resumed", n, outbox.nonce, head, head.next_step, predecessor.revisions, None)
    publish(storage, opened, None)
    writer._enter(opened)
    return opened


def test_the_wrong_order_is_caught(disk: Path, tokens: Tokens) -> None:
    with pytest.raises(AssertionError, match="are lost"):
        check(range(2000), disk, Rules(opening=look_before_the_fence), tokens)
