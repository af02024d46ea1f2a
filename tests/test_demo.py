"""`make demo`, at a small size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import Store, open_store

DEMO = Path(__file__).parents[1] / "examples" / "demo" / "demo.py"
STEPS, EVERY, KILL_AT = 120, 40, 50


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder it wrote to, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    sizes = ["--steps", str(STEPS), "--every", str(EVERY), "--kill-at", str(KILL_AT)]
    done = subprocess.run(
        [sys.executable, DEMO, "--out", out, *sizes], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def losses(store: Store, name: str) -> dict[int, float]:
    rows: dict[str, list[Any]] = store.run(name).history("train/loss").to_arrow().to_pydict()
    return dict(zip(rows["_step"], rows["train/loss"], strict=True))


def where(store: Store) -> tuple[int, int, int]:
    """The last step before the kill, a little behind that which was asked for; and the two cuts."""
    killed = store.run("digits/a@1").last_step
    assert killed is not None
    return killed, (killed + 1) // EVERY * EVERY, STEPS // EVERY * EVERY - EVERY


def test_its_history_is_that_of_the_model(demo: tuple[Path, str]) -> None:
    store = open_store(demo[0] / "rewind_logs")
    run, archived, fork = (losses(store, f"digits/{name}") for name in ("a", "a@1", "b"))
    killed, cut, forked = where(store)
    assert KILL_AT <= killed < STEPS - 1, "it was killed behind the first checkpoint"
    assert list(run) == list(fork) == list(range(STEPS))
    assert list(archived) == list(range(killed + 1)), "not a row was lost by the kill"
    kept = [step for step in archived if run[step] == archived[step]]
    assert kept == list(range(cut)), "it was rewound to the checkpoint"
    assert [step for step in fork if fork[step] == run[step]] == list(range(forked))
    assert (store.run("digits/a").config["lr"], store.run("digits/b").config["lr"]) == (0.1, 0.01)
    assert store.run("digits/b").lineage == [
        f"digits/a@1?_step={cut - 1}",
        f"digits/a@2?_step={forked - 1}",
        "digits/b@1",
    ]


def test_its_table_says_so(demo: tuple[Path, str]) -> None:
    out, printed = demo
    killed, cut, forked = where(open_store(out / "rewind_logs"))
    _, _, after = printed.partition("What is in the store\n")
    rows = [line.split(maxsplit=5) for line in after.splitlines()[1:5]]
    archived = killed + 1 - cut
    assert rows == [
        ["revision", "steps", "rows", "kept", "archived", "began"],
        ["a@1", f"0–{killed}", f"{killed + 1}", f"{cut}", f"{archived}", "as a new run"],
        ["a@2", f"0–{STEPS - 1}", f"{STEPS}", f"{STEPS}", "0", f"with steps 0–{cut - 1} of digits/a@1"],
        ["b@1", f"0–{STEPS - 1}", f"{STEPS}", f"{STEPS}", "0", f"with steps 0–{forked - 1} of digits/a@2"],
    ]
    lines = (out / "append-only-a.jsonl").read_text().splitlines()
    # The kill may come between the two loggers.
    assert len(lines) - STEPS in (archived, archived - 1), "the other logger has them twice"
    assert f"An append-only file has {len(lines)}: {len(lines) - STEPS} are of a model that is gone." in after


def test_it_draws_a_picture(demo: tuple[Path, str]) -> None:
    image = (demo[0] / "rewind.png").read_bytes()
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(image[place : place + 4], "big") for place in (16, 20))
    assert (width, height) == (1200, 516)


def test_the_picture_of_the_readme_is_one_of_it() -> None:
    image = DEMO.parents[2] / "docs" / "images" / "rewind.png"
    assert image.stat().st_size < 150_000
    assert "](docs/images/rewind.png)" in (DEMO.parents[2] / "README.md").read_text()
