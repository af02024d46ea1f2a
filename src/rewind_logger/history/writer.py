"""The writer: from `log()` to the store, without making training wait."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rewind_logger.errors import FencedError, StorageError
from rewind_logger.format.aggregates import Aggregates
from rewind_logger.history import age, ending, live, recovery
from rewind_logger.history.blobs import digest_of
from rewind_logger.history.cumulative import Cumulative, everything
from rewind_logger.history.delivery import Delivery
from rewind_logger.history.flusher import Flusher
from rewind_logger.history.held import is_held_here
from rewind_logger.history.journals.outbox import Outbox
from rewind_logger.history.journals.roots import further_roots, journal_root
from rewind_logger.history.late_opening import LateOpening
from rewind_logger.history.opening import Opened, OpenRequest, open_run
from rewind_logger.history.term import Term
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef, Scalar, Stream

CLOSE_S = 5.0
"""How long `close` waits for the request that is under way."""

_time_ns = time.time_ns


class Writer:
    """Writes one run. A row is in the journal when `append` returns, and in the store a little later.

    `append` may be called from several threads at a time; so may `flush`.
    """

    def __init__(self, storage: Storage, run: RunRef, *, background: bool = True) -> None:
        """Take a run; nothing is read or written until a row comes or the run is opened.

        Args:
            storage: The store.
            run: The run.
            background: Whether a thread flushes; without it only `flush`, `finish` and `close` do.
        """
        self.storage = storage
        self.run = run
        self.opened: Opened | None = None
        self.kept: str | None = None
        """The folder, or folders, where `close` left rows that are not in the store; None if it left none."""
        self.on_leave: Callable[[], None] = lambda: None
        """Called by `open`, while no row can come: what comes from then on belongs to the term that is to come."""
        self._root = journal_root(storage, run)
        self._background = background
        self._outbox: Outbox | None = None
        self.lock = threading.RLock()  # re-entrant: a signal's handler may log while a row is being logged
        """Orders the rows."""
        self._delivery = Delivery(storage, self.lock)
        self._cumulative: Cumulative | None = None  # of the term, or of the last one
        self._flusher: Flusher | None = None
        self._resting = False  # without a thread until the next row
        self._opened_at = 0.0
        self._disowned = False
        self._late: LateOpening | None = None
        live.add(self)

    def append(
        self,
        stream: Stream,
        values: dict[str, Scalar],
        clock: int | None,
        step: int | None = None,
        time_ms: int | None = None,
    ) -> None:
        """Log one row.

        Args:
            stream: Which stream it belongs to.
            values: Flat and plain, as `format.values.flatten` returns them.
            clock: The training step; None for a row that belongs to the opening that is to come.
            step: The step that the caller gave, where it differs from the clock.
            time_ms: Wall time in milliseconds; now, if it is not given.

        Raises:
            LogValueError: If the row is larger than a journal can take.
            OverflowError: If a number in `values` has more than 64 bits.
            UnicodeEncodeError: If a text in `values` is none.
        """
        time_ms = _time_ns() // 1_000_000 if time_ms is None else time_ms
        with self.lock:
            (self._outbox or self._begin_outbox()).append(stream, values, clock, step, time_ms)

    def append_metrics(self, keys: list[str], values: list[Scalar], clock: int | None, step: int | None) -> None:
        """Log one row of metrics, now; the same as `append`, for rows that repeat their keys. Hold `lock` meanwhile.

        Args:
            keys: Flat names. The same list, unchanged, for every row that has these keys in this order.
            values: In the order of `keys`.
            clock: As for `append`.
            step: As for `append`.

        Raises:
            TypeError: If a value is none of the plain scalars.
            LogValueError: As `append` does, and OverflowError and UnicodeEncodeError.
        """
        (self._outbox or self._begin_outbox()).append_metrics(keys, values, clock, step, _time_ns() // 1_000_000)

    def attach(self, data: bytes) -> str:
        """Keep bytes that a row is about to refer to: they are in the journal now, and in the store before the row is.

        Args:
            data: What a row cannot hold, such as a picture: a blob. It is held in memory, and so are several at a time.

        Returns:
            Its SHA-256, as 64 lower-case hexadecimal digits, for the row to name it by.
        """
        digest = digest_of(data)
        with self.lock:
            if digest not in self._delivery.uploads:
                (self._outbox or self._begin_outbox()).attach(digest, data)
        return digest

    def retarget(self, run: RunRef) -> None:
        """Write another run, before the first opening: what was appended goes there."""
        self.run = run
        self._root = journal_root(self.storage, run)
        if self._outbox is not None:
            self._outbox.move(self._root, self._further_roots)

    def open(self, request: OpenRequest) -> Opened:
        """Open the run, or open it anew: what was appended so far then goes to the store first.

        Raises:
            RewindError: As `opening.open_run` does; the writer can be opened again.
        """
        if self._delivery.term is not None:
            self._leave_term(self._delivery.term)
        self._disowned, self._late = False, None
        opened = self._claim(self.storage, request)
        self._enter(opened)
        self._start_flusher()
        return opened

    def open_later(self, late: LateOpening, failure: StorageError) -> None:
        """Open the run as soon as the store answers, in the background.

        Args:
            late: The opening. Until it is made, rows are appended with clocks that are counted from 0.
            failure: Why it could not be made yet.
        """
        with self.lock:
            (self._outbox or self._begin_outbox()).await_opening()
            self._late = late
        self._start_flusher(failure)

    def give_steps(self) -> None:
        """Note that steps are given while the run is not open."""
        if self._outbox is not None:
            self._outbox.give_steps()

    def flush(self, timeout: float | None = None, waiting: Callable[[], None] | None = None) -> bool:
        """Wait until every row appended before the call is in the store.

        Args:
            timeout: Seconds to wait at most, during which a store that is away is tried again. None: one attempt,
                whose failure is raised.
            waiting: Called about once a second meanwhile.

        Returns:
            Whether it is so. False: the time ran out, or the run is not open; the rows are in the journal. At once
            False in a signal's handler that has come into the writing of a row, which ends after it only, as does a
            late opening.

        Raises:
            FencedError: If another writer has taken the run over.
            StorageError: If the store failed; the rows are in the journal, and are tried again.
        """
        if self.fenced is not None:
            raise self.fenced
        if not self.is_open:
            return False
        if self._delivery.is_mine:
            return False  # a signal's handler has come into the end of a run, and cannot wait for it
        if self._late is not None and is_held_here(self.lock):
            timeout = 0.0  # one has come into a row, and the run is opened after that: it is asked for, not waited for
        with self.lock:  # here and not by the flusher: this may be a signal's handler that has come into a `log`
            if self._outbox is not None and not self._outbox.close_batch():
                return False
        if self._flusher is not None:
            return self._flusher.request(timeout, waiting)
        if not self._drain():
            return False  # another thread is opening the run anew
        self._delivery.tidy()
        return True

    def finish(self, state: str, timeout: float | None = None, waiting: Callable[[], None] | None = None) -> bool:
        """Flush, compact and put the closing mark. The run stays open: a later row goes on in the same term.

        Args:
            state: "finished" or "failed".
            timeout: As for `flush`, whose result and errors these are; for all of it together.
            waiting: As for `flush`.

        Raises:
            UnendedError: If every row is in the store, and only that the run has ended could not be noted.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            if self._resting:
                self._start_flusher()
        if not self.flush(timeout, waiting):
            return False
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ending.note(state, self.storage.url, self._delivery, self._flusher, left, waiting)
        self._rest()
        return True

    def go_on(self) -> None:
        """Have it be seen that the run is written again after its closing mark, also before a row comes."""
        with self.lock:
            if not self._delivery.go_on():
                return
        if self._flusher is None:
            self._start_flusher()
        else:
            self._flusher.wake()

    def close(self) -> None:
        """Stop, without waiting for the store. A journal with rows that are not there is left for the next opening."""
        self._stop_flusher(CLOSE_S)
        self._late = None
        with self.lock:
            outbox, self._outbox = self._outbox, None
        self._delivery.leave()  # from here on no late opening enters a term
        if outbox is not None:
            outbox.leave()
            self.kept = outbox.kept or None
        live.writers.discard(self)

    def aggregates(self) -> Aggregates:
        """Return the aggregates of every row of metrics that the run has: also of those that wait in the journal.

        The rows that the present term builds on are read once. Those that wait are read at each call.

        Raises:
            CorruptError: If a segment is damaged.
            StorageError: If the store fails.
        """
        with self.lock:
            parts = [] if self._outbox is None else self._outbox.parts()
            cumulative, start = self._cumulative, 0 if self.opened is None else self.opened.start
        return everything(cumulative, [batch for part in parts if (batch := part.peek(start)) is not None])

    def inherited_aggregates(self) -> Aggregates:
        """Return those of the rows that the present term builds on, which are read once; the same errors."""
        return Aggregates() if self._cumulative is None else self._cumulative.inherited()

    @property
    def fenced(self) -> FencedError | None:
        """Why nothing is written any more, if another writer has the run."""
        return self._delivery.fenced

    @property
    def away_since(self) -> float | None:
        """When the store failed first, on the monotonic clock; None if it is well."""
        return None if self._flusher is None else self._flusher.away_since

    @property
    def is_open(self) -> bool:
        """Whether rows come into the store, or will once it is back; not after an opening anew that failed."""
        return self._delivery.term is not None or self._late is not None

    @property
    def rows_waiting(self) -> int:
        """How many rows wait in the journal."""
        return 0 if self._outbox is None else self._outbox.waiting

    @property
    def waiting(self) -> bool:
        """Whether rows wait in the journal."""
        return self._outbox is not None and not self._outbox.empty

    @property
    def next_step(self) -> int:
        """One past the last step of which the store has rows, those of earlier terms included."""
        return self._delivery.next_step

    @property
    def journal(self) -> str | None:
        """The folder of the journal, None if it is in memory or there is none."""
        return None if self._outbox is None else self._outbox.where

    def _claim(self, storage: Storage, request: OpenRequest, outbox: Outbox | None = None) -> Opened:
        """Bring in what was left before, and make the claim and the base."""
        notes = recovery.recover_before(storage, self.run, self._root, request)
        outbox = outbox or self._outbox or self._begin_outbox()
        opened = open_run(storage, self.run, request, nonce=outbox.nonce, on_claim=outbox.claimed, journal=outbox.where)
        return replace(opened, notes=(*opened.notes, *notes))

    def _enter(self, opened: Opened) -> None:
        """Write to the term of an opening from here on."""
        assert self._outbox is not None
        self.opened = opened
        self._opened_at = time.monotonic()
        term = Term(self.storage, opened, self._outbox.where)
        self._cumulative = term.cumulative
        self._delivery.enter(term)

    def _open_late(self, late: LateOpening, outbox: Outbox) -> None:
        """Open the run, which could not be opened when that was asked for.

        Raises:
            FencedError: If another writer opened it at this moment, or nobody can; the rows are in the journal.
            StorageError: If the store is still away, or cannot be read.
        """
        claim = functools.partial(self._claim, outbox=outbox)
        with self._delivery.alone():
            if self._late is not late:
                return
            try:
                opened = late.attempt(self.storage, claim, lambda: self._late is late, outbox.where)
            except FencedError as error:
                self._late = None
                self._delivery.fence(error)
                raise
            if opened is None:
                return
            try:
                with self.lock:
                    if self._outbox is not outbox:  # closed meanwhile: the rows are kept in its journal
                        return
                    outbox.opened()
                    self._enter(opened)
                    late.opened(opened)
                late.afterwards()
            finally:
                self._late = None  # not before: up to here the lock is waited for, and `flush` goes by that

    def _begin_outbox(self) -> Outbox:
        with self.lock:
            if self._outbox is None:
                about = {
                    "format": 1,
                    "store": self.storage.url,
                    "endpoint": self.storage.endpoint,
                    "run": str(self.run),
                }
                root = None if self._disowned else self._root
                self._outbox = Outbox(root, about, self._wake, self._further_roots)
            return self._outbox

    def _further_roots(self) -> list[Path]:
        """Return where a journal goes that its own folder does not take."""
        return further_roots(self.storage, self.run, make=True)

    def _wake(self) -> None:
        if self._flusher is not None:
            self._flusher.wake()
        elif self._resting:
            self._start_flusher()

    def _start_flusher(self, failure: StorageError | None = None) -> None:
        self._resting = False
        if self._background:
            with contextlib.suppress(RuntimeError):  # the interpreter is ending: `flush` does it
                self._flusher = Flusher(
                    str(self.run),
                    self._drain,
                    self._delivery.tidy,
                    self._due,
                    self._delivery.beat,
                    lambda: self.storage.retries,
                    failure,
                )

    def _rest(self) -> None:
        """Do without a thread and a file until the next row: a process may have finished thousands of runs."""
        with self.lock:
            if self._outbox is None or not self._outbox.rest():
                return
            flusher, self._flusher = self._flusher, None
            self._resting = True
        if flusher is not None:
            flusher.stop(CLOSE_S)

    def _leave_term(self, term: Term) -> None:
        """End the term before another is opened; rows that do not get into it stay in their journal.

        Raises:
            StorageError: If the store fails: then nothing has changed.
        """
        with contextlib.suppress(FencedError):  # it was said when it happened
            self._drain()
        self._stop_flusher()
        with self.lock:
            outbox, self._outbox = self._outbox, None
            if outbox is not None:
                outbox.close_batch()
            self.on_leave()
        if outbox is not None:
            with contextlib.suppress(FencedError, StorageError):  # what another thread logged since
                self._delivery.drain(term, outbox)
        self._delivery.leave()
        if outbox is not None:
            outbox.leave()

    def _stop_flusher(self, timeout: float | None = None) -> None:
        self._resting = False
        flusher, self._flusher = self._flusher, None
        if flusher is not None:
            flusher.stop(timeout)

    def _due(self) -> float | None:
        """Return when a flush is due, on the monotonic clock."""
        outbox = self._outbox
        if self._late is not None:
            return 0.0
        if outbox is None:
            return None
        return age.due(outbox, local=self.storage.local_path is not None, opened_at=self._opened_at)

    def _drain(self) -> bool:
        """Bring every row that was appended before the call into the store; False where no term is open for them."""
        late, outbox = self._late, self._outbox
        if outbox is None:
            return True
        if late is not None:
            self._open_late(late, outbox)
        term = self._delivery.term
        # While the run is opened anew, rows that come belong to the term that is to come.
        if term is None or term.opened.base.nonce != outbox.nonce:
            return False
        self._delivery.drain(term, outbox)
        return True

    def _disown(self) -> None:
        """In a forked child: the run stays the parent's, and so do its journal and its thread."""
        self._disowned = True
        self._flusher = self._outbox = self._cumulative = self._late = None
        self._resting = False
        self.lock = threading.RLock()
        self._delivery = Delivery(self.storage, self.lock)
