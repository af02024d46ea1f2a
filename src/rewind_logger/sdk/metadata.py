"""What a run says of itself besides numbers: its config and its labels, as rows of the stream `events`.

A value of such a row is JSON text under one of the names of `Metadata`. Later rows win; a config is merged by its
top-level keys. Rows of an opening bear the clock -1 and survive every cut; a row of step M goes with step M.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from rewind_logger.errors import ConfigError, CorruptError
from rewind_logger.format.wording import kind_of
from rewind_logger.sdk import told
from rewind_logger.sdk.plain import Json, dumps, plain
from rewind_logger.types import Row, Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What a run is called and filed under; None where nothing was given."""

    name: str | None = None
    """What people call it; need not be unique."""
    tags: tuple[str, ...] | None = None
    notes: str | None = None
    group: str | None = None
    job_type: str | None = None

    def __post_init__(self) -> None:
        """Take one tag for a list of one."""
        tags: Any = self.tags
        if tags is not None:
            if not isinstance(tags, Iterable):
                raise ConfigError(f"tags={tags!r} is {kind_of(tags)}: give a list of texts.")
            tags = (tags,) if isinstance(tags, str) else tuple(tags)
            if not all(isinstance(tag, str) for tag in tags):
                raise ConfigError(f"tags={tags!r}: each tag must be a str.")
            object.__setattr__(self, "tags", tags)
        for name in ("name", "notes", "group", "job_type"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"{name}={value!r} is {kind_of(value)}: it must be a str.")

    def given(self) -> dict[str, Any]:
        """Return those that were given."""
        return {name: value for name, value in self.all().items() if value is not None}

    def all(self) -> dict[str, Any]:
        """Return all of them, None where nothing was given."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The config and the labels at one position of a run."""

    config: dict[str, Json] = field(default_factory=dict)
    labels: Labels = field(default_factory=Labels)


def to_values(config: Mapping[str, Any] | None, labels: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the values of an event's row: only what is given."""
    values: dict[str, Scalar] = {} if not config else {"config": dumps(config)}
    values.update((name, dumps(value)) for name, value in labels.items())
    return values


def fold(rows: Iterable[Row]) -> Metadata:
    """Return the metadata after these rows of the stream `events`, in the order in which they were logged.

    Raises:
        CorruptError: If a value is not what `to_values` writes. Names that this version does not know are passed over.
    """
    config: dict[str, Json] = {}
    labels: dict[str, Any] = {}
    known = {field.name for field in fields(Labels)}
    for row in rows:
        for name, text in row.values.items():
            try:
                if name == "config":
                    config.update(told.loads(text))
                elif name in known:
                    labels[name] = getattr(Labels(**{name: told.loads(text)}), name)
            except (TypeError, ValueError) as error:
                raise CorruptError(f"An event of step {row.clock} has a {name} that is none: {error}.") from error
    return Metadata(config=config, labels=Labels(**labels))


def config_of(config: object) -> dict[str, Json]:
    """Return a config that a person gave: a mapping, a dataclass or an `argparse.Namespace`.

    Raises:
        ConfigError: If it is nothing of these.
    """
    values = plain(config)
    if config is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"config={config!r} is {kind_of(config)}: give a dict, a dataclass or a Namespace.")
    return values
