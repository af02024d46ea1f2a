"""Stores: the only layer that knows fsspec.

What is asked of a store is in `base`; `local`, `memory`, `remote`, `s3` and `gcs` answer, `retry` asks again, `probe`
finds out what a store is not known to do, and `faults` counts and fails, for tests.
"""

from rewind_logger.storage.base import ObjectInfo, Storage
from rewind_logger.storage.opening import open_storage

__all__ = ["ObjectInfo", "Storage", "open_storage"]
