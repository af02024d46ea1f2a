"""Google Cloud Storage and Azure do what every store does, as far as servers that stand in for them can show."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.gcs import GcsStorage
from rewind_logger.storage.retry import RetryingStorage
from tests.conftest import Bucket
from tests.storage.conformance import StorageConformance
from tests.storage.emulators import azure_container, gcs_bucket
from tests.storage.racing import race_of_processes
from tests.storage.test_race import assert_one_winner_each, names

# Their clients warn of things that are theirs.
pytestmark = [pytest.mark.exhaustive, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def gcs() -> Iterator[Bucket]:
    with gcs_bucket() as bucket:
        yield bucket


@pytest.fixture(scope="module")
def azure() -> Iterator[Bucket]:
    with azure_container() as container:
        yield container


class TestGoogle(StorageConformance):
    @pytest.fixture
    def storage(self, gcs: Bucket) -> Storage:
        return open_storage(f"{gcs.url}/{secrets.token_hex(6)}/team a/größe", gcs.storage_options)

    def test_it_is_opened_as_such(self, storage: Storage) -> None:
        assert isinstance(storage, RetryingStorage)
        assert isinstance(storage.inner, GcsStorage)


class TestAzure(StorageConformance):
    @pytest.fixture
    def storage(self, azure: Bucket) -> Storage:
        return open_storage(f"{azure.url}/{secrets.token_hex(6)}/team a/größe", azure.storage_options)


@pytest.mark.parametrize("cloud", ["gcs", "azure"])
def test_four_processes(cloud: str, request: pytest.FixtureRequest) -> None:
    bucket: Bucket = request.getfixturevalue(cloud)
    storage = open_storage(f"{bucket.url}/{secrets.token_hex(6)}", bucket.storage_options)
    assert_one_winner_each(storage, race_of_processes(storage, names(250)), 250)
