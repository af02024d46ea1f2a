"""Media as they lie in a store, to read."""

from __future__ import annotations

import io
import os
import re
import wave
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, overload

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rewind_logger.errors import ConfigError, CorruptError, RewindError
from rewind_logger.format import names
from rewind_logger.format.columns import column_of
from rewind_logger.history import blobs
from rewind_logger.sdk.media.pillow import pillow
from rewind_logger.sdk.media.table import Table
from rewind_logger.storage.base import Storage
from rewind_logger.storage.descriptor import replacing

_decode = msgspec.json.Decoder().decode

_UNFIT = re.compile(r"[^\w.-]+")
_PLAIN = re.compile(r"[a-z0-9_-][a-z0-9_.-]*")
"""Keys of which no two are one file anywhere. Others differ in case, in the form of their accents, or in what has to be
replaced."""
_SHOWN_KEY = 50
"""Characters of a key, and of a format, that a file name has."""
_SHOWN_DIGEST = 8

MOST_ARRAY_BYTES = 2 << 30
"""A film is not decoded into more: a small file can claim any size."""


class Counts(NamedTuple):
    """Histograms as numbers; what `numpy.histogram` returns, and `Histogram(np_histogram=…)` takes."""

    counts: npt.NDArray[Any]
    """One a bin; of several histograms a row each."""
    edges: npt.NDArray[np.float64]
    """One more than bins, likewise."""


