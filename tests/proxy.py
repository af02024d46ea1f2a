"""A proxy in front of a server: real clients meet there what networks and services do to them, as a plan says."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from tests.figures import count
from tests.servers import Answer, S3Server


@dataclass(frozen=True)
class Request:
    """A request that has come."""

    number: int
    """How many came before it."""
    verb: str
    path: str
    headers: dict[str, str] = field(repr=False)


class Trouble(Enum):
    """What becomes of a request; an `Answer` instead is given in place of the server's."""

    HANG_UP = "the connection is closed before the server has heard of it"
    REPLY_LOST = "the server does it, and the connection is closed"
    TORN = "the server does it, and the connection is closed within its answer"
    SHORT = "the server does it, and the answer comes without its second half, as if it were whole"
    DOCTORED = "the same, without the checksums that the server gave"
    SILENT = "the server does it, and no answer comes"


Plan = Callable[[Request], "Trouble | Answer | None"]


class Proxy:
    """Passes requests on to a server, but for what its plan says."""

    def __init__(self, upstream: S3Server) -> None:
        self._upstream = upstream
        self.plan: Plan = lambda request: None
        self.requests: list[Request] = []
        self.faults = 0
        self._over = threading.Event()
        self._lock = threading.Lock()
        address = urlsplit(upstream.endpoint).netloc
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                trouble = outer._judge(self.command, self.path, dict(self.headers))
                if isinstance(trouble, Answer):
                    self._answer(trouble.status, trouble.headers, trouble.body, len(trouble.body))
                    return
                if trouble is Trouble.HANG_UP:
                    self.close_connection = True
                    return
                connection = http.client.HTTPConnection(address, timeout=30)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                if trouble is Trouble.SILENT:
                    outer._over.wait(60)
                if trouble in (Trouble.REPLY_LOST, Trouble.SILENT):
                    self.close_connection = True
                    return
                own = ("content-length", "connection", "transfer-encoding", "date", "server")
                headers = {name: value for name, value in answer.getheaders() if name.lower() not in own}
                size = int(answer.getheader("Content-Length") or 0) if self.command == "HEAD" else len(content)
                cut = content[: len(content) // 2]
                if trouble is Trouble.TORN:
                    self.close_connection = True
                    self._answer(answer.status, headers, cut, size + (not content))
                elif trouble in (Trouble.SHORT, Trouble.DOCTORED) and content:
                    if trouble is Trouble.DOCTORED:
                        headers = {k: v for k, v in headers.items() if not k.lower().startswith("x-amz-checksum")}
                    self._answer(answer.status, headers, cut, len(cut))
                else:
                    self._answer(answer.status, headers, content, size)

            def _answer(self, status: int, headers: dict[str, str], content: bytes, size: int) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(size)}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = pass_on

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Say nothing of a client that has gone."""

        self._server = Server(("127.0.0.1", 0), Handler)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def storage_options(self) -> dict[str, Any]:
        """What s3fs takes to speak with the server through it, with little patience."""
        options = self._upstream.storage_options
        return {
            **options,
            "client_kwargs": {**options["client_kwargs"], "endpoint_url": self.endpoint},
            "config_kwargs": {"read_timeout": 1, "connect_timeout": 1},
        }

    def _judge(self, verb: str, path: str, headers: dict[str, str]) -> Trouble | Answer | None:
        with self._lock:
            request = Request(len(self.requests), verb, path, headers)
            self.requests.append(request)
            trouble = self.plan(request)
            self.faults += trouble is not None
        count("faults injected", trouble is not None)
        return trouble

    def run(self) -> None:
        """Serve until `stop`."""
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """End; requests that are waiting for an answer get none."""
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def proxied(upstream: S3Server) -> Iterator[Proxy]:
    """Run a proxy."""
    proxy = Proxy(upstream)
    proxy.run()
    try:
        yield proxy
    finally:
        proxy.stop()


def at(numbers: dict[int, Trouble | Answer]) -> Plan:
    """Plan by the number of the request."""
    return lambda request: numbers.get(request.number)


def always(trouble: Trouble | Answer) -> Plan:
    """Plan the same for every request."""
    return lambda request: trouble
