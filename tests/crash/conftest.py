"""Where processes come from that are to be killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.nursery import Nursery, nursery


@pytest.fixture(scope="module", name="nursery")
def one_nursery() -> Iterator[Nursery]:
    """Run one nursery for the tests of a file."""
    with nursery() as one:
        yield one
