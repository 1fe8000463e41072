"""Costs: from what a run used to what it cost."""

from dataclasses import dataclass, field

from twinloop.loop_keys import Prices

_GB = 1e9
_HOUR = 3600.0


@dataclass(frozen=True)
class Usage:
    """What a run used, child processes included.

    Attributes
    ----------
    wall_seconds, cpu_seconds
        Of the run without the runs it contains.
    peak_bytes
        Largest resident memory of the process tree while it ran.
    total_wall_seconds, total_cpu_seconds
        With the runs it contains.
    task_seconds
        Wall seconds by name of task.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    total_wall_seconds: float
    total_cpu_seconds: float
    task_seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bill:
    """What a use of the machine costs, in the workload's currency, kWh and grams of CO2."""

    money: float
    energy_kwh: float
    co2_grams: float


def bill(wall_seconds: float, cpu_seconds: float, peak_bytes: int, prices: Prices) -> Bill:
    """Price a use of the machine.

    Money is CPU time at the price of a core-hour, peak memory held for the wall time at the price
    of a GB-hour, and energy. Energy is an estimate: CPU time at the power of a busy core.

    Parameters
    ----------
    wall_seconds, cpu_seconds
        Time the run took, and CPU time of all its processes.
    peak_bytes
        Memory held.
    prices
        The workload's.
    """
    energy = cpu_seconds / _HOUR * prices.watts_per_core / 1000.0
    money = (
        cpu_seconds / _HOUR * prices.core_hour
        + peak_bytes / _GB * wall_seconds / _HOUR * prices.gb_hour
        + energy * prices.kwh
    )
    return Bill(money, energy, energy * prices.grams_co2_per_kwh)


def cost_metrics(usage: Usage, prices: Prices, rows: int | None) -> dict[str, float]:
    """Return the ``time/`` and ``cost/`` metrics of a run.

    ``cost/money`` is the run's own, so that the bills of all runs add up; ``cost/money_total``
    holds the runs it contains as well.
    """
    own = bill(usage.wall_seconds, usage.cpu_seconds, usage.peak_bytes, prices)
    total = bill(usage.total_wall_seconds, usage.total_cpu_seconds, usage.peak_bytes, prices)
    metrics = {
        "time/wall_s": usage.wall_seconds,
        "time/cpu_s": usage.cpu_seconds,
        "time/wall_total_s": usage.total_wall_seconds,
        "cost/money": own.money,
        "cost/money_total": total.money,
        "cost/energy_kwh": own.energy_kwh,
        "cost/co2_g": own.co2_grams,
        "cost/peak_memory_mb": usage.peak_bytes / 1e6,
    }
    if rows is not None:
        metrics["time/rows"] = float(rows)
        metrics["time/rows_per_s"] = rows / max(usage.wall_seconds, 1e-9)
    return metrics | {f"time/task/{name}_s": s for name, s in usage.task_seconds.items()}
