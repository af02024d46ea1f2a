"""`mode="disabled"`: the script runs as it does otherwise, and leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewind_logger import ConfigError, init


def test_nothing_is_written_and_everything_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with init(project="p", id="r1", config={"lr": 0.1}, name="x", tags=["t"], mode="disabled") as run:
        for i in range(5):
            run.log({"loss": i / 2, "nested": {"a": 1}})
        run.config.epochs = 3
        assert (run.id, run.name, run.tags, run.revision, run.step) == ("r1", "x", ("t",), 1, 5)
        assert dict(run.summary) == {"loss": 2.0, "nested/a": 1}
        assert run.config.as_dict() == {"lr": 0.1, "epochs": 3}
        assert run.flush() is True
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_going_back_begins_where_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert init(resume_from="r1?_step=4", mode="disabled").step == 5
    assert init(fork_from="any name", step=7, mode="disabled").step == 8
    assert init(id="r1", resume="must", mode="disabled").step == 0
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_found_all_the_same() -> None:
    with pytest.raises(ConfigError, match="exclude one another"):
        init(resume="allow", fork_from="r1?_step=1", mode="disabled")


def test_a_remote_store_is_not_even_opened() -> None:
    with init(dir="nosuchprotocol://bucket", mode="disabled") as run:
        run.log({"a": 1})
