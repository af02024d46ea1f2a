"""A config: how it is read and changed, and what becomes of values that JSON does not have."""

from __future__ import annotations

import copy
import dataclasses
import enum
import json
import pickle
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import MagicMock

import numpy as np
import pytest

from rewind_logger.errors import ConfigError
from rewind_logger.sdk.config import Config
from rewind_logger.sdk.plain import dumps, plain


def test_items_and_attributes_are_the_same() -> None:
    config = Config({"lr": 0.1})
    config["epochs"] = 3
    config.name = "x"
    assert (config.lr, config["lr"], config.epochs, config["name"]) == (0.1, 0.1, 3, "x")
    assert list(config) == ["lr", "epochs", "name"]
    assert "epochs" in config
    assert "missing" not in config
    assert config.get("missing", 7) == 7
    assert dict(config) == {"lr": 0.1, "epochs": 3, "name": "x"}
    assert repr(config) == "Config({'lr': 0.1, 'epochs': 3, 'name': 'x'})"


def test_what_is_missing_is_named_with_what_is_there() -> None:
    config = Config({"lr": 0.1})
    with pytest.raises(AttributeError, match=r"no 'learning_rate'; it has lr\."):
        _ = config.learning_rate
    with pytest.raises(KeyError):
        config["learning_rate"]


def test_changes_are_reported_by_top_level_key() -> None:
    seen: list[Any] = []
    config = Config({"lr": 0.1, "model": {"depth": 3, "width": 8}}, on_change=seen.append)
    config.lr = 0.2
    config.update({"a": 1, "b": 2})
    model = config.model
    model.depth = 4
    model["width"] = 16
    config.setdefaults({"lr": 9, "c": 3})
    config.update({})
    config.update({"lr": 0.3}, allow_val_change=True)
    assert seen == [
        {"lr": 0.2},
        {"a": 1, "b": 2},
        {"model": {"depth": 4, "width": 8}},
        {"model": {"depth": 4, "width": 16}},
        {"c": 3},
        {"lr": 0.3},
    ]
    assert config.as_dict()["model"] == {"depth": 4, "width": 16}


def test_a_dict_in_it_is_a_dict() -> None:
    seen: list[Any] = []
    values = {"lr": 0.1, "model": {"depth": 3, "norm": {"eps": 1e-5}, "layers": [1, 2]}}
    config = Config(values, on_change=seen.append)
    assert json.loads(json.dumps(dict(config))) == values
    model = config["model"]
    assert isinstance(model, dict) and model == values["model"] == {**model} and repr(model) == repr(values["model"])
    for twin in (copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin) is dict and twin == model
        twin["norm"]["eps"] = 0
    model["layers"].append(3)
    assert seen == [] and config.as_dict() == values, "what comes out is a copy"

    model = config["model"]
    model["norm"]["eps"] = np.float32(0.5)
    model.norm.eps = 0.25
    model |= {"width": 8}
    model.setdefault("width", 9)
    model.update([("heads", (1, 2))], more={"a": {"b": 1}})
    model.more.a.b = 2
    assert [list(change) for change in seen] == [["model"]] * 5
    assert seen[1]["model"]["norm"] == {"eps": 0.25}
    assert config.as_dict()["model"] == model == seen[-1]["model"]
    assert model["more"] == {"a": {"b": 2}} and model.heads == [1, 2]
    with pytest.raises(AttributeError, match="has no 'dept' here; it has depth"):
        _ = model.dept
    for remove in (model.clear, model.popitem, lambda: model.pop("depth"), lambda: model.__delitem__("depth")):
        with pytest.raises(ConfigError, match="can be changed, not removed"):
            remove()


def test_inherited_values_lie_below_and_are_looked_up_once_and_only_if_needed() -> None:
    asked: list[int] = []

    def inherited() -> dict[str, Any]:
        asked.append(1)
        return {"lr": 0.1, "seed": 1}

    config = Config({"lr": 0.5}, inherited=inherited)
    config.epochs = 2
    assert asked == [], "writing does not read"
    assert config.as_dict() == {"lr": 0.5, "seed": 1, "epochs": 2}
    assert len(config) == 3
    assert asked == [1]


def test_what_comes_out_is_a_copy() -> None:
    layers = [1, 2]
    config = Config({"layers": layers})
    layers.append(3)
    config.layers.append(4)
    config.as_dict()["layers"].append(5)
    assert config.layers == [1, 2]


def test_a_copy_is_of_the_values_alone() -> None:
    seen: list[Any] = []
    config = Config({"model": {"depth": 3}}, on_change=seen.append)
    for twin in (copy.deepcopy(config), copy.copy(config), pickle.loads(pickle.dumps(config))):
        twin.lr = 1
        assert twin.as_dict() == {"model": {"depth": 3}, "lr": 1}
    assert seen == []
    assert "lr" not in config


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Options:
    lr: float
    path: Path


def boom() -> NoReturn:
    raise AssertionError("a callable of the user was called")


class Awkward:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Loud(int):
    def __int__(self) -> int:
        raise AssertionError("user code was run")

    __index__ = __int__


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.1, 0.1),
        ("x", "x"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ((1, [2]), [1, [2]]),
        ({3, 1, 2}, [1, 2, 3]),
        (OrderedDict(a=OrderedDict(b=1)), {"a": {"b": 1}}),
        ({1: "x", None: 2}, {"1": "x", "None": 2}),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[7]]), 7),
        (np.array([1, 2]), "[1 2]"),
        (Namespace(lr=0.1), {"lr": 0.1}),
        (Options(0.1, Path("data")), {"lr": 0.1, "path": "data"}),
        (Color.RED, "Color.RED"),
        (Path("data/x"), "data/x"),
        (boom, f"{__name__}.boom"),
        (Options, f"{__name__}.Options"),
        (Loud(5), 5),
        (Awkward(), "<Awkward>"),
        (b"x", "b'x'"),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_values_that_json_has_not(value: object, kept: object) -> None:
    assert plain(value) == kept
    assert json.loads(dumps({"value": value})) == {"value": kept}


def test_a_container_that_holds_itself_ends() -> None:
    nested: dict[str, Any] = {"lr": 1}
    nested["self"] = nested
    assert plain(nested) == {"lr": 1, "self": "…"}
    shared = [1]
    assert plain([shared, shared]) == [[1], [1]], "the same thing twice is no circle"


def test_a_mock_is_only_named() -> None:
    mock = MagicMock(name="optimizer")
    mock.side_effect = boom
    assert isinstance(plain(mock), str)
    mock.assert_not_called()


def test_text_is_readable_by_any_json_reader() -> None:
    assert dumps({"name": "größer \ud800"}) == '{"name":"gr\\u00f6\\u00dfer \\ud800"}'
