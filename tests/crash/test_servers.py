"""The crash suite in stores of each kind: a sample of its kills on each server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.crash.nursery import Nursery
from tests.crash.scenarios import SCENARIOS
from tests.crash.suite import kill_everywhere
from tests.emulators.servers import ALL, Servers

SAMPLE = 2
"""Kills of each scenario, of some hundred."""


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("server", ALL)
def test_a_kill_at_any_operation_loses_nothing(server: str, scenario: str, nursery: Nursery, servers: Servers) -> None:
    def place() -> tuple[str, Mapping[str, Any]]:
        found = servers.place(server)
        return found.url, found.storage_options

    kill_everywhere(nursery, scenario, place, sample=SAMPLE)
