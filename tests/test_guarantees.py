"""Every sentence of docs/guarantees.md names the tests that prove it, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guarantees.md"
TEST = re.compile(r"`(?P<path>tests/[\w/]+\.py)::(?P<name>[\w:]+)`")
PROMISED = re.compile(r"^## (?!What is not promised)(?P<title>.+)$")


def guarantees() -> list[str]:
    """The points of the page's lists, under every heading but that of what is not promised."""
    found: list[str] = []
    promised = False
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            promised = PROMISED.match(line) is not None
        elif promised and line.startswith("- "):
            found.append(line)
        elif promised and found and line.startswith("  "):
            found[-1] += f" {line.strip()}"
    return found


def names(path: Path) -> set[str]:
    """The tests of a file, those of a class with its name before theirs."""
    tests: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            tests.add(node.name)
        elif isinstance(node, ast.ClassDef):
            tests.add(node.name)
            tests |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return tests


@pytest.mark.parametrize("guarantee", guarantees())
def test_each_guarantee_names_a_test_that_there_is(guarantee: str) -> None:
    found = list(TEST.finditer(guarantee))
    assert found, "It names no test."
    for match in found:
        path = ROOT / match["path"]
        assert path.is_file(), f"There is no {match['path']}."
        assert match["name"] in names(path), f"{match['path']} has no {match['name']}."


def test_there_are_guarantees() -> None:
    assert guarantees()
