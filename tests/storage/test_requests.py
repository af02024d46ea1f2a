"""How many HTTP requests, and bytes, each method of an S3 store takes, counted below everything of ours."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from rewind_logger.storage import ObjectInfo
from rewind_logger.storage.s3 import S3Storage
from tests.conftest import Bucket
from tests.servers import Answer, S3Server, ScriptedServer


class Wire:
    """What goes over the wire, as botocore signals it."""

    def __init__(self, storage: S3Storage) -> None:
        self.requests: list[str] = []
        self.bytes_received = 0
        storage.list("")  # Connects.
        events = storage.filesystem.s3.meta.events
        events.register("before-send.s3", self._sent)
        events.register("after-call.s3", self._received)

    def _sent(self, request: Any, **_: object) -> None:
        url = urlsplit(request.url)
        self.requests.append(f"{request.method} {unquote(url.path).partition('/')[2].partition('/')[2]}")

    def _received(self, parsed: dict[str, Any], **_: object) -> None:
        self.bytes_received += parsed.get("ContentLength", 0)


@pytest.fixture
def storage(bucket: Bucket) -> S3Storage:
    return S3Storage(bucket.url, bucket.storage_options)


@pytest.fixture
def wire(storage: S3Storage) -> Wire:
    return Wire(storage)


def test_writing_takes_one_request(storage: S3Storage, wire: Wire) -> None:
    assert storage.create("a/claim", b"x")
    assert not storage.create("a/claim", b"x")
    storage.put("a/object", b"x" * 1_000_000)
    storage.put("a/empty", b"")
    assert storage.create("a/created empty", b"")
    storage.delete("a/empty")
    storage.delete("a/missing")
    assert wire.requests == [
        "PUT a/claim",
        "PUT a/claim",
        "PUT a/object",
        "PUT a/empty",
        "PUT a/created empty",
        "DELETE a/empty",
        "DELETE a/missing",
    ]


def test_reading_takes_one_request_and_no_more_bytes_than_asked_for(storage: S3Storage, wire: Wire) -> None:
    data = bytes(range(256)) * 20_000
    storage.put("large", data)
    storage.put("empty", b"")
    wire.requests.clear()

    assert storage.read_range("large", 1000, 1100) == data[1000:1100]
    assert storage.read_range("large", -8, 0) == data[-8:]
    assert wire.bytes_received == 108
    assert storage.read("large") == data
    assert wire.bytes_received == 108 + len(data)
    assert wire.requests == ["GET large"] * 3

    wire.requests.clear()
    assert storage.read("empty") == b""
    assert storage.read_range("empty", 0, 8) == b""
    assert storage.read_range("large", len(data), len(data) + 8) == b""
    assert storage.size("large") == len(data)
    for request in (storage.read, storage.size):
        with pytest.raises(FileNotFoundError):
            request("missing")
    assert wire.requests == ["GET empty", "GET empty", "GET large", "HEAD large", "GET missing", "HEAD missing"]


def test_many_at_a_time_take_one_request_each(storage: S3Storage, wire: Wire) -> None:
    for n in range(5):
        storage.put(f"f/{n}", b"x")
    wire.requests.clear()
    storage.read_many(f"f/{n}" for n in range(5))
    assert sorted(wire.requests) == [f"GET f/{n}" for n in range(5)]
    wire.requests.clear()
    storage.map_lists(["f", "g", "h"])
    assert wire.requests == ["GET "] * 3
    wire.requests.clear()
    storage.put_many((f"g/{n}", b"x") for n in range(3))
    assert sorted(wire.requests) == [f"PUT g/{n}" for n in range(3)]


def test_a_listing_goes_on_where_a_page_ended() -> None:
    pages = [
        "<IsTruncated>true</IsTruncated><NextContinuationToken>after b</NextContinuationToken>"
        "<Contents><Key>p/f/b</Key><Size>2</Size></Contents><Contents><Key>p/f/d</Key><Size>4</Size></Contents>",
        "<IsTruncated>false</IsTruncated><Contents><Key>p/f/e</Key><Size>5</Size></Contents>"
        "<CommonPrefixes><Prefix>p/f/c/</Prefix></CommonPrefixes>",
    ]
    answers = [Answer(200, f"<ListBucketResult>{page}</ListBucketResult>".encode()) for page in pages]
    with ScriptedServer(answers) as server:
        storage = S3Storage("s3://bucket/p", S3Server(server.endpoint).storage_options)
        assert storage.list("f") == [
            ObjectInfo("b", 2),
            ObjectInfo("c", None),
            ObjectInfo("d", 4),
            ObjectInfo("e", 5),
        ]
        queries = [parse_qs(urlsplit(request.partition(" ")[2]).query) for request in server.requests]
    assert [query["prefix"] for query in queries] == [["p/f/"], ["p/f/"]]
    assert [query.get("continuation-token") for query in queries] == [None, ["after b"]]


@pytest.mark.exhaustive
def test_a_listing_takes_one_request_for_each_thousand_names(storage: S3Storage, wire: Wire) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: storage.put(f"many/{n:04d}", b"x"), range(1001)))
    wire.requests.clear()
    assert storage.list("many") == [ObjectInfo(f"{n:04d}", 1) for n in range(1001)]
    assert wire.requests == ["GET ", "GET "]
    wire.requests.clear()
    storage.delete("many/1000")
    assert len(storage.list("many")) == 1000
    assert wire.requests == ["DELETE many/1000", "GET "]


def test_a_listing_of_nothing_takes_one_request(storage: S3Storage, wire: Wire) -> None:
    storage.put("full/a", b"x")
    wire.requests.clear()
    assert storage.list("empty") == []
    assert storage.list("full/below/deep") == []
    assert storage.list("full/a") == []
    assert wire.requests == ["GET "] * 3
    wire.requests.clear()
    storage.put_many((f"g/{n}", b"x") for n in range(3))
    assert sorted(wire.requests) == [f"PUT g/{n}" for n in range(3)]


def test_the_marks_of_consoles_are_not_listed(storage: S3Storage) -> None:
    storage.put("f/a", b"x")
    for mark in ("f/", "f/sub/"):
        bucket, _, _ = storage.filesystem.split_path(storage.url.partition("://")[2])
        storage.filesystem.call_s3("put_object", Bucket=bucket, Key=mark, Body=b"")
    assert storage.list("f") == [ObjectInfo("a", 1), ObjectInfo("sub", None)]
