"""Going on: `resume`, the same id twice, and what `init` refuses."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import (
    ConfigError,
    RewindError,
    Run,
    RunExistsError,
    RunNotFoundError,
    Store,
    StoredRun,
    init,
    open_store,
)
from rewind_logger.format import documents
from rewind_logger.history.opening import new_claim
from rewind_logger.storage import open_storage
from tests.sdk.reading import rows


def begin(url: str, steps: int = 3, **options: Any) -> None:
    """A run p/r1 with some steps."""
    with init(dir=url, project="p", id="r1", **options) as run:
        for i in range(steps):
            run.log({"a": i})


@pytest.mark.parametrize("resume", ["must", "allow", True, None])
def test_a_run_that_is_there_goes_on(any_url: str, resume: Any, capsys: pytest.CaptureFixture[str]) -> None:
    begin(any_url)
    with init(dir=any_url, project="p", id="r1", resume=resume) as run:
        assert (run.resumed, run.starting_step, run.step, run.revision) == (True, 3, 3, 1)
        run.log({"a": 3})
    assert rows(any_url, "p/r1") == [{"_step": i, "a": i} for i in range(4)]
    assert len(open_store(any_url).run("p/r1").revisions) == 1, "nothing was cut"
    assert "run p/r1 in" in capsys.readouterr().err


@pytest.mark.parametrize("resume", ["never", "allow", None])
def test_a_run_that_is_not_there_begins(url: str, resume: Any) -> None:
    with init(dir=url, project="p", id="r1", resume=resume) as run:
        assert (run.resumed, run.starting_step) == (False, 0)


def test_must_needs_the_run(url: str) -> None:
    with pytest.raises(RunNotFoundError, match="There is no run p/r1 in"):
        init(dir=url, project="p", id="r1", resume="must")
    assert open_store(url).runs() == []


def test_a_run_whose_first_opening_was_cut_short_is_not_said_to_be_there(url: str) -> None:
    storage = open_storage(url)
    storage.create("p/r1/m/00000000.json", documents.encode_claim(new_claim("1f", "new", "")))
    with pytest.raises(RunNotFoundError, match=r"There is no run p/r1 in \S+ An opening .* was cut short\.$"):
        init(dir=url, project="p", id="r1", resume="must")
    with init(dir=url, project="p", id="r2"):
        pass
    with pytest.raises(RunNotFoundError, match=r"Project p has r2\.$"):
        init(dir=url, project="p", id="r1", resume="must")


def test_never_refuses_a_run_that_is_there(url: str) -> None:
    begin(url)
    with pytest.raises(RunExistsError, match="Run p/r1 exists"):
        init(dir=url, project="p", id="r1", resume="never")
    assert len(rows(url, "p/r1")) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": "must"}, "resume='must' needs the id"),
        ({"resume": "auto"}, "resume='auto' would guess .* resume='allow'"),
        ({"resume": "yes"}, "use 'allow', 'must' or 'never'"),
        ({"resume": "allow", "resume_from": "r1?_step=1"}, "resume and resume_from exclude one another"),
        ({"resume": True, "fork_from": "r1?_step=1"}, "resume and fork_from exclude one another"),
        ({"resume_from": "r1?_step=1", "fork_from": "r1?_step=1"}, "resume_from and fork_from exclude one another"),
        ({"step": 5}, "step= says where to go back to"),
        ({"step": 5, "resume": "must", "id": "r1"}, "step= says where to go back to"),
        ({"mode": "dryrun"}, "mode='dryrun': leave it out .* or use mode='disabled'"),
        ({"on_backward_step": "drop"}, "use 'keep' or 'error'"),
        ({"id": "a/b"}, "The run id 'a/b' cannot be used"),
        ({"id": ".."}, "The run id '..' cannot be used"),
        ({"project": "x?y"}, r"The project 'x\?y' cannot be used"),
        ({"entity": ""}, "The entity '' cannot be used"),
        ({"tags": [1]}, "each tag must be a str"),
        ({"name": 3}, "name=3 is an int: it must be a str"),
        ({"config": "lr=1"}, "config='lr=1' is a str: give a dict"),
        ({"resume_from": 7}, "resume_from=7 is an int"),
    ],
)
def test_what_init_refuses(url: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        init(**{"dir": url, "project": "p", **options})
    assert open_store(url).runs() == []


def test_the_store_is_the_argument_or_the_environment_or_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with init() as run:
        assert run.url == f"{tmp_path}/rewind_logs/default/{run.id}"
        assert len(run.id) == 8
        assert run.id.isalnum()
    monkeypatch.setenv("REWIND_LOGGER_STORE", str(tmp_path / "elsewhere"))
    with init(id="r1") as run:
        assert run.url == f"{tmp_path}/elsewhere/default/r1"
    with init(dir=tmp_path / "named", id="r1") as run:
        assert run.url == f"{tmp_path}/named/default/r1"


def test_made_up_ids_differ(url: str) -> None:
    with init(dir=url) as one, init(dir=url) as two:
        assert one.id != two.id


def test_the_same_id_again_ends_the_earlier_run_of_this_process(url: str) -> None:
    first = init(dir=url, project="p", id="r1")
    first.log({"a": 0})
    second = init(dir=url, project="p", id="r1")
    assert second.starting_step == 1, "what the first logged is there"
    with pytest.raises(ConfigError, match="is finished"):
        first.log({"a": 1})
    second.log({"a": 1})
    second.finish()
    assert rows(url, "p/r1") == [{"_step": 0, "a": 0}, {"_step": 1, "a": 1}]


REFUSED: list[dict[str, Any]] = [
    {"id": "r1", "resume": "never"},
    {"resume_from": "r1?_step=99"},
    {"id": "r1", "fork_from": "other"},
    {"id": "r1", "resume": "never", "reinit": True},
    {"id": "r2", "mode": "shared", "reinit": True},
    {"id": "r2/x", "reinit": True},
    {"id": "r2", "config": 5, "reinit": True},
    {"id": "r2", "resume": "must", "reinit": "finish_previous"},
]


@pytest.mark.parametrize("refused", REFUSED, ids=str)
def test_an_opening_that_is_refused_ends_no_run_of_this_process(url: str, refused: dict[str, Any]) -> None:
    init(dir=url, project="p", id="other").finish()
    run = init(dir=url, project="p", id="r1")
    run.log({"a": 0})
    with pytest.raises(RewindError):
        init(**{"dir": url, "project": "p", **refused})
    run.log({"a": 1})
    run.finish()
    assert [row["a"] for row in rows(url, "p/r1")] == [0, 1]
    assert open_store(url).run("p/r1").immutable_id == "r1@1"


def test_going_back_in_a_run_that_this_process_has_open_loses_nothing_of_it(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = init(dir=url, project="p", id="r1")
    for i in range(100):
        first.log({"a": i})
    with init(dir=url, project="p", resume_from="r1?_step=49", reinit=True) as second:
        second.log({"a": -1})
    assert len(rows(url, "p/r1@1")) == 100 and len(rows(url, "p/r1")) == 51
    assert not caplog.records, "no run was taken over by anybody else"


def test_runs_of_other_names_stay_open(url: str) -> None:
    one, two = init(dir=url, project="p", id="r1"), init(dir=url, project="p", id="r2")
    one.log({"a": 1})
    two.log({"a": 2})
    one.finish()
    two.finish()
    assert [rows(url, f"p/{name}")[0]["a"] for name in ("r1", "r2")] == [1, 2]


def test_labels_are_kept_unless_given_anew(any_url: str) -> None:
    begin(any_url, name="first", tags=["x", "y"], notes="why", group="g", job_type="train")
    with init(dir=any_url, project="p", id="r1", notes="because") as run:
        assert (run.name, run.tags, run.notes, run.group, run.job_type) == (
            "first",
            ("x", "y"),
            "because",
            "g",
            "train",
        )
        run.tags += ("z",)
        run.name = "second"
    stored = open_store(any_url).run("p/r1")
    assert (stored.name, stored.tags, stored.notes) == ("second", ("x", "y", "z"), "because")
    assert (stored.group, stored.job_type) == ("g", "train")


def test_one_tag_may_be_a_text(url: str) -> None:
    with init(dir=url, id="r1", tags="baseline") as run:
        assert run.tags == ("baseline",)


@dataclasses.dataclass
class Options:
    lr: float
    seed: int = 0


@pytest.mark.parametrize(
    "config", [{"lr": 0.1, "seed": 0}, Options(0.1), argparse.Namespace(lr=0.1, seed=0)], ids=lambda c: type(c).__name__
)
def test_a_config_is_a_dict_or_what_has_fields(url: str, config: object) -> None:
    with init(dir=url, project="p", id="r1", config=config) as run:
        assert run.config.as_dict() == {"lr": 0.1, "seed": 0}
    assert open_store(url).run("p/r1").config == {"lr": 0.1, "seed": 0}


def test_new_config_wins_and_old_keys_stay(any_url: str) -> None:
    begin(any_url, config={"lr": 0.1, "model": {"depth": 3, "width": 8}})
    with init(dir=any_url, project="p", id="r1", config={"lr": 0.5, "model": {"depth": 4}}) as run:
        expected = {"lr": 0.5, "model": {"depth": 4}}
        assert run.config.as_dict() == expected, "top-level keys are replaced whole"
        run.config.update({"epochs": 2})
    assert open_store(any_url).run("p/r1").config == {**expected, "epochs": 2}


def test_the_first_writer_is_stopped_when_another_takes_the_run_over(url: str) -> None:
    """As another process would, which does not end the first writer's run."""
    from rewind_logger import FencedError
    from rewind_logger.history.opening import OpenRequest
    from rewind_logger.history.writer import Writer
    from rewind_logger.storage import open_storage
    from rewind_logger.types import RunRef

    run = init(dir=url, project="p", id="r1")
    run.log({"a": 0})
    run.flush()
    other = Writer(open_storage(url), RunRef("p", "r1"))
    other.open(OpenRequest())
    run.log({"a": 1})
    with pytest.raises(FencedError, match="was taken over by process"):
        run.flush()
    run.log({"a": 2})  # training goes on
    run.finish()  # and ends well
    other.close()
    assert rows(url, "p/r1") == [{"_step": 0, "a": 0}]


