"""Where anything lies in a store, and under which name: the only place that knows.

A path is relative to the store's URL, with `/` between its parts.

```
{project}/{id}/m/{n:08d}.json                       claim
{project}/{id}/removed.json                         the run was removed, or is about to be
{project}/{id}/t/{n:08d}-{nonce}/                   term: base.json, end.json, alive.json, merge.json, removed.json, s/…
{project}/{id}/t/{n:08d}-{nonce}/a{i}/              ancestors that a term merged or copied: s/…
{project}/{id}/v/{nonce}/                           evaluation: s/…
{project}/{id}/pins/{child nonce}.json              pin
{project}/{id}/j/{nonce}/                           journal of a writer (local stores)
blobs/{first two digits}/{SHA-256}                  a file, under the SHA-256 of its content
…/s/{stream}/{a // 1000:06d}/{a:09d}-{b:09d}_{first clock}_{last clock}.parquet
…/summary/{flush:09d}_{newest clock}.parquet        snapshot of aggregates, beside s/
```
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rewind_logger.errors import CorruptError
from rewind_logger.format.run_names import FORBIDDEN, UNPRINTABLE
from rewind_logger.types import RunRef

GROUP_SIZE = 1000
"""Flush numbers a folder of segments: one listing of an object store returns as many names at a time."""

TERM_DOCUMENTS = frozenset({"base.json", "merge.json", "end.json", "alive.json", "removed.json", "trimmed.json"})
"""What lies in a term's folder beside its segments."""

_CLAIM = re.compile(r"([0-9]{8,18})\.json")
_PIN = re.compile(r"([0-9A-Za-z]+)\.json")
_TERM = re.compile(r"([0-9]{8,18})-([0-9A-Za-z]+)")
_SEGMENT = re.compile(r"([0-9]{9,18})-([0-9]{9,18})_(-?[0-9]{1,19})_(-?[0-9]{1,19})\.parquet")
_SNAPSHOT = re.compile(r"([0-9]{9,18})_(-?[0-9]{1,19})\.parquet")
_MERGED = re.compile("a(0|[1-9][0-9]*)")
_CLOCK_MIN, _CLOCK_MAX = -(2**63), 2**63 - 1


class RunPaths:
    """Where the parts of one run lie.

    Example:
        >>> RunPaths(RunRef("digits", "r1")).claim(7)
        'digits/r1/m/00000007.json'
    """

    JOURNALS = "j"
    """The folder of a run that holds journals."""

    def __init__(self, run: RunRef) -> None:
        """Take a run whose names have passed `check_name`."""
        self.root = str(run)
        self.claims = f"{self.root}/m"
        self.terms = f"{self.root}/t"
        self.evaluations = f"{self.root}/v"
        self.pins = f"{self.root}/pins"
        self.journals = f"{self.root}/{self.JOURNALS}"
        self.removed = f"{self.root}/removed.json"

    def claim(self, n: int) -> str:
        """Return the path of claim `n`."""
        return f"{self.claims}/{n:08d}.json"

    def parse_claim(self, name: str) -> int | None:
        """Return the number of the claim that has this file name, None if the name is no claim's."""
        match = _CLAIM.fullmatch(name)
        if match is None:
            return None
        n = int(match[1])
        return n if name == f"{n:08d}.json" else None

    def term(self, n: int, nonce: str) -> str:
        """Return the folder of the term that claim `n` with this nonce began."""
        return f"{self.terms}/{n:08d}-{nonce}"

    def parse_term(self, name: str) -> tuple[int, str] | None:
        """Return number and nonce of the claim that began the term of this folder's name, None if it is no term's."""
        match = _TERM.fullmatch(name)
        if match is None or name != f"{int(match[1]):08d}-{match[2]}":
            return None
        return int(match[1]), match[2]

    def pin(self, child_nonce: str) -> str:
        """Return the path of the pin that keeps this run for a fork."""
        return f"{self.pins}/{child_nonce}.json"

    def parse_pin(self, name: str) -> str | None:
        """Return the nonce of the pin that has this file name, None if the name is no pin's."""
        match = _PIN.fullmatch(name)
        return None if match is None else match[1]

    def evaluation(self, nonce: str) -> str:
        """Return the folder of an evaluation."""
        return f"{self.evaluations}/{nonce}"


class SegmentName(NamedTuple):
    """The file name of a segment, which says all that is needed to skip it.

    Example:
        >>> str(SegmentName(0, 63, -1, 1999))
        '000000000-000000063_-1_1999.parquet'
    """

    first: int
    """The first flush that it holds (inclusive)."""
    last: int
    """The last flush that it holds (inclusive)."""
    first_clock: int
    """The smallest clock of its rows (inclusive)."""
    last_clock: int
    """The largest clock of its rows (inclusive)."""

    def __str__(self) -> str:
        """Return the file name."""
        return f"{self.first:09d}-{self.last:09d}_{self.first_clock}_{self.last_clock}.parquet"

    @staticmethod
    def parse(name: str) -> SegmentName | None:
        """Return the parts of a segment's file name, None if the name is not exactly one that we write."""
        match = _SEGMENT.fullmatch(name)
        if match is None:
            return None
        parsed = SegmentName(*map(int, match.groups()))
        ordered = parsed.first <= parsed.last and _CLOCK_MIN <= parsed.first_clock <= parsed.last_clock <= _CLOCK_MAX
        return parsed if ordered and str(parsed) == name else None


