"""Processor, memory, disk and network, as psutil knows them."""

from __future__ import annotations

import os
import time
from typing import Any

from rewind_logger.sdk.system.measures import Measures
from rewind_logger.types import Scalar


class Machine:
    """Measures this process and its machine."""

    def __init__(self, measures: Measures) -> None:
        """Note where the counters stand; the first sample says what was used since.

        Raises:
            ImportError: If psutil does not work here.
        """
        import psutil

        self._psutil = psutil
        self._measures = measures
        self._process = psutil.Process()
        self.sample()

    def sample(self) -> dict[str, Scalar]:
        """Return what can be measured."""
        ask = self._measures.ask
        return {
            **ask("The processor time of the process", self._process_cpu),
            **ask("The memory of the process", self._process_memory),
            **ask("The threads of the process", self._process_threads),
            **ask("What the process reads and writes", self._process_io),
            **ask("The processor", self._cpu),
            **ask("The memory", self._memory),
            **ask("The space on the disk", self._disk_space),
            **ask("What is read from disks and written to them", self._disk_io),
            **ask("The network", self._network),
        }

    def _process_cpu(self) -> dict[str, Scalar]:
        return {"process/cpu_percent": self._process.cpu_percent(None)}

    def _process_memory(self) -> dict[str, Scalar]:
        return {"process/memory_bytes": self._process.memory_info().rss}

    def _process_threads(self) -> dict[str, Scalar]:
        return {"process/threads": self._process.num_threads()}

    def _process_io(self) -> dict[str, Scalar]:
        process: Any = self._process  # macOS does not count this
        return self._rates("process", process.io_counters())

    def _cpu(self) -> dict[str, Scalar]:
        return {"machine/cpu_percent": self._psutil.cpu_percent(None)}

    def _memory(self) -> dict[str, Scalar]:
        memory = self._psutil.virtual_memory()
        return {"machine/memory_used_bytes": memory.total - memory.available, "machine/memory_percent": memory.percent}

    def _disk_space(self) -> dict[str, Scalar]:
        disk = self._psutil.disk_usage(os.getcwd())
        return {"disk/free_bytes": disk.free, "disk/used_percent": disk.percent}

    def _disk_io(self) -> dict[str, Scalar]:
        return self._rates("disk", self._psutil.disk_io_counters())

    def _network(self) -> dict[str, Scalar]:
        found = self._psutil.net_io_counters(pernic=True)
        used = [counters for name, counters in found.items() if not name.lower().startswith("lo")]
        totals = {
            "network/received_bytes_per_s": sum(counters.bytes_recv for counters in used),
            "network/sent_bytes_per_s": sum(counters.bytes_sent for counters in used),
        }
        return self._measures.rates(time.monotonic(), totals)

    def _rates(self, of: str, counters: Any) -> dict[str, Scalar]:
        totals = {f"{of}/read_bytes_per_s": counters.read_bytes, f"{of}/written_bytes_per_s": counters.write_bytes}
        return self._measures.rates(time.monotonic(), totals)
