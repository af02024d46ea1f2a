"""Checkpoints as artifacts, which rewind with the run that they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from rewind_logger import Artifact, ConfigError, RewindLogger, StorageError, StoredRun, open_store
from rewind_logger.storage import open_storage
from rewind_logger.storage.wrapper import WrapperStorage
from tests.lightning.small import Dies, DiesAt, checkpoint, every, exact, fit, logger
from tests.lightning.test_checkpoints import on_s3 as on_s3  # a fixture


def best(keep: int = 1, **options: Any) -> ModelCheckpoint:
    """Keep the best by what the model logs in validation: the later ones, or the earlier ones with mode="min"."""
    return ModelCheckpoint(**{"monitor": "val", "mode": "max", "save_top_k": keep, "filename": "{step}", **options})


def told(run: StoredRun) -> list[tuple[str, list[str], int, Any]]:
    return [(one.version, one.aliases, one.step, one.metadata["score"]) for one in run.artifacts]


def seen(run: StoredRun, version: str, folder: Path) -> int:
    """How many batches a model had seen when it was saved."""
    path = run.artifact(f"model-{run.id}:{version}").file(folder / run.immutable_id / version)
    return int(torch.load(path, weights_only=True)["state_dict"]["seen"])


VALIDATED: dict[str, Any] = {"limit_val_batches": 1, "num_sanity_val_steps": 0}


def test_by_default_they_are_marked_where_they_lie(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    assert open_store(store).run("p/a").artifacts == []
    with pytest.raises(ConfigError, match="log_model='best'"):
        RewindLogger(store, log_model="best")  # type: ignore[arg-type]


def test_what_is_kept_is_logged_at_the_end(store: str, tmp_path: Path) -> None:
    fit(logger(store, log_model=True), tmp_path, best(), steps=24, **VALIDATED)
    run = open_store(store).run("p/a")
    (artifact,) = run.artifacts
    assert (artifact.name, artifact.type, artifact.aliases) == ("model-a", "model", ["latest", "best"])
    assert (artifact.step, list(artifact.manifest)) == (23, ["model.ckpt"])
    metadata = artifact.metadata
    assert (metadata["score"], metadata["monitor"], metadata["epoch"]) == (24.0, "val", 2)
    assert (metadata["global_step"], metadata["next_step"]) == (24, 24)
    assert metadata["original_filename"] == "step=24.ckpt"
    assert metadata["ModelCheckpoint"]["mode"] == "max"
    assert Path(artifact.file(tmp_path / "back")).read_bytes() == checkpoint(store, "p/a", 24).read_bytes()


def test_the_best_and_the_last_in_the_order_of_their_steps(store: str, tmp_path: Path) -> None:
    fit(logger(store, log_model=True), tmp_path, best(2, mode="min", save_last=True), steps=24, **VALIDATED)
    run = open_store(store).run("p/a")
    assert told(run) == [("v0", ["best"], 7, 8.0), ("v1", ["latest"], 15, 16.0)]
    assert [seen(run, version, tmp_path) for version in ("best", "latest")] == [8, 16]


def test_all_are_logged_though_their_files_go(store: str, tmp_path: Path) -> None:
    fit(logger(store, log_model="all"), tmp_path, best(), steps=24, **VALIDATED)
    run = open_store(store).run("p/a")
    assert told(run) == [("v0", [], 7, 8.0), ("v1", [], 15, 16.0), ("v2", ["latest", "best"], 23, 24.0)]
    assert [seen(run, version, tmp_path) for version in ("v0", "v1", "v2")] == [8, 16, 24]
    assert not checkpoint(store, "p/a", 8).exists()


def test_a_rewind_to_a_checkpoint_keeps_its_model_and_those_before(store: str, tmp_path: Path) -> None:
    fit(logger(store, log_model="all"), tmp_path, every(5), steps=16)
    fit(logger(store, log_model="all"), tmp_path, every(6), steps=13, ckpt_path=checkpoint(store, "p/a", 10))
    opened = open_store(store)

    def found(name: str) -> list[tuple[str, int, int | None, int]]:
        run = opened.run(name)
        return [(one.version, one.step, one.revision, seen(run, one.version, tmp_path)) for one in run.artifacts]

    assert found("p/a@1") == [("v0", 4, 1, 5), ("v1", 9, 1, 10), ("v2", 14, 1, 15)]
    assert found("p/a") == [("v0", 4, 1, 5), ("v1", 9, 1, 10), ("v2", 11, 2, 12)]
    assert [one.aliases for one in opened.run("p/a?_step=9").artifacts][-1] == ["latest", "best"]


def test_save_top_k_of_all_logs_each_at_once(store: str, tmp_path: Path) -> None:
    with pytest.raises(Dies):
        fit(logger(store, log_model=True), tmp_path, every(5), DiesAt(12), steps=16)
    assert [one.step for one in open_store(store).run("p/a").artifacts] == [4, 9]


def test_a_fit_that_fails_logs_no_best(store: str, tmp_path: Path) -> None:
    with pytest.raises(Dies):
        fit(logger(store, log_model=True), tmp_path, best(), DiesAt(12), steps=16, **VALIDATED)
    assert open_store(store).run("p/a").artifacts == []


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")  # where a resume begins with an epoch's end
def test_a_model_that_is_still_among_the_best_after_a_resume_is_not_logged_again(store: str, tmp_path: Path) -> None:
    fit(logger(store, log_model=True), tmp_path, best(2), steps=16, **VALIDATED)
    path = checkpoint(store, "p/a", 16)
    fit(logger(store, log_model=True), tmp_path, best(2), steps=24, ckpt_path=path, **VALIDATED)
    run = open_store(store).run("p/a")
    assert [(one.version, one.aliases) for one in run.artifacts] == [
        ("v0", []),
        ("v1", []),
        ("v2", ["latest", "best"]),
    ]
    assert [seen(run, version, tmp_path) for version in ("v0", "v1")] == [8, 16]


class LogsArtifacts(Callback):
    """A user's own."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        log: Any = trainer.logger
        if trainer.global_step % 5 == 0:
            log_words(log.experiment, f"after {trainer.global_step}")


