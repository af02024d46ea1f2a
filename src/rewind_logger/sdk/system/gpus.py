"""NVIDIA's GPUs, as their driver's management library (NVML) knows them."""

from __future__ import annotations

import functools
import logging
from typing import Any

from rewind_logger.sdk.system.measures import Measures
from rewind_logger.types import Scalar

LOG = logging.getLogger("rewind_logger")


class Gpus:
    """Measures each GPU of the machine, whoever uses it."""

    def __init__(self, measures: Measures, nvml: Any) -> None:
        """Find the GPUs; without a driver there are none.

        Args:
            measures: Which failed, and is not to be said again.
            nvml: The module `pynvml`, of nvidia-ml-py.
        """
        self._measures = measures
        self._nvml = nvml
        self._handles: list[Any] = []
        try:
            nvml.nvmlInit()
            self._handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        except Exception as error:
            LOG.debug("No GPUs are measured: %s", error)

    def sample(self) -> dict[str, Scalar]:
        """Return what can be measured."""
        values: dict[str, Scalar] = {}
        for index, handle in enumerate(self._handles):
            for question in (self._utilization, self._memory, self._power, self._temperature):
                what = f"{question.__name__.strip('_').capitalize()} of GPU {index}"
                answer = self._measures.ask(what, functools.partial(question, handle))
                values.update({f"gpu/{index}/{name}": value for name, value in answer.items()})
        return values

    def close(self) -> None:
        """Let the driver go."""
        if self._handles:
            self._measures.ask("The end of the GPUs", lambda: self._nvml.nvmlShutdown() or {})

    def _utilization(self, handle: Any) -> dict[str, Scalar]:
        return {"utilization_percent": int(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)}

    def _memory(self, handle: Any) -> dict[str, Scalar]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        return {
            "memory_used_bytes": int(memory.used),
            "memory_percent": 100 * int(memory.used) / int(memory.total),
        }

    def _power(self, handle: Any) -> dict[str, Scalar]:
        return {"power_watts": self._nvml.nvmlDeviceGetPowerUsage(handle) / 1000}

    def _temperature(self, handle: Any) -> dict[str, Scalar]:
        kind = self._nvml.NVML_TEMPERATURE_GPU
        return {"temperature_celsius": int(self._nvml.nvmlDeviceGetTemperature(handle, kind))}
