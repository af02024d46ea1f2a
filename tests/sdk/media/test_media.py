"""Media belong to the step at which they were logged, and go wherever its numbers go."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rewind_logger
from rewind_logger import CorruptError, Histogram, Image, Table, Text, init, open_store
from rewind_logger.format import names
from rewind_logger.sdk.stored import StoredRun
from tests.conftest import Bucket
from tests.sdk.reading import rows
from tests.sdk.scripts import script


def shade(step: int) -> Image:
    """A picture that says its step."""
    return Image(np.full((2, 2), step, np.uint8), caption=f"step {step}")


def shades(stored: StoredRun, key: str | None = None) -> list[int]:
    """The steps that the pictures of a run say, which must be those at which they are."""
    said = [int(item.to_numpy()[0, 0]) for item in stored.media(key)]
    assert said == [item.step for item in stored.media(key)]
    return said


def pictures(url: str) -> list[Path]:
    """The files of pictures in a store on disk."""
    return [path for path in Path(url, "blobs").glob("*/*") if path.read_bytes().startswith(b"\x89PNG")]


def log(run: Any, *steps: int) -> None:
    for step in steps:
        run.log({"loss": float(step), "shade": shade(step)}, step=step)


def stored(url: str, name: str) -> StoredRun:
    return open_store(url).run(name)


def test_numbers_and_media_of_one_call_are_at_one_step(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        run.log({"loss": 0.5, "shade": shade(0), "samples": [Text("a", caption="one"), Text("b")]})
        run.log({"val": {"shade": shade(1), "acc": 0.9}})
        assert dict(run.summary) == {"loss": 0.5, "val/acc": 0.9}
    assert rows(any_url, "p/r1") == [{"_step": 0, "loss": 0.5}, {"_step": 1, "val/acc": 0.9}]
    found = stored(any_url, "p/r1").media()
    assert [(item.key, item.step, item.index, item.kind, item.caption) for item in found] == [
        ("samples", 0, 0, "text", "one"),
        ("samples", 0, 1, "text", None),
        ("shade", 0, 0, "image", "step 0"),
        ("val/shade", 1, 0, "image", "step 1"),
    ]
    assert all(abs(item.timestamp - found[0].timestamp) < 60 for item in found)


def test_media_alone_are_a_step_too(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        for step in range(3):
            run.log({"shade": shade(step)})
    with init(dir=any_url, project="p", id="r1") as run:
        assert run.starting_step == 3, "it goes on behind the last of them"
    with init(dir=any_url, project="p", resume_from="r1?_step=1") as run:
        assert run.starting_step == 2
    assert shades(stored(any_url, "p/r1")) == [0, 1]


def test_reading_some_keys_and_steps(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        for step in range(6):
            run.log({"a": shade(step), "b": Text("x")})
    found = stored(any_url, "p/r1")
    assert [item.step for item in found.media("a", start=2, stop=4)] == [2, 3]
    assert {item.key for item in found.media(["b"])} == {"b"}
    assert len(found.media()) == 12 and len(found.media()[2:5]) == 3


def test_what_cannot_be_kept_is_said_once_a_key_and_costs_nothing_else(
    any_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        for step in range(3):
            run.log({"loss": 1.0, "bad": Image(np.zeros((5, 5, 5))), "mixed": [shade(step), 3], "good": shade(step)})
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 2
    assert any("'bad' is an array of shape (5, 5, 5)" in sentence for sentence in said)
    assert any("'mixed' is a list, which cannot be kept" in sentence for sentence in said)
    assert shades(stored(any_url, "p/r1")) == [0, 1, 2]
    assert len(rows(any_url, "p/r1")) == 3


def test_an_object_that_fails_while_it_is_converted_does_not_end_training(
    any_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Figure:
        def savefig(self, *_: object, **__: object) -> None:
            raise RuntimeError("no backend")

    Figure.__module__ = "matplotlib.figure"
    with init(dir=any_url, project="p", id="r1") as run:
        run.log({"figure": Figure(), "loss": 1.0})
    assert "'figure' could not be converted (RuntimeError: no backend)." in caplog.text
    assert len(rows(any_url, "p/r1")) == 1


def test_a_rewind_takes_media_back_and_the_archived_revision_keeps_them(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        log(run, *range(10))
    with init(dir=any_url, project="p", resume_from="r1?_step=4") as run:
        log(run, 5, 6)
    assert shades(stored(any_url, "p/r1")) == [0, 1, 2, 3, 4, 5, 6]
    assert shades(stored(any_url, "p/r1@1")) == list(range(10))
    assert shades(stored(any_url, "p/r1@1?_step=7")) == list(range(8)), "as of a step"
    open_store(any_url).restore("p/r1@1")
    assert shades(stored(any_url, "p/r1")) == list(range(10))
    assert shades(stored(any_url, "p/r1@2")) == [0, 1, 2, 3, 4, 5, 6]


def test_a_fork_has_those_of_its_parent_up_to_where_it_begins(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        log(run, *range(10))
    with init(dir=any_url, project="p", fork_from="r1?_step=4", id="r2") as run:
        log(run, 5)
    assert shades(stored(any_url, "p/r2")) == [0, 1, 2, 3, 4, 5]
    assert shades(stored(any_url, "p/r1")) == list(range(10))


def test_a_fork_into_another_store_takes_them_along(url: str, tmp_path: Path) -> None:
    with init(dir=url, project="p", id="r1") as run:
        log(run, *range(10))
        run.log(
            {"table": Table(columns=["a", "b"], data=[[1, shade(77)]]), "texts": [Text("x" * 9000), Text("y" * 9000)]}
        )
    other = str(tmp_path / "other")
    with init(dir=other, id="r2", fork_from=stored(url, "p/r1")) as run:
        assert shades(stored(other, "p/r2"), "shade") == list(range(10))
    os.rename(url, tmp_path / "gone")
    [table] = stored(other, "p/r2").media("table")
    assert table.to_table().data[0][0] == 1
    assert table.media("b")[0].to_numpy()[0, 0] == 77, "also what is in its cells"
    assert [item.to_text()[0] for item in stored(other, "p/r2").media("texts")] == ["x", "y"]


def test_it_takes_only_what_it_shows(url: str, tmp_path: Path) -> None:
    with init(dir=url, project="p", id="r1") as run:
        log(run, *range(10))
    other = str(tmp_path / "other")
    with init(dir=other, id="r2", fork_from=stored(url, "p/r1?_step=2")):
        pass
    assert len(pictures(other)) == 3


def test_large_files_go_into_another_store_by_the_disk(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from rewind_logger.history import carrying

    monkeypatch.setattr(carrying, "SMALL_BYTES", 10)
    monkeypatch.setattr(carrying, "TOGETHER_BYTES", 10)
    with init(dir=url, project="p", id="r1") as run:
        log(run, 0, 1, 2)
    lost, damaged, _ = (item.metadata["sha256"] for item in stored(url, "p/r1").media())
    Path(url, names.blob(lost)).unlink()
    Path(url, names.blob(damaged)).write_bytes(b"x")
    other = str(tmp_path / "other")
    with init(dir=other, id="r2", fork_from=stored(url, "p/r1")):
        pass
    assert stored(other, "p/r2").media()[2].to_numpy()[0, 0] == 2
    assert caplog.text.count("is missing or damaged, and so it is in the copy") == 2


def test_a_file_that_is_missing_or_damaged_is_named_by_key_and_step(url: str, tmp_path: Path) -> None:
    with init(dir=url, project="p", id="r1") as run:
        log(run, 0, 1)
    missing, damaged = stored(url, "p/r1").media()
    Path(url, names.blob(missing.metadata["sha256"])).unlink()
    Path(url, names.blob(damaged.metadata["sha256"])).write_bytes(b"x" * damaged.metadata["size"])
    for take in (missing.read, missing.to_pil, lambda: missing.save(tmp_path / "a.png")):
        with pytest.raises(CorruptError, match="The image 'shade' of step 0 of run p/r1 is missing: there is no "):
            take()
    for take in (damaged.read, lambda: damaged.save(tmp_path / "a.png")):
        with pytest.raises(CorruptError, match="The image 'shade' of step 1 of run p/r1 is damaged"):
            take()
    assert not (tmp_path / "a.png").exists()


def test_saving_into_a_file_and_into_a_folder(url: str, tmp_path: Path) -> None:
    with init(dir=url, project="p", id="r1") as run:
        run.log({"../val\\x": [shade(0), shade(1)]})
    first, second = stored(url, "p/r1").media()
    assert first.save(tmp_path / "new" / "a.png").read_bytes() == first.read()
    digest = hashlib.sha256(b"../val\\x").hexdigest()[:8]
    assert second.save(tmp_path) == tmp_path / f"_val_x~{digest}_0_1.png"


@pytest.mark.parametrize("fold", [str, str.casefold], ids=["case told apart", "case not told apart"])
def test_no_two_keys_are_one_file_of_a_folder(url: str, tmp_path: Path, fold: Callable[[str], str]) -> None:
    keys = ["a/b", "a_b", "a b", "A_b", "a_B", "a.b", "\u00e9", "e\u0301", "\ud55c", "\u1112\u1161\u11ab"]
    keys += ["long" * 20, "long" * 20 + "er", "long" * 12 + "lo", "..", "/", "media"]
    with init(dir=url, project="p", id="r1") as run:
        run.log({key: Text(key) for key in keys})
    saved = {item.key: item.save(tmp_path) for item in stored(url, "p/r1").media()}
    assert len(saved) == len(keys)
    assert len({fold(unicodedata.normalize("NFC", path.name)) for path in saved.values()}) == len(keys)
    assert {key: path.read_text("utf-8") for key, path in saved.items()} == {key: key for key in keys}
    assert saved["a_b"] == tmp_path / "a_b_0_0.txt", "what needs no change has none"
    assert all(path.parent == tmp_path for path in saved.values())


def test_no_two_items_of_a_key_are_one_file_of_a_folder(url: str, tmp_path: Path) -> None:
    tables = [Table(columns=["x"], data=[[[Text(f"{name}{row}{at}") for at in "01"]] for row in "01"]) for name in "ab"]
    with init(dir=url, project="p", id="r1") as run:
        run.log({"s": [Text("one"), Text("two")], "t": tables, "t/x": Text("three")}, step=0)
        run.log({"s": Text("four"), "t": tables[1]}, step=0)
    items = [item for item in stored(url, "p/r1").media() if item.kind == "text"]
    for table in stored(url, "p/r1").media("t"):
        items += table.media("x")
    saved = [item.save(tmp_path) for item in items]
    assert len(set(saved)) == len(items) == 4 + 3 * 4
    assert [path.read_text() for path in saved] == [item.to_text() for item in items]
    assert saved == [item.save(tmp_path) for item in items]
    assert [path.name for path in saved if path.name.startswith("s_")] == ["s_0_0.txt", "s_0_1.txt"]


def test_the_same_content_is_stored_once(url: str) -> None:
    for run_id in ("r1", "r2"):
        with init(dir=url, project="p", id=run_id) as run:
            for _ in range(3):
                run.log({"shade": shade(7)})
    assert len(pictures(url)) == 1


KILLED = """
import os, signal
import numpy as np
import rewind_logger
from rewind_logger import Image

