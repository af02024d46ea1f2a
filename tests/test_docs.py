"""The Python in README.md and docs/*.md runs as it stands.

The blocks of a page form one script, so that a later block can use what an earlier one made. It runs in an interpreter
and a folder of its own, as a reader would run it. A block that cannot run here is preceded by a line such as
`<!-- not run: needs a bucket -->`.

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


def script(page: str) -> str:
    """The Python blocks of a page, each line at the number it has there, so that a traceback points into the page."""
    lines = []
    language: str | None = None  # of the block that the line is in; None outside of any
    run = True
    for line in page.splitlines():
        fence = FENCE.match(line)
        if fence:
            language = fence["language"] if language is None else None
        elif language is None and line.strip():
            run = not NOT_RUN.match(line)
        inside = not fence and run and language in PYTHON
        lines.append(line if inside else "")
        if fence and language is None:
            run = True
    return "\n".join(lines)


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
