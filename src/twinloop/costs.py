"""Costs: from what a run used to what it cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Self

from twinloop.loop_keys import Prices

_GB = 1e9
_HOUR = 3600.0


@dataclass(frozen=True)
class Quantities:
    """What was used, in units that are priced or told; what runs side by side used adds up.

    Attributes
    ----------
    cpu_seconds
        Of all threads and child processes.
    gb_seconds
        Resident memory of the process tree over time: 10**9 bytes held for a second.
    gpu_seconds
        Time that a GPU was held, one after the other added up.
    cpu_kwh, gpu_kwh
        Energy that was measured; zero where nothing measures it.
    read_bytes, written_bytes
        What was asked of the system by read and write, from the page cache as well.
    disk_read_bytes, disk_written_bytes
        What went to and came from storage.
    stored_bytes
        What stays behind: snapshots, models, predictions.
    """

    cpu_seconds: float = 0.0
    gb_seconds: float = 0.0
    gpu_seconds: float = 0.0
    cpu_kwh: float = 0.0
    gpu_kwh: float = 0.0
    read_bytes: float = 0.0
    written_bytes: float = 0.0
    disk_read_bytes: float = 0.0
    disk_written_bytes: float = 0.0
    stored_bytes: float = 0.0

    def __add__(self, other: Self) -> Self:
        """Add each quantity to its like."""
        return replace(self, **{n: getattr(self, n) + getattr(other, n) for n in _NAMES})

    def __sub__(self, other: Self) -> Self:
        """Take each quantity off its like."""
        return self + other.times(-1.0)

    def times(self, share: float) -> Self:
        """Return a share of each quantity."""
        return replace(self, **{n: getattr(self, n) * share for n in _NAMES})


_NAMES = tuple(f.name for f in fields(Quantities))


@dataclass(frozen=True)
class Usage:
    """What a run used, child processes included.

    Attributes
    ----------
    wall_seconds
        Of the run without the runs it contains.
    total_wall_seconds
        With the runs it contains.
    peak_bytes
        Largest resident memory of the process tree while it ran.
    own, total
        What was used without the runs it contains, and with them.
    task_seconds
        Wall seconds by name of task, tasks within it included.
    task_cpu_seconds
        CPU seconds by name of task, tasks and runs within it left out.
    cpu_energy, gpu_energy
        How energy was measured; empty where it was not.
    """

    wall_seconds: float
    total_wall_seconds: float
    peak_bytes: int
    own: Quantities
    total: Quantities
    task_seconds: dict[str, float] = field(default_factory=dict)
    task_cpu_seconds: dict[str, float] = field(default_factory=dict)
    cpu_energy: str = ""
    gpu_energy: str = ""

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds without the runs it contains."""
        return self.own.cpu_seconds

    @property
    def total_cpu_seconds(self) -> float:
        """CPU seconds with the runs it contains."""
        return self.total.cpu_seconds


@dataclass(frozen=True)
class Bill:
    """What a use of the machine costs, in the workload's currency, kWh and grams of CO2."""

    money: float
    energy_kwh: float
    co2_grams: float


def price(used: Quantities, prices: Prices, *, measured: bool = False) -> Bill:
    """Price what was used. It is linear: the bills of parts are the bill of the whole.

    Parameters
    ----------
    used
        CPU time is paid at the price of a core-hour, memory over time at that of a GB-hour, time
        of GPUs at that of a GPU-hour, and energy by the kWh. What is stored is no part of it: it
        costs by the month (`storage_money`).
    prices
        The workload's.
    measured
        Whether energy of the processor is what was measured. If not, it is CPU time at the power
        of a busy core.
    """
    cpu_kwh = used.cpu_kwh if measured else _estimated_kwh(used.cpu_seconds, prices)
    energy = cpu_kwh + used.gpu_kwh
    money = (
        used.cpu_seconds / _HOUR * prices.core_hour
        + used.gb_seconds / _HOUR * prices.gb_hour
        + used.gpu_seconds / _HOUR * prices.gpu_hour
        + energy * prices.kwh
    )
    return Bill(money, energy, energy * prices.grams_co2_per_kwh)


def _estimated_kwh(cpu_seconds: float, prices: Prices) -> float:
    return cpu_seconds / _HOUR * prices.watts_per_core / 1000.0


def bill(wall_seconds: float, cpu_seconds: float, peak_bytes: float, prices: Prices) -> Bill:
    """Price CPU time, and memory held for a time; energy is estimated.

    Parameters
    ----------
    wall_seconds, cpu_seconds
        Time the memory was held, and CPU time of all processes.
    peak_bytes
        Memory held.
    prices
        The workload's.
    """
    held = peak_bytes / _GB * wall_seconds
    return price(Quantities(cpu_seconds=cpu_seconds, gb_seconds=held), prices)


