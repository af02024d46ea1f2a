"""What goes wrong at a store becomes one of three errors, in a sentence that helps and gives nothing away."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from rewind_logger.errors import StorageError, TransientStorageError
from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.probe import is_conditional
from rewind_logger.storage.redact import public_url, redact, secrets_of
from rewind_logger.storage.retry import RetryingStorage
from rewind_logger.storage.s3 import S3Storage
from rewind_logger.storage.translate import from_backend, from_os
from tests.conftest import Bucket
from tests.servers import HANG_UP, Answer, S3Server, ScriptedServer


def s3(endpoint: str) -> S3Storage:
    options = S3Server(endpoint).storage_options
    # Seconds for an answer that never comes.
    return S3Storage("s3://bucket/prefix", {**options, "config_kwargs": {"read_timeout": 5}})


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


def http_error(status: int) -> aiohttp.ClientResponseError:
    url = URL("http://host/path")
    info = aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict()), url)
    return aiohttp.ClientResponseError(info, (), status=status)


PERMANENT = [
    (Answer.s3_error(403, "AccessDenied"), r"access was denied \(.*\)\. Check the credentials"),
    (Answer.s3_error(403, "InvalidAccessKeyId"), r"access was denied"),
    (Answer.s3_error(403, "RequestTimeTooSkewed"), r"this machine's time of day is wrong \(.*\)\. Set it"),
    (Answer.s3_error(400, "ExpiredToken"), r"the credentials have expired \(.*\)\. Renew them"),
    (Answer.s3_error(404, "NoSuchBucket"), r"there is no bucket of that name \(.*\)\. Create it, or correct"),
    (Answer.s3_error(400, "KeyTooLongError"), r"the store refused the request \(.*\)\. Check the store's URL"),
]

TRANSIENT = [
    Answer.s3_error(500, "InternalError"),
    Answer.s3_error(503, "SlowDown", "Please reduce your request rate."),
    Answer.s3_error(503, "ServiceUnavailable"),
    Answer.s3_error(429, "TooManyRequests"),
    Answer.s3_error(409, "ConditionalRequestConflict"),
    Answer.s3_error(400, "RequestTimeout"),
    Answer(503, b"<html>A load balancer speaks, and not XML", {"Content-Type": "text/html"}),
    HANG_UP,
]


@pytest.mark.parametrize(("answer", "words"), PERMANENT, ids=lambda value: _name(value))
def test_what_stays_is_said_in_a_sentence(answer: Answer, words: str) -> None:
    with ScriptedServer([answer]) as server:
        with pytest.raises(StorageError, match=f"^Could not write s3://bucket/prefix/a/b: {words}") as raised:
            s3(server.endpoint).put("a/b", b"x")
        assert not isinstance(raised.value, TransientStorageError)
        assert len(server.requests) == 1


@pytest.mark.parametrize("answer", TRANSIENT, ids=lambda value: _name(value))
@pytest.mark.parametrize("verb", ["put", "create", "read", "list"])
def test_what_may_pass_is_told_apart_and_asked_once(answer: Answer, verb: str) -> None:
    """Neither botocore nor s3fs tries again behind our back; aiohttp does, once, when a connection was closed."""
    with ScriptedServer([answer]) as server:
        storage = s3(server.endpoint)
        requests: dict[str, Callable[[], object]] = {
            "put": lambda: storage.put("a/b", b"x"),
            "create": lambda: storage.create("a/b", b"x"),
            "read": lambda: storage.read("a/b"),
            "list": lambda: storage.list("a/b"),
        }
        with pytest.raises(TransientStorageError, match=r"^Could not \w+ s3://bucket/prefix/a/b: .*try again"):
            requests[verb]()
        assert len(server.requests) == (2 if answer is HANG_UP else 1)


def _name(value: object) -> str | None:
    if isinstance(value, Answer):
        code = value.body.decode().partition("<Code>")[2].partition("<")[0]
        return f"{value.status} {code}"
    return None


def test_attempts_are_not_multiplied() -> None:
    waits: list[float] = []
    with ScriptedServer([Answer.s3_error(503, "SlowDown")]) as server:
        storage = RetryingStorage(s3(server.endpoint), 3, sleep=waits.append)
        with pytest.raises(TransientStorageError, match="tried 3 times"):
            storage.read("a")
        assert server.requests == ["GET /bucket/prefix/a"] * 3
    assert len(waits) == 2


def test_a_store_that_comes_back_is_found_again() -> None:
    with ScriptedServer([Answer.s3_error(503, "SlowDown"), HANG_UP, Answer(206, b"hello")]) as server:
        assert RetryingStorage(s3(server.endpoint), sleep=lambda seconds: None).read("a") == b"hello"
        assert len(server.requests) == 3


def test_half_an_answer_is_no_answer() -> None:
    half = Answer(206, b"hel", {"Content-Length": "5", "Connection": "close"})
    with ScriptedServer([half, Answer(206, b"hello")]) as server:
        assert RetryingStorage(s3(server.endpoint), sleep=lambda seconds: None).read("a") == b"hello"


@pytest.mark.parametrize("code", ["PreconditionFailed", "SomethingOfAnotherServer"])
def test_a_failed_precondition_is_no_error(code: str) -> None:
    """ministack and others do not say which condition failed, as AWS does."""
    with ScriptedServer([Answer.s3_error(412, code)]) as server:
        assert s3(server.endpoint).create("a", b"x") is False


def test_a_server_that_knows_no_conditions_is_used_and_found_out() -> None:
    unable = Answer.s3_error(501, "NotImplemented", "A header you provided implies functionality …")
    with ScriptedServer([unable, Answer(200)]) as server:
        storage = s3(server.endpoint)
        assert storage.create("a", b"x") is True
        assert is_conditional(storage, "a", b"x") is False
        assert server.requests == ["PUT /bucket/prefix/a"] * 3


def test_an_endpoint_that_is_not_there_may_come() -> None:
    with pytest.raises(TransientStorageError, match=r"^Could not read s3://bucket/prefix/a: .*connect.*check the netw"):
        s3(f"http://127.0.0.1:{closed_port()}").read("a")


def test_a_request_that_the_client_refuses_is_made_once_and_the_options_are_named() -> None:
    """aiohttp sends nothing to an endpoint with a user in it; botocore takes that for a trouble of the network."""
    with ScriptedServer([HANG_UP]) as server:
        options = S3Server(server.endpoint).storage_options
        options["client_kwargs"] = {"endpoint_url": server.endpoint.replace("//", "//me:secret@")}
        waits: list[float] = []
        storage = RetryingStorage(S3Storage("s3://bucket/x", options), sleep=waits.append)
        with pytest.raises(StorageError, match=r"Check the store's URL and `storage_options`") as found:
            storage.read("a")
        assert not isinstance(found.value, TransientStorageError)
        assert waits == [] and server.requests == [] and "secret" not in str(found.value)


def test_an_answer_that_does_not_come_may_come() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = {**S3Server(endpoint).storage_options, "config_kwargs": {"read_timeout": 0.2}}
        with pytest.raises(TransientStorageError, match=r"[Tt]imeout"):
            S3Storage("s3://bucket", options).read("a")


def test_a_bucket_that_does_not_exist(bucket: Bucket) -> None:
    storage = open_storage("s3://no-such-bucket-here/x", bucket.storage_options)
    requests: list[Callable[[], object]] = [
        lambda: storage.put("a", b""),
        lambda: storage.create("a", b""),
        lambda: storage.read("a"),
        lambda: storage.list("a"),
    ]
    for request in requests:
        with pytest.raises(StorageError, match=r"s3://no-such-bucket-here/x/a: there is no bucket of that name"):
            request()


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (FileNotFoundError("x"), FileNotFoundError, "There is no such object"),
        (PermissionError("Forbidden"), StorageError, "access was denied"),
        (TimeoutError("slow"), TransientStorageError, "TimeoutError: slow"),
        (asyncio.TimeoutError(), TransientStorageError, "TimeoutError"),
        (ConnectionResetError(errno.ECONNRESET, "reset by peer"), TransientStorageError, "reset by peer"),
        (OSError(errno.EIO, "unknown code"), TransientStorageError, "unknown code"),
        (OSError(errno.EINVAL, "bad"), StorageError, "the store refused the request"),
        (OSError("Forbidden: b/o"), StorageError, "Forbidden"),
        (botocore.exceptions.NoCredentialsError(), StorageError, "there are no valid credentials"),
        (botocore.exceptions.ParamValidationError(report="bad bucket"), StorageError, "bad bucket"),
        (botocore.exceptions.ConnectionClosedError(endpoint_url="http://h/"), TransientStorageError, "closed"),
        (botocore.exceptions.SSLError(endpoint_url="https://h/", error="x"), StorageError, "certificate was not"),
        (ssl.SSLCertVerificationError("self-signed"), StorageError, "certificate was not accepted"),
        (aiohttp.ServerDisconnectedError(), TransientStorageError, "Server disconnected"),
        (aiohttp.ClientPayloadError("not all of it"), TransientStorageError, "not all of it"),
        (http_error(502), TransientStorageError, "502"),
        (http_error(401), StorageError, "no valid credentials"),
        (RuntimeError("boom"), StorageError, "RuntimeError: boom"),
        (RuntimeError("cannot schedule new futures after shutdown"), StorageError, "this process is ending"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_backends(error: Exception, expected: type[Exception], words: str) -> None:
    translated = from_backend(error, "read", "s3://b/a")
    assert type(translated) is expected
    assert words in str(translated)
    assert "s3://b/a" in str(translated)


@pytest.mark.parametrize(
    ("number", "expected", "words"),
    [
        (errno.ENOSPC, StorageError, "no space is left on the device. Free some"),
        (errno.EDQUOT, StorageError, "the disk quota is used up. Free some"),
        (errno.EROFS, StorageError, "the file system is read-only. Choose"),
        (errno.EACCES, StorageError, "permission was denied. Check who owns"),
        (errno.EPERM, StorageError, "permission was denied. Check who owns"),
        (errno.EINVAL, StorageError, "Invalid argument. Check the disk"),
        (errno.EIO, TransientStorageError, "Input/output error. It may pass: try again"),
        (errno.EAGAIN, TransientStorageError, "Resource temporarily unavailable. It may pass"),
        (errno.ESTALE, TransientStorageError, "It may pass"),
        (errno.ETIMEDOUT, TransientStorageError, "It may pass"),
        (errno.ECONNRESET, TransientStorageError, "It may pass"),
        (errno.EMFILE, TransientStorageError, "Too many open files. It may pass"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_errors_of_the_local_file_system(number: int, expected: type[Exception], words: str) -> None:
    translated = from_os(OSError(number, os.strerror(number)), "write", "/data/a")
    assert type(translated) is expected
    assert str(translated).startswith("Could not write /data/a: ")
    assert words in str(translated)


def test_no_credentials_are_shown() -> None:
    port = closed_port()
    options = {
        "key": "AKIAEXAMPLE",
        "secret": "wJalrXUtnFEMI",
        "token": "FwoGZXIvYXdz",
        "client_kwargs": {"endpoint_url": f"http://me:hunter2@127.0.0.1:{port}?sig=abcdefgh", "region_name": "r1"},
    }
    storage: Storage = S3Storage("s3://bucket/prefix?versionId=none", options)
    with pytest.raises(StorageError) as raised:
        storage.read("a")
    shown = [str(raised.value), repr(storage), storage.url, "".join(traceback.format_exception(raised.value))]
    for secret in ("AKIAEXAMPLE", "wJalrXUtnFEMI", "FwoGZXIvYXdz", "hunter2", "me:", "abcdefgh"):
        assert not any(secret in text for text in shown), secret
    assert "127.0.0.1" in str(raised.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a b/c", "s3://bucket/a b/c"),
        ("s3://bucket/", "s3://bucket"),
        ("sftp://me:secret@host:22/runs", "sftp://host:22/runs"),
        ("sftp://me@host/runs", "sftp://host/runs"),
        ("https://host/a?sig=x&y=z", "https://host/a"),
        ("abfss://container@account.dfs.core.windows.net/a", "abfss://container@account.dfs.core.windows.net/a"),
        ("s3://bucket/user@home/a", "s3://bucket/user@home/a"),
    ],
)
def test_urls_are_shown_without_user_and_query(url: str, expected: str) -> None:
    assert public_url(url) == expected


def test_secrets_are_found_in_urls_and_options() -> None:
    options: dict[str, Any] = {
        "anon": False,
        "account_name": "public",
        "account_key": "k3y-value",
        "token": {"type": "service_account", "private_key": "-----BEGIN"},
        "client_kwargs": {"region_name": "eu-west-1", "aws_secret_access_key": "deeper"},
        "endpoint_url": "https://u5er:p%40ss@host/?sas=signed",
    }
    assert secrets_of("sftp://someone:pass%2Fword@host/x?sv=2020", options) == {
        "k3y-value",
        "service_account",
        "-----BEGIN",
        "deeper",
        "u5er",
        "p%40ss",
        "p@ss",
        "sas=signed",
        "someone",
        "pass%2Fword",
        "pass/word",
        "sv=2020",
    }


def test_a_text_is_rid_of_secrets() -> None:
    text = "no k3y at https://u:p@host/a?sig=1 (twice k3y), see http://host/b?c"
    assert redact(text, frozenset({"k3y"})) == "no … at https://…@host/a?… (twice …), see http://host/b?…"


def test_a_folder_without_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may do everything")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="permission was denied"):
        open_storage(tmp_path / "locked").put("a", b"")
