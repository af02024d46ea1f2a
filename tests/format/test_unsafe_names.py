"""Names that are unsafe in some store are refused where people give them, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewind_logger import ConfigError, RewindLogger, init, open_store

UNSAFE = {
    "..": "begins with a dot",
    "a/b": "holds '/'",
    "a\\b": r"holds '\\\\'",
    "a\nb": "holds a control character",
    "x" * 129: "has 129 characters; use at most 128",
    "checkpoints": "is reserved, for folders within a store",
    "a@2": "holds '@'",
    "": "is empty",
}


@pytest.mark.parametrize(("name", "why"), UNSAFE.items())
def test_a_project_or_run_of_an_unsafe_name_is_refused(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"The project .* cannot be used: it {why}"):
        init(dir=tmp_path, project=name, id="r")
    with pytest.raises(ConfigError, match=rf"The entity .* cannot be used: it {why}"):
        init(dir=tmp_path, entity=name, project="p", id="r")
    with pytest.raises(ConfigError, match=rf"The run id .* cannot be used: it {why}"):
        init(dir=tmp_path, project="p", id=name)
    with pytest.raises(ConfigError, match=rf"The run id .* cannot be used: it {why}"):
        RewindLogger(tmp_path, name="p", version=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["..", "a\nb", "x" * 129, "checkpoints"])
def test_a_logger_of_an_unsafe_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"The project .* cannot be used"):
        RewindLogger(tmp_path, name=name, version="v")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../secret", "p/..", "p/../r", "p/r\0"])
def test_nothing_outside_of_a_store_is_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_store(tmp_path / "store").run(name).history()
