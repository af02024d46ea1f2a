"""An attachment: what one logger knows of one call of a trainer. `fit` and evaluations differ."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rewind_logger.lightning.checkpoint import Loaded
from rewind_logger.sdk.run import Run

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from rewind_logger.lightning.logger import RewindLogger


class Attachment(ABC):
    """What a logger knows of the call that it logs. Lives on rank 0 only, from `setup` to `finalize`."""

    def __init__(self, logger: RewindLogger, trainer: Trainer, index: int, outer: Attachment | None = None) -> None:
        """Attach a logger.

        Args:
            logger: The logger.
            trainer: Whose loggers it is among.
            index: Its place among the trainer's loggers of ours.
            outer: The attachment to come back to, where a call comes within another trainer's.
        """
        self._logger = logger
        self._trainer = weakref.ref(trainer)
        self._index = index
        self.outer = outer
        self.loaded: Loaded | None = None
        """Where the checkpoint stands that the call has loaded."""

    @abstractmethod
    def log(self, values: Mapping[str, Any], step: int | None) -> None:
        """Log a row that the trainer, or someone within its call, gave the logger."""

    @abstractmethod
    def log_config(self, config: Mapping[str, Any]) -> None:
        """Keep hyperparameters."""

    def save(self) -> None:  # noqa: B027
        """Bring in what must not wait, if anything."""

    @abstractmethod
    def end(self) -> None:
        """End with the call."""

    @property
    def _run(self) -> Run:
        return self._logger._active_run()