run = rewind_logger.init(project="p", id="r1")
for step in range(20):
    run.log({"loss": 1.0, "shade": Image(np.full((2, 2), step, np.uint8))})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_none(tmp_path: Path) -> None:
    assert script(KILLED, tmp_path, check=False).returncode == -signal.SIGKILL
    url = str(tmp_path / "rewind_logs")
    with init(dir=url, project="p", resume_from="r1?_step=4"):
        pass
    assert shades(stored(url, "p/r1")) == list(range(5))
    assert shades(stored(url, "p/r1@1")) == list(range(20))


def test_on_s3_a_kill_loses_none_and_a_fork_from_a_disk_takes_them_there(
    bucket: Bucket, tmp_path: Path, url: str
) -> None:
    where = f'project="p", dir={bucket.url + "/x"!r}, storage_options={bucket.storage_options!r}'
    code = KILLED.replace('project="p"', where)
    assert script(code, tmp_path, check=False, REWIND_LOGGER_SPOOL=str(tmp_path / "spool")).returncode != 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
        remote: dict[str, Any] = {"dir": f"{bucket.url}/x", "storage_options": bucket.storage_options}
        with init(**remote, project="p", id="r1", resume="must") as run:
            assert run.step == 20
        with init(dir=url, project="p", id="r2") as run:
            log(run, 0, 1)
        with init(**remote, id="r3", fork_from=stored(url, "p/r2")) as run:
            log(run, 2)
    store = open_store(f"{bucket.url}/x", bucket.storage_options)
    assert shades(store.run("p/r1")) == list(range(20))
    assert shades(store.run("p/r3")) == [0, 1, 2]
    assert not list((tmp_path / "spool").rglob("*.blob"))


