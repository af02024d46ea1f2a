"""From a URL to a storage."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from rewind_logger.errors import ConfigError
from rewind_logger.storage.base import Storage
from rewind_logger.storage.redact import public_text, public_url

_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(/?)")
"""Two letters at least: one is a drive of Windows."""

_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "adl": "azure",
    "wasb": "azure",
    "wasbs": "azure",
    "sftp": "sftp",
    "ssh": "sftp",
}
"""Protocols, and the extra of this package that brings their backend."""

_ATTEMPTS_OF_RETRYING_BACKENDS = 2
"""gcsfs and Azure's client try a request several times themselves, with waits of up to half a minute, and cannot be
told not to; so little is added to that."""


def open_storage(url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Storage:
    """Open the store at a URL; nothing is asked of it, or written, before the first request.

    Args:
        url: A folder (`./rewind_logs`, `~/runs`, `file:///data/runs`; a relative one is made absolute now), or a URL
            that fsspec knows: `s3://bucket/prefix`, `gs://…`, `az://…`, `memory://…`.
        storage_options: What the backend of a remote store takes, such as credentials or an endpoint.

    Returns:
        The storage; a remote one tries requests again that failed in a way that may pass.

    Raises:
        ConfigError: If the URL is empty or of no known kind, or if its backend is not installed; the message names what
            to install.

    Example:
        >>> open_storage("memory://example")
        <MemoryStorage memory://example>
    """
    given: Any = url
    target = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    if not target or not isinstance(target, str):
        raise ConfigError(
            f"{url!r} names no store: give a folder or a URL, such as './rewind_logs' or 's3://bucket/x'."
        )
    if "::" in target and "://" in target:
        raise ConfigError(
            f"{public_text(target)} chains file systems with '::': a store is kept consistent on a single one only, "
            "give its own URL."
        )
    found = _PROTOCOL.match(target)
    protocol = found[1].lower() if found else "file"
    if found and not found[2]:
        raise ConfigError(
            f"{public_text(target)!r} has one slash after the colon, which is what pathlib makes of a URL: give it as "
            f"a str, '{protocol}://…'."
        )
    if protocol in ("file", "local"):
        from rewind_logger.storage.local import LocalStorage

        return LocalStorage(os.path.expanduser(target.partition("://")[2] if found else target))
    if protocol == "memory":
        from rewind_logger.storage.memory import MemoryStorage

        return MemoryStorage(target)
    return _open_remote(protocol, target, storage_options)


def _open_remote(protocol: str, url: str, storage_options: Mapping[str, Any] | None) -> Storage:
    """Open a store behind fsspec, whose modules are only loaded now."""
    from rewind_logger.storage.folders import FolderStorage
    from rewind_logger.storage.gcs import GcsStorage
    from rewind_logger.storage.remote import FsspecStorage
    from rewind_logger.storage.retry import RetryingStorage
    from rewind_logger.storage.s3 import S3Storage
    from rewind_logger.storage.sftp import SftpStorage

    extra = _EXTRAS.get(protocol)
    _require_backend(protocol, url)
    if not url.partition("://")[2].strip("/"):
        raise ConfigError(
            f"{public_text(url)!r} names no place: give a bucket too, such as '{protocol}://bucket/prefix'."
        )
    if extra == "s3":
        return RetryingStorage(S3Storage(url, storage_options))
    if extra == "gcs":
        return RetryingStorage(GcsStorage(url, storage_options), _ATTEMPTS_OF_RETRYING_BACKENDS)
    if extra == "azure":
        return RetryingStorage(FsspecStorage(url, storage_options), _ATTEMPTS_OF_RETRYING_BACKENDS)
    if protocol in ("sftp", "ssh"):
        return RetryingStorage(SftpStorage(url, storage_options))
    return RetryingStorage(FolderStorage(url, storage_options))


def _require_backend(protocol: str, url: str) -> None:
    """Import the backend's package, or say what to install."""
    from fsspec import get_filesystem_class

    try:
        get_filesystem_class(protocol)
    except ValueError as error:
        raise ConfigError(
            f"{public_url(url)} cannot be opened: '{protocol}' is no protocol that fsspec knows. Give a folder, or a "
            "URL such as 's3://bucket/prefix'."
        ) from error
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f"pip install 'rewind-logger[{extra}]'" if extra else str(error).rstrip(".")
        raise ConfigError(f"{public_url(url)} needs a package that is not installed: {remedy}") from error
