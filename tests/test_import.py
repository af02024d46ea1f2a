"""`import rewind_logger` is light and does nothing but define names."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import rewind_logger
import rewind_logger.errors

PROBE = """
import json, logging, os, sys, threading

class Recorder(dict):
    def __init__(self, environ):
        super().__init__(environ)
        self.read = []
    def __getitem__(self, key):
        self.read.append(key)
        return super().__getitem__(key)
    def get(self, key, default=None):
        self.read.append(key)
        return super().get(key, default)
    def __contains__(self, key):
        self.read.append(key)
        return super().__contains__(key)
    def __iter__(self):
        self.read.append("*")
        return super().__iter__()
    def items(self):
        self.read.append("*")
        return super().items()

os.environ = recorder = Recorder(os.environ)
modules = set(sys.modules)
threads = threading.active_count()
{statement}
loggers = [logging.getLogger(), *(l for l in logging.Logger.manager.loggerDict.values() if hasattr(l, "handlers"))]
print(json.dumps({{
    "modules": sorted({{name.partition(".")[0] for name in set(sys.modules) - modules}}),
    "threads": threading.active_count() - threads,
    "environment": recorder.read,
    "handlers": sum(len(l.handlers) for l in loggers),
}}))
"""


def effects(statement: str) -> dict[str, Any]:
    """What running `statement` in a new interpreter loads, starts, reads and adds."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(statement=statement)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_import_loads_the_standard_library_at_most() -> None:
    loaded = set(effects("import rewind_logger")["modules"])
    assert loaded - sys.stdlib_module_names == {"rewind_logger"}
    assert not loaded & {"asyncio", "concurrent", "multiprocessing", "sqlite3", "ssl", "urllib"}


def test_import_starts_reads_and_adds_nothing() -> None:
    seen = effects("import rewind_logger")
    assert (seen["threads"], seen["environment"], seen["handlers"]) == (0, [], 0)


def test_the_sdk_loads_no_framework_and_no_backend() -> None:
    loaded = set(effects("from rewind_logger import init, open_store")["modules"])
    assert "rewind_logger" in loaded
    assert not loaded & {"lightning", "pandas", "polars", "psutil", "pynvml", "pytorch_lightning", "s3fs", "torch"}


def test_the_probe_notices_each_of_them() -> None:
    seen = effects(
        "import pytest; os.getenv('REWIND_LOGGER_STORE'); logging.basicConfig();"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    assert "pytest" in seen["modules"]
    assert seen["threads"] == 1
    assert "REWIND_LOGGER_STORE" in seen["environment"]
    assert seen["handlers"] > 0


def is_ours(value: object) -> bool:
    """Whether `value` is something that this package defines."""
    return getattr(value, "__module__", "").startswith("rewind_logger")


def test_all_is_sorted_and_complete() -> None:
    assert rewind_logger.__all__ == sorted(set(rewind_logger.__all__))
    defined = {name for name, value in vars(rewind_logger).items() if is_ours(value) and not name.startswith("_")}
    errors = {name for name, value in vars(rewind_logger.errors).items() if is_ours(value)}
    assert errors
    assert defined | errors <= set(rewind_logger.__all__)
    assert dir(rewind_logger) == rewind_logger.__all__


@pytest.mark.parametrize("name", rewind_logger.__all__)
def test_each_name_is_there(name: str) -> None:
    assert getattr(rewind_logger, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rewind_logger' has no attribute 'rewnd'"):
        _ = rewind_logger.rewnd
