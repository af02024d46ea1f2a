"""Moments: what a person can type to name a place in a run, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_logger.errors import ConfigError, PositionError
from rewind_logger.sdk.moment import Moment, check_step, is_checkpoint, parse
from rewind_logger.types import Position, RunRef

NAMES = st.text("abcXYZ059-_. é", min_size=1, max_size=12).filter(
    lambda name: name == name.strip() and name[0] != "." and name[-1] != "." and name not in ("a",)
)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("r1", Moment("r1")),
        ("r1@2", Moment("r1", revision=2)),
        ("r1?_step=500", Moment("r1", step=500)),
        ("r1@2?_step=0", Moment("r1", revision=2, step=0)),
        ("digits/r1?_step=7", Moment("r1", project="digits", step=7)),
        ("team/digits/r1@12?_step=499", Moment("r1", "digits", "team", 12, 499)),
        ("my run, lr=3e-4?_step=1", Moment("my run, lr=3e-4", step=1)),
        ("r1?_step=-1", Moment("r1", step=-1)),
    ],
)
def test_every_form_is_read(text: str, moment: Moment) -> None:
    assert parse(text) == moment


@given(
    st.builds(Moment, NAMES, NAMES, st.none() | NAMES, st.none() | st.integers(1, 10**6), st.none() | st.integers(-1))
)
def test_what_is_written_reads_back(moment: Moment) -> None:
    if moment.step is not None and moment.step > 2**62:
        with pytest.raises(PositionError):
            parse(str(moment))
    else:
        assert parse(str(moment)) == moment


def test_a_step_is_kept() -> None:
    assert parse("r1?_step=500").next_step == 501
    assert parse("r1?_step=-1").next_step == 0, "from the beginning: nothing is kept"
    assert parse("r1").next_step is None


def test_position_within_a_project() -> None:
    assert parse("r1?_step=4").position("team/p") == Position(RunRef("team/p", "r1"), None, 5)
    assert parse("q/r1@2").position("team/p") == Position(RunRef("q", "r1"), 2, None)
    assert parse("e/q/r1").position("team/p") == Position(RunRef("e/q", "r1"), None, None)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("r1?_step=-2", "gives the step -2"),
        ("r1?_step=2.5", "'2.5', and steps are written as whole numbers"),
        ("r1?_step=1e3", "'1e3', and steps are written as whole numbers"),
        ("r1?_step=nan", "'nan', which is not a number"),
        ("r1?_step=inf", "'inf', and steps are written as whole numbers"),
        ("r1?_step=latest", "'latest', which is no number"),
        ("r1?_step=1_000", "'1_000', and steps are written as whole numbers"),
        ("r1?_step=٣", "'٣', and steps are written as whole numbers"),
        ("r1?_step=99999999999999999999", "there is none such"),
        ("r1?_step=", "gives no step after '?'"),
        ("r1?", "gives no step after '?'"),
        ("r1?_step", "gives no step after '?'"),
        ("r1?_step=1&_step=2", "gives more than one step"),
        ("r1?_step=1&_step=1", "gives more than one step"),
        ("r1?_step=1?_step=2", "which is no number"),
        ("r1@", "names no revision after '@'"),
        ("r1@0?_step=1", "names the revision '0': revisions are numbered 1, 2, 3"),
        ("r1@two", "names the revision 'two'"),
        ("r1@1@2", "names the revision '1@2'"),
        ("", "names no run"),
        ("?_step=3", "names no run"),
        ("w/x/y/z", "has 4 parts between slashes"),
        ("r1#5", "holds '#'"),
    ],
)
def test_what_is_no_moment_is_refused(text: str, what: str) -> None:
    with pytest.raises(PositionError) as caught:
        parse(text)
    message = str(caught.value)
    assert what in message
    assert repr(text) in message
    assert "[[entity/]project/]run[@revision][?_step=N]" in message, "the right form is shown"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("r1?_step=" + "9" * 5000, "99…, and there is none such"),
        ("r1@" + "9" * 5000, "99…': revisions are numbered"),
    ],
)
def test_thousands_of_digits_are_refused_in_a_short_text(text: str, what: str) -> None:
    with pytest.raises(PositionError, match=what) as caught:
        parse(text)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["r1?epoch=3", "r1?val/loss=0.1", "r1?_step=3&epoch=1"])
def test_another_metric_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(PositionError, match=r"cut on the training step `_step` .* may run backwards"):
        parse(text)


@pytest.mark.parametrize("text", ["x//y", "../r1", "p/t?_step=1", "a:b"])
def test_a_name_that_cannot_be_one_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


@pytest.mark.parametrize("step", [True, 1.0, "5", float("nan"), None, -2, 2**63])
def test_a_step_given_beside_a_name_follows_the_same_rules(step: object) -> None:
    with pytest.raises(PositionError, match="resume_from='r1'"):
        check_step(step, "resume_from='r1'")


def test_a_step_given_beside_a_name() -> None:
    numpy = pytest.importorskip("numpy")
    assert [check_step(step, "") for step in (-1, 0, 500, numpy.int64(7))] == [-1, 0, 500, 7]


def test_a_checkpoint_is_told_from_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").write_bytes(b"")
    (tmp_path / "digits" / "r1").mkdir(parents=True)
    checkpoints: list[str | Path] = [
        "last.ckpt",
        "ckpts/step=500.ckpt",
        "s3://b/x",
        "weights",
        str(tmp_path / "weights"),
        Path("r1"),
    ]
    assert [source for source in checkpoints if not is_checkpoint(source)] == []
    moments = ["r1", "digits/r1", "r1@2", "digits/r1?_step=3", "nothing-here"]
    assert [source for source in moments if is_checkpoint(source)] == []
