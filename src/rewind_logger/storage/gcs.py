"""A storage on Google Cloud Storage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rewind_logger.storage.remote import FsspecStorage


class GcsStorage(FsspecStorage):
    """Objects in a bucket of Google Cloud Storage, other than a zonal one."""

    suffix_ranges = True

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        prepare_import()
        super().__init__(url, storage_options)

    def _new_filesystem(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Open the file system, perhaps in another process than the one that called the constructor."""
        prepare_import()
        return super()._new_filesystem(url, options)


def prepare_import() -> None:
    """Make gcsfs treat every bucket as one of the usual kind, unless the environment says otherwise.

    It would ask for each bucket's kind over gRPC, which waits for 60 s where only HTTP is spoken. gcsfs reads this
    variable when it is imported.
    """
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