class SnapshotName(NamedTuple):
    """The file name of a snapshot, which says all that is needed to tell whether it can be used.

    Example:
        >>> str(SnapshotName(63, 1999))
        '000000063_1999.parquet'
    """

    flush: int
    """The last flush of metrics that it covers (inclusive)."""
    newest_clock: int
    """No row that it covers has a larger clock."""

    def __str__(self) -> str:
        return f"{self.flush:09d}_{self.newest_clock}.parquet"

    @staticmethod
    def parse(name: str) -> SnapshotName | None:
        """Return the parts of a snapshot's file name, None if the name is not exactly one that we write."""
        match = _SNAPSHOT.fullmatch(name)
        if match is None:
            return None
        parsed = SnapshotName(int(match[1]), int(match[2]))
        return parsed if str(parsed) == name else None


def is_stream(name: str) -> bool:
    """Say whether a stream can be called so: by a plain word, for it becomes part of a path."""
    return name.isascii() and name.isidentifier()


def writer(folder: str) -> str | None:
    """Return the nonce of the term or evaluation whose folder this is; None for one of merged ancestors.

    Example:
        >>> writer("digits/r1/t/00000000-9f86d081884c7d65"), writer("digits/r1/t/00000000-9f86d081884c7d65/a0")
        ('9f86d081884c7d65', None)
    """
    above, _, last = folder.rpartition("/")
    match = _TERM.fullmatch(last)
    if above.endswith("/t") and match is not None:
        return match[2]
    return last if above.endswith("/v") else None


def blob(digest: str) -> str:
    """Return the path of the file whose content has this SHA-256, as 64 lower-case hexadecimal digits.

    Example:
        >>> blob("9f" + 62 * "0")[:12]
        'blobs/9f/9f0'
    """
    return f"blobs/{digest[:2]}/{digest}"


def probe(nonce: str) -> str:
    """Return the path of an object that is put to see what time it is."""
    return f"blobs/now-{nonce}"


def is_merged(name: str) -> bool:
    """Tell whether a folder within a term is one of merged or copied ancestors."""
    return _MERGED.fullmatch(name) is not None


def is_probe(name: str) -> bool:
    """Tell whether an object in the folder of blobs is one that was put to see what time it is."""
    return name.startswith("now-")


def base(folder: str) -> str:
    """Return the path of a term's base."""
    return f"{folder}/base.json"


def end(folder: str) -> str:
    """Return the path of a term's closing mark."""
    return f"{folder}/end.json"


def alive(folder: str) -> str:
    """Return the path of a term's last sign of life."""
    return f"{folder}/alive.json"


def merge(folder: str) -> str:
    """Return the path of the record that says which ancestors a term has merged into its own folder."""
    return f"{folder}/merge.json"


def removed(folder: str) -> str:
    """Return the path of what was the base of a term whose revision was removed."""
    return f"{folder}/removed.json"


def trimmed(folder: str) -> str:
    """Return the path of the record that says from which clock on segments of a folder were removed."""
    return f"{folder}/trimmed.json"


def merged(folder: str, i: int) -> str:
    """Return the `i`-th folder of merged ancestors within a term; it holds segments as a term does."""
    return f"{folder}/a{i}"


def about(folder: str) -> str:
    """Return the path of what an evaluation says of itself."""
    return f"{folder}/evaluation.json"


def streams(folder: str) -> str:
    """Return the folder that holds a folder for each stream of a term, an evaluation or merged ancestors."""
    return f"{folder}/s"


def stream(folder: str, stream: str) -> str:
    """Return the folder of one stream, which holds its groups."""
    return f"{folder}/s/{stream}"


def group(folder: str, stream: str, a: int) -> str:
    """Return the folder of the segments whose first flush lies in the same thousand as `a`."""
    return f"{folder}/s/{stream}/{a // GROUP_SIZE:06d}"


def segment(folder: str, stream: str, name: SegmentName) -> str:
    """Return the path of a segment."""
    return f"{group(folder, stream, name.first)}/{name}"


def snapshots(folder: str) -> str:
    """Return the folder of a term's snapshots of aggregates."""
    return f"{folder}/summary"


def snapshot(folder: str, name: SnapshotName) -> str:
    """Return the path of a snapshot."""
    return f"{snapshots(folder)}/{name}"


def relative(folder: str, run: RunRef) -> str:
    """Write a lineage folder so that the run may be copied or moved as a whole.

    Returns:
        "./t/…" for a folder of `run` itself; any other stays relative to the store, "project/id/t/…".
    """
    # Not the whole root: below "x/y" lie also the runs of project "x/y", and they do not move with run "x/y".
    own = folder.startswith((f"{run}/t/", f"{run}/v/"))
    return folder.replace(f"{run}/", "./", 1) if own else folder


def absolute(text: str, run: RunRef) -> str:
    """Read what `relative` wrote.

    Returns:
        The folder, relative to the store.

    Raises:
        CorruptError: If the text could point out of the store, or is no folder that this package writes: a store is
            data, and someone else may have written it.
    """
    if not isinstance(text, str):
        raise CorruptError(f"The lineage of run {run} names a folder {text!r}, which is no text.")
    rest = text.removeprefix("./")
    for part in rest.split("/"):
        if not part or part in (".", "..") or UNPRINTABLE.search(part) or FORBIDDEN.search(part):
            raise CorruptError(
                f"The lineage of run {run} names the folder {text[:200]!r}, which cannot be one of this store: "
                "the base that names it was damaged or not written by this package."
            )
    return f"{run}/{rest}" if rest != text else text
