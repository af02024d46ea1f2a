"""Whether a run is being trained, as it is seen from elsewhere."""

from __future__ import annotations

import secrets
import threading
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from rewind_logger import open_store
from rewind_logger.history.heartbeat import SILENT_S
from rewind_logger.history.view import resolve
from rewind_logger.sdk.state import state
from rewind_logger.storage import open_storage
from rewind_logger.types import RunRef
from tests.lightning.small import fit, logger


class Looks(Callback):
    """Waits, before a fit has logged anything, until the run is seen to be running."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.later: list[str] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if self.later:
            return
        storage = open_storage(self.url)
        while open_store(self.url).run("p/a").state != "running":
            threading.Event().wait(0.01)
        view = resolve(storage, RunRef("p", "a"))
        self.later.append(state(storage, view, view.revisions[-1].created_ms + int(1000 * (SILENT_S + 3600))))


def test_a_second_fit_is_running_before_it_has_logged_a_row(tmp_path: Path) -> None:
    """Its steps may begin at 0 again, so that no step tells that it goes on; and if it dies, it did not finish."""
    url = f"memory://test-{secrets.token_hex(6)}"
    mine = logger(url, console=False, system_metrics=False)
    fit(mine, tmp_path, steps=8)
    assert open_store(url).run("p/a").state == "finished"
    looks = Looks(url)
    fit(mine, tmp_path, looks, steps=3)
    assert looks.later == ["crashed"], "had it fallen silent"
    assert open_store(url).run("p/a").state == "finished"
