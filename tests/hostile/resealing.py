"""Changed objects with their checksums made right again: what somebody writes who means to do harm."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

_END = struct.Struct("<I4s")
_SEAL = struct.Struct("<4sII")


def footer_start(data: bytes) -> int:
    """Return where the footer of a segment or snapshot begins."""
    length, _ = _END.unpack(data[-_END.size :])
    return len(data) - _END.size - int(length)


def reseal(data: bytes) -> bytes:
    """Return a segment or snapshot whose checksums fit it; what has no footer stays as it is."""
    if len(data) < _END.size + _SEAL.size or (at := footer_start(data)) < _SEAL.size:
        return data
    body = data[: at - _SEAL.size]
    return body + _SEAL.pack(b"RWND", zlib.crc32(body), zlib.crc32(data[at:])) + data[at:]


def document(fields: Mapping[str, Any]) -> bytes:
    """Return a document of these fields, whatever they are, with a checksum that fits."""
    plain = {name: value for name, value in fields.items() if name != "crc32"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return json.dumps({**plain, "crc32": zlib.crc32(text.encode())}, sort_keys=True, separators=(",", ":")).encode()
