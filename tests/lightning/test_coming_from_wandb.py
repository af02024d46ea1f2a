"""What the page for those who come from W&B says of Lightning's logger for it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger

from rewind_logger import RewindLogger

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-wandb.md"
SECTION = PAGE.read_text().partition("## Lightning's `WandbLogger`")[2]
TOLD = dict(re.findall(r"^\| `(\w+)` \| (same|differs|absent) \|", SECTION, re.MULTILINE))


def names(logger: type[Logger]) -> set[str]:
    """The arguments of a logger, and its public attributes."""
    arguments = set(inspect.signature(logger.__init__).parameters) - {"self", "kwargs"}
    constants = {"LOGGER_JOIN_CHAR", "group_separator"}
    return arguments | {name for name in dir(logger) if not name.startswith("_")} - constants


def test_the_page_has_every_argument_and_method_of_the_logger() -> None:
    assert set(TOLD) == names(WandbLogger)


def test_what_it_says_is_so() -> None:
    ours = names(RewindLogger)
    assert {name for name, here in TOLD.items() if here == "absent"} == set(TOLD) - ours
    for name in ("tags", "notes", "group", "config", "resume_from", "fork_from"):
        assert name in ours
