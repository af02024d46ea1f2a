"""What all media have in common: a caption, and how they become a row's text and a blob."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from rewind_logger.errors import LogValueError
from rewind_logger.sdk.absent import check_media_arguments

MAX_BYTES = 128 << 20
"""What one item may have once it is encoded; it is held in memory. A larger file is an artifact."""


class Encoded(NamedTuple):
    """An item as it is kept."""

    fields: dict[str, Any]
    """What JSON can hold, besides `type` and `caption`."""
    data: bytes | None = None
    """The file, if it is one."""


Attach = Callable[[bytes], str]
"""Keeps the bytes of a file, and returns their SHA-256."""


class Media(ABC):
    """Something that is logged beside numbers.

    It is converted when it is logged, and what it holds then is kept: what cannot be converted is reported as any value
    that cannot be kept, and training goes on.
    """

    kind: ClassVar[str]
    """Its type in the store, such as "image"."""

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        """Refuse arguments of W&B's that are absent here."""
        check_media_arguments(cls.__name__, named)
        return super().__new__(cls)

    def __init__(self, caption: str | None) -> None:
        """Take the caption."""
        self.caption = None if caption is None else str(caption)

    @abstractmethod
    def _encode(self, attach: Attach) -> Encoded:
        """Return what is kept.

        Args:
            attach: For files besides the one that is returned.

        Raises:
            LogValueError: If it cannot be kept; the message is the end of a sentence that begins with the key.
        """

    def _record(self, attach: Attach) -> dict[str, Any]:
        """Return what JSON says of it, and keep its file; the same errors as `_encode`."""
        fields, data = self._encode(attach)
        record: dict[str, Any] = {"type": self.kind}
        if data is not None:
            record.update(sha256=attach(data), size=len(data))
        record.update(fields)
        if self.caption is not None:
            record["caption"] = self.caption
        return record

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.caption is None else f'caption={self.caption!r}'})"


def read_file(path: str | os.PathLike[str], suffixes: dict[str, str]) -> Encoded:
    """Return a file as it is, with its format.

    Args:
        path: The file.
        suffixes: By lower-case suffix, without the dot, the format that it stands for.

    Raises:
        LogValueError: If it is of no such format, is too large, or cannot be read.
    """
    file = Path(path)
    known = suffixes.get(file.suffix.lower().removeprefix("."))
    if known is None:
        raise LogValueError(f"is the file {file.name!r}, whose suffix is none of {', '.join(sorted(suffixes))}")
    try:
        check_size(file.stat().st_size)
        data = file.read_bytes()
    except OSError as error:
        raise LogValueError(f"is the file {file}, which cannot be read: {error.strerror or error}") from error
    return Encoded({"format": known}, data)


def check_size(size: int) -> None:
    """Refuse what is too large.

    Raises:
        LogValueError: If it is.
    """
    if size > MAX_BYTES:
        raise LogValueError(
            f"has {size:,} bytes, and media have at most {MAX_BYTES:,}: log a smaller one, or the file as an artifact"
        )
