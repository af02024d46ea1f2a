"""A metric cannot be the point of a rewind or fork, and the error says which step can."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rewind_logger import PositionError, Run, init, open_store


@pytest.fixture
def store(url: str) -> str:
    """A store with run p/r of six steps, two an epoch, whose validation is drawn over epochs."""
    with init(dir=url, project="p", id="r") as run:
        run.define_metric("val/*", step_metric="epoch")
        for step in range(6):
            run.log({"epoch": step // 2, "val/loss": 1 - step / 8})
    return url


OPENINGS: list[Callable[[str, str], object]] = [
    lambda url, text: init(dir=url, project="p", resume_from=text),
    lambda url, text: init(dir=url, project="p", fork_from=text, id="b"),
    lambda url, text: open_store(url).run(text),
]


@pytest.mark.parametrize("ask", OPENINGS)
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("r?epoch=1", "names the metric 'epoch'. Runs are cut on the training step `_step` and on nothing else"),
        ("r?epoch=1", "'epoch' was last 1 at step 3: use r?_step=3 to keep that and all before it."),
        ("p/r@1?epoch=2.0", "'epoch' was last 2.0 at step 5: use p/r@1?_step=5"),
        ("r?epoch=7", "'epoch' was never 7; it goes from 0 to 2."),
        ("r?val/loss=0.5", "'val/loss' is drawn over 'epoch', as define_metric said"),
        ("r?val/loss=0.5", "was last 0.5 at step 4: use r?_step=4"),
        ("r?acc=1", "Run p/r@1 has no metric 'acc'."),
    ],
)
def test_the_step_that_is_meant_is_named(ask: Callable[[str, str], object], text: str, answer: str, store: str) -> None:
    with pytest.raises(PositionError) as caught:
        ask(store, text)
    assert answer in str(caught.value)
    assert open_store(store).run("p/r").revision == 1, "nothing was done"


@pytest.mark.parametrize("text", ["x?epoch=1", "p/x?epoch=1", "r@7?epoch=1", "r?epoch=1&_step=2"])
@pytest.mark.parametrize("ask", OPENINGS)
def test_where_there_is_nothing_to_look_up_the_rule_is_told(
    ask: Callable[[str, str], object], text: str, store: str
) -> None:
    with pytest.raises(PositionError, match=r"it only ever grows, while a metric with an axis of its own"):
        ask(store, text)


def test_the_named_step_can_be_gone_back_to(store: str) -> None:
    with init(dir=store, project="p", resume_from="r?_step=3") as run:
        assert isinstance(run, Run)
        assert run.summary["epoch"] == 1
