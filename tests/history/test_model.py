"""Random interleavings of writers: no acknowledged row is lost, and the check would notice if one were."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims, compact
from rewind_logger.history.opening import Opened, OpenRequest, build, new_claim, publish
from rewind_logger.history.term import Term
from rewind_logger.history.view import of_base
from rewind_logger.history.writer import Writer
from tests.history.model import Rules, Schedule

EXHAUSTIVE = int(os.environ.get("REWIND_LOGGER_SCHEDULES", "20000"))


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make compaction common, and be quiet about every writer that is fenced."""
    monkeypatch.setattr(compact, "FAN_IN", 3)
    monkeypatch.setattr(compact, "CLOSING_PARTS", 2)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def check(seeds: range, folder: Path, rules: Rules) -> Counter[str]:
    """Run schedules and return what happened in them."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        truth = Schedule(seed, folder, rules).run()
        seen += truth.openings
        seen["kills"] += truth.kills
        seen["acknowledged rows"] += len(truth.acknowledged)
    print(f"{len(seeds)} schedules, lost: 0, {dict(seen)}")
    return seen


@pytest.mark.parametrize("part", range(4))
def test_no_schedule_loses_an_acknowledged_row(part: int, tmp_path: Path) -> None:
    seen = check(range(part * 60, part * 60 + 60), tmp_path, Rules())
    for kind in ("new", "resumed", "rewound", "forked", "FencedError", "kills"):
        assert seen[kind] > 0, f"{kind} never happened: the schedules are too tame"


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(20))
def test_tens_of_thousands_of_schedules_lose_nothing(part: int, tmp_path: Path) -> None:
    count = EXHAUSTIVE // 20
    check(range(10_000 + part * count, 10_000 + (part + 1) * count), tmp_path, Rules())


def look_before_the_fence(writer: Writer, request: OpenRequest) -> Opened:
    """Open a run in the wrong order: look up what is there, and only then claim."""
    storage, run, paths = writer.storage, writer.run, RunPaths(writer.run)
    predecessor = claims.newest_base(storage, run, claims.count(storage, paths))
    if predecessor is None:
        return Writer.open(writer, OpenRequest())
    head = of_base(storage, run, predecessor)
    outbox = writer._begin_outbox()
    n = claims.fence(storage, paths, new_claim(outbox.nonce, "opened", ""), predecessor.number + 1)
    opened = build(run, "resumed", n, outbox.nonce, head, head.next_step, predecessor.revisions, None)
    publish(storage, opened, None)
    writer.opened, writer._term = opened, Term(storage, opened)
    return opened


def test_the_wrong_order_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="are lost"):
        check(range(2000), tmp_path, Rules(opening=look_before_the_fence))


def test_rows_that_were_logged_outlive_a_kill_where_the_machine_stays(tmp_path: Path) -> None:
    """One writer after the other on one machine, each killed somewhere: then even unacknowledged rows are kept."""
    seen = check(range(40), tmp_path, Rules(writers=1, machines=1, kill=0.03, unflushed_counts=True))
    assert seen["kills"] > 20
