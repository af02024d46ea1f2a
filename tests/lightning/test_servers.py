"""A fit that is killed and resumed, with its history and its checkpoints in a store of each kind."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from rewind_logger import open_store
from tests.emulators.servers import ALL, Place, Servers
from tests.lightning import processes
from tests.lightning.small import DiesAt, Model, column, every, exact, logger, trainer

pytestmark = [pytest.mark.exhaustive, pytest.mark.filterwarnings("ignore")]


def train(place: Place, folder: Path, *callbacks: Callback) -> None:
    """The same command each time; Lightning opens checkpoints by their URL, with what fsspec is configured to."""
    import fsspec

    fsspec.config.conf[place.url.partition("://")[0]] = dict(place.storage_options)
    mine = logger(place.url, storage_options=place.storage_options)
    made = trainer(folder, mine, every(3), *callbacks, max_steps=12, limit_val_batches=0)
    made.fit(Model(), ckpt_path=mine.last_checkpoint)


@pytest.mark.parametrize("server", ALL)
def test_a_fit_that_is_killed_and_resumed_has_the_history_of_one_that_was_not(
    server: str, servers: Servers, tmp_path: Path
) -> None:
    place = servers.place(server)
    for code, callbacks in ((-signal.SIGKILL, [DiesAt(8, "SIGKILL")]), (0, [])):
        ended = processes.run(
            tmp_path,
            train,
            place,
            tmp_path,
            *callbacks,
            REWIND_LOGGER_SPOOL=str(tmp_path / "spool"),
            GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT="false",  # Lightning's own would ask this server for the bucket's kind
        )
        assert ended.code == code, ended.stderr
    options = place.storage_options
    run = open_store(place.url, options).run("p/a")
    assert [one.cut for one in run.revisions] == [None, 6]
    assert column(place.url, "p/a", storage_options=options) == exact(12)
    assert column(place.url, "p/a@1", storage_options=options) == exact(8)
    assert [one.next_step for one in run.checkpoints] == [3, 6, 9, 12]
