"""What machine a script runs on, as far as that is told without loading anything."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_NVIDIA = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A machine; None where it does not tell."""

    cpu: str | None
    """Its model."""
    cpu_count: int | None
    """Logical processors."""
    usable_cpu_count: int | None
    """Those that the process may run on."""
    memory_bytes: int | None
    """Of the machine; a container may be allowed less."""
    gpus: tuple[str, ...]
    """The models of NVIDIA's, as their driver lists them."""


def hardware() -> Hardware:
    """Return the machine that this process runs on."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Hardware(
        cpu=_value(_read(_CPUINFO), "model name") or platform.machine() or None,
        cpu_count=os.cpu_count(),
        usable_cpu_count=usable,
        memory_bytes=_memory(),
        gpus=_gpus(),
    )


def _memory() -> int | None:
    if sys.platform == "win32":
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _gpus() -> tuple[str, ...]:
    try:
        folders = sorted(_NVIDIA.iterdir())
    except OSError:
        return ()
    models = (_value(_read(folder / "information"), "Model") for folder in folders)
    return tuple(model for model in models if model is not None)


def _value(text: str, name: str) -> str | None:
    """Return the first value of a name in lines of `name : value`."""
    for line in text.splitlines():
        found, colon, value = line.partition(":")
        if colon and found.strip() == name:
            return value.strip()
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
