"""The journal: where a row lies between `log()` and the store.

A journal is a folder named by the nonce of its writer:

```
{nonce}/journal.json        who writes it; locked as long as the writer lives
{nonce}/claimed-{n:08d}     the writer has made claim n
{nonce}/{i:09d}.part        the rows of one flush batch, as frames; the first frame says which flushes they become
{nonce}/{SHA-256}.blob      bytes that rows refer to, until they are in the store as a blob
{nonce}/noted               somebody was told that these rows are kept
{nonce}/recovering          somebody who is not its writer has it locked, and brings it in
```

One `os.write` a row and a file a blob, no fsync: what was written survives the process, not the power supply.

Where its disk refuses, it goes on in a folder of the same name on another: a part is then several files of one name,
in that order.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rewind_logger.format import frames
from rewind_logger.history.journals.part import Part
from rewind_logger.history.journals.place import Place

LOG = logging.getLogger("rewind_logger")


class Journal:
    """The journal of one writer. Not for use by two threads at once: the writer has a lock around it.

    It lies in the first place that takes it. What that one refuses goes to the next, and what all refuse is held in
    memory; each part tries the first one again.
    """

    def __init__(
        self,
        root: Path | None,
        nonce: str,
        about: Mapping[str, Any],
        further: Callable[[], Iterable[Path]] = list,
    ) -> None:
        """Begin a journal.

        Args:
            root: The folder that holds the journals of the run; None keeps this one in memory.
            nonce: Its name.
            about: What a person who finds it should know.
            further: Returns folders to go to when that one cannot be written.
        """
        self._nonce = nonce
        self._about = about
        self._further: Callable[[], Iterable[Path]] | None = further  # until it was called
        self._places = [] if root is None else [Place(root, nonce, about)]
        self._claims: list[int] = []
        self._number = -1
        self._fd: int | None = None
        self._written: list[Place] = []  # that have a file of the present part; the last one is open
        self._header = b""
        self.prelude = b""
        """What comes behind the header in a further file of the present part, so that it can be read alone: keys."""
        self._memory = bytearray()
        self._said: set[Path | None] = set()  # where rows went while the disk refused, None for memory
        self._try(0, partial(Place.settle, claims=self._claims))

    @property
    def where(self) -> str | None:
        """Its folder, or folders; None for a journal in memory."""
        return " and ".join(str(place.folder) for place in self._places if place.settled) or None

    @property
    def held(self) -> int:
        """How many bytes of the present part are held in memory."""
        return len(self._memory)

    def begin(self, flushes: Mapping[str, int], **more: bool) -> None:
        """Open the next part.

        Args:
            flushes: Which flush the rows of each stream become.
            more: What its header says beside that: `unopened`, if clocks are counted from 0 since the run is not open;
                `steps_given`, if steps are given meanwhile.
        """
        self._close_file()
        self._number += 1
        self._memory.clear()
        self._written = []
        self._header = _header(flushes, more)
        self.prelude = b""
        self._open(0, self._header)

    def say(self, flushes: Mapping[str, int], **more: bool) -> None:
        """Say in the open part what `begin` is given, from here on."""
        self._header = _header(flushes, more)
        self.append(self._header)

    def append(self, data: bytes) -> None:
        """Write one frame."""
        fd = self._fd
        if fd is None:
            self._memory += data
            return
        try:
            if os.write(fd, data) == len(data):
                return
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            # What was written of the frame is a torn tail; those that follow are read on their own.
            if self._take_back():
                self.append(data)
                return
            refused = Refused(self._written[-1].folder, error)
            self._close_file()
            self._open(self._places.index(self._written[-1]) + 1, self._header + self.prelude + data, refused)

    def attach(self, digest: str, data: bytes) -> bytes | Place:
        """Keep bytes that rows refer to, in a file; return where, or the bytes if that cannot be done."""
        place = self._try(0, lambda place: place.keep(digest, data, self._claims))
        return data if place is None else place

    def close_part(self, blobs: Mapping[str, bytes | Place]) -> Part:
        """Close the present part and return it; `begin` must come before the next row.

        Args:
            blobs: By digest what its rows refer to, as `attach` returned it.
        """
        self._take_back()
        self._close_file()
        if self._said and self._written == self._places[:1] and not self._memory:
            self._said.clear()
            LOG.warning("The journal %s can be written again.", self._written[0].folder)
        return self.present_part(blobs)

    def present_part(self, blobs: Mapping[str, bytes | Place]) -> Part:
        """Return the present part as it is by now; `close_part` says what `blobs` are."""
        return Part(self._name, list(self._written), bytes(self._memory), dict(blobs))

    def move(self, root: Path | None, further: Callable[[], Iterable[Path]] = list) -> None:
        """Move it into another run's folders of journals, on the same disks; what is open moves with it."""
        roots = [] if root is None else [root]
        if root is not None and self._further is None:
            roots += further()
        else:
            self._further = further
        for place, target in zip(self._places, roots, strict=False):
            try:
                place.move(target)
            except OSError as error:
                LOG.warning("The journal %s could not be moved to %s: %s", place.folder, target, error)

    def claimed(self, n: int) -> None:
        """Note that the writer has made claim `n`: from here on its rows may be in the store."""
        self._claims.append(n)
        for place in self._places:
            if place.settled:
                try:
                    place.claimed(n)
                except OSError as error:  # the rows are told by the base of the claim, which is in the store
                    LOG.debug("The journal %s could not be told of claim %d: %s", place.folder, n, error)

    def discard(self) -> None:
        """Remove the journal: everything in it is in the store. It is there again when `begin` is called."""
        self._close_file()
        for place in self._places:
            place.discard()

    def leave(self) -> None:
        """Stop writing and unlock the journal, keeping what is in it."""
        self._close_file()
        for place in self._places:
            place.leave()

    def save(self, part: Part) -> None:
        """Write to disk what a closed part holds in memory, if there is room again."""
        for digest, data in part.blobs.items():
            if isinstance(data, bytes):
                part.keep(digest, self.attach(digest, data))
        if not part.rest:
            return
        last = part.places[-1] if part.places else None

        def write(place: Place) -> None:
            if place is last:
                place.write_on(part.name, part.rest)
            else:
                os.close(place.create(part.name, self._claims, part.rest))

        place = self._try(0 if last is None else self._places.index(last), write)
        if place is not None:
            if place is not last:
                part.places.append(place)
            part.rest = b""

    @property
    def _name(self) -> str:
        return f"{self._number:09d}.part"

    def _open(self, first: int, data: bytes, refused: Refused | None = None) -> None:
        """Write on in the first place from number `first` on that takes it, or else in memory."""

        def write(place: Place) -> None:
            fd = place.create(self._name, self._claims, data)
            self._written.append(place)
            self._fd = fd

        if self._try(first, write, refused) is None:
            self._memory += data

    def _try(self, first: int, work: Callable[[Place], None], refused: Refused | None = None) -> Place | None:
        """Do some work in the first place from number `first` on that lets us; return which that was."""
        for number in itertools.count(first):
            if number == len(self._places) > 0 and self._further is not None:
                self._places += [Place(root, self._nonce, self._about) for root in self._further()]
                self._further = None
            if number >= len(self._places):
                place = None
                break
            place = self._places[number]
            try:
                work(place)
                break
            except OSError as error:
                refused = refused or Refused(place.folder, error)
        if refused is not None:
            self._warn(refused, place)
        return place

    def _take_back(self) -> bool:
        """Write the open file anew if somebody has removed it, as long as what is in it can be had; say if it was."""
        if self._fd is None or os.path.exists(self._written[-1].folder / self._name):
            return False
        try:
            data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        except OSError:
            return False
        place = self._written.pop()
        self._close_file()
        LOG.warning("The journal %s was removed while its run was written: it is made again.", place.folder)
        self._open(self._places.index(place), data)
        return True

    def _close_file(self) -> None:
        # Forgotten first: after a Ctrl-C in between, its number may come to be that of another file.
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _warn(self, refused: Refused, place: Place | None) -> None:
        """Say once where rows go while the disk refuses."""
        where = None if place is None else place.folder
        if where in self._said:
            return
        self._said.add(where)
        LOG.warning(
            "The journal %s cannot be written (%s): %s. Make room there, or see that it can be written.",
            refused.folder,
            refused.error.strerror or refused.error,
            "rows are held in memory until they are in the store, and a crash would lose those"
            if place is None
            else f"rows wait in {where} until they are in the store",
        )


def _header(flushes: Mapping[str, int], more: Mapping[str, bool]) -> bytes:
    """Return the frame with which a part begins."""
    return frames.frame(frames.encode_header({"flush": dict(flushes), **{key: True for key in more if more[key]}}))


class Refused(NamedTuple):
    """A place that could not be written."""

    folder: Path
    error: OSError
