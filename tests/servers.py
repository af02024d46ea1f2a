"""Servers that the tests start, on free ports of this machine."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

MOTO = """
import logging, os, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
moto = DomainDispatcherApplication(create_backend_app)
writing = threading.Lock()

def application(environ, start_response):
    # moto looks whether an object exists and only then puts it, so two of its threads can both say "created". S3 does
    # not do that, so neither may the stand-in.
    if "HTTP_IF_NONE_MATCH" not in environ:
        return moto(environ, start_response)
    with writing:
        return list(moto(environ, start_response))

# End with the tests, however they end: their end of the pipe closes.
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server = make_server("127.0.0.1", 0, application, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@dataclass(frozen=True)
class S3Server:
    """An S3 server; `endpoint` is its URL."""

    endpoint: str
    key: str = "testing-key"
    secret: str = "testing-secret"
    region: str = "us-east-1"

    @property
    def storage_options(self) -> dict[str, Any]:
        """What s3fs takes to speak with it."""
        return {
            "key": self.key,
            "secret": self.secret,
            "client_kwargs": {"endpoint_url": self.endpoint, "region_name": self.region},
        }

    def create_bucket(self, name: str) -> None:
        """Make a bucket; the server takes an unsigned request."""
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")).close()


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """Run moto's S3 server in a process of its own; it listens once its port is known."""
    process = subprocess.Popen([sys.executable, "-c", MOTO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"moto did not start; it ended with {process.wait()}.")
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True)
class Answer:
    """What a `ScriptedServer` answers."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def s3_error(cls, status: int, code: str, message: str = "Said by the server.") -> Answer:
        """An error as S3 words it."""
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return cls(status, body.encode(), {"Content-Type": "application/xml"})


HANG_UP = Answer(0)
"""Close the connection without an answer."""


class ScriptedServer:
    """An HTTP server that gives the answers it was told to, the last one for ever, and keeps what it was asked."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self.requests: list[str] = []
        script = list(answers)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append(f"{self.command} {self.path}")
                answer = script.pop(0) if len(script) > 1 else script[0]
                if answer is HANG_UP:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_PUT = do_HEAD = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ScriptedServer:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
