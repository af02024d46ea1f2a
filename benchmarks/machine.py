"""Where a measurement was made, in words for its result file; nothing that names the machine or its owner."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path


def describe(folder: Path) -> str:
    """Processor, memory, system and Python, and the file system of `folder`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; {platform.system()} {platform.release()}; "
        f"{platform.python_implementation()} {platform.python_version()}; files on {_file_system(folder)}"
    )


def versions(packages: Iterable[str]) -> str:
    """The installed version of each package."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _file_system(folder: Path) -> str:
    """The type of the mount that holds `folder`: the one with the longest matching path."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:  # not Linux
        return "an unknown file system"
    parents = {str(folder.resolve()), *(str(parent) for parent in folder.resolve().parents)}
    return max((len(path), kind) for path, kind in mounts if path in parents)[1]
