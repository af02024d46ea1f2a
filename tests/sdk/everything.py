"""A plain model of what a run is, to compare a store with: lists of what was logged, cut by the clock.

A revision is the list of all that is visible from it. To rewind is to drop from a copy of that list what bears a later
clock; to fork is the same for another run. There is no more to it, and that is what the store has to show: for the
head, for every archived revision, and as of any step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

Kind = Literal[
    "metric", "config", "tags", "define", "summary", "artifact", "alias", "use", "console", "system", "media"
]

NAMES = ("loss", "acc")
AGGREGATES = ("min", "max", "mean", "last", "first")


class Event(NamedTuple):
    """Something that was logged."""

    clock: int
    kind: Kind
    key: str
    value: Any


@dataclass
class Line:
    """One revision: all that is visible from it."""

    events: list[Event] = field(default_factory=list)
    start: int = 0
    """The clock at which its last opening began."""

    @property
    def next_step(self) -> int:
        """One past the last step."""
        return max([self.start, *(event.clock + 1 for event in self.of("metric", "media"))])

    @property
    def newest_clock(self) -> int:
        """The largest clock of anything in it; what came by itself after the last step is no reason for a revision."""
        return max((event.clock - (event.kind in ("console", "system")) for event in self.events), default=-1)

    def cut_at(self, next_step: int) -> Line:
        """The line as of a position (exclusive)."""
        return Line([event for event in self.events if event.clock < next_step], next_step)

    def of(self, *kinds: Kind) -> Iterator[Event]:
        """What there is of some kinds, in the order in which it was logged."""
        return (event for event in self.events if event.kind in kinds)

    # What a reader should see

    @property
    def config(self) -> dict[str, Any]:
        return {event.key: event.value for event in self.of("config")}

    @property
    def tags(self) -> tuple[str, ...]:
        found = [event.value for event in self.of("tags")]
        return found[-1] or () if found else ()

    @property
    def metrics(self) -> list[tuple[int, str, float]]:
        return [(event.clock, event.key, event.value) for event in self.of("metric")]

    @property
    def summary(self) -> dict[str, Any]:
        defined = {event.key: event.value for event in self.of("define")}
        shown: dict[str, Any] = {}
        for key in dict.fromkeys(event.key for event in self.of("metric")):
            values = [event.value for event in self.of("metric") if event.key == key]
            wanted = defined.get(key)
            if wanted is None:
                shown[key] = values[-1]
            elif wanted != "none":
                shown[key] = {name: aggregate(name, values) for name in wanted.split(",")}
        for event in self.of("summary"):
            shown.pop(event.key, None)
            shown[event.key] = event.value
        return shown

    @property
    def artifacts(self) -> dict[tuple[str, str], tuple[int, Any, frozenset[str]]]:
        """By name and version: the step, the content, and the aliases."""
        versions: dict[str, list[tuple[int, Any]]] = {}
        aliases: dict[tuple[str, str], str] = {}
        for event in self.of("artifact", "alias"):
            made = versions.setdefault(event.key, [])
            content, alias = event.value
            if event.kind == "artifact" and (not made or made[-1][1] != content):
                made.append((event.clock, content))
                aliases[event.key, "latest"] = f"v{len(made) - 1}"
            if alias is not None:
                aliases[event.key, alias] = f"v{len(made) - 1}"
        return {
            (name, f"v{number}"): (
                clock,
                content,
                frozenset(alias for (of, alias), version in aliases.items() if (of, version) == (name, f"v{number}")),
            )
            for name, made in versions.items()
            for number, (clock, content) in enumerate(made)
        }

    @property
    def console(self) -> list[tuple[int, str]]:
        return [(event.clock, event.value) for event in self.of("console")]

    @property
    def system(self) -> list[tuple[int, float]]:
        return [(event.clock, event.value) for event in self.of("system")]

    @property
    def media(self) -> list[tuple[int, str, str]]:
        return [(event.clock, event.key, event.value) for event in self.of("media")]


@dataclass
class ModelRun:
    """A run: its archived revisions, and its head."""

    revisions: list[Line] = field(default_factory=lambda: [Line()])

    @property
    def head(self) -> Line:
        return self.revisions[-1]

    def resume(self) -> None:
        """Go on at the end."""
        self.revisions[-1] = replace(self.head, start=self.head.next_step)

    def rewind(self, revision: int, next_step: int) -> None:
        """Go back to a position of any revision; what that does not cut opens no new one."""
        head = self.head
        if revision == len(self.revisions) and next_step >= head.start and next_step > head.newest_clock:
            self.revisions[-1] = replace(head, start=next_step)
        else:
            self.revisions.append(self.revisions[revision - 1].cut_at(next_step))

    def restore(self, revision: int) -> None:
        """Make an archived revision the head again."""
        line = self.revisions[revision - 1]
        if revision < len(self.revisions):
            self.revisions.append(Line(list(line.events), line.next_step))

    def fork(self, revision: int, next_step: int) -> ModelRun:
        """Branch off: a fork inherits all but what its parent is called."""
        line = self.revisions[revision - 1].cut_at(next_step)
        line.events.append(Event(-1, "tags", "", None))
        return ModelRun([line])


def aggregate(name: str, values: list[float]) -> float:
    """What an aggregate of a metric is."""
    numbers = [value for value in values if not math.isnan(value)]
    if name in ("min", "best"):
        return min(numbers)
    if name == "max":
        return max(numbers)
    if name == "mean":
        return math.fsum(numbers) / len(numbers)
    return values[-1] if name == "last" else values[0]
