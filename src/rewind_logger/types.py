"""The nouns that every layer shares, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Union, get_args

Scalar = Union[float, int, bool, str]  # noqa: UP007  (evaluated at import, Python 3.10 on)
"""A value that a row can keep."""

Stream = Literal["metrics", "events", "checkpoints", "console", "system", "artifacts", "media"]
"""What kind of rows a segment holds; each stream has its own flush numbers and seal."""

STREAMS: tuple[Stream, ...] = get_args(Stream)
"""In the order of their numbers in a journal."""

STREAMS_WITH_BLOBS: tuple[Stream, ...] = ("media", "events", "artifacts")
"""Whose values may name blobs; those of the last one manifests, which list others."""

Progress = Callable[[str, int, "int | None"], None]
"""Is told what is being done, how much of it is done, and how much there is, if that is known."""

OPENING_CLOCK = -1
"""The clock of rows that belong to an opening (config, tags, names); no cut removes them."""


@dataclass(frozen=True, slots=True)
class RunRef:
    """The name of a run: a project, which may lie under an entity, and an id.

    Example:
        >>> str(RunRef("digits", "a")), RunRef("team/digits", "a").entity
        ('digits/a', 'team')
    """

    project: str
    """`project` or `entity/project`."""
    id: str

    def __str__(self) -> str:
        return f"{self.project}/{self.id}"

    @classmethod
    def split(cls, name: str) -> RunRef:
        """Return the run that `str` writes so; whether any can be called so, `run_names.parse_run` sees."""
        project, _, run_id = name.rpartition("/")
        return cls(project, run_id)

    @property
    def entity(self) -> str | None:
        """The part before the project's name, if any."""
        entity, slash, _ = self.project.rpartition("/")
        return entity if slash else None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the history of a run: every row with clock < `next_step`."""

    run: RunRef
    revision: int | None
    """None: the present revision, whichever it is."""
    next_step: int | None
    """The first training step that is *not* kept (exclusive). None: the end of the revision."""

    def __str__(self) -> str:
        """Return it as `project/id@revision?_step=N`, which names the last step that is kept."""
        revision = "" if self.revision is None else f"@{self.revision}"
        step = "" if self.next_step is None else f"?_step={self.next_step - 1}"
        return f"{self.run}{revision}{step}"


class Row(NamedTuple):
    """What one `log()` call gave.

    `values` is flat: its keys are full names (nested dicts joined with `/`), its values scalars.
    """

    row: int
    """Number of this row in its stream and term, from 0, without gaps."""
    clock: int
    """The training step at which it was logged."""
    step: int | None
    """The step that the caller gave, where it differs from the clock."""
    time_ms: int
    """Wall time in milliseconds since 1970-01-01 UTC."""
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a lineage: a folder of segments, where it ends, and where it is cut."""

    folder: str
    """The folder within the store that holds `s/`, such as `digits/a/t/00000000-9f…`."""
    sealed: Mapping[str, int]
    """Per stream the last flush number that counts (inclusive); a stream that is missing has no flush that counts."""
    cut: int | None
    """Rows with clock < cut are kept (exclusive). None: all."""

    def cut_at(self, cut: int | None) -> Entry:
        """The same entry, cut at the smaller of its own cut and `cut`."""
        if cut is None or (self.cut is not None and self.cut <= cut):
            return self
        return Entry(self.folder, self.sealed, cut)


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """What a base knows of one revision of its run."""

    number: int
    parent: tuple[str, int] | None
    """Run and revision from which it was opened; None for the first of a new run."""
    cut: int | None
    """The first step of the parent that was not kept (exclusive); None where nothing was cut."""
    created_ms: int
    reason: str
    folder: str | None = None
    """The last term of the revision, once it is archived."""
    sealed: Mapping[str, int] = field(default_factory=dict)
    """Where that term was sealed."""
