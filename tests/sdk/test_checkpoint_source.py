"""`resume_from` and `fork_from` with the path of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rewind_logger import ConfigError, PositionError, init
from rewind_logger.lightning import mark
from rewind_logger.lightning.mark import Mark
from tests.sdk.reading import column

torch = pytest.importorskip("torch")


@pytest.fixture
def checkpoint(url: str, tmp_path: Path) -> Path:
    """A checkpoint of p/r1, which is 10 steps long, saved at step 4."""
    with init(dir=url, project="p", id="r1") as run:
        for i in range(10):
            run.log({"a": i})
    return save(tmp_path / "step=5.ckpt", url, next_step=5)


def save(path: Path, store: str, next_step: int) -> Path:
    content: dict[str, Any] = {"state_dict": {"weight": torch.zeros(2)}}
    mine = Mark(
        nonce="c0ffee",
        store=store,
        project="p",
        run_id="r1",
        revision=1,
        claim=0,
        claim_nonce="0",
        next_step=next_step,
        row_pending=False,
    )
    mark.write(content, [mine])
    torch.save(content, path)
    return path


@pytest.mark.parametrize("kind", [str, Path])
def test_a_run_goes_back_to_a_checkpoint(url: str, checkpoint: Path, kind: type) -> None:
    with init(dir=url, resume_from=kind(checkpoint)) as run:
        assert (run.path, run.step, run.immutable_id) == ("p/r1", 5, "r1@2")
    assert column(url, "p/r1", "a") == {i: i for i in range(5)}


def test_a_fork_of_a_checkpoint(url: str, checkpoint: Path) -> None:
    for _ in range(2):
        with init(dir=url, fork_from=checkpoint, id="r2") as run:
            assert run.path == "p/r2"
    assert column(url, "p/r2", "a") == {i: i for i in range(5)}


def test_a_checkpoint_may_lie_beyond_the_last_row(url: str, checkpoint: Path) -> None:
    """Rows are not logged at every step: saved at 500, the last row may be that of step 449."""
    with init(dir=url, resume_from=save(checkpoint, url, next_step=500)) as run:
        assert (run.step, run.revision) == (500, 1)


def test_what_is_wrong_with_it_is_said(url: str, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(PositionError, match="is a checkpoint, which holds its step: leave out step=3"):
        init(dir=url, resume_from=checkpoint, step=3)
    with pytest.raises(ConfigError, match=r"There is no checkpoint gone\.ckpt"):
        init(dir=url, resume_from="gone.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "plain.ckpt")
    with pytest.raises(PositionError, match="does not say of which run it is"):
        init(dir=url, fork_from=tmp_path / "plain.ckpt")
