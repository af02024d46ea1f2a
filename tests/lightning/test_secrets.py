"""What opens a store, or a place where a checkpoint lies, is kept nowhere and shown to nobody."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from rewind_logger import Artifact, RewindLogger, init, open_store
from rewind_logger.lightning.mark import Mark
from rewind_logger.lightning.marked import own_store
from rewind_logger.storage import external, open_storage
from tests.conftest import Bucket
from tests.lightning.small import Model, fit, trainer
from tests.secrets.canaries import assert_nothing_leaks, canary, endpoint
from tests.storage.backends import PlainFileSystem, registered


def test_a_fit_keeps_no_credentials_of_checkpoints_and_stores(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    options = {**endpoint(""), "client_kwargs": bucket.storage_options["client_kwargs"]}
    folder = f"memory://{canary('PathUser')}:{canary('PathPassword')}@host/checkpoints"
    path = f"{folder}/step=3.ckpt"

    def logger(version: str, **more: Any) -> RewindLogger:
        return RewindLogger(f"{bucket.url}/x", name="p", version=version, storage_options=options, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's
        saver = ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1)
        fit(logger("a"), tmp_path, saver, steps=5)
        fit(logger("a"), tmp_path, steps=7, ckpt_path=path)
        fit(logger("b", fork_from=path), tmp_path, steps=7, ckpt_path=path)
        trainer(tmp_path, logger("a")).validate(Model(), ckpt_path=path, verbose=False)
    assert [one.cut for one in open_store(f"{bucket.url}/x", options).run("p/a").revisions] == [None, 3]
    shown = logger("c")
    shown_too = RewindLogger(f"sftp://{canary('DirUser')}:{canary('DirPassword')}@host/x", name="p", version="c")
    # Lightning names the file that it restores; that is not ours to change.
    said = [line for line in "".join(capfd.readouterr()).splitlines() if "Restor" not in line and "Loaded" not in line]
    said += [repr(shown), shown.log_dir, str(shown.save_dir), shown_too.log_dir, str(shown_too.save_dir)]
    assert_nothing_leaks("\n".join(said), open_storage(f"{bucket.url}/x", bucket.storage_options), tmp_path)


class ListeningFileSystem(PlainFileSystem):
    """One that keeps what it was opened with."""

    protocol = "listening"
    opened_with: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.opened_with.append(options)


@pytest.mark.parametrize(("host", "told"), [("mine", True), ("stranger", False)])
def test_a_checkpoint_that_names_another_host_does_not_get_the_options_there(host: str, told: bool) -> None:
    mark = Mark(
        nonce="a" * 16,
        store=f"listening://{host}/x",
        project="p",
        run_id="a",
        revision=1,
        claim=0,
        claim_nonce="b" * 16,
        next_step=3,
        row_pending=False,
    )
    ListeningFileSystem.opened_with.clear()
    with registered(ListeningFileSystem):
        options = {"password": "secret"}
        assert own_store(mark, open_storage("listening://mine/y", options), options) is None
    passed = [options for options in ListeningFileSystem.opened_with if "password" in options]
    assert ListeningFileSystem.opened_with
    assert bool(passed) == told


@pytest.mark.parametrize(("host", "told"), [("mine", True), ("stranger", False)])
def test_an_artifact_that_names_another_host_does_not_get_the_options_there(
    host: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr(external, "SCHEMES", external.SCHEMES | {"listening"})
    reference, options = f"listening://{host}/data", {"password": "secret"}
    with registered(ListeningFileSystem):
        ListeningFileSystem().pipe_file(reference, b"content")
        with init(dir="listening://mine/y", project="p", id="a", storage_options=options) as run:
            artifact = Artifact("far", "dataset")
            artifact.add_reference(reference)
            run.log_artifact(artifact)
        stored = open_store("listening://mine/y", options).run("p/a").artifact("far")
        assert [entry.ref for entry in stored.files()] == [reference]
        ListeningFileSystem.opened_with.clear()  # from here on the reference alone is fetched
        stored.download(tmp_path / "folder")
    assert (tmp_path / "folder" / "data").read_bytes() == b"content"
    [opened_with] = ListeningFileSystem.opened_with
    assert (opened_with.get("password") == "secret") == told
