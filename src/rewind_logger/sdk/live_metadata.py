"""The config and the labels of an open run: they can be changed, and each opening is given what was given before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rewind_logger.sdk.config import Config
from rewind_logger.sdk.inherited import Inherited
from rewind_logger.sdk.metadata import Labels, to_values
from rewind_logger.sdk.plain import Json
from rewind_logger.types import Scalar


class LiveMetadata:
    """What a run says of itself besides numbers, over what it says where its opening began."""

    def __init__(self, config: Mapping[str, Json], labels: Labels, record: Callable[[dict[str, Scalar]], bool]) -> None:
        """Take what every opening is given.

        Args:
            config: The config.
            labels: The labels.
            record: Records an event at the present step. Returns False if the next opening has to be given it.
        """
        self.given: dict[str, Json] = dict(config)
        """The config that every opening is given."""
        self._given_labels = labels.given()
        self._labels = dict(self._given_labels)
        self._inherited: Inherited | None = None
        self._record = record
        self.config = Config(self.given, on_change=self._change_config)

    def give(self, config: Mapping[str, Any]) -> None:
        """Add to the config that the next opening is given, also while the run is still open elsewhere."""
        self.given.update(Config(config).as_dict())

    def reopen(self, inherited: Inherited, *, forked: bool) -> None:
        """Begin anew above what the run inherits.

        A fork is a run of its own: it inherits the config, and not what its parent is called.
        """
        self._inherited = inherited
        self._labels = {**(Labels().all() if forked else {}), **self._given_labels}
        self.config._rebase(self.given, lambda: inherited.metadata.config)

    def event(self) -> dict[str, Scalar]:
        """Return the event that the opening is given, empty if there is none."""
        return to_values(self.given, self._labels)

    def label(self, name: str) -> Any:
        """Return the present value of a label, None where there is none."""
        if name in self._labels or self._inherited is None:
            return self._labels.get(name)
        return getattr(self._inherited.metadata.labels, name)

    def set_labels(self, labels: Labels) -> None:
        """Record new labels."""
        given = labels.given()
        if not self._record(to_values(None, given)):
            self._given_labels.update(given)
        self._labels.update(given)

    def _change_config(self, changes: dict[str, Json]) -> None:
        if not self._record(to_values(changes, {})):
            self.given.update(changes)
