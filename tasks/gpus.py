"""GPUs: time they were held and energy they took, through NVML where there is one."""

import importlib
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

_JOULES = 3.6e6  # of a kWh
_DRIVER = Path("/dev/nvidiactl")


class GpuCounter:
    """Counts the GPUs that this process or a child of it holds.

    A GPU that several processes hold is shared equally among them, its time and its energy.

    Parameters
    ----------
    nvml
        The module ``pynvml``; None where it, its driver or a GPU is missing.

    Attributes
    ----------
    words
        How energy is measured, for the bill; empty without a GPU.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._gpus: list[Any] = []
        self._joules: dict[int, float] = {}
        if nvml is not None:
            with suppress(Exception):  # NVML's errors are its own, and none of them is ours to mend
                nvml.nvmlInit()
                n = nvml.nvmlDeviceGetCount()
                self._gpus = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(n)]
        self.words = "NVML, shared equally among the processes on a GPU" if self._gpus else ""
        for i, gpu in enumerate(self._gpus):
            self._joules[i] = self._counted(gpu)

    def used(self, seconds: float, pids: Collection[int]) -> tuple[float, float]:
        """Return the seconds GPUs were held and the kWh they took for it, since the last call.

        Parameters
        ----------
        seconds
            Since the last call.
        pids
            Of this process and its children.
        """
        held = kwh = 0.0
        for i, gpu in enumerate(self._gpus):
            holders = self._holders(gpu)
            share = len(holders & set(pids)) / len(holders) if holders else 0.0
            before, self._joules[i] = self._joules[i], self._counted(gpu)
            joules = self._joules[i] - before
            if not self._joules[i]:  # older ones count no energy, but tell their power
                joules = seconds * self._asked(self._nvml.nvmlDeviceGetPowerUsage, gpu) / 1e3
            held += seconds * share
            kwh += max(joules, 0.0) * share / _JOULES
        return held, kwh

    def _counted(self, gpu: Any) -> float:
        return self._asked(self._nvml.nvmlDeviceGetTotalEnergyConsumption, gpu) / 1e3

    def _holders(self, gpu: Any) -> set[int]:
        with suppress(Exception):
            return {p.pid for p in self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu)}
        return set()

    @staticmethod
    def _asked(question: Callable[[Any], float], gpu: Any) -> float:
        with suppress(Exception):
            return float(question(gpu))
        return 0.0


def find_gpus() -> GpuCounter:
    """Return a counter of this machine's GPUs; it counts none without driver or ``pynvml``."""
    nvml = None
    if _DRIVER.exists():
        with suppress(ImportError):
            nvml = importlib.import_module("pynvml")
    return GpuCounter(nvml)
