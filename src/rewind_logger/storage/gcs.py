"""A storage on Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewind_logger.storage.remote import UNCACHED, FsspecStorage


class GcsStorage(FsspecStorage):
    """Objects in a bucket of Google Cloud Storage, other than a zonal one."""

    suffix_ranges = True

    def _new_filesystem(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Open gcsfs's file system of buckets of the usual kind.

        The one that fsspec knows asks for each bucket's kind, at every request until it is told, and over gRPC: it
        waits for 60 s each time where only HTTP is spoken or let through.
        """
        from gcsfs.core import GCSFileSystem

        filesystem = GCSFileSystem(**{**options, **UNCACHED})
        return filesystem, filesystem._strip_protocol(url).rstrip("/")