def storage_money(stored_bytes: float, prices: Prices) -> float:
    """Return what it costs to keep so many bytes for a month."""
    return stored_bytes / _GB * prices.storage_gb_month


def energy_words(usage: Usage, prices: Prices) -> str:
    """Say how the energy of a bill was got: measured or estimated, and by which method."""
    if usage.cpu_energy:
        words = f"measured: {usage.cpu_energy}"
    else:
        words = f"estimated: CPU time x {prices.watts_per_core:g} W per core"
    if usage.total.gpu_seconds or usage.total.gpu_kwh:
        words += f"; GPU measured: {usage.gpu_energy}" if usage.gpu_energy else "; GPU not known"
    return words


def is_estimated(words: str) -> bool:
    """Tell whether the energy of the processor was estimated, by what `energy_words` said."""
    return not words.startswith("measured")


def cost_metrics(usage: Usage, prices: Prices, rows: int | None) -> dict[str, float]:
    """Return the ``time/`` and ``cost/`` metrics of a run.

    ``cost/money`` is the run's own, so that the bills of all runs add up; ``cost/money_total``
    holds the runs it contains as well. Beside the money stand the quantities it was worked out
    from, so that other prices can be tried on them.
    """
    own, measured = usage.own, bool(usage.cpu_energy)
    its, total = (
        price(own, prices, measured=measured),
        price(usage.total, prices, measured=measured),
    )
    metrics = {
        "time/wall_s": usage.wall_seconds,
        "time/cpu_s": own.cpu_seconds,
        "time/wall_total_s": usage.total_wall_seconds,
        "time/cpu_total_s": usage.total.cpu_seconds,
        "cost/money": its.money,
        "cost/money_total": total.money,
        "cost/energy_kwh": its.energy_kwh,
        "cost/energy_total_kwh": total.energy_kwh,
        "cost/co2_g": its.co2_grams,
        "cost/peak_memory_mb": usage.peak_bytes / 1e6,
        "cost/memory_gb_s": own.gb_seconds,
        "cost/gpu_s": own.gpu_seconds,
        "cost/read_mb": own.read_bytes / 1e6,
        "cost/written_mb": own.written_bytes / 1e6,
        "cost/disk_read_mb": own.disk_read_bytes / 1e6,
        "cost/disk_written_mb": own.disk_written_bytes / 1e6,
        "cost/stored_mb": own.stored_bytes / 1e6,
        "cost/storage_money_per_month": storage_money(own.stored_bytes, prices),
    }
    if rows is not None:
        metrics["time/rows"] = float(rows)
        metrics["time/rows_per_s"] = rows / max(usage.wall_seconds, 1e-9)
    metrics |= {f"time/task/{name}_s": s for name, s in usage.task_seconds.items()}
    return metrics | {f"time/task/{name}_cpu_s": s for name, s in usage.task_cpu_seconds.items()}


def billed_at(tags: Mapping[str, str]) -> Prices:
    """Return the prices a run was billed at, from its tags; where they do not say, the default."""
    said = tags.get("twinloop.prices")
    currency = tags.get("twinloop.currency", Prices().currency)
    return Prices.model_validate_json(said) if said else Prices(currency=currency)


def priced_quantities(metrics: Mapping[str, float], prices: Prices, energy: str) -> Quantities:
    """Return the quantities behind a bill from its metrics, to price them again.

    Parameters
    ----------
    metrics
        Of a run, as `cost_metrics` named them. Bills that hold no memory over time priced the
        peak held for the whole time: it is taken so.
    prices
        Those the bill was made with.
    energy
        What was said of the run's energy. Estimated energy is left out of the result: it follows
        from CPU time.
    """
    cpu, kwh = metrics.get("time/cpu_s", 0.0), metrics.get("cost/energy_kwh", 0.0)
    peak_gb_seconds = (
        metrics.get("cost/peak_memory_mb", 0.0) / 1e3 * metrics.get("time/wall_s", 0.0)
    )
    estimated = is_estimated(energy)
    gpu_kwh = max(kwh - _estimated_kwh(cpu, prices), 0.0) if "GPU measured" in energy else 0.0
    return Quantities(
        cpu_seconds=cpu,
        gb_seconds=metrics.get("cost/memory_gb_s", peak_gb_seconds),
        gpu_seconds=metrics.get("cost/gpu_s", 0.0),
        cpu_kwh=0.0 if estimated else kwh,
        gpu_kwh=gpu_kwh if estimated else 0.0,
        stored_bytes=metrics.get("cost/stored_mb", 0.0) * 1e6,
    )
