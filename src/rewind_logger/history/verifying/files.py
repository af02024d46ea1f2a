"""Blobs: each against the digest that is its name, and those that rows refer to against what the rows say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format import manifest, names
from rewind_logger.history import blobs
from rewind_logger.history.together import batches
from rewind_logger.history.verifying.look import Look, unreadable
from rewind_logger.history.verifying.report import Problem
from rewind_logger.history.verifying.rows import Reference
from rewind_logger.history.verifying.state import State, Step

SMALL_BYTES = 4 << 20
"""Blobs up to this size are read whole, several at the same time."""

TOGETHER = 16
"""Small blobs that are in memory at a time."""

_IS_MISSING = "It is missing."


class Files:
    """The blobs of a store, each of which is read once; some 100 bytes of memory for each."""

    def __init__(self, look: Look, state: State) -> None:
        """Begin; the state says which were read before."""
        self._storage = look.storage
        self._state = state
        self._bad: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    def referred(self, references: Sequence[Reference], step: Step) -> Iterator[tuple[str, str, Reference]]:
        """Check the blobs that rows refer to; yield those that are not as they should be, with what is wrong."""
        first: dict[str, Reference] = {}
        for one in references:
            first.setdefault(one.digest, one)
        listings = {digest: self._manifest(digest, step) for digest, one in first.items() if one.manifest}
        wanted = {digest: one.size for digest, one in first.items()}
        for listing in listings.values():
            wanted.update(listing)
        self._read(wanted, step)
        for digest, one in first.items():
            for part in (digest, *listings.get(digest, ())):
                if part in self._bad:
                    yield names.blob(part), self._bad[part], one

    def check_prefix(self, prefix: str) -> None:
        """Check the blobs of one folder that no row referred to; the state is told."""
        step = Step(prefix=prefix)
        found = {
            info.name: info.size
            for info in self._storage.list(f"blobs/{prefix}")
            if info.size is not None and blobs.is_digest(info.name) and info.name not in self._bad
        }
        self._read(found, step)
        for digest in found:
            # One that is missing was collected since it was listed.
            if self._bad.get(digest, _IS_MISSING) != _IS_MISSING:
                step.problems.append(
                    Problem(
                        path=names.blob(digest),
                        what=self._bad[digest],
                        cost="nothing: no row that anybody reads refers to it",
                        remedy="It may be deleted.",
                        harm="none",
                    )
                )
        self._state.add(step)

    def prefixes(self) -> list[str]:
        """Return the folders of blobs."""
        return [info.name for info in self._storage.list("blobs") if info.size is None and len(info.name) == 2]

    def _manifest(self, digest: str, step: Step) -> Mapping[str, int | None]:
        """Return the blobs that a manifest lists; one that cannot be read lists none."""
        path = names.blob(digest)
        try:
            data = b"" if digest in self._bad else self._storage.read(path)
        except FileNotFoundError:
            self._bad[digest] = _IS_MISSING
        if digest in self._bad:
            return {}
        if not self._known(digest):
            self._note(digest, blobs.digest_of(data), len(data), step)
        if digest in self._bad:
            return {}
        try:
            entries = manifest.decode(data, f"The manifest {path}")
        except (CorruptError, FormatVersionError) as error:
            self._bad[digest] = str(error)
            return {}
        return {entry.sha256: entry.size for entry in entries.values() if entry.sha256 is not None}

    def _read(self, wanted: Mapping[str, int | None], step: Step) -> None:
        """Read the blobs that were not read yet, and keep what is wrong with them."""
        unread = [digest for digest in wanted if digest not in self._bad and not self._known(digest)]
        small = [digest for digest in unread if (size := wanted[digest]) is not None and size <= SMALL_BYTES]
        for group in batches(small, TOGETHER):
            outcomes = self._storage.read_each([names.blob(digest) for digest in group])
            for digest, outcome in zip(group, outcomes, strict=True):
                what = unreadable(outcome)
                if what is not None:
                    self._bad[digest] = what
                elif isinstance(outcome, bytes):
                    self._note(digest, blobs.digest_of(outcome), len(outcome), step)
        for digest in unread:
            if digest not in self._bad and not self._known(digest):
                self._stream(digest, step)
        for digest, size in wanted.items():
            known = self._sizes.get(digest, size)
            if size is not None and known != size:
                self._bad.setdefault(digest, f"It has {known:,} bytes, and what refers to it says {size:,}.")

    def _stream(self, digest: str, step: Step) -> None:
        """Read a large blob piece by piece."""
        content, size = hashlib.sha256(), 0
        try:
            for piece in self._storage.read_chunks(names.blob(digest)):
                content.update(piece)
                size += len(piece)
        except FileNotFoundError:
            self._bad[digest] = _IS_MISSING
        else:
            self._note(digest, content.hexdigest(), size, step)

    def _known(self, digest: str) -> bool:
        """Say whether a blob was read, now or by the verification that this one goes on with."""
        return digest in self._sizes or bytes.fromhex(digest) in self._state.blobs

    def _note(self, digest: str, found: str, size: int, step: Step) -> None:
        """Note what was read of a blob."""
        step.took("blobs", size)
        if found != digest:
            self._bad[digest] = f"Its {size:,} bytes have the SHA-256 {found}, which should be its name."
        else:
            self._sizes[digest] = size
            step.blobs.append(digest)
