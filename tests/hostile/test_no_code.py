"""Nothing that lies in a store, or in a checkpoint, is ever run."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rewind_logger
from rewind_logger import CorruptError, Image, PositionError, init, open_store
from rewind_logger.lightning.checkpoint import read_checkpoint

PACKAGE = Path(rewind_logger.__file__).parent

RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml", "runpy", "code"}
"""Modules that run what they read."""

ALLOWED = {PACKAGE / "lightning/checkpoint.py": {"pickle"}}
"""Reads the index of a checkpoint with an unpickler that imports and calls nothing."""


def modules() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(PACKAGE.rglob("*.py"))]


def test_the_package_imports_nothing_that_runs_what_it_reads() -> None:
    found = {}
    for path, tree in modules():
        names = {
            name.partition(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        if wrong := (names & RUNS_CODE) - ALLOWED.get(path, set()):
            found[path] = wrong
    assert not found


def test_the_package_evaluates_nothing_and_loads_no_arrays_or_tensors() -> None:
    found = []
    for path, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            weights_only = any(
                keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in node.keywords
            )
            if (
                name in ("eval", "exec", "compile", "__import__")
                or (name in ("torch.load", "load") and name == "torch.load" and not weights_only)
                or name in ("np.load", "numpy.load", "pickle.load", "pickle.loads")
            ):
                found.append(f"{path}:{node.lineno}: {name}")
    assert not found


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def archived(path: Path, index: bytes) -> Path:
    """Write a checkpoint with this index."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/data.pkl", index)
    return path


def test_a_checkpoint_that_was_made_to_run_code_runs_none(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    for index, protocol in enumerate(range(2, pickle.HIGHEST_PROTOCOL + 1)):
        held = {"epoch": 1, "evil": Evil(target), "rewind_logger": {"version": 1, "marks": [Evil(target)]}}
        path = archived(tmp_path / f"{index}.ckpt", pickle.dumps(held, protocol=protocol))
        with pytest.raises(CorruptError, match="no mark of Rewind Logger"):
            read_checkpoint(path)
        with pytest.raises(CorruptError, match="no mark of Rewind Logger"):
            init(dir=tmp_path / "store", project="p", id="a", fork_from=str(path))
        plain = archived(tmp_path / f"plain-{index}.ckpt", pickle.dumps({"evil": Evil(target)}, protocol=protocol))
        with pytest.raises(PositionError, match="does not say of which run"):
            init(dir=tmp_path / "store", project="p", id="a", fork_from=str(plain))
    pickle.loads(pickle.dumps(Evil(target)))
    assert target.exists(), "it would have been noticed"


def test_a_checkpoint_that_asks_for_much_memory_gets_none(tmp_path: Path) -> None:
    """Each of these makes one unpickler or another clear gigabytes for a few bytes."""
    remembered = b"\x80\x02}r\xff\xff\xff\x7f."  # as number 2**31 - 1
    assert read_checkpoint(archived(tmp_path / "remembered.ckpt", remembered)).marks == ()
    for index, data in enumerate(
        [
            b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00.",  # a bytearray of 64 GiB
            b"\x80\x05\x8e\x00\x00\x00\x00\x10\x00\x00\x00.",  # bytes of as many
            b"\x80\x04\x95\x00\x00\x00\x00\x10\x00\x00\x00.",  # a frame of as many
        ]
    ):
        with pytest.raises(CorruptError):
            read_checkpoint(archived(tmp_path / f"{index}.ckpt", data))


def test_a_file_name_in_a_row_leads_nowhere(tmp_path: Path) -> None:
    """What a row says of the format of a picture becomes the end of its file's name."""
    url = str(tmp_path / "store")
    folder = tmp_path / "pictures"
    folder.mkdir()
    with init(dir=url, project="p", id="a", console=False, system_metrics=False) as run:
        run.log({"x": Image(np.zeros((2, 2)))})
        row = '{"type":"text","text":"evil","format":"/../../../escaped"}'
        run._append("media", {"../../../key": row, "k" * 1_000: row}, 0)
    saved = [item.save(folder) for item in open_store(url).run("p/a").media()]
    assert len(saved) == 3
    assert {path.resolve().parent for path in saved} == {folder.resolve()}
    assert not list(tmp_path.glob("escaped*"))


def test_pictures_are_not_decoded_by_who_reads_a_run(tmp_path: Path) -> None:
    """Only who asks for one has it decoded: what decodes pictures is large, and has its own bugs."""
    url = str(tmp_path / "store")
    with init(dir=url, project="p", id="a", console=False, system_metrics=False) as run:
        run.log({"x": Image(np.zeros((2, 2))), "loss": 0.5})
    code = (
        "import sys; from rewind_logger import open_store\n"
        "run = open_store(sys.argv[1]).run('p/a')\n"
        "run.history().to_arrow(), list(run.media()), run.media()[0].read(), run.summary, run.artifacts\n"
        "assert not {'PIL', 'matplotlib', 'torch', 'wave_decoder'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)
