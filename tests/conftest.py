"""Fixtures that several folders of tests use."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from rewind_logger.history import flusher
from rewind_logger.storage import retry
from tests.emulators.servers import Servers
from tests.figures import Figures
from tests.proxy import Proxy, proxied
from tests.servers import S3Server, moto_server

collect_ignore = ["emulators/sftp.py", "hostile/fuzz.py"]
"""Programs of their own, of packages that are not installed beside the tests; there is nothing in them to collect."""


def pytest_configure(config: pytest.Config) -> None:
    """Have the figures of the tests printed."""
    config.pluginmanager.register(Figures(), "figures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests, which are those that are given the most time: no process ends with one alone.

    Each worker is given a part of the list and, once it is through, takes from the others: long tests are dealt out,
    the rest stay beside those that they share fixtures with.
    """

    def seconds(item: pytest.Item) -> float:
        return float(max((mark.args[0] for mark in item.iter_markers("timeout")), default=0))

    longest = sorted(filter(seconds, items), key=seconds, reverse=True)
    others = itertools.filterfalse(seconds, items.copy())
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    share = -(-len(items) // workers)
    parts = [longest[worker::workers] for worker in range(workers)]
    items[:] = [item for part in parts for item in (*part, *itertools.islice(others, max(0, share - len(part))))]


@pytest.fixture(autouse=True)
def memory_is_forgotten() -> Iterator[None]:
    """Empty `memory://` after each test: to list a folder of it takes a look at every object of the process."""
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


class Bucket(NamedTuple):
    """A place on an S3 server that nobody else uses."""

    url: str
    storage_options: dict[str, Any]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Run one S3 server for all tests of this process."""
    with moto_server() as server:
        yield server


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    """Stand between a client and the S3 server, to spoil what goes by."""
    with proxied(s3_server) as running:
        yield running


@pytest.fixture
def no_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a store that failed again at once."""
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(flusher, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(flusher, "LAST_RETRY_S", 0.01)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Run the servers that the tests of this process ask for."""
    running = Servers()
    yield running
    running.close()


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    """Make a fresh bucket."""
    name = f"test-{secrets.token_hex(6)}"
    s3_server.create_bucket(name)
    return Bucket(f"s3://{name}", s3_server.storage_options)