class FloatTensor:
    """What torch's is: it has what an index has, and refuses when it is asked."""

    def __index__(self) -> int:
        raise TypeError("only integer tensors of a single element can be converted to an index")

    def __repr__(self) -> str:
        return "tensor(5.)"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run, stored, store: store.run(Path("p/r1")), r"is a \w*Path; name a place in a run by text"),
        (lambda run, stored, store: store.run(5), "5 is an int; name a place"),
        (lambda run, stored, store: stored.history(keys=[5]), r"keys=\[5\]: 5 is an int: give the names of metrics"),
        (lambda run, stored, store: stored.history(keys=5), "keys=5: 5 is an int: give the names of metrics"),
        (lambda run, stored, store: stored.history(start="1"), "start='1' is a str: give a step"),
        (lambda run, stored, store: stored.media(stop=1.5), r"stop=1\.5 is a float: give a step"),
        (lambda run, stored, store: stored.artifact(5), "5 is an int: name an artifact by text"),
        (lambda run, stored, store: run.use_artifact(5), "5 is an int: name an artifact by text"),
        (
            lambda run, stored, store: run.log({"a": 1}, step=FloatTensor()),
            r"step=tensor\(5\.\) is a FloatTensor, not a",
        ),
        (lambda run, stored, store: setattr(run, "tags", 5), "tags=5 is an int: give a list of texts"),
        (lambda run, stored, store: init(dir=store.url, tags=5), "tags=5 is an int: give a list of texts"),  # type: ignore[arg-type]
        (lambda run, stored, store: init(dir=5), "5 names no store: give a folder or a URL"),  # type: ignore[arg-type]
        (lambda run, stored, store: open_store(None), "None names no store"),  # type: ignore[arg-type]
        (
            lambda run, stored, store: init(dir=store.url, resume_from="p/r1", step=FloatTensor()),  # type: ignore[arg-type]
            r"step=tensor\(5\.\) is a FloatTensor, not a whole number",
        ),
    ],
)
def test_what_is_no_value_for_an_argument_is_refused_with_what_is(
    url: str, call: Callable[[Run, StoredRun, Store], object], words: str
) -> None:
    begin(url)
    store = open_store(url)
    stored = store.run("p/r1")
    with init(dir=url, project="p", id="r2") as run, pytest.raises(RewindError, match=words):
        call(run, stored, store)


def test_an_artifact_is_not_downloaded_onto_a_file(url: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("1")
    with init(dir=url, project="p", id="r1") as run:
        artifact = run.log_artifact(file, name="x")
        with pytest.raises(ConfigError, match="file is a file: give a folder"):
            artifact.download(file)
