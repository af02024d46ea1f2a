"""The delivery: how a writer's rows come from their journal into the store, as long as the run is its own."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager

from rewind_logger.errors import CorruptError, FencedError, RewindError, TransientStorageError
from rewind_logger.history.held import is_held_here
from rewind_logger.history.journals.outbox import Outbox
from rewind_logger.history.journals.part import PASSING
from rewind_logger.history.term import Term
from rewind_logger.history.uploads import Uploads
from rewind_logger.history.view import STREAMS_OF_STEPS
from rewind_logger.storage.base import Storage

LOG = logging.getLogger("rewind_logger")

LOCK_S = 0.01
"""How long the flusher waits for a row that is being written before it does without it: whoever writes it may have been
interrupted by a signal whose handler waits for the flusher."""

READS = 5
"""How often a batch that the disk does not give back is asked for, before it is left where it is for good."""


class Delivery:
    """Writes to the store for a writer: one thread at a time, while the others wait."""

    def __init__(self, storage: Storage, lock: threading.RLock) -> None:
        """Take the store, and what orders the rows of the writer."""
        self.uploads = Uploads(storage)
        self.term: Term | None = None
        """What is written to; None while the run is not open."""
        self.fenced: FencedError | None = None
        """Why nothing is written any more, if another writer has the run."""
        self.next_step = 0
        """One past the last step of which the store has rows, those of earlier terms included."""
        self._lock = lock
        self._turn = threading.RLock()  # of such a kind that a thread can ask whether it is its own
        self._unread = 0  # how often the first batch could not be read back
        self._ended: tuple[str, int] | None = None  # what the closing mark of the term says

    def enter(self, term: Term) -> None:
        """Write to a term from here on."""
        self.fenced = None
        self.next_step = term.opened.start
        self._ended = None
        self.term = term

    def leave(self) -> None:
        """Write no more: what waits stays in its journal."""
        self.term = None

    @property
    def is_mine(self) -> bool:
        """Whether this very thread is at it, which a signal's handler finds that has come into it."""
        return is_held_here(self._turn)

    def alone(self) -> AbstractContextManager[object]:
        """Return what lets nobody else write to the store while it is entered.

        It is the lock itself, which is taken and given back in one step each: a Ctrl-C in between would leave it taken.

        Raises:
            TransientStorageError: If this very thread is at it: what a signal's handler has come into is half done.
        """
        if self.is_mine:
            raise TransientStorageError("A signal's handler cannot write what it has interrupted the writing of.")
        return self._turn

    def drain(self, term: Term, outbox: Outbox) -> None:
        """Bring every row that was appended before the call into the store, unless that term is left meanwhile.

        Raises:
            FencedError: If another writer has taken the run over.
            StorageError: If the store failed.
        """
        with self.alone():
            if self.fenced is not None:
                raise self.fenced
            if self._lock.acquire(timeout=LOCK_S):
                try:
                    outbox.close_batch()
                finally:
                    self._lock.release()
            while outbox.full and self.term is term:
                self._flush_first(term, outbox)

    def tidy(self, *, closing: bool = False) -> None:
        """Compact, and keep the summary. Nothing depends on either, so nothing fails for it."""
        with self.alone():
            term = self.term
            if term is None or self.fenced is not None:
                return
            for what, work in (
                ("Segments of run %s could not be put together", term.compact),
                ("The summary of run %s could not be kept", term.cumulative.tidy),
            ):
                try:
                    work(closing=closing)
                except (RewindError, FileNotFoundError) as error:
                    LOG.info(f"{what}: %s", term.opened.run, error)
                except Exception:  # a bug must not end the thread that flushes
                    LOG.exception(f"{what}.", term.opened.run)

    def beat(self) -> float | None:
        """Give a sign of life if one is due, and return when the next is; None while there is none to give."""
        with self.alone():
            # After the closing mark it would say that the run goes on.
            if self.term is None or self.fenced is not None or self._ended is not None:
                return None
            return self.term.beat()

    def end(self, state: str) -> None:
        """Put the closing mark unless it is there; a row that comes later takes it back.

        Raises:
            FencedError: If another writer has taken the run over.
            StorageError: If the store failed.
        """
        with self.alone():
            mark = (state, self.next_step)
            if self.term is None or self._ended == mark:
                return
            self._ended = mark  # before it is: who goes on meanwhile has to take it back
            try:
                with self._noting_a_fence():
                    self.term.end(*mark)
            except BaseException:
                self._ended = None
                raise

    def go_on(self) -> bool:
        """Take the closing mark back, if there is one; return whether there was."""
        if self.term is None or self._ended is None or self.fenced is not None:
            return False
        self._ended = None
        self.term.go_on()
        return True

    def fence(self, error: FencedError) -> None:
        """Note, and say, that the run is no longer ours."""
        self.fenced = error
        LOG.error("%s", error)

    @contextlib.contextmanager
    def _noting_a_fence(self) -> Iterator[None]:
        try:
            yield
        except FencedError as error:
            self.fence(error)
            raise

    def _flush_first(self, term: Term, outbox: Outbox) -> None:
        """Bring in the oldest batch."""
        self.uploads.send(outbox.first_blobs())  # those of a damaged batch too: later rows may refer to them
        try:
            batch = outbox.first(term.opened.start)
            assert batch is not None
        except FileNotFoundError as error:
            LOG.error("A part of the journal was removed before its rows were in the store: they are lost. %s", error)
            outbox.drop_first()
            return
        except (CorruptError, OSError) as error:
            if isinstance(error, OSError):
                self._unread += error.errno not in PASSING
                if self._unread < READS:
                    raise TransientStorageError(f"The journal {outbox.where} was not read back: {error}") from error
            self._unread = 0
            LOG.error("A batch of the journal %s is damaged: it is kept, its rows left out. %s", outbox.where, error)
            outbox.drop_first(keep=True)
            return
        self._unread = 0
        if batch.damaged:
            LOG.error("A batch of the journal %s is damaged: it is kept, some rows left out.", outbox.where)
        with self._noting_a_fence():
            term.flush(batch.flushes, batch.rows)
        self.go_on()
        for stream in STREAMS_OF_STEPS:
            for row in batch.rows.get(stream, ()):
                self.next_step = max(self.next_step, row.clock + 1)
        outbox.drop_first(keep=batch.damaged)
