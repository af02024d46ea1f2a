"""The crash suite: a scenario, killed at each of its operations, in a store of any kind."""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.crash.nursery import Nursery
from tests.crash.points import How
from tests.figures import count

Place = Callable[[], tuple[str, Mapping[str, Any] | None]]
"""Returns the URL of a store in which nothing is yet, and the options of its backend."""

CHANGING = ("send PUT ", "send POST ", "send DELETE ")
"""How `Points` calls what changes something on a server that speaks HTTP."""

HAPPENED = 0.8
"""Which part of the kills has to happen, at least. One thread does the same operations each time, and there it was each
kill: of 92 in `flush` on S3, none was missed. Where threads work beside each other, as in `script`, one life has more
operations than another, from 340 to 388 on disk, and a kill at one of those that only the longest has does not come."""

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
    assert_sends(url, whole.points)
    kills = [(number, how, whole.points[number]) for number, how in _moments(whole.points)]
    wanted = len(kills) if sample is None else min(sample, len(kills))
    if sample is not None:  # and some to spare, for those that do not happen
        drawn = min(3 * sample, len(kills))
        kills = random.Random(f"{scenario} {url.partition('://')[0]} {links}").sample(kills, drawn)
    killed = 0
    for number, how, point in kills:
        if killed == wanted:
            break
        url, options = place()
        outcome = nursery.kill(scenario, number, how, url, options, links)
        killed += outcome.killed
        count("crash points", int(outcome.killed))
        count("rows checked", outcome.rows)
        count("rows lost", outcome.lost)
        assert not outcome.trouble, (
            f"{scenario}, killed {how} operation {number} ({point}): {outcome.trouble}"
            f"\nOther operations than without a kill: {_others(whole.points[:number], outcome.points[:number])}"
        )
    assert killed >= HAPPENED * wanted, f"{scenario}: of {wanted} kills {killed} happened"


def _others(points: list[str], other: list[str]) -> list[str]:
    """Return what one life did and the other did not, marked by a sign, whatever the names that are drawn by chance."""
    drawn = re.compile("[0-9a-f]{16}")
    lines = difflib.ndiff([drawn.sub("…", point) for point in points], [drawn.sub("…", point) for point in other])
    return [line for line in lines if line.startswith(("-", "+"))]


def assert_sends(url: str, points: list[str]) -> None:
    """See that what is sent to a server are operations, of which some change something there.

    A client that no longer sent through `socket.send` and its like would be killed at none of its requests, and nothing
    would be lost by it.
    """
    if "://" not in url:
        return
    # SFTP is encrypted: nothing tells what a piece is about.
    changing = ("send ",) if url.startswith("sftp://") else CHANGING
    assert any(point.startswith(changing) for point in points), f"nothing is sent to {url}: {points}"


def _moments(points: list[str]) -> Iterator[tuple[int, How]]:
    """Yield every moment at which a kill can leave something else than at the one before it.

    After an operation that changes a disk is before the next. Who sends something to a server is killed as soon as it
    is on its way: the answer was not heard, and it may come through only later; before the next one there would be
    nothing more to see. A request that only reads leaves what was there.
    """
    changing = [number for number, point in enumerate(points) if not point.startswith(("send GET ", "send HEAD "))]
    for before, number in zip([None, *changing], changing, strict=False):
        if _goes_on(points, number):
            continue
        if before is None or not points[before].startswith("send"):
            yield number, "before"
        if points[number].endswith("/"):
            yield number, "half"
        if number == changing[-1] or points[number].startswith("send"):
            yield number, "after"


def _goes_on(points: list[str], number: int) -> bool:
    """Whether a point is one of the many pieces of a large object; its first two say what the others would."""
    return number > 1 and points[number] == points[number - 1] == points[number - 2] == "send the rest/"
