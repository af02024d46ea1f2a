"""Whatever a network or a service does to a request of the real client, every row is there once."""

from __future__ import annotations

from typing import Any

import pytest

from rewind_logger.errors import CorruptError
from rewind_logger.storage import Storage, open_storage
from tests.conftest import Bucket
from tests.figures import count
from tests.history.lines import end, line, log, opened, read, rewound
from tests.proxy import Proxy, Request, Trouble
from tests.servers import Answer

pytestmark = pytest.mark.usefixtures("no_waits")


def live(storage: Storage) -> None:
    """Open a run, log and flush it, rewind it, and end it."""
    writer = opened(storage)
    for step in range(0, 6, 2):
        log(writer, [step, step + 1])
        assert writer.flush(60)
    end(writer)
    writer = rewound(storage, 4)
    log(writer, range(4, 7), turn=1)
    end(writer)


EXPECTED = (line(range(4)) + line(range(4, 7), turn=1), line(range(6)))
"""What the run has then, and its archived revision."""

TROUBLES: dict[str, Trouble | Answer] = {
    "500": Answer.s3_error(500, "InternalError"),
    "503 SlowDown": Answer.s3_error(503, "SlowDown", "Please reduce your request rate."),
    "502 of a load balancer": Answer(502, b"<html>Bad Gateway", {"Content-Type": "text/html"}),
    "429": Answer.s3_error(429, "TooManyRequests"),
    "reset": Trouble.HANG_UP,
    "reply lost": Trouble.REPLY_LOST,
    "answer cut short": Trouble.TORN,
    "no answer": Trouble.SILENT,
}


_counted: list[int] = []


def requests_of_a_life(proxy: Proxy, bucket: Bucket) -> int:
    """Count the requests of `live`, once for all tests."""
    if not _counted:
        begun = len(proxy.requests)
        live(open_storage(f"{bucket.url}/counted", proxy.storage_options))
        _counted.append(len(proxy.requests) - begun)
    return _counted[0]


def check(storage: Storage, what: str) -> None:
    """Check that everything is there, once."""
    found = read(storage), read(storage, 1)
    for expected, there in zip(EXPECTED, found, strict=True):
        count("rows checked", len(expected))
        count("rows lost", len(set(expected) - set(there)))
    assert found == EXPECTED, what


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("stride", [20, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_whatever_befalls_one_request_every_row_is_there_once(
    stride: int, trouble: str, proxy: Proxy, bucket: Bucket
) -> None:
    def store(name: str, options: dict[str, Any]) -> Storage:
        return open_storage(f"{bucket.url}/{name}", options)

    expected = requests_of_a_life(proxy, bucket)
    assert expected > 20
    for number in range(list(TROUBLES).index(trouble), expected, stride):
        begun = len(proxy.requests)
        proxy.plan = lambda request, at=begun + number: TROUBLES[trouble] if request.number == at else None  # type: ignore[misc]
        live(store(str(number), proxy.storage_options))
        proxy.plan = lambda request: None
        check(store(str(number), bucket.storage_options), f"{trouble} of request {number}")
    assert proxy.faults


@pytest.mark.parametrize("trouble", ["500", "reset", "reply lost", "answer cut short"])
@pytest.mark.parametrize(
    "shift", [pytest.param(shift, marks=pytest.mark.exhaustive if shift else ()) for shift in range(5)]
)
def test_whatever_befalls_two_requests_of_five_every_row_is_there_once(
    shift: int, trouble: str, proxy: Proxy, bucket: Bucket
) -> None:
    """Two, since the client tries a request again by itself whose connection was closed."""
    proxy.plan = lambda request: TROUBLES[trouble] if (request.number + shift) % 5 < 2 else None
    storage = open_storage(f"{bucket.url}/x", proxy.storage_options)
    live(storage)
    assert storage.retries.requests > 0
    check(open_storage(f"{bucket.url}/x", bucket.storage_options), trouble)


def test_an_answer_that_is_cut_and_says_nothing_of_it_is_told_by_its_checksum(
    proxy: Proxy, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    """By a proxy that corrects the length. What the server gave a checksum of is asked for again."""
    live(open_storage(f"{bucket.url}/x", bucket.storage_options))
    storage = open_storage(f"{bucket.url}/x", proxy.storage_options)
    seen: set[str] = set()

    def once(request: Request) -> Trouble | None:
        known = request.path in seen
        seen.add(request.path)
        return None if known or "list-type" in request.path else Trouble.SHORT

    proxy.plan = once
    assert (read(storage), read(storage, 1)) == EXPECTED
    assert storage.retries.requests >= 3
    proxy.plan = lambda request: Trouble.DOCTORED if "base.json" in request.path else None
    with pytest.raises(CorruptError, match=r"base\.json"):
        read(storage)
    proxy.plan = lambda request: Trouble.DOCTORED if ".parquet" in request.path else None
    try:
        found = read(storage)
    except CorruptError as error:
        assert ".parquet" in str(error)
    else:
        assert found != EXPECTED[0]
        assert ".parquet" in caplog.text, "what is left out is named"
