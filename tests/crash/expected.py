"""What runs must show after a kill, by what a witness knows: all that was done, and what was under way whole or not.

A run is lists of rows, one a revision, as in `tests/sdk/everything.py`, whose model this is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rewind_logger.types import STREAMS, Stream
from tests.crash.life import Fact
from tests.sdk.everything import Event, Kind, Line, ModelRun

KINDS: dict[Stream, Kind] = {
    "metrics": "metric",
    "events": "config",
    "checkpoints": "media",  # as it says, too, that a step was done
    "console": "console",
    "system": "system",
    "artifacts": "artifact",
    "media": "media",
}
"""What the model calls the rows of each stream."""

Rows = dict[Stream, list[int]]
"""The serial numbers of the rows of each stream, in order."""


@dataclass
class World:
    """What there should be."""

    runs: dict[str, ModelRun] = field(default_factory=dict)
    flushed: dict[str, set[int]] = field(default_factory=dict)
    """Rows that a flush has acknowledged."""
    removed: set[tuple[str, int]] = field(default_factory=set)
    """Revisions that were removed."""
    early: dict[str, list[int]] = field(default_factory=dict)
    """Events that were logged before their run is opened."""

    def do(self, fact: Fact) -> None:
        """Take in what was done."""
        about = fact.about
        if fact.what == "open":
            self._open(fact.run, about["at"])
            self.place_early(fact.run)
            if "start" in about:
                head = self.runs[fact.run].head
                assert about["start"] == head.start, f"{fact.run} was opened at {about['start']}, not at {head.start}"
                assert about["revision"] == len(self.runs[fact.run].revisions)
        elif fact.what == "row":
            stream: Stream = about["stream"]
            if about["clock"] is None:
                self.early.setdefault(fact.run, []).append(about["serial"])
                return
            self.runs[fact.run].head.events.append(Event(about["clock"], KINDS[stream], stream, about["serial"]))
        elif fact.what == "remove":
            if about["revision"] is None:
                del self.runs[fact.run]
                self.flushed.pop(fact.run, None)
                self.removed = {(name, number) for name, number in self.removed if name != fact.run}
            else:
                self.removed.add((fact.run, about["revision"]))
        elif fact.what == "flush":
            rows = rows_of(self.runs[fact.run].head)
            self.flushed[fact.run] = {serial for found in rows.values() for serial in found}

    def place_early(self, name: str) -> None:
        """Give the rows that were logged before an opening the step at which it begins."""
        head = self.runs[name].head
        head.events += [Event(head.next_step, "config", "events", serial) for serial in self.early.pop(name, [])]

    def _open(self, name: str, at: Any) -> None:
        model = self.runs.get(name)
        if at is None:
            if model is None:
                self.runs[name] = ModelRun()
            else:
                model.resume()
            return
        parent, revision, next_step = at
        if parent != name:
            if model is not None:
                model.resume()
                return
            of = self.runs[parent]
            revision = revision or len(of.revisions)
            cut = of.revisions[revision - 1].next_step if next_step is None else next_step
            self.runs[name] = ModelRun([of.revisions[revision - 1].cut_at(cut)])
        elif next_step is None:
            assert model is not None
            model.restore(revision)
        else:
            assert model is not None
            model.rewind(revision or len(model.revisions), next_step)

    def lines(self, name: str) -> list[Rows | None]:
        """Return the rows of each revision of a run, None for one that was removed; nothing if there is no run."""
        model = self.runs.get(name)
        return [
            None if (name, number) in self.removed else rows_of(line)
            for number, line in enumerate(model.revisions if model is not None else [], start=1)
        ]


def rows_of(line: Line) -> Rows:
    """Return what of a line is in which stream."""
    return {stream: [event.value for event in line.events if event.key == stream] for stream in STREAMS}


def worlds(facts: Iterable[Fact]) -> list[World]:
    """Return what there may be after these facts: without what was under way, and with it."""
    world, under_way = World(), None
    for fact in facts:
        if fact.what == "killed":
            under_way = None
        elif fact.done:
            world.do(fact)
            under_way = None
        else:
            under_way = fact
    if under_way is None:
        found = [world]
    else:
        done = copy.deepcopy(world)
        done.do(under_way)
        if under_way.what == "flush":
            done.flushed = copy.deepcopy(world.flushed)  # nobody was told
        found = [world, done]
    return found
