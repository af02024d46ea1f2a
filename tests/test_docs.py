"""The Python in README.md and docs/*.md runs as it stands, and their links lead somewhere.

The blocks of a page form one script, so that a later block can use what an earlier one made. It runs in an interpreter
and a folder of its own, as a reader would run it. A block that cannot run here is preceded by a line such as
`<!-- not run: needs a bucket -->`. What a reader need not see, such as a model to train or a check, stands between
`<!-- python` and `-->`.

Written here because the libraries for it make each block a test of its own, which pytest-xdist then spreads over
processes that do not share the page's names.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]
FENCE = re.compile(r"^ *```+ *(?P<language>\w*)")
PYTHON = {"py", "python", "python3"}
NOT_RUN = re.compile(r"^ *<!-- not run: \S.* -->$")
HIDDEN, SHOWN = "<!-- python", "-->"
LINK = re.compile(r"\]\(\s*(?P<target>[^()\s]+)\s*\)")


def script(page: str) -> str:
    """The Python blocks of a page, each line at the number it has there, so that a traceback points into the page."""
    lines = []
    language: str | None = None  # of the block that the line is in; None outside of any
    run = True
    hidden = False
    for line in page.splitlines():
        if language is None and line in (HIDDEN, SHOWN):
            hidden = line == HIDDEN
            lines.append("")
            continue
        fence = None if hidden else FENCE.match(line)
        if fence:
            language = fence["language"] if language is None else None
        elif language is None and line.strip():
            run = not NOT_RUN.match(line)
        inside = hidden or (not fence and run and language in PYTHON)
        lines.append(line if inside else "")
        if fence and language is None:
            run = True
    return "\n".join(lines)


def prose(page: str) -> list[str]:
    """The lines of a page outside of its blocks."""
    lines, inside = [], False
    for line in page.splitlines():
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            lines.append(line)
    return lines


def anchors(page: str) -> set[str]:
    """The names under which the headings of a page can be linked to."""
    headings = [line.lstrip("#").strip().lower() for line in prose(page) if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """The links of a page that lead to no file, or to no heading of one; those to other places are not looked at."""
    found = []
    for link in LINK.finditer("\n".join(prose(page.read_text()))):
        path, _, anchor = link["target"].partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            found.append(link["target"])
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if script(page.read_text()).strip()], ids=lambda p: p.name)
def test_page(page: Path, tmp_path: Path) -> None:
    path = tmp_path / page.name
    path.write_text(script(page.read_text()))
    done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_blocks_of_a_page_are_one_script() -> None:
    shell, skipped = "```sh\nrm x\n```\n", "<!-- not run: why -->\n\n```python\nno\n```\n"
    page = f"# Title\n```python\na = 1\n```\ntext\n{shell}{skipped}```python\nb = a\n```\n"
    assert [(n, line) for n, line in enumerate(script(page).splitlines(), 1) if line] == [(3, "a = 1"), (15, "b = a")]


def test_a_skipped_block_names_its_reason() -> None:
    assert script("<!-- not run: -->\n```python\nruns\n```").split() == ["runs"]
    assert script("<!-- not run: needs S3 -->\ntext\n```python\nruns\n```").split() == ["runs"]


def test_what_a_reader_need_not_see_is_run_too() -> None:
    page = "<!-- python\na = 1\n-->\ntext\n```python\nb = a\n```\n<!-- a remark -->\n"
    assert script(page).split("\n") == ["", "a = 1", "", "", "", "b = a", "", ""]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# One, `two`\n```\n# no heading\n```\n")
    good = ["other.md", "other.md#one-two", "#here", "https://example.org/x#y"]
    bad = ["missing.md", "other.md#no-heading", "other.md#three", "#there"]
    page.write_text("# Here\n" + " and\n".join(f"[text\nover lines]({target})" for target in good + bad))
    assert broken(page) == bad
