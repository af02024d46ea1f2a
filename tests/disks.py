"""Disks that are full, read-only, or away, for tests: real ones, of memory."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.emulators.servers import REQUIRED
from tests.figures import count


class Disk:
    """A small disk of its own; where the system lets us mount none, a folder in which files can be kept from growing.

    In the second case every other disk is full at the same time: `alone` says which it is.
    """

    def __init__(self, path: Path, size: int = 2 << 20) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        options = ["-t", "tmpfs", "-o", f"size={size}", "none", str(path)]
        self.alone = subprocess.run(["mount", *options], capture_output=True).returncode == 0

    def must_be_alone(self) -> None:
        """Skip the test where the system lets us mount none; where the tests require what they can have, fail it."""
        if self.alone:
            return
        if os.environ.get(REQUIRED) and sys.platform == "linux":
            pytest.fail("No disk could be mounted: run the tests as root, or in `unshare --map-root-user --mount`.")
        pytest.skip("the system lets us mount no disk")

    @contextmanager
    def full(self, left: int = 0) -> Iterator[None]:
        """Fill it, to the last byte but so many."""
        count("faults injected")
        if not self.alone:
            with small_files(left):
                yield
            return
        filler = self.path / f"filler-{os.urandom(4).hex()}"
        with open(filler, "wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(bytes(1 << 12)):
                    pass
            if left:
                file.truncate(max(0, file.tell() - left))
        try:
            yield
        finally:
            filler.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let nothing be written, but to what is open, as after a disk was mounted again for its errors."""
        count("faults injected")
        path = str(self.path)
        subprocess.run(["mount", "--bind", path, path], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
            yield
        finally:
            subprocess.run(["umount", "-l", path], check=True)

    def unmount(self) -> None:
        """Take it away; what is open on it stays so."""
        if self.alone:
            subprocess.run(["umount", "-l", str(self.path)], check=True)


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Refuse what would make a file larger than that; the system then writes what still fits, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def disk(path: Path, size: int = 2 << 20) -> Iterator[Disk]:
    """Have a disk for a while."""
    found = Disk(path, size)
    try:
        yield found
    finally:
        found.unmount()


def use_no_other(patch: pytest.MonkeyPatch) -> None:
    """Have a machine without a second disk that a journal could go to."""
    patch.setenv("REWIND_LOGGER_SPOOL", "/proc/none")
    patch.setattr(tempfile, "tempdir", "/proc/none")


FULL = (errno.ENOSPC, errno.EFBIG)
"""What a full disk answers, and one on which files may not grow."""
