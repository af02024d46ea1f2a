"""The outbox: rows that were logged and are not in the store yet, in a journal cut into flush batches."""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rewind_logger.format.frames import encode_keys, encode_row, frame, frame_values
from rewind_logger.history.journals.journal import Journal
from rewind_logger.history.journals.part import Batch, Part
from rewind_logger.history.journals.place import Place
from rewind_logger.types import STREAMS, Scalar, Stream

FLUSH_POINTS = 1 << 16
"""A batch is closed once it has so many values …"""

TEXT_BYTES, BLOB_BYTES = 128, 512
"""… where so many bytes of a row, or of a blob, count as a value: so it has some 8 MiB of texts, or 32 of blobs."""

HELD_BYTES = 256 << 20
"""Where no disk takes them, rows are held in memory up to so many bytes; then those that come are dropped."""

LOOK_S = 1.0
"""How often it is then tried whether a disk has room again."""

PATIENT_STREAMS: tuple[Stream, ...] = ("system",)
"""Streams whose rows go with those of others, or by themselves seldom: they come from an idle process too."""

LOG = logging.getLogger("rewind_logger")

_INDEX = {stream: index for index, stream in enumerate(STREAMS)}
_METRICS = _INDEX["metrics"]


class Outbox:
    """What one term has logged. Rows and flushes are numbered from 0, per stream and without gaps.

    Not for use by two threads at once: the writer has a lock around it, but for `first` and `drop_first`. It may be
    entered again by the same thread, though: a signal's handler that logs can come into anything.
    """

    def __init__(
        self,
        root: Path | None,
        about: dict[str, Any],
        on_work: Callable[[], None],
        further: Callable[[], Iterable[Path]] = list,
    ) -> None:
        """Begin the journal.

        Args:
            root: The folder of the run's journals; None keeps this one in memory.
            about: What a person who finds the journal should know.
            on_work: Called when the first row of a batch came, and when a batch was closed for its size.
            further: Returns folders for the journal to go to when `root` cannot be written.
        """
        self.nonce = secrets.token_hex(8)
        self._journal = Journal(root, self.nonce, about, further)
        self._on_work = on_work
        self._rows = [0] * len(STREAMS)
        self._began = [0] * len(STREAMS)  # the row numbers at which the present batch began
        self._flushes: dict[str, int] = dict.fromkeys(STREAMS, 0)
        self._points = 0
        self._keys: list[str] | None = None  # those that the present batch said last
        self._closed: deque[Part] = deque()
        self._blobs: dict[str, bytes | Place] = {}  # of the present batch, or where they are kept
        self._busy = False
        self._postponed: deque[Callable[[], None]] = deque()
        self._kept = False
        self.since: float | None = None
        """When the first row of the present batch came, on the monotonic clock; None if it has none."""
        self.pressing: float | None = None
        """The same of the first row that is to be seen soon."""
        self._dropping = False
        self._dropped = 0
        self._look_at = 0.0  # when it is tried again whether a disk has room, on the monotonic clock
        self.kept = ""
        """Where there are rows that had not come into the store when it was left."""
        self._begun = False  # whether the present batch has a part of the journal
        self._unopened = False  # whether clocks are counted from 0
        self._steps_given = False  # whether steps were given meanwhile
        self._stored = 0  # rows that were let go

    @property
    def where(self) -> str | None:
        """The journal's folder, None for one in memory."""
        return self._journal.where

    @property
    def held(self) -> int:
        """How many bytes are held in memory, since no disk takes them."""
        present = self._journal.held + sum(len(data) for data in self._blobs.values() if isinstance(data, bytes))
        return present + sum(part.held for part in list(self._closed))

    @property
    def full(self) -> bool:
        """Whether a closed batch waits."""
        return bool(self._closed)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._closed and not self._begun

    @property
    def waiting(self) -> int:
        """How many rows wait."""
        return sum(self._rows) - self._stored

    def await_opening(self) -> None:
        """Take clocks from here on as counted from 0: the run is not open, and where it goes on is not known."""
        self.close_batch()
        self._unopened = True

    def opened(self) -> None:
        """Take clocks from here on as they are."""
        self.close_batch()
        self._unopened = False

    def give_steps(self) -> None:
        """Note that steps are given while the run is not open."""
        if self._busy:
            self._postponed.append(self.give_steps)
        elif self._unopened and not self._steps_given:
            self._steps_given = True
            if self._begun:
                self._journal.say(self._flushes, unopened=True, steps_given=True)

    def append(
        self, stream: Stream, values: dict[str, Scalar], clock: int | None, step: int | None, time_ms: int
    ) -> None:
        """Write one row to the journal."""
        if self._busy:  # a signal's handler has come into the writing of another row
            self._postponed.append(partial(self.append, stream, values, clock, step, time_ms))
            return
        self._busy = True
        try:
            if self._dropping and self._drops():
                return
            index = _INDEX[stream]
            row = self._rows[index]
            data = frame(encode_row(index, row, clock, step, time_ms, values))
            self._rows[index] = row + 1  # before the write, within which a Ctrl-C may come: no number is given twice
            if not self._begun:
                self._begin()
            self._journal.append(data)
            self._points += max(len(values), len(data) // TEXT_BYTES)
            self._see_to_batch(patient=stream in PATIENT_STREAMS)
        finally:
            self._busy = False
            self._catch_up()

    def attach(self, digest: str, data: bytes) -> None:
        """Keep bytes that rows which follow refer to, unless they wait already; they get into the store before these.

        Args:
            digest: Their SHA-256.
            data: The bytes.
        """
        if self._busy:
            self._postponed.append(partial(self.attach, digest, data))
            return
        self._busy = True
        try:
            if self._dropping and self._drops(0):
                return
            if digest in self._blobs or any(part.holds(digest) for part in list(self._closed)):
                return
            if not self._begun:
                self._begin()
            self._blobs[digest] = self._journal.attach(digest, data)
            self._points += len(data) // BLOB_BYTES
            self._see_to_batch()
        finally:
            self._busy = False
            self._catch_up()

    def append_metrics(
        self, keys: list[str], values: list[Scalar], clock: int | None, step: int | None, time_ms: int
    ) -> None:
        """Write one row of metrics whose keys are a list that was given before: only its values are written.

        The list is known by its identity, so it must not be changed afterwards.
        """
        if self._busy:
            named = dict(zip(keys, values, strict=True))
            self._postponed.append(partial(self.append, "metrics", named, clock, step, time_ms))
            return
        self._busy = True
        try:
            if self._dropping and self._drops():
                return
            row = self._rows[_METRICS]
            data = frame_values(values, _METRICS, row, clock, step, time_ms)
            self._rows[_METRICS] = row + 1
            if keys is self._keys:
                self._journal.append(data)
            else:
                said = frame(encode_keys(_METRICS, keys))
                self._keys = None  # until they are surely written: a Ctrl-C may come
                if not self._begun:
                    self._begin()
                self._journal.append(said + data)
                self._journal.prelude = said
                self._keys = keys
            self._points += len(values)
            if self._points >= FLUSH_POINTS or self.pressing is None:
                self._see_to_batch()
        finally:
            self._busy = False
            if self._postponed:
                self._catch_up()

    def _begin(self) -> None:
        """Begin the batch's part of the journal."""
        self._journal.begin(self._flushes, unopened=self._unopened, steps_given=self._unopened and self._steps_given)
        self._begun = True

    def _drops(self, rows: int = 1) -> bool:
        """Say whether what comes is dropped, since memory is full of rows that no disk takes; count it then."""
        if (now := time.monotonic()) >= self._look_at:
            self._look_at = now + LOOK_S
            self._begin()
        if not self._journal.held or self.held < HELD_BYTES:
            self._dropping = False
            self._say_dropped()
            return False
        if rows and not self._dropped:
            LOG.error(
                "The journal %s cannot be written, the store takes nothing, and %d MiB of rows are held in memory: "
                "further rows are dropped until there is room.",
                self._journal.where or "",
                HELD_BYTES >> 20,
            )
        self._dropped += rows
        return True

    def _say_dropped(self) -> None:
        """Say how many rows are lost."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            LOG.error("%s rows were dropped while neither a disk nor the store had room for them.", f"{dropped:,}")

    def _see_to_batch(self, *, patient: bool = False) -> None:
        """Note that the batch has begun, and close it once it is full."""
        if self.since is None or (self.pressing is None and not patient):
            now = time.monotonic()
            self.since = now if self.since is None else self.since
            self.pressing = self.pressing if patient else now
            self._on_work()
        if self._points >= FLUSH_POINTS:
            self._close()
            self._on_work()

    def _catch_up(self) -> None:
        """Do what was asked for in the midst of something else."""
        while self._postponed and not self._busy:
            self._postponed.popleft()()

    def move(self, root: Path | None, further: Callable[[], Iterable[Path]]) -> None:
        """Move the journal to that of another run, before the first opening; the arguments are as at the beginning."""
        self._journal.move(root, further)

    def claimed(self, n: int) -> None:
        """Note the writer's claim in the journal."""
        self._journal.claimed(n)

    def close_batch(self) -> bool:
        """Close the present batch, if it has rows, so that `first` comes to it.

        Returns:
            Whether that was done. False to a signal's handler that has come into the writing of a row: this closes it.
        """
        if self._busy:
            self._points = FLUSH_POINTS
            return False
        self._busy = True
        try:
            self._close()
        finally:
            self._busy = False
            self._catch_up()
        return True

    def first(self, start: int) -> Batch | None:
        """Return the oldest closed batch, None if there is none; it stays until `drop_first`.

        Args:
            start: The clock of rows that were logged before theirs was known.

        Raises:
            CorruptError: If it cannot be read back.
        """
        return self._closed[0].read(start, self._steps_given) if self._closed else None

    def first_blobs(self) -> dict[str, bytes | Path]:
        """Return by digest the blobs of the oldest closed batch, or the files that hold them."""
        return self._closed[0].blobs

    def parts(self) -> list[Part]:
        """Return what waits, oldest first, the present batch as far as it was written; a part may go at any time."""
        return [*self._closed, *([self._journal.present_part({})] if self.since is not None else [])]

    def drop_first(self, *, keep: bool = False) -> None:
        """Let the oldest closed batch go: what can be read of it is in the store. A damaged one keeps its files."""
        if not keep:
            # While the batch is known to hold them: who attaches them anew meanwhile must write no file that goes here.
            self._closed[0].drop_blobs()
        part = self._closed.popleft()
        self._stored += part.rows
        if keep:
            self._kept = True
        else:
            part.drop()

    def drop(self, part: Part, *, keep: bool = False) -> None:
        """Let a closed batch go as `drop_first` does, if it is still the oldest."""
        if self._closed and self._closed[0] is part:
            self.drop_first(keep=keep)

    def leave(self) -> None:
        """Stop. The journal is removed if nothing waits in it, and else left for the next opening."""
        if not self.close_batch():
            self._postponed.append(self.leave)  # once the row is written that a signal's handler has come into
            return
        if not self._closed and not self._kept:
            self._journal.discard()
            return
        left = list(self._closed)  # an attempt that hangs may still let one go
        for part in left:
            if part.held:
                self._journal.save(part)
        self._journal.leave()
        self._say_dropped()
        self.kept = " and ".join(dict.fromkeys(str(place.folder) for part in left for place in part.places))
        if any(part.held for part in left):
            LOG.error("Rows that were held in memory only never came into their store, and are lost.")

    def rest(self) -> bool:
        """Put the journal away until the next row, if nothing waits in it; return whether that was done."""
        if self._busy or not self.empty or self._kept:
            return False
        self._journal.discard()
        return True

    def _close(self) -> None:
        if not self._begun:  # not `since`, which a Ctrl-C may have kept from being set
            return
        # A Ctrl-C may come into any call. Up to the end of `close_part` it changes nothing but that more rows come into
        # this batch, in memory; between the assignments after it there is no call; and it is their order that matters.
        rows = list(self._rows)
        flushes: dict[str, int] = {
            stream: self._flushes[stream] + (rows[index] > self._began[index]) for index, stream in enumerate(STREAMS)
        }
        part = self._journal.close_part(self._blobs)
        part.rows = sum(rows) - sum(self._began)
        self._begun = False
        self._began = rows
        self._flushes = flushes
        self._points = 0
        self._blobs = {}
        self._keys = None  # each batch can be read alone
        self.pressing = None
        self.since = None
        self._closed.append(part)
        self._dropping = part.held > 0 and self.held >= HELD_BYTES
