"""Reading where a checkpoint file stands, without loading the model in it."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, cast

from rewind_logger.errors import ConfigError, CorruptError, PositionError
from rewind_logger.history.reader import RangeFile
from rewind_logger.lightning import mark
from rewind_logger.lightning.mark import Mark
from rewind_logger.lightning.marked import is_in, own_store, settled, unsettled
from rewind_logger.lightning.position import position_of_checkpoint
from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.redact import public_url
from rewind_logger.types import Position, RunRef

MOST_INDEX_BYTES = 1 << 28
"""An index larger than this is not read."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a checkpoint says of where it stands."""

    path: str | None
    """Where it lies, without credentials; None if that is not known."""
    marks: tuple[Mark, ...]
    """The runs that were logging when it was saved; none if it was saved without this package."""
    next_step: int | None
    """The first step that it does not contain, by its loop state; None if it has none."""

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any], path: str | None = None) -> Loaded:
        """Return what a checkpoint says; the same errors as `mark.read`."""
        shown = None if path is None else _shown(path)
        return cls(shown, tuple(mark.read(checkpoint)), position_of_checkpoint(checkpoint))

    def in_order(self, run: RunRef, index: int = 0) -> list[Mark]:
        """Return the marks: that of a run first, else that of the trainer's logger at this place."""
        order = sorted(enumerate(self.marks), key=lambda one: (one[1].run != run, one[0] != index))
        return [mark for _, mark in order]

    def position(self, run: RunRef, index: int = 0) -> int:
        """Return the first step that it does not contain, by the mark that is first in order; 0 if it tells none."""
        marks = self.in_order(run, index)
        return marks[0].next_step if marks else self.next_step or 0

    def __str__(self) -> str:
        """Return its name, for messages."""
        return self.path or "the checkpoint"


def read_checkpoint(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Loaded:
    """Read where a checkpoint stands from its index: no tensor is read, and no code in the file is run.

    Args:
        path: A file, or a URL that fsspec knows.
        storage_options: For fsspec.

    Raises:
        ConfigError: If there is no such file.
        CorruptError: If it is no checkpoint, or one in the format of PyTorch before 1.6.
        StorageError: If the store failed.
    """
    index = _read_index(os.fspath(path), storage_options)
    if not isinstance(index, Mapping):
        raise CorruptError(f"{_shown(os.fspath(path))} is no Lightning checkpoint: it holds a {type(index).__name__}.")
    return Loaded.of(index, os.fspath(path))


def read_source(
    path: str | os.PathLike[str], storage: Storage | None, storage_options: Mapping[str, Any] | None = None
) -> tuple[Position, Storage | None]:
    """Return the position of a run that a checkpoint holds; of several runs, that of the trainer's first logger.

    Args:
        path: As for `read_checkpoint`.
        storage: The store in which the run is looked for first; None to look for it nowhere.
        storage_options: For the checkpoint, and for the store that it names.

    Returns:
        The position, and the store of its run if that is another one which can be read.

    Raises:
        ConfigError: If it was saved while its store was away, and its rows have not come into it.
        PositionError: If the checkpoint was saved without this package, so that it names no run.
        RewindError: As `read_checkpoint` does.
    """
    loaded = read_checkpoint(path, storage_options)
    if not loaded.marks:
        step = "" if not loaded.next_step else f", such as 'run?_step={loaded.next_step - 1}', which is where it stands"
        raise PositionError(
            f"{_shown(os.fspath(path))} does not say of which run it is: it was saved without Rewind Logger. Name the "
            f"place in the run instead{step}."
        )
    first = loaded.marks[0]
    if storage is None:
        return first.position, None
    known = settled(first, storage, storage_options)
    if known is None:
        raise unsettled(first, loaded)
    first = known
    if is_in(first, storage):
        return first.position, None
    other = own_store(first, storage, storage_options)
    return first.position, None if other is None or other.url == storage.url else other


_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    EOFError,
    struct.error,
)
"""What a file that is no checkpoint, or a damaged one, makes the readers below raise."""

_INSTEAD = "Give one that Lightning saved, or name the place in the run, such as 'run?_step=499'."


def _read_index(path: str, storage_options: Mapping[str, Any] | None) -> Any:
    """Return the object in a checkpoint, with something empty in the place of each tensor and foreign object."""
    shown = _shown(path)
    try:
        with _open(path, storage_options) as file, zipfile.ZipFile(file) as archive:
            found = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if len(found) != 1 or found[0].file_size > MOST_INDEX_BYTES:
                raise CorruptError(f"{shown} is no checkpoint: its archive has no index. {_INSTEAD}")
            index = _limited(archive, found[0])
    except FileNotFoundError:
        raise ConfigError(f"There is no checkpoint {shown}.") from None
    except IsADirectoryError:
        raise CorruptError(
            f"{shown} is a folder: where a sharded checkpoint stands is known once it is loaded."
        ) from None
    except CorruptError:
        raise
    except _UNREADABLE as error:
        raise CorruptError(f"{shown} cannot be read as a checkpoint: {error}. {_INSTEAD}") from error
    return read_index(index, shown)


def read_index(data: bytes, path: str) -> Any:
    """Return the object in the index of a checkpoint, as `_Index` reads it.

    Raises:
        CorruptError: If it is none; the message names `path`.
    """
    try:
        return _Index(io.BytesIO(data)).load()
    except Exception as error:  # what a pickle makes of nonsense is anybody's guess
        shown = f"{type(error).__name__}: {str(error)[:200]}"
        raise CorruptError(f"{path} cannot be read as a checkpoint ({shown}). {_INSTEAD}") from error


def _limited(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return the index, and no more of it than it may have, whatever the archive says of its size."""
    with archive.open(info) as file:
        data = file.read(MOST_INDEX_BYTES + 1)
    if len(data) > MOST_INDEX_BYTES:
        raise ValueError(f"its index has more than {MOST_INDEX_BYTES:,} bytes")
    return data


def _shown(path: str) -> str:
    """Return a path, or a URL without credentials."""
    return public_url(path) if "://" in path else path


def _open(path: str, storage_options: Mapping[str, Any] | None) -> BinaryIO:
    if "://" not in path or path.startswith("file://"):
        return open(path.removeprefix("file://"), "rb")
    folder, _, name = path.rpartition("/")
    storage = open_storage(folder, storage_options)
    return cast(BinaryIO, io.BufferedReader(_Raw(RangeFile(storage, name, storage.size(name))), 1 << 16))


class _Raw(io.RawIOBase):
    """A `RangeFile` for `io.BufferedReader`: an archive's directory is read in small pieces."""

    def __init__(self, file: RangeFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Nothing:
    """In the place of whatever a checkpoint holds besides plain values: takes everything, does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Nothing:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Take an item of a list."""

    def extend(self, items: Any) -> None:
        """Take items of a list."""

    def add(self, item: Any) -> None:
        """Take an item of a set."""


class _Index(pickle._Unpickler):
    """Reads the plain values of a checkpoint. Nothing that the file names is imported or called.

    Not the one in C: four bytes make it clear 32 GiB of memory for what it is to remember.
    """

    dispatch: ClassVar[dict[int, Any]] = pickle._Unpickler.dispatch.copy()

    def load_bytearray8(self) -> None:
        """Refuse what makes room for as many bytes as it says; no checkpoint has it."""
        raise ValueError("it holds a bytearray")

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        """Return the one class that is plain, and `_Nothing` for every other."""
        return OrderedDict if (module, name) == ("collections", "OrderedDict") else _Nothing

    def persistent_load(self, pid: Any) -> Any:
        """Return something for a tensor's storage."""
        return _Nothing()
