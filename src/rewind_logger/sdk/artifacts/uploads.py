"""The thread that brings artifacts into a remote store, while training goes on."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rewind_logger.errors import RewindError, StorageError, TransientStorageError
from rewind_logger.history import blobs
from rewind_logger.sdk import notice
from rewind_logger.sdk.artifacts import staging
from rewind_logger.storage.base import Storage

T = TypeVar("T")

LOG = logging.getLogger("rewind_logger")

AT_ONCE = 4
"""Files that are sent at the same time; of a large one several parts are under way as well."""

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
"""Before an upload is tried again, while the store is away."""

LONG_S = 3600.0
"""If an upload took longer, it is seen to once more that all of it is there."""

PROGRESS_S = 10.0
"""How often a line says how far it is, while somebody waits."""


@dataclass(slots=True)
class Upload:
    """An artifact on its way."""

    label: str
    """What it is, for people."""
    files: list[tuple[Path, str, int]]
    """Each with its digest and size."""
    manifest: bytes
    arrived: Callable[[], None]
    """Called, on the thread that sends, when all of it is in the store."""
    folder: Path | None = None
    """That its files are staged in."""
    done: threading.Event = field(default_factory=threading.Event)
    """Set when it has arrived, or was given up."""
    trouble: str | None = None
    """Why it was given up."""
    sent: int = 0
    """Files that are in the store."""
    sent_bytes: int = 0

    def __str__(self) -> str:
        total = sum(size for _, _, size in self.files)
        return (
            f"{self.label}: {self.sent} of {len(self.files)} files, "
            f"{self.sent_bytes / 1e6:,.0f} of {total / 1e6:,.0f} MB"
        )


class Uploads:
    """Sends artifacts one after the other, in the order in which they were logged."""

    def __init__(self, storage: Storage, run: str, root: Path) -> None:
        """Take a store, the run's name, and the folder of its journals."""
        self._storage = storage
        self._run = run
        self.staging = staging.Staging(root)
        self._queue: list[Upload] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._away: str | None = None  # why the last request failed
        self._warned = False
        self._closed = False
        self.gave_up = False
        """Whether the run ended before all were sent."""

    def add(self, upload: Upload) -> None:
        """Send an artifact, later."""
        with self._changed:
            self._closed = False
            self._queue.append(upload)
            self._start()
            self._changed.notify_all()

    def wait(self, upload: Upload, timeout: float | None) -> None:
        """Wait for an artifact.

        Raises:
            StorageError: If it was given up.
            TransientStorageError: If it has not arrived within that time.
        """
        if not upload.done.wait(timeout):
            why = f" {self._away}" if self._away else ""
            raise TransientStorageError(f"Within {timeout:g} s the artifact {upload} came into the store.{why}")
        if upload.trouble is not None:
            raise StorageError(upload.trouble)

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        return bool(self._queue)

    def wait_for(self, timeout: float | None) -> bool:
        """Wait until what is on its way now is in the store; return whether it is.

        Args:
            timeout: Seconds to wait at most; None: as long as the store takes what it is sent.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        wanted = list(self._queue)
        while not all(upload.done.is_set() for upload in wanted):
            left = None if deadline is None else deadline - time.monotonic()
            if (left is None and self._away is not None) or (left is not None and left <= 0):
                return False
            with self._changed:
                working = self._start()
                if working and self._queue:
                    self._changed.wait(1.0 if left is None else min(1.0, left))
                first = self._queue[0] if self._queue and not working else None
            if first is not None and not self._try(first):
                return False
        return all(upload.trouble is None for upload in wanted)

    def wait_all(self) -> None:
        """Wait until nothing is on its way, or the store is away."""
        self.settle(0.0, last=False)

    def settle(self, timeout: float, *, last: bool) -> None:
        """Wait until nothing is on its way; say from time to time how far it is.

        Args:
            timeout: Seconds to wait while the store is away. While it takes what it is sent, this goes on.
            last: Whether the run ends, so that what has not arrived by then is given up.
        """
        deadline, said = time.monotonic() + timeout, time.monotonic()
        while self._queue and (self._away is None or time.monotonic() < deadline):
            with self._changed:
                working = self._start()
                if working and self._queue:
                    self._changed.wait(min(1.0, PROGRESS_S))
            if not working and not self._try(self._queue[0]):
                break
            if self._queue and time.monotonic() - said >= PROGRESS_S:
                said = time.monotonic()
                notice.say(f"uploading artifact {self._queue[0]}.")
        if not last:
            return
        with self._changed:
            self._closed = True
            left, self._queue = self._queue, []
            self.gave_up = bool(left)
            self._changed.notify_all()
        for upload in left:
            upload.trouble = (
                f"The artifact {upload.label} of run {self._run} is not in {self._storage.url}, for the run ended "
                f"before it was sent. {self._away or ''} Log it again."
            )
            LOG.error("%s", upload.trouble)
            if upload.folder is not None:
                self.staging.discard(upload.folder)
            upload.done.set()

    def disown(self) -> None:
        """In a forked child: what is on its way is the parent's."""
        self._changed = threading.Condition()
        self._queue, self._thread = [], None
        self.staging.disown()

    def _start(self) -> bool:
        """See that a thread sends; False where none can be started any more."""
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._work, name=f"rewind-logger-upload-{self._run}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending
                return False
            self._thread = thread
        return True

    def _work(self) -> None:
        """Send what there is, and end."""
        wait = FIRST_WAIT_S
        while True:
            with self._changed:
                if not self._queue or self._closed:
                    self._thread = None
                    self._changed.notify_all()
                    return
                upload = self._queue[0]
            if self._try(upload):
                wait = FIRST_WAIT_S
                continue
            with self._changed:
                self._changed.wait_for(lambda: self._closed, wait)
            wait = min(LONGEST_WAIT_S, 2 * wait)

    def _try(self, upload: Upload) -> bool:
        """Send an artifact; return whether it needs no further attempt."""
        trouble = None
        try:
            self._send(upload)
        except StorageError as error:
            self._away = str(error)
            if not self._warned:
                self._warned = True
                LOG.warning("The artifact %s of run %s waits: %s", upload.label, self._run, error)
            return False
        except (OSError, RewindError) as error:
            trouble = f"The artifact {upload.label} of run {self._run} was not stored: {error}"
        except Exception as error:  # a bug must not end the thread, and the artifacts behind it
            LOG.exception("The artifact %s of run %s was not stored.", upload.label, self._run)
            trouble = f"The artifact {upload.label} of run {self._run} was not stored: {error!r}"
        with self._changed:
            if self._queue and self._queue[0] is upload:
                if trouble is None:
                    self._away = None
                    upload.arrived()
                else:
                    LOG.error("%s", trouble)
                if upload.folder is not None:
                    self.staging.discard(upload.folder)
                upload.trouble = trouble
                upload.arrived = _nothing  # it may hold temporary files
                upload.done.set()
                del self._queue[0]  # last: who looks at the queue takes what is not in it for done
                self._changed.notify_all()
        return True

    def _send(self, upload: Upload) -> None:
        """Send the files, several at a time, and then the manifest."""
        upload.sent = upload.sent_bytes = 0

        def one(file: tuple[Path, str, int]) -> None:
            path, digest, size = file
            if self._closed:
                return
            blobs.put_file(self._storage, path, known=(digest, size))
            with self._changed:
                self._away = None
                upload.sent += 1
                upload.sent_bytes += size

        different = {digest: (path, digest, size) for path, digest, size in upload.files}
        began = time.time()
        each(one, list(different.values()))
        while not 0 <= time.time() - began < LONG_S and not self._closed:
            # What was sent first may by now be too old to be referred to. It is not sent again, but touched.
            upload.sent = upload.sent_bytes = 0
            began = time.time()
            each(one, list(different.values()))
        upload.sent = len(upload.files)
        if not self._closed:
            blobs.put(self._storage, upload.manifest)


def _nothing() -> None:
    """Do nothing."""


def each(work: Callable[[T], None], items: Sequence[T]) -> None:
    """Do some work for each item, several at a time; the first error is raised when all are through."""
    if len(items) > 1:
        with contextlib.suppress(RuntimeError):  # the interpreter is ending, and starts no more threads
            with ThreadPoolExecutor(min(AT_ONCE, len(items)), thread_name_prefix="rewind-logger-upload") as pool:
                list(pool.map(work, items))
            return
    for item in items:
        work(item)