def log_words(run: Any, words: str) -> None:
    artifact = Artifact("words", "text")
    with artifact.new_file("words.txt") as file:
        file.write(words)
    run.log_artifact(artifact)


@pytest.mark.parametrize("far", [False, True])
def test_artifacts_of_one_s_own(store: str, tmp_path: Path, request: pytest.FixtureRequest, far: bool) -> None:
    """Before a fit they belong to its beginning; in it to the step of the trainer."""
    store = request.getfixturevalue("on_s3") if far else store
    for steps, path in ((12, None), (9, f"{store}/p/a/checkpoints/step=6.ckpt")):
        log = logger(store)
        log_words(log.experiment, f"before {steps}")
        fit(log, tmp_path, every(6), LogsArtifacts(), steps=steps, ckpt_path=path)
    opened = open_store(store)
    assert [(one.version, one.step) for one in opened.run("p/a@1").artifacts] == [("v0", 0), ("v1", 4), ("v2", 9)]
    run = opened.run("p/a")
    assert [(one.version, one.step) for one in run.artifacts] == [("v0", 0), ("v1", 4), ("v2", 6)]
    words = [Path(one.file(tmp_path / one.version)).read_text() for one in run.artifacts]
    assert words == ["before 12", "after 5", "before 9"]


class Removes(Callback):
    """Somebody else tidies up."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_end(self, trainer: Trainer, *_: Any) -> None:
        self.path.unlink()


def test_a_file_that_is_gone_breaks_nothing(store: str, tmp_path: Path) -> None:
    gone = Removes(checkpoint(store, "p/a", 24))
    fit(logger(store, log_model=True), tmp_path, best(2), gone, steps=24, **VALIDATED)
    run = open_store(store).run("p/a")
    assert (told(run), run.state) == ([("v0", ["latest"], 15, 16.0)], "finished")


class Refuses(WrapperStorage):
    """A store that takes no files."""

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        raise StorageError("No file is taken.")


def test_a_store_that_refuses_ends_no_training(store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    refused = logger(store, log_model="all")
    refused._storage = Refuses(open_storage(store))
    fit(refused, tmp_path, every(5), steps=8)
    assert "step=5.ckpt was not logged as an artifact: No file is taken." in caplog.text
    run = open_store(store).run("p/a")
    assert (run.artifacts, run.last_step) == ([], 7)


def test_checkpoints_and_models_in_an_object_store(on_s3: str, tmp_path: Path) -> None:
    fit(logger(on_s3, log_model="all"), tmp_path, best(), steps=16, **VALIDATED)
    run = open_store(on_s3).run("p/a")
    assert told(run) == [("v0", [], 7, 8.0), ("v1", ["latest", "best"], 15, 16.0)]
    assert [seen(run, version, tmp_path) for version in ("v0", "best")] == [8, 16]
    fit(logger(on_s3, log_model=True), tmp_path, steps=18, ckpt_path=f"{on_s3}/p/a/checkpoints/step=16.ckpt")
    assert [one.version for one in run.artifacts] == ["v0", "v1"]


def test_a_resume_from_a_model_that_was_downloaded(store: str, tmp_path: Path) -> None:
    fit(logger(store, log_model="all"), tmp_path, every(5), steps=16)
    model = open_store(store).run("p/a").artifact("model-a:v1").file(tmp_path / "model")
    fit(logger(store), tmp_path, steps=13, ckpt_path=model)
    run = open_store(store).run("p/a")
    assert (run.revision, run.last_step) == (2, 12)
    assert len(run.history("seen")) == len(exact(13))
