"""Names of W&B that are absent here, and what to do instead; `docs/coming-from-wandb.md` has the same sentences.

A script that uses one is told so where it does, and not that some attribute is missing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rewind_logger.errors import ConfigError

_KEYS = "Give `config` only what is to be kept."
_TENSORBOARD = (
    "TensorBoard's files are not read: log the values to the run too; Lightning takes several loggers,"
    " `Trainer(logger=[TensorBoardLogger(...), RewindLogger(...)])`."
)
_CODE = (
    "The git commit and the difference of the working tree from it are recorded anyway (`StoredRun.environment`); keep"
    " other code with `log_artifact(path, name=..., type='code')`."
)
_FILES = "Keep files with `log_artifact(path, name=..., type=...)`: they rewind with the run."
_DOWNLOAD = "Files are kept as artifacts: `use_artifact('name:latest').download()`."
_REGISTRY = "There is no registry: name a version by an alias, `log_artifact(..., aliases=['production'])`."
_MODEL = "Use `log_artifact(path, name=..., type='model')`; `RewindLogger(log_model=...)` does so for checkpoints."
_ALERT = "Nobody is sent a message: call what sends yours, such as a webhook of your chat."
_PREEMPTION = "Nothing has to be said before: a run that was killed goes on with the next `init(id=...)`."
_PAGES = "There are no pages on a server: read the run with `open_store(...).run(...)`."
_WATCH = (
    "Nothing is hooked into a model: log what you want to see of it, such as"
    " `log({'grad/layer1': Histogram(layer1.weight.grad)})`."
)
_SWEEPS = "There are no sweeps: let the program that searches start runs with `init(group=..., config=...)`."
_DISTRIBUTED = "An artifact is logged by one process, with all its files: `log_artifact(artifact)`."
_QUERIES = "Read with `open_store(...)`: `runs(project)`, `run(name)`, and what a run has."
_FOR_IMAGES = "An `Image` has a caption and no overlays: draw them into the picture."
_FIGURES = "Log a figure of matplotlib as `Image(figure)`, or numbers as a `Table`."
_THREE_D = "Keep the file with `log_artifact`, or log a rendering as an `Image` or `Video`."
_NOTHING = "Leave it out: there is no service to start, to choose or to stop."
_ERRORS = "Catch `RewindError`, the root of all errors here."
_LOGGING = "Use `print` or `logging`: what the process prints is recorded."
_INTEGRATION = "Call `log` from a callback of the framework; for Lightning pass a `RewindLogger`."

ARGUMENTS = {
    "config_exclude_keys": _KEYS,
    "config_include_keys": _KEYS,
    "monitor_gym": "Log what was recorded of an episode, `log({'episode': Video(path)})`.",
    "save_code": _CODE,
    "settings": (
        "There are none to pass: what this package lets you choose is an argument of `init`, such as `console=False`,"
        " `system_metrics=False` or `dir`."
    ),
    "sync_tensorboard": _TENSORBOARD,
    "tensorboard": _TENSORBOARD,
}
"""Arguments of `init` that are refused, unless they ask for nothing (None, False or empty)."""

INDIFFERENT = frozenset({"allow_val_change", "anonymous", "force"})
"""Arguments of `init` that change nothing here, whatever they are: there is no account, and a config can be changed."""

OF_RUN = {
    "alert": _ALERT,
    "config_static": "Use `dict(run.config)`.",
    "dir": "A run has no folder for files: use one of your own. " + _FILES,
    "display": _PAGES,
    "finish_artifact": _DISTRIBUTED,
    "link_artifact": _REGISTRY,
    "link_model": _REGISTRY,
    "log_code": _CODE,
    "log_model": _MODEL,
    "mark_preempting": _PREEMPTION,
    "offline": "Rows lie in a local journal first in any case, and wait there while the store is away.",
    "pin_config_keys": _PAGES,
    "project_url": _PAGES,
    "restore": _DOWNLOAD,
    "save": _FILES,
    "settings": ARGUMENTS["settings"],
    "status": "`run.flush()` returns when everything that was logged is in the store.",
    "sweep_id": _SWEEPS,
    "sweep_url": _SWEEPS,
    "sync_dir": "There is nothing to sync by hand: the next opening of the run brings in what waits in its journal.",
    "to_html": _PAGES,
    "unwatch": _WATCH,
    "upsert_artifact": _DISTRIBUTED,
    "use_model": _DOWNLOAD,
    "watch": _WATCH,
    "write_logs": _LOGGING,
}
"""Attributes and methods of a run."""

OF_MODULE = {
    **{name: OF_RUN[name] for name in ("alert", "link_model", "log_model", "mark_preempting", "pin_config_keys")},
    **{name: OF_RUN[name] for name in ("restore", "save", "unwatch", "use_model", "watch")},
    **dict.fromkeys(("agent", "controller", "sweep"), _SWEEPS),
    **dict.fromkeys(("CommError", "Error", "UsageError"), _ERRORS),
    **dict.fromkeys(("Graph", "Plotly", "plot", "plot_table"), _FIGURES),
    **dict.fromkeys(("Molecule", "Object3D", "box3d"), _THREE_D),
    **dict.fromkeys(("ensure_configured", "require", "setup", "teardown", "termsetup"), _NOTHING),
    **dict.fromkeys(("termerror", "termlog", "termwarn"), _LOGGING),
    **dict.fromkeys(("catboost", "gym", "integration", "jupyter", "keras", "lightgbm", "sacred"), _INTEGRATION),
    **dict.fromkeys(("sklearn", "tensorflow", "xgboost"), _INTEGRATION),
    "AlertLevel": _ALERT,
    "Api": _QUERIES,
    "ArtifactTTL": "Nothing is deleted by its age.",
    "Classes": _FOR_IMAGES,
    "EvalTable": "Log a `Table`.",
    "JoinedTable": "Join them before, with pandas or polars, and log a `Table`.",
    "Settings": ARGUMENTS["settings"],
    "attach": "A run has one writer: give each process a run of its own, `init(group=...)`.",
    "data_types": "The types of media are names of this package: `rewind_logger.Image`, `rewind_logger.Table`, …",
    "join": "Use `finish`.",
    "sagemaker_auth": _NOTHING,
    "tensorboard": _TENSORBOARD,
    "util": "An id is made up where `init` is given none.",
    "visualize": _PAGES,
}
"""Names of the package."""

OF_MEDIA = {
    "Image": dict.fromkeys(("boxes", "classes", "masks"), _FOR_IMAGES)
    | {"grouping": "Log a list of images to have them together."},
    "Table": dict.fromkeys(("allow_mixed_types", "dtype", "optional"), "Leave it out: a column may hold anything.")
    | {"log_mode": "Leave it out: what is logged is kept as it is then."},
}
"""Arguments of media."""


def check_media_arguments(kind: str, given: Iterable[str]) -> None:
    """Refuse arguments of W&B's that media do not have.

    Raises:
        ConfigError: If there is one; the message says what to do instead.
    """
    for name in OF_MEDIA.get(kind, {}).keys() & set(given):
        raise ConfigError(f"{kind} has no argument {name!r} as W&B has. {OF_MEDIA[kind][name]}")


def check_arguments(others: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse arguments that `init` does not have.

    Args:
        others: What it was given besides those that it has.
        known: The names of those that it has.

    Raises:
        ConfigError: If one is none of W&B's either, or asks for what is absent here; the message says what to do.
    """
    for name, value in others.items():
        if name in INDIFFERENT:
            continue
        if name not in ARGUMENTS:
            names = [*known, *ARGUMENTS, *INDIFFERENT]
            close = difflib.get_close_matches(name, names, 1)
            hint = f" Did you mean {close[0]!r}?" if close else f" It has {', '.join(sorted(known))}."
            raise ConfigError(f"init has no argument {name!r}.{hint}")
        if value is not None and value is not False and value != {} and value != []:
            shown = f"{value!r}" if isinstance(value, (bool, int, str)) else "…"
            raise ConfigError(
                f"init has no argument {name!r} as W&B has, so {name}={shown} would do nothing. {ARGUMENTS[name]}"
            )


def missing(owner: str, name: str, advice: Mapping[str, str]) -> str:
    """Return the message of the error for a name that is not there."""
    told = f". W&B has it; here: {advice[name]}" if name in advice else ""
    return f"{owner} has no attribute {name!r}{told}"


class Advising:
    """A run that says of W&B's names what to do instead; for `hasattr` they are absent."""

    if not TYPE_CHECKING:  # or every misspelling would pass the checkers of types

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(missing("A run", name, OF_RUN), name=name, obj=self)
