"""`RewindLogger.last_checkpoint`: what a job that is started again goes on from, wherever its checkpoints lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from rewind_logger import init, open_store
from tests.conftest import Bucket
from tests.lightning.small import Dies, DiesAt, checkpoint, column, every, exact, fit, logger


def test_the_same_command_again_resumes_in_a_bucket_too(
    store: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("AWS_ENDPOINT_URL", bucket.storage_options["client_kwargs"]["endpoint_url"]),
        ("AWS_ACCESS_KEY_ID", bucket.storage_options["key"]),
        ("AWS_SECRET_ACCESS_KEY", bucket.storage_options["secret"]),
    ):
        monkeypatch.setenv(name, value)
    for url in (store, bucket.url):
        assert logger(url).last_checkpoint is None, "there is no run yet"
        for dies_at in (7, 99):
            again = logger(url)
            with pytest.raises(Dies) if dies_at == 7 else monkeypatch.context():
                fit(again, tmp_path, every(3), DiesAt(dies_at), steps=12, ckpt_path=again.last_checkpoint)
        assert column(url, "p/a") == exact(12)
        assert open_store(url).run("p/a").revision == 2
        assert logger(url).last_checkpoint == f"{url}/p/a/checkpoints/step=12.ckpt"


def test_what_cannot_be_loaded_is_passed_by(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(3), every(5, save_weights_only=True, dirpath=tmp_path / "weights"), steps=10)
    assert logger(store).last_checkpoint == str(checkpoint(store, "p/a", 9)), "that of step 10 holds weights only"
    checkpoint(store, "p/a", 9).unlink()
    assert logger(store).last_checkpoint == str(checkpoint(store, "p/a", 6))
    whole = checkpoint(store, "p/a", 6).read_bytes()
    checkpoint(store, "p/a", 6).write_bytes(whole[: len(whole) // 2])
    assert logger(store).last_checkpoint == str(checkpoint(store, "p/a", 3))


def test_of_what_was_cut_off_none_is_taken(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, ModelCheckpoint(every_n_train_steps=4, save_top_k=0, save_last=True), steps=12)
    last = Path(store, "p", "a", "checkpoints", "last.ckpt")
    assert logger(store).last_checkpoint == str(last)
    init(dir=store, resume_from="p/a?_step=5").finish()
    assert [one.next_step for one in open_store(store).run("p/a").checkpoints] == [4]
    assert logger(store).last_checkpoint is None, "last.ckpt is of step 12"


def test_a_fork_begins_with_that_of_its_parent(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(4), steps=8)
    origin = str(checkpoint(store, "p/a", 4))
    for steps in (5, 10):
        fork = logger(store, "b", fork_from=origin)
        fit(fork, tmp_path, every(3), steps=steps, ckpt_path=fork.last_checkpoint or origin)
    assert column(store, "p/b") == exact(10)
    assert logger(store, "b").last_checkpoint == str(checkpoint(store, "p/b", 9))
