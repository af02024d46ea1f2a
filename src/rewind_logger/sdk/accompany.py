"""Who accompanies a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rewind_logger.sdk.companion import Companion, Companions
from rewind_logger.sdk.console.console import Console
from rewind_logger.sdk.provenance.recorder import EnvironmentRecorder
from rewind_logger.sdk.system.system import System

if TYPE_CHECKING:
    from rewind_logger.sdk.run import Run


def accompany(run: Run, *always: Companion) -> Companions:
    """Return the companions that a run is to have, beside those that it always has; a disabled one has no others."""
    companions = Companions(always)
    spec = run._spec
    if spec.environment and not spec.disabled:
        companions.append(EnvironmentRecorder(run._writer))
    if spec.console and not spec.disabled:
        companions.append(Console(run))
    if spec.system_metrics and not spec.disabled:
        companions.append(System(run))
    return companions
