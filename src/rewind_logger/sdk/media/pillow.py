"""Pillow, which encodes pictures, loaded when it is first needed."""

from __future__ import annotations

import importlib
from typing import Any

from rewind_logger.errors import ConfigError


def pillow() -> Any:
    """Return the module `PIL.Image`.

    Raises:
        ConfigError: If Pillow is not installed; the message names what to install.
    """
    try:
        return importlib.import_module("PIL.Image")
    except ImportError:
        raise ConfigError("Pillow is not installed: `pip install 'rewind-logger[media]'`.") from None
