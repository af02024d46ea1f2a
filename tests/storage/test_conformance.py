"""Every backend, bare and wrapped, does what a storage does."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.faults import CountingStorage, FaultyStorage
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.remote import FsspecStorage
from rewind_logger.storage.retry import RetryingStorage
from rewind_logger.storage.s3 import S3Storage
from tests.conftest import Bucket
from tests.storage.backends import PlainFileSystem, refuse_links, registered
from tests.storage.conformance import StorageConformance


class TestLocal(StorageConformance):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalStorage(tmp_path / "not yet" / "there")


class TestLocalWithoutLinks(StorageConformance):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalStorage(tmp_path, link=refuse_links)


class TestMemory(StorageConformance):
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage(f"memory://{secrets.token_hex(8)}/store")


class TestS3(StorageConformance):
    """As it is opened for users: below a prefix, trying again."""

    @pytest.fixture
    def storage(self, bucket: Bucket) -> Storage:
        return open_storage(f"{bucket.url}/team a/größe/", bucket.storage_options)


@pytest.mark.exhaustive
class TestS3Wrapped(StorageConformance):
    """The whole of a bucket, through all wrappers."""

    @pytest.fixture
    def storage(self, bucket: Bucket) -> Storage:
        return RetryingStorage(CountingStorage(FaultyStorage(S3Storage(bucket.url, bucket.storage_options))))


class TestLocalWrapped(StorageConformance):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return RetryingStorage(CountingStorage(FaultyStorage(LocalStorage(tmp_path))))


class TestAnyOtherFileSystem(StorageConformance):
    """One that is not asynchronous, has no requests of a suffix, and shares nothing with our own backends."""

    @pytest.fixture
    def storage(self) -> Iterator[Storage]:
        with registered(PlainFileSystem):
            yield FsspecStorage(f"{PlainFileSystem.protocol}://{secrets.token_hex(8)}/store")
