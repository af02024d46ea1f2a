"""The page for those who come from W&B: complete, and true."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import types
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import rewind_logger
from rewind_logger import ConfigError, Run, init
from rewind_logger.sdk import absent

ROOT = Path(__file__).parents[2]
NAMES: dict[str, Any] = json.loads((ROOT / "tests" / "data" / "wandb-0.31.0.json").read_text())
"""The names of W&B at that version; `names_of` says which."""
PAGE = (ROOT / "docs" / "coming-from-wandb.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\|$", re.MULTILINE)
NOTHING: tuple[object, ...] = (None, False, {}, [])
OF_THE_CURRENT_RUN = ("config", "run", "summary")


class Told(NamedTuple):
    """A line of a table."""

    name: str
    here: str
    words: str


def table(heading: str) -> dict[str, Told]:
    """The lines of one of the page's tables."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    [text] = [part for part in section if part.startswith(heading)]
    rows = [Told(name, here, words.strip()) for name, here, words in ROW.findall(text)]
    assert len(rows) == text.count("\n| `"), "a line that is none"
    return {row.name: row for row in rows}


ARGUMENTS, OF_RUN, OF_MODULE = table("`init`"), table("A run"), table("The package")


def names_of(wandb: Any) -> dict[str, list[str]]:
    """The names that the page must have.

    The arguments of `init`; the public attributes of a run; and what a script can use of the package: what it exports,
    its functions and classes, integrations that are loaded when they are named, and modules that scripts name.
    """

    def public(owner: object) -> list[str]:
        return [name for name in dir(owner) if not name.startswith("_")]

    found = {
        name
        for name in public(wandb)
        if (callable(getattr(wandb, name)) and not isinstance(getattr(wandb, name), types.ModuleType))
        or type(getattr(wandb, name)).__name__ == "LazyLoader"
    }
    found |= set(wandb.__all__) - {"__version__"}
    found |= {"Api", "config", "data_types", "errors", "integration", "login", "plot", "run", "summary", "util"}
    return {
        "init": list(inspect.signature(wandb.init).parameters),
        "Run": sorted({*public(wandb.Run), "summary"}),  # which is set on each
        "wandb": sorted(found),
    }


def test_the_names_are_those_of_wandb() -> None:
    """Where it is installed, which it need not be."""
    wandb = pytest.importorskip("wandb", exc_type=ImportError)
    if wandb.__version__ != NAMES["version"]:
        pytest.skip(f"the page is of {NAMES['version']}")
    assert {kind: sorted(names) for kind, names in names_of(wandb).items()} == {
        kind: sorted(NAMES[kind]) for kind in ("init", "Run", "wandb")
    }


@pytest.mark.parametrize(("kind", "found"), [("init", ARGUMENTS), ("Run", OF_RUN), ("wandb", OF_MODULE)])
def test_the_page_has_every_name_and_no_other(kind: str, found: dict[str, Told]) -> None:
    assert sorted(found) == sorted(NAMES[kind])
    assert {row.here for row in found.values()} <= {"same", "differs", "absent"}
    assert all(row.words for row in found.values() if row.here != "same"), "what is not the same is explained"
    assert NAMES["version"] in PAGE


@pytest.mark.parametrize("row", ARGUMENTS.values(), ids=lambda row: row.name)
def test_what_the_page_says_of_an_argument_is_so(row: Told) -> None:
    ours = {*inspect.signature(init).parameters} - {"others"}
    if row.here != "absent":
        assert row.name in {*ours, *absent.INDIFFERENT, "reinit"}
        return
    assert row.name not in ours and row.words == absent.ARGUMENTS[row.name]
    for nothing in NOTHING:
        given: dict[str, Any] = {row.name: nothing}
        init(mode="disabled", **given).finish()
    for something in (True, {"a": 1}, ["a"], "a", object()):
        given = {row.name: something}
        with pytest.raises(ConfigError, match=re.escape(row.words)) as refused:
            init(mode="disabled", **given)
        assert row.name in str(refused.value)


