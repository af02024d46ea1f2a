"""What all documents have in common: one JSON object with its version and its checksum.

`format` is the version, and `crc32` the checksum of the same object without that key, in the canonical form that
`_canonical` writes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rewind_logger.errors import CorruptError
from rewind_logger.format import names
from rewind_logger.format.documents import checks
from rewind_logger.format.version import FORMAT_VERSION, check_version

T = TypeVar("T")

_SHOWN = 200
"""Characters of what a document holds that a message shows."""


def encode(fields: dict[str, Any]) -> bytes:
    """Return a document of these fields, with its version and checksum."""
    fields["format"] = FORMAT_VERSION
    fields["crc32"] = zlib.crc32(_canonical(fields))
    return _canonical(fields)


def decode(data: bytes, path: str, what: str, build: Callable[[dict[str, Any]], T]) -> T:
    """Check a document's checksum and version, then build a value of its fields.

    The checksum first: one that decayed is not taken for one of a newer version. Both stand at the same place in every
    version.

    Raises:
        CorruptError: If it is none; the message names `path`.
        FormatVersionError: If a newer version of this package wrote it.
    """
    try:
        fields = json.loads(data.decode("ascii"), parse_constant=_refuse_constant)
        if not isinstance(fields, dict):
            raise ValueError("it is no JSON object")
        found = fields.pop("crc32", None)
        whole = found == zlib.crc32(_canonical(fields))
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"The {what} {path} cannot be read: {error}. Restore it from a backup.") from error
    if not whole:
        raise CorruptError(f"The {what} {path} is damaged: its checksum does not match. Restore it from a backup.")
    check_version(fields.get("format"), f"The {what} {path}")
    try:
        return build(fields)
    except _MisplacedError as error:
        raise CorruptError(
            f"The {what} {path} is that of {str(error)[:_SHOWN]}: objects were mixed up. Restore it from a backup."
        ) from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CorruptError):
            raise
        shown = f"{type(error).__name__}: {str(error)[:_SHOWN]}"
        raise CorruptError(f"The {what} {path} is not what it should be ({shown}).") from error


class _MisplacedError(ValueError):
    """What is decoded lies in the place of another."""


def check_place(own: bool, whose: str) -> None:
    """Refuse what is decoded, within `decode`, if it does not lie in its own place: objects can be mixed up."""
    if not own:
        raise _MisplacedError(whose)


def own_nonce(fields: Mapping[str, Any], path: str) -> str:
    """Return the nonce that a document bears, which has to be that of the term in whose folder it lies."""
    nonce = checks.nonce(fields["nonce"])
    check_place(nonce == names.writer(path.rpartition("/")[0]), f"the term {nonce}")
    return nonce


def _canonical(fields: Mapping[str, Any]) -> bytes:
    """Return the JSON text over which the checksum is taken: sorted keys, no white space, ASCII."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _refuse_constant(name: str) -> None:
    """Refuse the NaN and Infinity that Python reads and JSON has not."""
    raise ValueError(f"{name} is no JSON")
