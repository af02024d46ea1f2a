"""A process is killed by SIGKILL before, in the middle of and after everything that it does: nothing is lost."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Mapping
from typing import Any

import pytest

from tests.crash.broken import BROKEN
from tests.crash.nursery import Nursery
from tests.crash.scenarios import SCENARIOS
from tests.crash.suite import DISK, kill_everywhere
from tests.servers import S3Server

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SAMPLE = 2
"""Kills of each scenario in `make test`."""

ON_S3 = ("recover_and_rewind", "artifact")
"""Scenarios of which `make test` runs a sample there."""


def on_disk() -> tuple[str, None]:
    return DISK, None


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_any_operation_on_disk_loses_nothing(scenario: str, nursery: Nursery) -> None:
    kill_everywhere(nursery, scenario, on_disk, sample=SAMPLE)


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_every_operation_on_disk_loses_nothing(scenario: str, nursery: Nursery) -> None:
    kill_everywhere(nursery, scenario, on_disk, sample=None)


@pytest.mark.parametrize(
    "sample", [SAMPLE, pytest.param(None, marks=[pytest.mark.exhaustive, pytest.mark.timeout(1800)])]
)
def test_a_kill_where_the_disk_has_no_hard_links_loses_nothing(sample: int | None, nursery: Nursery) -> None:
    """Then a claim is for a moment an empty file."""
    kill_everywhere(nursery, "fork", on_disk, sample=sample, links=False)


def on_s3(server: S3Server) -> tuple[str, Mapping[str, Any]]:
    """Make a fresh bucket."""
    name = f"crash-{secrets.token_hex(6)}"
    server.create_bucket(name)
    return f"s3://{name}/x", server.storage_options


@pytest.mark.parametrize("scenario", ON_S3)
def test_a_kill_at_any_operation_on_s3_loses_nothing(scenario: str, nursery: Nursery, s3_server: S3Server) -> None:
    kill_everywhere(nursery, scenario, lambda: on_s3(s3_server), sample=1)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_every_operation_on_s3_loses_nothing(scenario: str, nursery: Nursery, s3_server: S3Server) -> None:
    kill_everywhere(nursery, scenario, lambda: on_s3(s3_server), sample=None)


def test_what_breaks_the_promise_is_caught_on_s3(nursery: Nursery, s3_server: S3Server) -> None:
    """There it shows in the midst of a request: the rows of a segment of which half was sent are nowhere."""
    scenario, broken = BROKEN["dropped"].scenario, "dropped"
    points = nursery.kill(scenario, None, "before", *on_s3(s3_server), broken=broken).points
    number = next(n for n, point in enumerate(points) if point.startswith("send PUT ") and "/s/metrics/" in point)
    outcome = nursery.kill(scenario, number, "half", *on_s3(s3_server), broken=broken)
    assert outcome.killed and outcome.lost
    assert any(BROKEN[broken].seen_as in trouble for trouble in outcome.trouble)
    assert not nursery.kill(scenario, number, "half", *on_s3(s3_server)).trouble


@pytest.mark.parametrize("broken", BROKEN)
def test_what_breaks_the_promise_is_caught(broken: str, nursery: Nursery) -> None:
    """The suite itself: a package with a fault in it does not pass."""
    scenario = BROKEN[broken].scenario
    count = len(nursery.kill(scenario, None, "before", DISK).points)
    numbers = random.Random(broken).sample(range(count), count)
    outcomes = (nursery.kill(scenario, number, "before", DISK, broken=broken) for number in numbers)
    assert any(BROKEN[broken].seen_as in trouble for outcome in outcomes for trouble in outcome.trouble)
