"""A create that succeeded is a success, also when nobody was told so; and one that another made is not ours."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rewind_logger.errors import FencedError, TransientStorageError
from rewind_logger.format.names import RunPaths
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.writer import Writer
from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.faults import Fault, FaultyStorage, Plan, Request, every
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.retry import RetryingStorage
from rewind_logger.types import RunRef
from tests.servers import S3Server

RUN = RunRef("p", "r")
CLAIMS = RunPaths(RUN).claims
REPLY_LOST = Fault("after", TransientStorageError("The reply was lost."))
LOST = Fault("before", TransientStorageError("The request was lost."))


@pytest.fixture
def memory() -> Storage:
    return MemoryStorage(f"memory://{secrets.token_hex(8)}")


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the journals of remote stores to the test."""
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))


def first_create(fault: Fault) -> Plan:
    """Plan one fault."""
    faults = iter([fault])
    return lambda request: next(faults, None) if request.verb == "create" else None


def claims(storage: Storage) -> list[str]:
    return [info.name for info in storage.list(CLAIMS)]


def assert_it_can_log(writer: Writer) -> None:
    assert writer.opened is not None
    writer.append("metrics", {"a": 1.0}, writer.opened.start)
    assert writer.flush() is True


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("fault", [REPLY_LOST, LOST])
def test_the_claim_of_an_opening_is_made_once(memory: Storage, fault: Fault, attempts: int) -> None:
    faulty = RetryingStorage(FaultyStorage(memory, first_create(fault)), attempts, sleep=lambda seconds: None)
    writer = Writer(faulty, RUN, background=False)
    opened = writer.open(OpenRequest())
    assert (opened.kind, opened.base.number, claims(memory)) == ("new", 0, ["00000000.json"])
    assert_it_can_log(writer)
    writer.close()


@pytest.mark.parametrize("fault", [REPLY_LOST, LOST])
def test_a_claim_that_another_made_meanwhile_is_not_taken_for_ours(memory: Storage, fault: Fault) -> None:
    """With a lost reply the store said no; with a lost request nobody knows what it would have said."""
    first, other = (Writer(memory, RUN, background=False) for _ in range(2))
    first.open(OpenRequest())
    faults = iter([fault])

    def another_is_faster(request: Request) -> Fault | None:
        if request.verb != "create" or (fault := next(faults, None)) is None:
            return None
        other.open(OpenRequest())
        return fault

    writer = Writer(FaultyStorage(memory, another_is_faster), RUN, background=False)
    assert writer.open(OpenRequest()).base.number == 2
    assert_it_can_log(writer)
    with pytest.raises(FencedError):
        assert_it_can_log(other)
    for one in (first, other, writer):
        one.close()


def test_a_claim_that_cannot_be_made_is_an_error(memory: Storage) -> None:
    writer = Writer(FaultyStorage(memory, every("create", LOST)), RUN, background=False)
    with pytest.raises(TransientStorageError, match="The request was lost"):
        writer.open(OpenRequest())
    assert claims(memory) == []
    writer.close()


@contextlib.contextmanager
def forgetful(server: S3Server) -> Iterator[tuple[str, list[str]]]:
    """Run a proxy that hangs up on every first conditional request of a name, once the server has done it.

    Yields:
        Its URL, and the requests that it swallowed the answers of.
    """
    upstream = urlsplit(server.endpoint).netloc
    swallowed: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connection = http.client.HTTPConnection(upstream, timeout=30)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if "If-None-Match" in self.headers and self.path not in swallowed:
                assert answer.status == 200
                swallowed.append(self.path)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_DELETE = pass_on

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}", swallowed
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def test_on_s3_a_claim_whose_answer_was_lost_on_the_way_is_ours(s3_server: S3Server) -> None:
    bucket = f"test-{secrets.token_hex(6)}"
    s3_server.create_bucket(bucket)
    with forgetful(s3_server) as (endpoint, swallowed):
        options: dict[str, Any] = {**s3_server.storage_options}
        options["client_kwargs"] = {**options["client_kwargs"], "endpoint_url": endpoint}
        storage = open_storage(f"s3://{bucket}/exp", options)
        for number in range(2):
            writer = Writer(storage, RUN, background=False)
            assert writer.open(OpenRequest()).base.number == number
            assert_it_can_log(writer)
            writer.close()
        assert swallowed == [f"/{bucket}/exp/{CLAIMS}/{number:08d}.json" for number in range(2)]
        assert claims(storage) == ["00000000.json", "00000001.json"]