def test_histograms_of_many_steps_are_read_as_two_arrays(any_url: str) -> None:
    chance = np.random.default_rng(0)
    values = chance.normal(size=(50, 100))
    with init(dir=any_url, project="p", id="r1") as run:
        for row in values:
            run.log({"weights": Histogram(row, num_bins=8), "other": Histogram(row, num_bins=4)})
    counts, edges = stored(any_url, "p/r1").media("weights").to_numpy()
    assert (counts.shape, edges.shape) == ((50, 8), (50, 9))
    for step, row in enumerate(values):
        expected = np.histogram(row, 8)
        assert np.array_equal(counts[step], expected[0]) and np.array_equal(edges[step], expected[1])
    with pytest.raises(rewind_logger.ConfigError, match=r"of \[4, 8\] bins are no single array"):
        stored(any_url, "p/r1").media().to_numpy()


def test_a_disabled_run_takes_media_and_keeps_none(tmp_path: Path) -> None:
    with init(dir=tmp_path / "none", project="p", mode="disabled") as run:
        run.log({"shade": shade(0)})
    assert not (tmp_path / "none").exists()


def test_media_of_the_journal_are_there_before_the_run_is(url: str) -> None:
    """A logger logs before its run is opened."""
    from rewind_logger.history.opening import OpenRequest
    from rewind_logger.sdk.run import Run
    from rewind_logger.sdk.run_spec import RunSpec
    from rewind_logger.storage import open_storage
    from rewind_logger.types import RunRef

    run = Run(RunSpec(storage=open_storage(url), run=RunRef("p", "r1")))
    run.log({"shade": shade(0)})
    run._open(OpenRequest(), say=False)
    run.finish()
    assert shades(stored(url, "p/r1")) == [0]
