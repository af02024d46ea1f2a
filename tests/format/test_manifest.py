"""Manifests: the same text for the same content, and nothing that leads out of a folder."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format import manifest
from rewind_logger.format.manifest import Entry

BLOB = Entry("ab" * 32, 5)

parts = st.text(st.characters(codec="utf-8", exclude_characters="\\/"), min_size=1, max_size=20)
paths = st.lists(parts, min_size=1, max_size=3).map("/".join)


def with_names(*names: str) -> bytes:
    return json.dumps({"format": 1, "entries": {name: {"sha256": "ab" * 32, "size": 5} for name in names}}).encode()


def test_what_is_written_is_read() -> None:
    entries = {
        "b/größe 1.bin": Entry("cd" * 32, 0),
        "a": BLOB,
        "far": Entry(reference="s3://bucket/far", size=7, checksum="etag:x"),
        "unknown": Entry(reference="https://host/x?y=z"),
        ".hidden/.file": BLOB,
    }
    assert manifest.decode(manifest.encode(entries), "It") == dict(sorted(entries.items()))
    assert manifest.encode(entries) == manifest.encode(dict(reversed(entries.items())))
    assert manifest.encode({"a": BLOB}) == (b'{"entries":{"a":{"sha256":"' + b"ab" * 32 + b'","size":5}},"format":1}')


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "..",
        ".",
        "",
        "/etc/passwd",
        "//host/share",
        "a//b",
        "a/",
        "./a",
        "a\\b",
        "..\\x",
        "\\\\host\\share",
        "C:\\x",
        "c:x",
        "C:/x",
        "a\0b",
        "a\nb",
        "\x1b[2J",
        "a/\u2028",
        "\ud800",
        "con",
        "a/NUL.txt",
        "lpt1",
        "COM¹",
        "a./b",
        "a ",
        "a/...",
        "x" * 256,
        "/".join(["x" * 200] * 6),
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(CorruptError, match=r"^The manifest is refused, it was damaged or made to do harm"):
        manifest.decode(with_names("fine", name), "The manifest")


@pytest.mark.parametrize(
    "names",
    [("README", "readme"), ("a/B", "A/b"), ("é", "e\u0301"), ("straße", "STRASSE"), ("a", "a/b"), ("A", "a/b/c")],
)
def test_names_that_meet_on_some_file_system_are_refused(names: tuple[str, ...]) -> None:
    for order in (names, names[::-1]):
        with pytest.raises(CorruptError, match="is refused"):
            manifest.decode(with_names(*order), "The manifest")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"entries":{}}',
        b'{"format":0,"entries":{}}',
        b'{"format":1}',
        b'{"format":1,"entries":[]}',
        b'{"format":1,"entries":{"a":null}}',
        b'{"format":1,"entries":{"a":{}}}',
        b'{"format":1,"entries":{"a":{"sha256":"../x","size":1}}}',
        b'{"format":1,"entries":{"a":{"sha256":"%s","size":-1}}}' % (b"ab" * 32),
        b'{"format":1,"entries":{"a":{"sha256":"%s","size":1.5}}}' % (b"ab" * 32),
        b'{"format":1,"entries":{"a":{"sha256":"%s"}}}' % (b"ab" * 32),
        b'{"format":1,"entries":{"a":{"sha256":"%s","size":1,"reference":"s3://x"}}}' % (b"ab" * 32),
        b'{"format":1,"entries":{"a":{"reference":7}}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(CorruptError, match="The manifest"):
        manifest.decode(text, "The manifest")


def test_one_of_a_newer_format_is_refused() -> None:
    with pytest.raises(FormatVersionError, match="upgrade"):
        manifest.decode(b'{"format":99,"entries":{}}', "The manifest")


@given(paths)
def test_whatever_is_accepted_lies_below_the_folder(name: str) -> None:
    if manifest.what_is_wrong_with(name) is None:
        assert not name.startswith("/")
        assert all(part not in ("", ".", "..") for part in name.split("/"))
        assert "\\" not in name
        assert manifest.decode(manifest.encode({name: BLOB}), "It") == {name: BLOB}
