"""Media that are logged, and read back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rewind_logger import init, open_store
from rewind_logger.sdk.media.stored import StoredMedia

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
RGB = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
RGBA = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)


def kept(url: str, value: Any) -> StoredMedia:
    """Log one thing and read it back."""
    with init(dir=url, project="p") as run:
        run.log({"x": value})
    [found] = open_store(url).run(f"p/{run.id}").media()
    return found


def refused(url: str, value: Any, caplog: pytest.LogCaptureFixture) -> str:
    """Log one thing that cannot be kept; return what is said of it."""
    with init(dir=url, project="p") as run:
        run.log({"x": value, "loss": 1.0})
    stored = open_store(url).run(f"p/{run.id}")
    assert (len(stored.media()), len(stored.history())) == (0, 1), "the rest of the row is kept"
    [said] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    return said.removeprefix("A value was not logged: ")
