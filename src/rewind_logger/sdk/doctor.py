"""`doctor`: is this a place where runs can be kept?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rewind_logger.storage import open_storage

if TYPE_CHECKING:
    from rewind_logger.storage.doctor import DoctorReport


def doctor(url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> DoctorReport:
    """Try out whether a store can do what runs need of it, and how well.

    It is asked to list, write, read, create what exists, show at once what another connection did, tell the time, store
    a large object and delete: some 150 small requests and 17 MiB. What is written lies at the top of the store under
    names that begin with `doctor-`, and is deleted at the end; what could not be deleted is named.

    Args:
        url: A folder, or a URL such as `s3://bucket/prefix`.
        storage_options: What fsspec's backend for it takes, such as credentials or an endpoint.

    Returns:
        A line for each check, and what it means; `print` it.

    Raises:
        ConfigError: If that is no URL, or if its backend is not installed.

    Example:
        >>> import rewind_logger
        >>> report = rewind_logger.doctor("memory://doctor-example")
        >>> report.ok, report["create"].verdict
        (True, 'ok')
    """
    from rewind_logger.storage.doctor import RACERS, examine

    return examine([open_storage(url, storage_options) for _ in range(RACERS)])
