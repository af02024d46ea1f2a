"""Fixtures for the tests of media."""

from __future__ import annotations

import secrets

import pytest


@pytest.fixture
def memory_url() -> str:
    """A store in memory."""
    return f"memory://test-{secrets.token_hex(6)}"
