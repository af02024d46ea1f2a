"""Texts and pages."""

from __future__ import annotations

import os
from typing import ClassVar

from rewind_logger.errors import LogValueError
from rewind_logger.sdk.media.media import Attach, Encoded, Media, check_size, read_file

INLINE_BYTES = 4096
"""A text up to this size stands in its row; a longer one is a blob."""


class Text(Media):
    """A text of any length, such as a sample of what a model writes.

    Args:
        data: The text.
        caption: A text to show with it.

    Example:
        >>> Text("Once upon a time", caption="temperature 0.7")
        Text(caption='temperature 0.7')
    """

    kind: ClassVar[str] = "text"

    def __init__(self, data: str, caption: str | None = None) -> None:
        super().__init__(caption)
        self._text = data

    def _encode(self, attach: Attach) -> Encoded:
        data = _utf8(self._text)
        if len(data) <= INLINE_BYTES:
            return Encoded({"text": data.decode()})
        return Encoded({"format": "txt"}, data)


class Html(Media):
    """A page of HTML.

    Args:
        data: HTML, or the path of a file that ends with `.html` or `.htm`.
        inject: Taken for the sake of scripts that give it: no style is added to the page either way.
        data_is_not_path: Take the text for HTML even if it looks like a path.
        caption: A text to show with it.

    Example:
        >>> Html("<b>bold</b>")
        Html()
    """

    kind: ClassVar[str] = "html"

    def __init__(
        self,
        data: str | os.PathLike[str],
        inject: bool = True,
        data_is_not_path: bool = False,
        *,
        caption: str | None = None,
    ) -> None:
        super().__init__(caption)
        self._data = data
        self._is_path = not isinstance(data, str) or (not data_is_not_path and data.lower().endswith((".html", ".htm")))

    def _encode(self, attach: Attach) -> Encoded:
        if self._is_path:
            return read_file(self._data, {"html": "html", "htm": "html"})
        return Encoded({"format": "html"}, _utf8(self._data))


def _utf8(text: object) -> bytes:
    if not isinstance(text, str):
        raise LogValueError(f"is of type {type(text).__qualname__}, and no text")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise LogValueError(f"is no text that a file can keep: {error.reason}") from error
    check_size(len(data))
    return data
