"""In a notebook, where a run lives over many cells and the streams are the kernel's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from tests.figures import count
from tests.sdk.reading import rows
from tests.sdk.test_console import lines


class Kernel:
    """A kernel to run cells in."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, cell: str) -> dict[str, str]:
        """Run a cell and return what it shows, by stream."""
        shown: dict[str, str] = {}

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                shown[content["name"]] = shown.get(content["name"], "") + content["text"]
            elif message["msg_type"] == "error":
                raise AssertionError("\n".join(content["traceback"]))

        self._client.execute_interactive(cell, timeout=60, output_hook=hear)
        return shown

    def interrupt(self, manager: KernelManager, cell: str) -> None:
        """Run a cell and interrupt it as soon as it prints something."""
        errors: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                manager.interrupt_kernel()
            elif message["msg_type"] == "error":
                errors.append(message["content"]["ename"])

        self._client.execute_interactive(cell, timeout=60, output_hook=hear)
        assert errors == ["KeyboardInterrupt"]

    @classmethod
    @contextmanager
    def of(cls, manager: KernelManager) -> Iterator[Kernel]:
        """Talk to the kernel that a manager has started."""
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            yield cls(client)
        finally:
            client.stop_channels()


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "REWIND_LOGGER_QUIET": "1", "IPYTHONDIR": str(folder)}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[KernelManager]:
    """The manager of a kernel, which it has started."""
    made = KernelManager(kernel_cmd=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
    made.start_kernel(cwd=str(tmp_path), env=environment(tmp_path))
    try:
        yield made
    finally:
        made.shutdown_kernel(now=True)
        made.cleanup_resources()


@pytest.fixture
def kernel(manager: KernelManager) -> Iterator[Kernel]:
    with Kernel.of(manager) as found:
        yield found


@pytest.mark.filterwarnings("ignore")  # of jupyter's own
def test_cells_show_what_they_print_and_the_run_has_it(kernel: Kernel, tmp_path: Path) -> None:
    opening = "import sys, rewind_logger\nrun = rewind_logger.init(project='p', id='r')\nprint('first cell')"
    assert kernel.run(opening) == {"stdout": "first cell\n"}
    second = "from tqdm import tqdm\nfor step in tqdm(range(3)): run.log({'loss': 1})\nprint('odd', file=sys.stderr)"
    assert "3/3" in kernel.run(second)["stderr"]
    assert kernel.run("run.finish()\nprint('after it')") == {"stdout": "after it\n"}
    found = lines(str(tmp_path / "rewind_logs"))
    assert [(step, source) for step, source, _ in found] == [(0, "stdout"), (3, "stderr"), (3, "stderr")]
    assert found[0][2] == "first cell"
    assert found[1][2].startswith("100%|██████████| 3/3")
    assert found[2][2] == "odd"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "how",
    [
        pytest.param("restart", marks=pytest.mark.exhaustive),
        "kill",
        pytest.param("interrupt", marks=pytest.mark.exhaustive),
    ],
)
def test_a_kernel_that_is_restarted_costs_no_row(how: str, manager: KernelManager, tmp_path: Path) -> None:
    """By "restart" in the menu, by the out-of-memory killer; after an interrupt the run goes on."""
    store = str(tmp_path / "rewind_logs")
    opening = "import os, rewind_logger\nrun = rewind_logger.init(project='p', id='r', system_metrics=False)\n"
    with Kernel.of(manager) as kernel:
        kernel.run(opening + "for i in range(300): run.log({'a': i})")
        if how == "interrupt":
            endless = "for i in range(300, 10**9):\n    run.log({'a': i})\n    if i == 400: print('now')"
            kernel.interrupt(manager, endless)
            kernel.run("run.finish()")
            found = [row["a"] for row in rows(store, "p/r")]
            assert found == list(range(len(found))) and len(found) > 400
            return
    manager.restart_kernel(now=how == "kill")
    with Kernel.of(manager) as kernel:
        kernel.run(opening + "for i in range(run.step, 400): run.log({'a': i})\nrun.finish()")
    found = [row["a"] for row in rows(store, "p/r")]
    count("rows checked", 400)
    count("rows lost", 400 - len(found))
    assert found == list(range(400))
