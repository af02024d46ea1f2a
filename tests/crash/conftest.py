"""Where processes come from that are to be killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rewind_logger.history import recovery
from tests.crash.nursery import Nursery, nursery


@pytest.fixture(scope="module", name="nursery")
def one_nursery() -> Iterator[Nursery]:
    """Run one nursery for the tests of a file."""
    with nursery() as one:
        yield one


@pytest.fixture(autouse=True)
def nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was stopped while it brought in a journal does not go on before the run is opened."""
    monkeypatch.setattr(recovery, "WAIT_S", 0.0)
