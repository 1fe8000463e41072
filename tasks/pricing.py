"""Pricing: old bills at other prices."""

import math
from pathlib import Path

from tasks.ledger import read_ledger
from tasks.settings import read_prices
from twinloop.costs import billed_at, is_estimated, price, priced_quantities, storage_money
from twinloop.ledger import Record
from twinloop.loop_keys import Prices
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload


class Repriced(Frozen):
    """All runs of a kind that were billed in one currency, then and at other prices.

    Attributes
    ----------
    money_then, money_now
        Of the runs themselves, without the runs they contain: kinds add up.
    storage_then, storage_now
        What keeping what they left behind costs by the month.
    """

    kind: str
    currency: str
    runs: int
    money_then: float
    money_now: float
    co2_then: float
    co2_now: float
    storage_then: float
    storage_now: float


class Repricing(Frozen):
    """What all runs of an experiment cost, and what they would have cost.

    Attributes
    ----------
    prices
        Those tried.
    kinds
        The dearest first, by what they would have cost.
    without_bill
        Runs left out: they run still, or nobody has closed them.
    """

    experiment: str
    prices: Prices
    kinds: tuple[Repriced, ...]
    without_bill: int

    @property
    def totals(self) -> tuple[Repriced, ...]:
        """All kinds together, once for each currency of the bills."""
        names = dict.fromkeys(k.currency for k in self.kinds)
        return tuple(_add([k for k in self.kinds if k.currency == c], "all") for c in names)


def reprice(workload: Workload, prices_file: Path) -> Repricing:
    """Work out what a workload's runs would have cost at other prices; nothing is written.

    Parameters
    ----------
    workload
        Whose runs; prices the file does not give are its own of today.
    prices_file
        YAML with keys of a workload's ``prices``.

    Raises
    ------
    WorkloadError
        If the file cannot be read or holds anything but prices.
    """
    given = read_prices(prices_file)
    prices = Prices.model_validate(workload.prices.model_dump() | given)
    parts: list[Repriced] = []
    without = 0
    for run in read_ledger([workload.experiment], metrics=("cost/*", "time/*")):
        if "cost/money" in run.metrics:
            parts.append(_repriced(run, prices))
        else:
            without += 1
    names = dict.fromkeys((p.kind, p.currency) for p in parts)
    kinds = [_add([p for p in parts if (p.kind, p.currency) == n], n[0]) for n in names]
    kinds.sort(key=lambda k: -k.money_now)
    return Repricing(
        experiment=workload.experiment, prices=prices, kinds=tuple(kinds), without_bill=without
    )


def _repriced(run: Record, prices: Prices) -> Repriced:
    metrics, energy, then = run.metrics, run.words.get("twinloop.energy", ""), billed_at(run.words)
    used = priced_quantities(metrics, then, energy)
    now = price(used, prices, measured=not is_estimated(energy))
    return Repriced(
        kind=run.words.get("twinloop.kind", ""),
        currency=then.currency,
        runs=1,
        money_then=metrics["cost/money"],
        money_now=now.money,
        co2_then=metrics.get("cost/co2_g", 0.0),
        co2_now=now.co2_grams,
        storage_then=metrics.get("cost/storage_money_per_month", 0.0),
        storage_now=storage_money(used.stored_bytes, prices),
    )


def _add(parts: list[Repriced], kind: str) -> Repriced:
    sums = {
        name: math.fsum(getattr(p, name) for p in parts)
        for name, field in Repriced.model_fields.items()
        if field.annotation is float
    }
    runs = sum(p.runs for p in parts)
    return Repriced(kind=kind, currency=parts[0].currency, runs=runs, **sums)
