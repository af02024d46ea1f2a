"""The recorder of environments: it looks around in the background, so that opening a run does not take longer."""

from __future__ import annotations

import logging
import threading

from rewind_logger.history.opening import Opened
from rewind_logger.history.writer import Writer
from rewind_logger.sdk.companion import Companion
from rewind_logger.sdk.provenance import environment
from rewind_logger.types import OPENING_CLOCK

LOG = logging.getLogger("rewind_logger")

REST_S = 6.0
"""How long the end of a run waits for it: more than it takes."""


class EnvironmentRecorder(Companion):
    """Records the environment of each opening of a run."""

    def __init__(self, writer: Writer) -> None:
        """Take the run's writer."""
        self._writer = writer
        self._opened: Opened | None = None  # that was seen last
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Look around, if the run was opened anew."""
        opened = self._writer.opened
        if opened is None or opened is self._opened:
            return
        self._opened = opened
        self._thread = threading.Thread(
            target=self._record, args=(opened,), name="rewind-logger environment", daemon=True
        )
        self._thread.start()

    def rest(self, timeout: float) -> None:
        """Wait for what is under way; do without it if it takes too long."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(min(timeout, REST_S))
            with self._writer.lock:
                if thread.is_alive():
                    self._opened = None

    def disown(self) -> None:
        """Let go."""
        self._opened = self._thread = None

    def _record(self, opened: Opened) -> None:
        try:
            found = environment.look_around()
            with self._writer.lock:
                if self._opened is opened:  # and not opened anew, or at rest, since
                    value = environment.to_value(opened.base.number, self._writer.attach(found), len(found))
                    self._writer.append("events", value, OPENING_CLOCK)
        except Exception:  # a run is as good without it
            LOG.exception("The environment of run %s could not be recorded.", opened.run)
