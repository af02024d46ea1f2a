"""Files that lie outside of any store: what references point to."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from rewind_logger.errors import ConfigError, CorruptError, RewindError
from rewind_logger.storage.base import CHUNK_BYTES
from rewind_logger.storage.descriptor import open_file
from rewind_logger.storage.redact import public_text, public_url, secrets_of
from rewind_logger.storage.translate import from_backend, from_os

SCHEMES = frozenset({"file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "memory"})
"""What is fetched. fsspec knows more, some of which run programs: and a URL may come from what someone else wrote."""


def check_url(url: str) -> str:
    """Return a URL that can be fetched, or refuse it.

    Raises:
        ConfigError: If it is none, chains several, or is of another kind; the message does not show credentials.
    """
    scheme = url.partition("://")[0].lower()
    if "://" not in url or "::" in url or scheme not in SCHEMES:
        raise ConfigError(
            f"{public_text(url)} cannot be referred to: give a URL that begins with file://, s3://, gs://, az://, "
            "http:// or https://."
        )
    return url


def local_path(url: str) -> Path | None:
    """Return the path that a `file://` URL stands for, None for another URL."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme.lower() == "file" else None


def open_regular(path: Path, url: str) -> BinaryIO:
    """Open a file of this machine to read, and nothing that never ends or waits for somebody who writes to it.

    Args:
        path: The file.
        url: What it was named by, for messages.

    Raises:
        ConfigError: If it is a device, a pipe or a socket.
        OSError: If it is a folder, or cannot be opened.
    """
    # Looked at before, as to open a device may do something to it; and after, as it may have been replaced meanwhile.
    _check_regular(os.stat(path), path, url)
    # Without O_NONBLOCK to open a pipe waits for a writer.
    descriptor = open_file(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        _check_regular(os.fstat(descriptor), path, url)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(found: os.stat_result, path: Path, url: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(
            f"{public_url(url)} is a device, a pipe or a socket, and not read: it may have no end. Refer to a file."
        )


def describe(url: str, storage_options: Mapping[str, Any] | None = None) -> tuple[int | None, str | None]:
    """Return the size in bytes and the checksum of what a URL points to, as far as that is to be had cheaply.

    A local file is read for its SHA-256, of an object in a bucket the size and ETag are asked for in one request, of
    anything else nothing is known. Never raises for the sake of what is not there or does not answer.

    Returns:
        Size and checksum (`sha256:…` or `etag:…`), None where it is not known.
    """
    path = local_path(url)
    try:
        if path is not None:
            with open_regular(path, url) as file:
                content = hashlib.sha256()
                while piece := file.read(CHUNK_BYTES):
                    content.update(piece)
                return file.tell(), f"sha256:{content.hexdigest()}"
        if not url.lower().startswith(("s3", "gs", "gcs", "memory")):
            return None, None
        filesystem, key = _open(url, storage_options)
        info = filesystem.info(key)
        tag = info.get("ETag") or info.get("etag")
        size = info.get("size")
        return None if size is None else int(size), f"etag:{str(tag).strip(chr(34))}" if tag else None
    except Exception:  # backends raise what they like, and a reference can be made without knowing more of it
        return None, None


def read_chunks(url: str, storage_options: Mapping[str, Any] | None = None) -> Generator[bytes, None, None]:
    """Yield what a URL points to, piece by piece.

    Args:
        url: As `check_url` takes it.
        storage_options: What fsspec's backend takes.

    Raises:
        ConfigError: If the URL is none, or that of a device, a pipe or a socket.
        FileNotFoundError: If there is nothing at the URL.
        StorageError: If it could not be read.
    """
    check_url(url)
    try:
        path = local_path(url)
        if path is not None:
            source: Any = open_regular(path, url)
        else:
            filesystem, key = _open(url, storage_options)
            source = filesystem.open(key, "rb", block_size=CHUNK_BYTES)
        with source:
            while piece := source.read(CHUNK_BYTES):
                yield piece
    except RewindError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "There is no such file", public_url(url)) from None
    except Exception as error:
        if isinstance(error, OSError) and local_path(url) is not None:
            raise from_os(error, "read", public_url(url)) from error
        raise from_backend(error, "read", public_url(url), secrets_of(url, dict(storage_options or {}))) from None


def fetch(
    url: str, target: Path, storage_options: Mapping[str, Any] | None = None, *, expected: int | None = None
) -> tuple[str, int]:
    """Copy what a URL points to into a new file, in a bounded amount of memory.

    Args:
        url: As `check_url` takes it.
        target: The file; there must be none of that name.
        storage_options: What fsspec's backend takes.
        expected: The bytes that there should be: no more are written. None: all that come.

    Returns:
        The SHA-256 and the size of what was copied.

    Raises:
        CorruptError: If there are more than expected.
        OSError: If the file cannot be written; else as `read_chunks`.
    """
    content, size = hashlib.sha256(), 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    with open(open_file(target, flags), "wb") as file, closing(read_chunks(url, storage_options)) as pieces:
        for piece in pieces:
            content.update(piece)
            size += len(piece)
            if expected is not None and size > expected:  # and perhaps without end
                raise CorruptError(f"{public_url(url)} has more than the {expected:,} bytes that were expected of it.")
            file.write(piece)
    return content.hexdigest(), size


def _open(url: str, storage_options: Mapping[str, Any] | None) -> tuple[Any, str]:
    """Return the file system of a URL, and the name under which it knows it."""
    from fsspec.core import url_to_fs

    options = dict(storage_options or {})
    filesystem, key = url_to_fs(url, **{**options, "use_listings_cache": False, "skip_instance_cache": True})
    return filesystem, key
