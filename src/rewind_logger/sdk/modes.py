"""What the values that W&B takes for `mode` and `reinit` mean here."""

from __future__ import annotations

from typing import Literal

from rewind_logger.errors import ConfigError
from rewind_logger.storage.base import Storage

Mode = Literal["online", "offline", "disabled"]


def check_mode(mode: object, storage: Storage) -> None:
    """Refuse a mode that is none, or not that of the store.

    Raises:
        ConfigError: The message says what to do instead.
    """
    if mode == "offline" and storage.local_path is None and not storage.url.startswith("memory://"):
        raise ConfigError(
            f"mode='offline' with the store {storage.url}: leave it out, for while the store is away rows wait in a"
            " journal on this machine; or name a local folder by `dir`."
        )
    if mode == "shared":
        raise ConfigError(
            "mode='shared': a run has one writer at a time. Give each process a run of its own, and all of them the"
            " same `group`."
        )
    if mode not in (None, "online", "offline", "disabled"):
        raise ConfigError(f"mode={mode!r}: leave it out (the store is where `dir` says), or use mode='disabled'.")


def what_of_earlier(reinit: object) -> Literal["keep", "return", "finish"]:
    """Say what `reinit` asks about the run that was opened last: to keep it open, to use it again, or to finish it.

    Raises:
        ConfigError: If `reinit` is none of W&B's values.
    """
    if reinit in (None, False, "default", "create_new"):
        return "keep"
    if reinit == "return_previous":
        return "return"
    if reinit in (True, "finish_previous"):
        return "finish"
    raise ConfigError(f"reinit={reinit!r}: leave it out, or use 'finish_previous', 'return_previous' or 'create_new'.")