class StoredMedia:
    """One picture, table, histogram, text, page, sound or film of a run, to read."""

    def __init__(
        self,
        storage: Storage,
        run: str,
        key: str,
        step: int,
        time_ms: int,
        index: int,
        record: Any,
        place: tuple[object, ...] = (),
    ) -> None:
        """Take what its row says of it, and what else tells it apart from others of its key, step and index."""
        self._storage = storage
        self._run = run
        self._place = place
        self.key: str = key
        """The name under which it was logged."""
        self.step: int = step
        """The training step at which it was logged."""
        self.timestamp: float = time_ms / 1000
        """When it was logged, in seconds since 1970-01-01 UTC."""
        self.index: int = index
        """Its place in the list that was logged, 0 without one."""
        if not (
            isinstance(record, dict)
            and isinstance(record.get("type"), str)
            and isinstance(record.get("format", ""), str)
            and (record.get("size") is None or type(record["size"]) is int)
            and isinstance(record.get("media_columns", []), list)
        ):
            raise CorruptError(f"{self._named} is damaged: its row does not say what it is.")
        self.kind: str = record.pop("type")
        """image, table, histogram, text, html, audio or video."""
        caption = record.pop("caption", None)
        self.caption: str | None = caption if isinstance(caption, str) else None
        """The text to show with it."""
        self.metadata: dict[str, Any] = record
        """What else is known of it: `format`, `size` in bytes, `sha256`, and for an image `width` and `height`, for a
        table `rows` and `columns`, and so on."""

    def __repr__(self) -> str:
        caption = "" if self.caption is None else f", {self.caption!r}"
        return f"<{self.kind} {self.key!r} of step {self.step}{caption}>"

    def read(self) -> bytes:
        """Return the file, verified.

        Raises:
            ConfigError: If it has none: a histogram.
            CorruptError: If it is missing or damaged; the message names key and step.
            StorageError: If the store fails.
        """
        text = self.metadata.get("text")
        if isinstance(text, str):
            return text.encode()
        digest = self._digest()
        try:
            return blobs.read(self._storage, digest)
        except (FileNotFoundError, CorruptError) as error:
            raise self._broken(error) from error

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file, verified: it appears whole or not at all.

        Args:
            path: A file, which is replaced; or a folder that exists, in which it gets a name of its key, step and
                index: `loss_3_0.png`, or `val_x~ce8dc80a_3_0.png` where the key has other characters than lower-case
                letters, digits, `_`, `-` and `.`, or was logged again at that step: no two items are one file.

        Returns:
            Where it is.

        Raises:
            ConfigError: If it has no file: a histogram.
            CorruptError: If it is missing or damaged in the store; the message names key and step.
            OSError: If it cannot be written.
        """
        target = Path(path)
        if target.is_dir():
            suffix = _UNFIT.sub("_", self.metadata.get("format", "txt")[:_SHOWN_KEY])
            target /= f"{_file_name(self.key, self._place)}_{self.step}_{self.index}.{suffix}"
        if "text" in self.metadata:
            with replacing(target) as temporary:
                temporary.write_bytes(self.read())
            return target
        try:
            blobs.download(self._storage, self._digest(), self.metadata.get("size"), target)
        except (FileNotFoundError, CorruptError) as error:
            raise self._broken(error) from error
        return target

    def to_pil(self) -> Any:
        """Return an image, or the first picture of a GIF, as `PIL.Image.Image`.

        Raises:
            ConfigError: If it is none, or Pillow is not installed.
        """
        if self.kind != "image" and self.metadata.get("format") != "gif":
            raise self._is_no("picture", "to_pil")
        data = self.read()
        library = pillow()
        with self._whole():
            picture = library.open(io.BytesIO(data))
            picture.load()
            return picture

    def to_numpy(self) -> Any:
        """Return it as numbers.

        An image is height × width, with channels where it has several; a GIF time × height × width × RGB; a sound in
        WAV samples × channels, of int16; a histogram its `counts` and `edges`.

        Raises:
            ConfigError: If it is of another kind or format.
        """
        if self.kind == "histogram":
            return histogram_arrays([self], one=True)
        if self.kind == "image":
            return np.asarray(self.to_pil())
        if self.metadata.get("format") == "gif":
            film = self.to_pil()
            with self._whole():
                return _frames(film)
        if self.metadata.get("format") == "wav":
            data = self.read()
            with self._whole():
                return _samples(data)
        raise self._is_no("array", "to_numpy")

    def to_table(self) -> Table:
        """Return a table, which has `to_pandas()`, `to_polars()` and `to_arrow()`.

        Raises:
            ConfigError: If it is none.
        """
        if self.kind != "table":
            raise self._is_no("table", "to_table")
        return Table.from_parquet(self.read())

    def media(self, column: str) -> MediaList:
        """Return what is in a column of a table that has media; the `index` of each is its row.

        Args:
            column: The name of the column.

        Raises:
            ConfigError: If it is no table, or has no media in such a column.
        """
        if column not in self.metadata.get("media_columns", ()):
            raise self._is_no(f"table with media in a column {column!r}", "media")
        items = []
        table = self.to_table().to_arrow()
        with self._whole():
            for row, text in enumerate(table[column].to_pylist()):
                found = _records(text) if text is not None else []
                items += [self._within(column, row, at, record) for at, record in enumerate(found)]
        return MediaList(items)

    def to_text(self) -> str:
        """Return a text, or the source of a page.

        Raises:
            ConfigError: If it is none.
        """
        if self.kind not in ("text", "html"):
            raise self._is_no("text", "to_text")
        with self._whole():
            return self.read().decode()

    def _within(self, column: str, row: int, at: int, record: Any) -> StoredMedia:
        """Return an item of one of its cells, which may hold several."""
        time_ms = round(self.timestamp * 1000)
        place = (column, at, self.index, *self._place)
        return StoredMedia(self._storage, self._run, f"{self.key}/{column}", self.step, time_ms, row, record, place)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Say of a file that cannot be decoded that it is damaged, whatever the decoder says."""
        try:
            yield
        except RewindError:
            raise
        except Exception as error:
            shown = f"{type(error).__name__}: {str(error)[:200]}"
            raise CorruptError(f"The {self.kind} {self._named} cannot be decoded ({shown}).") from error

    @property
    def _named(self) -> str:
        return f"{self.key!r} of step {self.step} of run {self._run}"

    def _digest(self) -> str:
        digest = self.metadata.get("sha256")
        if digest is None:
            raise self._is_no("file", "read")
        return str(digest)

    def _broken(self, error: Exception) -> CorruptError:
        if isinstance(error, CorruptError):
            return CorruptError(f"The {self.kind} {self._named} is damaged: {error}")
        path = names.blob(self._digest())
        return CorruptError(
            f"The {self.kind} {self._named} is missing: there is no {path} in {self._storage.url}. Restore it from a"
            " backup."
        )

    def _is_no(self, what: str, method: str) -> ConfigError:
        shown = f"{self.metadata['format']} " if "format" in self.metadata else ""
        return ConfigError(f"{self._named} is no {what} but a {shown}{self.kind}, so {method}() cannot give it.")


