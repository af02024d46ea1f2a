"""A run's configuration: what was decided before training, and what was changed on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rewind_logger.errors import ConfigError
from rewind_logger.sdk.plain import Json, plain
from rewind_logger.sdk.section import Section

Changes = dict[str, Json]
"""New values of top-level keys."""


class Config(Mapping[str, Any]):
    """The configuration of a run, by item or by attribute.

    Values are kept as JSON has them: what else is put in becomes text, NaN and the infinities too (`float("inf")` comes
    out as the text "inf", of which `float` makes the number again). What comes out is a copy, so that it always shows
    what was recorded. A nested dict is a `Section`: a dict whose changes are recorded too. Keys
    can be changed, not removed.

    Example:
        >>> config = Config({"lr": 0.1, "model": {"depth": 3}})
        >>> config.lr, config["model"]["depth"], config.model.depth
        (0.1, 3, 3)
        >>> config.model.depth = 4
        >>> config.update({"epochs": 10})
        >>> config.as_dict()
        {'lr': 0.1, 'model': {'depth': 4}, 'epochs': 10}
    """

    __slots__ = ("_inherited", "_on_change", "_values")

    _values: dict[str, Json]
    _inherited: Callable[[], Mapping[str, Json]] | None
    _on_change: Callable[[Changes], None] | None

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        on_change: Callable[[Changes], None] | None = None,
        inherited: Callable[[], Mapping[str, Json]] | None = None,
    ) -> None:
        """Take the values to begin with.

        Args:
            values: They are not reported to `on_change`.
            on_change: Called with the new values of the top-level keys that an assignment changed.
            inherited: Called once, when the whole is first looked at: values below these ones.
        """
        object.__setattr__(self, "_values", _as_object(values or {}))
        object.__setattr__(self, "_inherited", inherited)
        object.__setattr__(self, "_on_change", on_change)

    def __getitem__(self, key: str) -> Any:
        value = self._all()[key]
        if isinstance(value, dict):
            return Section(value, lambda changes: self._merge(key, changes))
        return plain(value) if isinstance(value, list) else value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copying and pickling look for
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"The config has no {name!r}; it has {', '.join(self) or 'no keys'}.") from None

    def __setitem__(self, key: str, value: object) -> None:
        self.update({key: value})

    def __setattr__(self, name: str, value: object) -> None:
        self.update({name: value})

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __contains__(self, key: object) -> bool:
        return key in self._all()

    def __repr__(self) -> str:
        return f"Config({self.as_dict()!r})"

    def __reduce__(self) -> tuple[type[Config], tuple[dict[str, Any]]]:
        """Copy or pickle the values alone: a change of the copy is no change of the run's."""
        return Config, (self.as_dict(),)

    def update(
        self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] | object, allow_val_change: bool | None = None
    ) -> None:
        """Set several keys at once, and record them.

        Args:
            values: New values, as a dict, a dataclass, an `argparse.Namespace` or pairs; keys that are not among them
                stay as they are.
            allow_val_change: Taken from scripts that were written for W&B; values may always change here, for the
                history keeps when.

        Raises:
            ConfigError: If `values` is nothing of these.
        """
        del allow_val_change
        changes = _given(values)
        if not changes:
            return
        if self._on_change is not None:
            self._on_change(changes)  # first: a change that is refused is none
        self._values.update(changes)

    def setdefaults(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] | object) -> None:
        """Set those of several keys that have no value yet, and record them."""
        present = self._all()
        self.update({key: value for key, value in _given(values).items() if key not in present})

    def as_dict(self) -> dict[str, Any]:
        """Return a copy as plain dicts and lists."""
        return _as_object(self._all())

    def _rebase(self, values: Mapping[str, Any], inherited: Callable[[], Mapping[str, Json]]) -> None:
        """Begin anew with these values above inherited ones: the run went to another position."""
        object.__setattr__(self, "_values", _as_object(values))
        object.__setattr__(self, "_inherited", inherited)

    def _merge(self, key: str, changes: Changes) -> None:
        """Change keys of the dict under `key`, as it is by now."""
        present = self._all().get(key)
        self.update({key: {**present, **changes} if isinstance(present, dict) else changes})

    def _all(self) -> dict[str, Json]:
        """Return all values, looking up the inherited ones the first time."""
        if self._inherited is not None:
            values = {**self._inherited(), **self._values}
            object.__setattr__(self, "_values", values)
            object.__setattr__(self, "_inherited", None)
        return self._values


def _given(values: object) -> Changes:
    """Return what was given to `update`."""
    found = plain(values)
    if isinstance(found, dict):
        return found
    try:
        return _as_object(dict(values))  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise ConfigError(
            f"config.update() takes a dict, a dataclass or a Namespace, not {values!r:.80} ({type(values).__name__})."
        ) from None


def _as_object(values: Mapping[str, Any]) -> dict[str, Json]:
    """Return `plain(values)`, which is a dict since a mapping went in."""
    result = plain(values)
    assert isinstance(result, dict)
    return result
