"""What a verification found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Harm = Literal["loss", "risk", "none"]
"""Whether rows or files cannot be read, or something that protects them is missing, or nobody notices."""

_SHOWN = 100
"""How many problems the text of a report lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is not as it should be."""

    path: str
    """The object or the folder, relative to the store; of a journal, its path on this machine."""
    what: str
    """What is wrong with it, as a sentence."""
    cost: str
    """What that means: which rows of which revisions are affected."""
    remedy: str
    """What to do."""
    harm: Harm = "loss"
    """"loss": rows or files cannot be read as they were written. "risk": what is there reads as it was written, but an
    invariant is broken on which that rests. "none": nothing that anybody reads is affected."""

    def __str__(self) -> str:
        return f"{self.path}: {self.what}\n   It costs: {self.cost}\n   To do: {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a verification looked at, and what it found; `str()` of it is for people."""

    url: str
    """The store."""
    name: str | None
    """The run, `project/id`; None for the whole store."""
    runs: int
    """How many runs were looked at."""
    objects: Mapping[str, int]
    """How many objects of each kind were checked."""
    rows: int
    """How many rows lie in the segments that were checked, those included that were cut off or merged."""
    bytes: int
    """The size of all that was read."""
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    """What is not wrong, but worth knowing."""

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be."""
        return not self.problems

    @property
    def lost(self) -> tuple[Problem, ...]:
        """The problems for which rows or files cannot be read as they were written."""
        return tuple(problem for problem in self.problems if problem.harm == "loss")

    def __str__(self) -> str:
        where = self.url if self.name is None else f"{self.name} in {self.url}"
        objects = sorted(self.objects.items())
        total = sum(self.objects.values())
        seen = f"{_number(total, 'object')} of {_number(self.runs, 'run')}, {size(self.bytes)}, were checked"
        if self.name is None and not total and self.ok:
            lines = [f"{where}: nothing is there: is it the right store?"]
        elif self.ok:
            lines = [f"{where}: {seen}: everything is as it should be."]
        else:
            lines = [f"{where}: {seen}: {_number(len(self.problems), 'problem')}."]
        if total:
            lines.append("  " + ", ".join(_number(count, kind.removesuffix("s")) for kind, count in objects))
        for i, problem in enumerate(self.problems[:_SHOWN], 1):
            lines.append(f"{i}. {problem}")
        if len(self.problems) > _SHOWN:
            lines.append(f"… and {len(self.problems) - _SHOWN:,} more: `problems` has them all.")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes[:_SHOWN])])


def size(count: int) -> str:
    """Return a number of bytes for people."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names as a list for people, the first of them."""
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