@pytest.mark.parametrize("row", OF_RUN.values(), ids=lambda row: row.name)
def test_what_the_page_says_of_a_run_is_so(row: Told) -> None:
    run = init(mode="disabled")
    assert hasattr(run, row.name) == hasattr(Run, row.name) == (row.here != "absent")
    if row.here == "absent":
        assert row.words == absent.OF_RUN[row.name]
        with pytest.raises(AttributeError, match=re.escape(row.words)):
            getattr(run, row.name)
    run.finish()


@pytest.mark.parametrize("row", OF_MODULE.values(), ids=lambda row: row.name)
def test_what_the_page_says_of_the_package_is_so(row: Told) -> None:
    with init(mode="disabled"):
        assert hasattr(rewind_logger, row.name) == (row.here != "absent")
    if row.here == "absent":
        assert row.words == absent.OF_MODULE[row.name]
        with pytest.raises(AttributeError, match=re.escape(row.words)):
            getattr(rewind_logger, row.name)
    elif row.name not in OF_THE_CURRENT_RUN and row.name != "errors":
        assert row.name in rewind_logger.__all__


def test_what_advice_names_is_there() -> None:
    owners = [rewind_logger, Run, rewind_logger.Store]
    others = {*inspect.signature(init).parameters, "Trainer", "TensorBoardLogger", "dict", "logging", "print"}
    for words in {*absent.ARGUMENTS.values(), *absent.OF_RUN.values(), *absent.OF_MODULE.values()}:
        called = {name.rpartition(".")[2] for name in re.findall(r"([\w.]+)\(", words)} - {"download", "run"}
        assert [name for name in called - others if not any(hasattr(owner, name) for owner in owners)] == [], words


def test_a_misspelled_argument_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match=r"^init has no argument 'projct'\. Did you mean 'project'\?$"):
        init(projct="digits")
    with pytest.raises(ConfigError, match=r"^init has no argument 'zzz'\. It has config, .*, tags\.$"):
        init(zzz=1)
    assert importlib.import_module("rewind_logger.sdk.current").run() is None, "and nothing was opened"


def test_a_misspelled_attribute_is_just_missing() -> None:
    run = init(mode="disabled")
    with pytest.raises(AttributeError, match=r"^A run has no attribute 'lgo'$"):
        run.lgo  # type: ignore[attr-defined]  # noqa: B018
    assert getattr(run, "watch", None) is None
    run.finish()


def test_modes_of_wandb(tmp_path: Path) -> None:
    for mode in ("online", "offline"):
        with init(dir=tmp_path, project="p", mode=mode) as run:
            run.log({"x": 1})
    assert len(rewind_logger.open_store(tmp_path).runs()) == 2
    with pytest.raises(ConfigError, match=r"^mode='shared': a run has one writer at a time\. .* the same `group`\.$"):
        init(dir=tmp_path, mode="shared")  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"^mode='offline' with the store s3://b: leave it out, .* name a local folder"
    ):
        init(dir="s3://b", mode="offline", storage_options={"key": "k", "secret": "s"})
    with pytest.raises(ConfigError, match="mode='dryrun': leave it out"):
        init(dir=tmp_path, mode="dryrun")  # type: ignore[arg-type]


def test_reinit(tmp_path: Path) -> None:
    def again(reinit: object) -> Run:
        return init(dir=tmp_path, project="p", reinit=reinit)

    first = again(None)
    second = again("create_new")
    first.log({"x": 1})
    assert first is not second
    assert again("return_previous") is second
    third = again(True)
    with pytest.raises(ConfigError, match="is finished"):
        second.log({"x": 1})
    first.log({"x": 2})
    assert again("finish_previous") is not third
    with pytest.raises(ConfigError, match="reinit='sometimes': leave it out"):
        again("sometimes")


def test_a_login_asks_nothing_and_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert rewind_logger.login(key="hunter2", relogin=True)
    assert list(tmp_path.iterdir()) == []


def test_a_finish_without_a_code_or_with_none_went_well(tmp_path: Path) -> None:
    for code, state in ((None, "finished"), (0, "finished"), (1, "failed")):
        run = init(dir=tmp_path, project="p", id=f"r{code}")
        run.finish(exit_code=code)
        assert rewind_logger.open_store(tmp_path).run(f"p/r{code}").state == state
