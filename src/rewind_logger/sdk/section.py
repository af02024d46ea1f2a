"""A dict within a run's configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from rewind_logger.errors import ConfigError
from rewind_logger.sdk.plain import Json, plain


class Section(dict[str, Any]):
    """A dict within a config: a plain dict for all who read it, by attribute too, whose changes are recorded.

    So `json.dumps(dict(run.config))` works, as does whatever asks for a dict. Keys can be changed, not removed.
    """

    __slots__ = ("_on_change",)

    _on_change: Callable[[dict[str, Json]], None]

    def __init__(self, values: Mapping[str, Json], on_change: Callable[[dict[str, Json]], None]) -> None:
        """Take the values to begin with.

        Args:
            values: They are copied, and not reported.
            on_change: Called with the new values of keys, before they are set here.
        """
        object.__setattr__(self, "_on_change", on_change)
        self._take(values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"The config has no {name!r} here; it has {', '.join(self) or 'no keys'}.") from None

    def __setitem__(self, key: str, value: object) -> None:
        self.update({key: value})

    def __setattr__(self, name: str, value: object) -> None:
        self.update({name: value})

    def __ior__(self, values: Any) -> Section:  # type: ignore[override, misc]
        self.update(values)
        return self

    def __reduce__(self) -> tuple[Callable[[object], Json], tuple[dict[str, Any]]]:
        """Copy or pickle the values alone: a change of the copy is no change of the run's."""
        return dict, (plain(self),)  # type: ignore[return-value]

    def update(self, *values: Any, **more: Any) -> None:
        """Set several keys at once, and record them."""
        changes = plain(dict(*values, **more))
        assert isinstance(changes, dict)
        self._on_change(changes)  # first: a change that is refused is none
        self._take(changes)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key; where it has none, set and record it first."""
        if key not in self:
            self.update({key: default})
        return self[key]

    def __delitem__(self, key: str) -> NoReturn:
        self.clear()

    def pop(self, *_: Any) -> NoReturn:
        """Refuse, as `clear` does."""
        self.clear()

    def popitem(self) -> NoReturn:
        """Refuse, as `clear` does."""
        self.clear()

    def clear(self) -> NoReturn:
        """Refuse: the history keeps what a key was.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "Keys of a config can be changed, not removed. Take them out of a copy: run.config.as_dict()."
        )

    def _take(self, values: Mapping[str, Json]) -> None:
        for key, value in values.items():
            mine = Section(value, self._reports(key)) if isinstance(value, dict) else plain(value)
            super().__setitem__(key, mine)

    def _reports(self, key: str) -> Callable[[dict[str, Json]], None]:
        """Return what the section under a key calls."""
        return lambda changes: self._on_change({key: {**self[key], **changes}})
