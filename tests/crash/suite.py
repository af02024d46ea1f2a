"""The crash suite: a scenario, killed at each of its operations, in a store of any kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from tests.crash.nursery import Nursery
from tests.crash.points import How
from tests.figures import count

Place = Callable[[], tuple[str, Mapping[str, Any] | None]]
"""Returns the URL of a store in which nothing is yet, and the options of its backend."""

DISK = "disk"
"""The URL of a store on this machine that the nursery makes, and removes, for each kill."""


def kill_everywhere(nursery: Nursery, scenario: str, place: Place, *, sample: int | None, links: bool = True) -> None:
    """Kill a process before, in the middle of and after each of its operations; see that nothing is lost.

    Args:
        nursery: Where processes come from.
        scenario: What they do.
        place: Gives each a store.
        sample: How many kills, drawn by chance but always the same; None for all of them.
        links: Whether a store on disk has hard links.
    """
    url, options = place()
    whole = nursery.kill(scenario, None, "before", url, options, links)
    assert not whole.trouble, f"{scenario} without a kill: {whole.trouble}"
    kills = [
        (number, how, point)
        for number, point in enumerate(whole.points)
        if not _goes_on(whole.points, number)
        for how in _ways(point, last=number == len(whole.points) - 1)
    ]
    if sample is not None:
        kills = random.Random(f"{scenario} {url.partition('://')[0]} {links}").sample(kills, min(sample, len(kills)))
    for number, how, point in kills:
        url, options = place()
        outcome = nursery.kill(scenario, number, how, url, options, links)
        count("crash points", int(outcome.killed))
        count("rows checked", outcome.rows)
        count("rows lost", outcome.lost)
        assert not outcome.trouble, f"{scenario}, killed {how} operation {number} ({point}): {outcome.trouble}"


def _ways(point: str, *, last: bool) -> list[How]:
    """Return how to kill at a point.

    After one that changes a disk is before the next. After a request was sent is another moment: its answer was not
    heard, and it may not have come through yet.
    """
    ways: list[How] = ["before"]
    if point.endswith("/"):
        ways.append("half")
    if last or point.startswith("send"):
        ways.append("after")
    return ways


def _goes_on(points: list[str], number: int) -> bool:
    """Whether a point is one of the many pieces of a large object; its first two say what the others would."""
    return number > 1 and points[number] == points[number - 1] == points[number - 2] == "send the rest/"
