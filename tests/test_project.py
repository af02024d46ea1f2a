"""The project around the code: what it promises to installers and contributors."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import rewind_logger

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


REQUIREMENTS = [Requirement(text) for group in (PROJECT["dependencies"], *EXTRAS.values()) for text in group]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_each_dependency_has_a_lower_bound(requirement: Requirement) -> None:
    assert any(specifier.operator == ">=" for specifier in requirement.specifier)


def test_compromised_releases_of_lightning_are_never_installed() -> None:
    lightning = Requirement(EXTRAS["lightning"][0])
    allowed = [version for version in ("2.4.0", "2.6.1", "2.6.2", "2.6.3", "2.6.4") if version in lightning.specifier]
    assert allowed == ["2.4.0", "2.6.1", "2.6.4"]


def test_types_are_shipped() -> None:
    assert Path(rewind_logger.__file__).with_name("py.typed").exists()


def test_changelog_opens_with_this_version() -> None:
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == rewind_logger.__version__


@pytest.mark.parametrize(
    "target",
    [target for group in PROJECT.get("entry-points", {}).values() for target in group.values()],
)
def test_each_entry_point_is_there(target: str) -> None:
    module, _, name = target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_every_check_is_part_of_make_test() -> None:
    planned = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for check in ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest"):
        assert check in planned
    assert planned.splitlines()[-1].startswith(".venv/bin/python -m pytest")  # its last line is the last there is


def test_continuous_integration_runs_what_contributors_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test\n" in script.read_text()


def test_imports_against_the_layers_are_caught(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    package = tmp_path / "rewind_logger"
    shutil.copytree(ROOT / "src" / "rewind_logger", package)
    for module, statement in {
        "format/upward": "import rewind_logger.history",
        "history/backend": "import fsspec",
        "sdk/framework": "import torch",
        "format/impure": "import os",
        "unlisted": "",
    }.items():
        (package / f"{module}.py").write_text(statement)
    run = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache', '--no-logo'])"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    for told in (
        "rewind_logger.format.upward -> rewind_logger.history",
        "rewind_logger.history.backend -> fsspec",
        "rewind_logger.sdk.framework -> torch",
        "rewind_logger.format.impure -> os",
        "- rewind_logger.unlisted",
    ):
        assert told in done.stdout
