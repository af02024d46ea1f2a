"""What the tests did, in numbers: how many kills were tried, bytes flipped, rows checked, and rows lost.

Each test counts what it does. At the end of a run the figures of all its processes are summed and printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import pytest

NAMES = (
    "crash points",
    "requests cut short",
    "takeovers",
    "faults injected",
    "bytes flipped",
    "fuzz executions",
    "schedules",
    "rows checked",
    "rows lost",
)
"""In the order in which they are printed. At a crash point SIGKILL has ended a process; where an exception that nobody
handles stands for that, in the place of a request, the request was cut short."""

_WORKER_OUTPUT = "figures"

_counted: Counter[str] = Counter()


def count(name: str, number: int = 1) -> None:
    """Add to a figure.

    Args:
        name: One of `NAMES`.
        number: How much. What is lost is to be counted before it is asserted that nothing is.
    """
    if name not in NAMES:
        raise ValueError(f"{name!r} is no figure: name one of {', '.join(NAMES)}.")
    _counted[name] += number


def lines(counted: Mapping[str, int]) -> Iterable[str]:
    """Return a line for each figure, aligned; the last one is always there."""
    shown = {name: counted.get(name, 0) for name in NAMES if counted.get(name) or name == NAMES[-1]}
    width = max(len(f"{number:,}") for number in shown.values())
    return [f"{number:>{width},} {name}" for name, number in shown.items()]


class Figures:
    """The plugin of pytest that brings the figures of all processes together."""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand those of a worker of pytest-xdist to the process that started it."""
        output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_WORKER_OUTPUT] = dict(_counted)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Add those of a worker that has ended; one that crashed has none."""
        output: dict[str, dict[str, int]] = getattr(node, "workeroutput", {})
        _counted.update(output.get(_WORKER_OUTPUT, {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the sum, if the tests that ran had any."""
        if _counted:
            terminalreporter.section("figures")
            for line in lines(_counted):
                terminalreporter.line(line)
