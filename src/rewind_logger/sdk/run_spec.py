"""What is known of a run before it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rewind_logger.sdk.metadata import Labels
from rewind_logger.sdk.plain import Json
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef

OnBackwardStep = Literal["keep", "error"]
"""What to do about a row whose step lies before the present one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What is known of a run before it is opened."""

    storage: Storage
    run: RunRef
    config: Mapping[str, Json] = field(default_factory=dict)
    labels: Labels = field(default_factory=Labels)
    on_backward_step: OnBackwardStep = "keep"
    driven: bool = False
    """Whether a trainer sets the clock (`Run._record`): then `log` never moves it."""
    disabled: bool = False
    environment: bool = False
    """Whether the packages, the code and the machine of each opening are recorded."""
    console: bool = False
    """Whether what the process prints is recorded."""
    system_metrics: bool = False
    """Whether the use of the machine is."""
