"""Each kind of store, behind a server that speaks its protocol, does what every store does."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewind_logger import init, open_store
from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.gcs import GcsStorage
from rewind_logger.storage.retry import RetryingStorage
from rewind_logger.storage.sftp import SftpStorage
from tests.emulators.servers import ALL, CONDITIONAL, Place, Servers
from tests.storage.conformance import ObjectConformance, StorageConformance
from tests.storage.racing import race_of_processes
from tests.storage.test_race import assert_one_winner_each, names
from tests.storage.test_weak_store import SENTENCE

# The backends' clients warn of things that are theirs.
pytestmark = [pytest.mark.exhaustive, pytest.mark.filterwarnings("ignore")]


def below(place: Place) -> Storage:
    """A store below a prefix that is not plain."""
    return open_storage(f"{place.url}/team a/größe", place.storage_options)


class TestMinistack(StorageConformance):
    @pytest.fixture
    def storage(self, servers: Servers) -> Storage:
        return below(servers.place("ministack"))


class TestGoogle(StorageConformance):
    @pytest.fixture
    def storage(self, servers: Servers) -> Storage:
        return below(servers.place("fake-gcs-server"))

    def test_it_is_opened_as_such(self, storage: Storage) -> None:
        assert isinstance(storage, RetryingStorage)
        assert isinstance(storage.inner, GcsStorage)


class TestAzure(StorageConformance):
    @pytest.fixture
    def storage(self, servers: Servers) -> Storage:
        return below(servers.place("azurite"))


class TestSftp(StorageConformance):
    @pytest.fixture
    def storage(self, servers: Servers) -> Storage:
        return below(servers.place("sftp"))

    def test_it_is_opened_as_such(self, storage: Storage) -> None:
        assert isinstance(storage, RetryingStorage)
        assert isinstance(storage.inner, SftpStorage)

    def test_the_probe_finds_that_create_never_replaces(self, storage: Storage) -> None:
        """It is not asked: what this server does, the next may not."""
        assert storage.conditional is False


class TestS3WithoutConditions(ObjectConformance):
    @pytest.fixture
    def storage(self, servers: Servers) -> Storage:
        return below(servers.place("s3rver"))


@pytest.mark.parametrize("server", [*CONDITIONAL, "sftp"])
def test_of_four_processes_that_create_a_name_one_is_told_that_it_did(server: str, servers: Servers) -> None:
    place = servers.place(server)
    storage = open_storage(place.url, place.storage_options)
    assert_one_winner_each(storage, race_of_processes(storage, names(250)), 250)


def test_a_server_that_ignores_the_condition_tells_all_four_that_they_did(servers: Servers) -> None:
    place = servers.place("s3rver")
    won = race_of_processes(open_storage(place.url, place.storage_options), names(10))
    assert [len(mine) for mine in won] == [10, 10, 10, 10]


@pytest.mark.parametrize("server", ALL)
def test_init_says_in_one_line_what_is_weaker_and_only_where_it_is(
    server: str, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    place = servers.place(server)
    for _ in range(2):
        with init(dir=place.url, project="p", id="r", storage_options=place.storage_options) as run:
            run.log({"loss": 1.0})
        first, last = capfd.readouterr().err.splitlines()
        shown = open_storage(place.url).url
        assert (SENTENCE.format(shown) in first) is (server not in CONDITIONAL)
        assert "finished" in last
    assert len(open_store(place.url, place.storage_options).run("p/r").history()) == 2
