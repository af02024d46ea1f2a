"""In a notebook, where a run lives over many cells and the streams are the kernel's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

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


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    manager = KernelManager(kernel_cmd=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
    manager.start_kernel(cwd=str(tmp_path), env={**os.environ, "REWIND_LOGGER_QUIET": "1", "IPYTHONDIR": str(tmp_path)})
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


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
