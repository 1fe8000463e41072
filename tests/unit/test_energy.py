"""Energy and GPUs: read where there are counters, shared, and said to be nothing where not."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.energy import EnergyCounter
from tasks.gpus import GpuCounter

TICK = os.sysconf("SC_CLK_TCK")
WRAPS = 262_143_328_850


class Machine:
    """A machine's counters, as the kernel shows them in files."""

    def __init__(self, folder: Path, domains: dict[str, str]) -> None:
        self.powercap, self.stat = folder / "powercap", folder / "stat"
        self.domains = domains
        for place, name in domains.items():
            (self.powercap / place).mkdir(parents=True)
            (self.powercap / place / "name").write_text(f"{name}\n")
            (self.powercap / place / "max_energy_range_uj").write_text(f"{WRAPS}\n")
        self.show(0, 0.0)

    def show(self, microjoules: int, busy: float) -> None:
        """Set all counters, and the CPU time of all processes, half of it the system's."""
        for place in self.domains:
            (self.powercap / place / "energy_uj").write_text(f"{microjoules % WRAPS}\n")
        half = round(busy * TICK / 2)
        self.stat.write_text(f"cpu  {half} 0 {half} 999999 9999 0 0 9999 0 0\ncpu0 1 1 1\n")

    def counter(self) -> EnergyCounter:
        """Begin to count."""
        return EnergyCounter(self.powercap, self.stat)


def test_a_process_has_the_share_of_energy_that_it_has_of_cpu_time(tmp_path: Path) -> None:
    """36 J of a package and as many of its memory, a quarter of the CPU time: 18 J."""
    domains = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram"}
    machine = Machine(tmp_path, domains)
    counter = machine.counter()
    assert counter.words == "RAPL (dram, package-0), shared among processes by CPU time"
    machine.show(36_000_000, 8.0)
    assert counter.kwh(2.0) == pytest.approx(18 / 3.6e6)
    assert counter.kwh(0.0) == 0
    machine.show(72_000_000, 9.0)
    # No process has used more than all of them: the machine's clock is the coarser one.
    assert counter.kwh(1.004) == pytest.approx(72 / 3.6e6)


def test_a_counter_that_begins_anew_loses_nothing(tmp_path: Path) -> None:
    """What is past the end of the counter's range stands at its beginning."""
    machine = Machine(tmp_path, {"intel-rapl:0": "package-0"})
    machine.show(WRAPS - 1_000_000, 0.0)
    counter = machine.counter()
    machine.show(WRAPS + 2_600_000, 1.0)
    assert counter.kwh(1.0) == pytest.approx(1e-6)


@pytest.mark.parametrize("domains", [{}, {"intel-rapl:0": "psys"}, {"intel-rapl:0": "core"}])
def test_without_a_package_nothing_is_measured(tmp_path: Path, domains: dict[str, str]) -> None:
    """A machine that counts nothing, or only parts or the whole board, is said to count nothing."""
    counter = Machine(tmp_path, domains).counter()
    assert counter.words == ""
    assert counter.kwh(1.0) == 0


def test_a_counter_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """Many kernels let root alone read it; a run must not fail of that."""
    machine = Machine(tmp_path, {"intel-rapl:0": "package-0"})
    (tmp_path / "powercap" / "intel-rapl:0" / "energy_uj").unlink()
    assert machine.counter().words == ""


class Nvml:
    """Two GPUs of a machine; on the first run two processes, on the other none."""

    def __init__(self, *, counts: bool = True) -> None:
        self.millijoules, self.counts = [0, 0], counts
        self.pids: list[list[int]] = [[10, 20], []]

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
        """Do nothing."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Count."""
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        """Return a handle."""
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: int) -> int:  # noqa: N802
        """Return millijoules, where they are counted."""
        if not self.counts:
            raise RuntimeError
        return self.millijoules[gpu] + 1

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:  # noqa: N802, ARG002
        """Return milliwatts."""
        return 360_000

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[SimpleNamespace]:  # noqa: N802
        """Return processes."""
        return [SimpleNamespace(pid=p) for p in self.pids[gpu]]


@pytest.mark.parametrize("counts", [True, False])
def test_a_gpu_is_shared_by_those_who_hold_it(*, counts: bool) -> None:
    """Of two processes each has half, of time and energy; a GPU that others hold costs nothing."""
    nvml = Nvml(counts=counts)
    counter = GpuCounter(nvml)
    assert counter.words == "NVML, shared equally among the processes on a GPU"
    nvml.millijoules = [3_600_000, 9_000_000]
    assert counter.used(10.0, (10, 11)) == pytest.approx((5.0, 1800 / 3.6e6))
    nvml.millijoules = [7_200_000, 9_000_000]
    assert counter.used(10.0, (30,)) == (0, 0)
    nvml.millijoules, nvml.pids = [7_200_000, 9_000_000], [[], []]
    assert counter.used(10.0, (10,)) == (0, 0)


def test_without_a_gpu_none_is_used() -> None:
    """No driver, no GPU, no time, no energy and no word of it."""
    counter = GpuCounter(None)
    assert (counter.words, counter.used(10.0, (1,))) == ("", (0, 0))
