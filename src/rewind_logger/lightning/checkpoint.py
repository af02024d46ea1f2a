"""Reading where a checkpoint file stands, without loading the model in it."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from rewind_logger.errors import ConfigError, CorruptError
from rewind_logger.history.reader import RangeFile
from rewind_logger.lightning import mark
from rewind_logger.lightning.mark import Mark
from rewind_logger.lightning.position import position_of_checkpoint
from rewind_logger.storage import open_storage

MOST_INDEX_BYTES = 1 << 30
"""An index larger than this is not read."""


@dataclass(frozen=True, slots=True)
class CheckpointPosition:
    """Where a checkpoint stands."""

    marks: tuple[Mark, ...]
    """What it says of the runs that were logging; none if it was saved without this package."""
    next_step: int | None
    """The first step that it does not contain, by its loop state; None if it has none."""


def read_position(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> CheckpointPosition:
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
        raise CorruptError(f"{os.fspath(path)} is no Lightning checkpoint: it holds a {type(index).__name__}.")
    return CheckpointPosition(tuple(mark.read(index)), position_of_checkpoint(index))


def _read_index(path: str, storage_options: Mapping[str, Any] | None) -> Any:
    """Return the object in a checkpoint, with something empty in the place of each tensor and foreign object."""
    try:
        with _open(path, storage_options) as file, zipfile.ZipFile(file) as archive:
            found = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if len(found) != 1 or found[0].file_size > MOST_INDEX_BYTES:
                raise CorruptError(f"{path} is no checkpoint: its archive has no index.")
            return _Index(io.BytesIO(archive.read(found[0]))).load()
    except FileNotFoundError:
        raise ConfigError(f"There is no checkpoint {path}.") from None
    except IsADirectoryError:
        raise CorruptError(
            f"{path} is a folder: the position of a sharded checkpoint is only known when it is loaded."
        ) from None
    except CorruptError:
        raise
    except (
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        EOFError,
        RecursionError,
    ) as error:
        raise CorruptError(f"{path} cannot be read as a checkpoint: {error}.") from error


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


class _Index(pickle.Unpickler):
    """Reads the plain values of a checkpoint. Nothing that the file names is imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the one class that is plain, and `_Nothing` for every other."""
        return OrderedDict if (module, name) == ("collections", "OrderedDict") else _Nothing

    def persistent_load(self, pid: Any) -> Any:
        """Return something for a tensor's storage."""
        return _Nothing()
