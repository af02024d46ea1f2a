"""Manifests: what an artifact holds, as JSON text that is the same for the same content.

```
{"entries": {"data/train.csv": {"sha256": "9f…", "size": 1200},
             "raw.csv": {"reference": "s3://bucket/raw.csv", "size": 5000, "checksum": "etag:…"}},
 "format": 1}
```

A store is data, and someone else may have written it: `decode` refuses every name that could lie outside of the folder
that the artifact is downloaded to, on any operating system.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rewind_logger.errors import CorruptError
from rewind_logger.format.run_names import UNPRINTABLE, is_device
from rewind_logger.format.version import FORMAT_VERSION, check_version

MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255
"""Of a name in UTF-8; what file systems take."""

_DIGEST = re.compile("[0-9a-f]{64}")
_DRIVE = re.compile("[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an artifact: a blob of the store, or a reference to a place elsewhere."""

    sha256: str | None = None
    """The blob that holds it; None for a reference."""
    size: int | None = None
    """In bytes; None for a reference of which that is not known."""
    reference: str | None = None
    """A URL, which was not copied."""
    checksum: str | None = None
    """What the reference's content is known by: `sha256:…` or `etag:…`."""


def encode(entries: Mapping[str, Entry]) -> bytes:
    """Return the text of a manifest: the same entries give the same bytes."""
    fields = {
        name: {
            key: value
            for key in ("sha256", "size", "reference", "checksum")
            if (value := getattr(entry, key)) is not None
        }
        for name, entry in entries.items()
    }
    return json.dumps({"entries": fields, "format": FORMAT_VERSION}, sort_keys=True, separators=(",", ":")).encode()


def decode(data: bytes, where: str) -> dict[str, Entry]:
    """Read a manifest.

    Args:
        data: Its text.
        where: What it is, for messages.

    Returns:
        The entries by name, sorted.

    Raises:
        CorruptError: If it is none, or if a name in it could lead out of the folder of a download.
        FormatVersionError: If a newer version of this package wrote it.
    """
    try:
        fields = json.loads(data)
        check_version(fields["format"], where)
        entries = {name: _entry(entry) for name, entry in sorted(fields["entries"].items())}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, CorruptError):
            raise
        raise CorruptError(f"{where} is no manifest of an artifact: {error!r}.") from error
    if (wrong := what_is_wrong(entries)) is not None:
        raise CorruptError(f"{where} is refused, it was damaged or made to do harm: {wrong}.")
    return entries


def _entry(fields: Mapping[str, object]) -> Entry:
    """Read one entry."""
    sha256, size, reference, checksum = (fields.get(key) for key in ("sha256", "size", "reference", "checksum"))
    if (
        (sha256 is None) == (reference is None)
        or not (sha256 is None or (isinstance(sha256, str) and _DIGEST.fullmatch(sha256)))
        or not (reference is None or isinstance(reference, str))
        or not (checksum is None or isinstance(checksum, str))
        or not ((size is None and sha256 is None) or (type(size) is int and size >= 0))
    ):
        raise ValueError(f"{str(dict(fields))[:200]} is no entry")
    return Entry(sha256, size, reference, checksum)


def what_is_wrong(names: Iterable[str]) -> str | None:
    """Say what is wrong with the names of an artifact's files, as the end of a sentence; None if nothing is.

    Each must be a path below the artifact on every operating system, and no two may meet on any: names that differ in
    case or in the form of their accents only are one file on some, and no file can be a folder too.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        if (wrong := what_is_wrong_with(name)) is not None:
            return wrong
        folded = _folded(name)
        if folded in seen:
            return f"{seen[folded]!r} and {name!r} are one file where case is not told apart"
        seen[folded] = name
        for above in _above(folded):
            folders.setdefault(above, name)
    for folded, name in seen.items():
        if folded in folders:
            return f"{name!r} would be a file, and a folder for {folders[folded]!r}"
    return None


def what_is_wrong_with(name: object) -> str | None:
    """Say what is wrong with the name of one file, likewise."""
    if not isinstance(name, str):
        return f"the name {name!r} is no text"
    shown = repr(name[:200])
    if UNPRINTABLE.search(name):
        return f"the name {shown} holds a control character"
    if "\\" in name:
        return f"the name {shown} holds a backslash, which separates folders on Windows"
    if name.startswith("/") or _DRIVE.match(name):
        return f"the name {shown} is not relative"
    if len(name.encode()) > MAX_PATH_BYTES:
        return f"the name {shown} … has more than {MAX_PATH_BYTES} bytes"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return f"the name {shown} has {part!r} between its slashes"
        if part != part.rstrip(" ."):
            return f"the name {shown} has a part that ends with a dot or a space, which some file systems drop"
        if len(part.encode()) > MAX_PART_BYTES:
            return f"the name {shown} … has a part of more than {MAX_PART_BYTES} bytes"
        if is_device(part):
            return f"the name {shown} is that of a device on Windows"
    return None


def _folded(name: str) -> str:
    """Return what names have in common that some file system takes for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _above(name: str) -> Iterator[str]:
    """Yield the folders that a name lies in."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