class MediaList(Sequence[StoredMedia]):
    """Media of a run, in the order in which they were logged; a sequence."""

    def __init__(self, items: list[StoredMedia]) -> None:
        """Take them."""
        self._items = items

    @classmethod
    def of_points(cls, storage: Storage, run: str, points: pa.Table) -> MediaList:
        """Read the points of the stream `media`, as `history.reader.read` returns them.

        Raises:
            CorruptError: If one is damaged; the message names key and step.
        """
        items = []
        before: Counter[tuple[str, int]] = Counter()  # of a key at a step, which may have several rows
        clocks, times = (column_of(points, name).tolist() for name in ("clock", "time"))
        keys, texts = (map(str, points[name].to_pylist()) for name in ("key", "text"))
        for key, clock, time_ms, text in zip(keys, clocks, times, texts, strict=True):
            try:
                found = _records(text)
            except (msgspec.DecodeError, RecursionError) as error:
                raise CorruptError(f"{key!r} of step {clock} of run {run} is damaged: {error}") from error
            place = (before[key, clock],) if before[key, clock] else ()
            before[key, clock] += 1
            items += [
                StoredMedia(storage, run, key, clock, time_ms, index, record, place)
                for index, record in enumerate(found)
            ]
        return cls(items)

    @overload
    def __getitem__(self, index: int) -> StoredMedia: ...
    @overload
    def __getitem__(self, index: slice) -> MediaList: ...
    def __getitem__(self, index: int | slice) -> StoredMedia | MediaList:
        return MediaList(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[StoredMedia]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"MediaList({self._items!r})" if len(self) <= 8 else f"MediaList of {len(self):,}"

    def to_numpy(self) -> Counts:
        """Return histograms that have equally many bins as two arrays, a row each.

        Raises:
            ConfigError: If there are none, others among them, or different numbers of bins.
        """
        return histogram_arrays(self._items)


def _file_name(key: str, place: tuple[object, ...]) -> str:
    """Return a name that no other key or place has, also where case is not told apart.

    Somebody else may have written them: no part of it leads to another folder.
    """
    if not place and len(key) <= _SHOWN_KEY and _PLAIN.fullmatch(key):
        return key
    # What has to be changed is told apart by what no plain key has: a tilde.
    shown = _UNFIT.sub("_", key[:_SHOWN_KEY]).lstrip(".") or "media"
    whole = f"{key}\0{place}" if place else key
    return f"{shown}~{blobs.digest_of(whole.encode())[:_SHOWN_DIGEST]}"


def _records(text: str) -> list[Any]:
    """Return what a JSON text tells, of one item or of several."""
    found = _decode(text)
    return found if isinstance(found, list) else [found]


def histogram_arrays(items: Sequence[StoredMedia], *, one: bool = False) -> Counts:
    """Return histograms as arrays, one row each or of a single `one` without rows.

    Raises:
        ConfigError: As `MediaList.to_numpy` does.
    """
    if not items or any(item.kind != "histogram" for item in items):
        raise ConfigError("to_numpy() of several takes histograms only: choose their keys, as in media(['weights']).")
    try:
        return _histograms(items, one)
    except ConfigError:
        raise
    except Exception as error:  # numpy's, of what is no number
        shown = f"{type(error).__name__}: {str(error)[:200]}"
        raise CorruptError(f"A histogram of {items[0]._named} is damaged: {shown}") from error


def _histograms(items: Sequence[StoredMedia], one: bool) -> Counts:
    """Return the same, or raise what comes of histograms that are none."""
    bins = {len(item.metadata["counts"]) for item in items}
    if len(bins) > 1:
        raise ConfigError(f"Histograms of {sorted(bins)} bins are no single array: choose the keys of some of them.")
    counts = np.array([item.metadata["counts"] for item in items])
    edges = np.empty((len(items), counts.shape[1] + 1))
    uniform = np.array(["edges" not in item.metadata for item in items])
    bounds = np.array([(item.metadata["min"], item.metadata["max"]) for item in items if "edges" not in item.metadata])
    if len(bounds):
        edges[uniform] = np.linspace(bounds[:, 0], bounds[:, 1], edges.shape[1], axis=1)
    for index in np.flatnonzero(~uniform).tolist():
        edges[index] = items[index].metadata["edges"]
    return Counts(counts[0], edges[0]) if one else Counts(counts, edges)


def _frames(picture: Any) -> npt.NDArray[np.uint8]:
    frames = []
    width, height = picture.size
    if 3 * width * height * picture.n_frames > MOST_ARRAY_BYTES:
        raise CorruptError(f"It has {picture.n_frames:,} pictures of {width} × {height}, which is too many to hold.")
    for index in range(picture.n_frames):
        picture.seek(index)
        frames.append(np.asarray(picture.convert("RGB")))
    return np.stack(frames)


def _samples(data: bytes) -> npt.NDArray[Any]:
    with wave.open(io.BytesIO(data)) as file:
        width = file.getsampwidth()
        if width != 2:
            raise ConfigError(f"This WAV has {8 * width} bits a sample: only 16 are read. Use read() and a library.")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return samples.reshape(-1, file.getnchannels())
