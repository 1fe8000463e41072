"""Budgets: what was used against what may be, and what a run is likely to use."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from twinloop.amounts import money
from twinloop.budget_keys import Allowance, Budgets
from twinloop.ledger import Entry, Loop

Measure = Literal["money", "kwh", "minutes"]
MEASURES: tuple[Measure, ...] = ("money", "kwh", "minutes")
# So many of the last runs of the same kind tell what the next one takes.
MOST_RUNS = 10
# With fewer runs, sizes explain by chance.
_ENOUGH = 4
_MOST_KINDS = 3


@dataclass(frozen=True)
class Amounts:
    """What was used, or is expected to be: money, kWh, minutes by the clock."""

    money: float = 0.0
    kwh: float = 0.0
    minutes: float = 0.0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.money + other.money, self.kwh + other.kwh, self.minutes + other.minutes)

    def words(self, currency: str) -> str:
        """Say it roughly."""
        time = duration_words(60 * self.minutes)
        return f"about {time}, {money(self.money)} {currency}, {money(self.kwh)} kWh"


@dataclass(frozen=True)
class Limit:
    """A bound that stands somewhere in the workload file.

    Attributes
    ----------
    key
        Where: like ``budget.training.month.money``.
    before
        What had been used of it when the run began; 0 where it bounds the run alone.
    """

    key: str
    measure: Measure
    bound: float
    before: float = 0.0

    def used(self, amounts: Amounts) -> float:
        """Return what is used of it, with what a run has used until now."""
        return self.before + getattr(amounts, self.measure)

    def words(self, amounts: Amounts, currency: str) -> str:
        """Say how much of it is used."""
        unit = {"money": currency, "kwh": "kWh", "minutes": "minutes"}[self.measure]
        return f"{money(self.used(amounts))} of {money(self.bound)} {unit} ({self.key})"


def limits_of(allowance: Allowance, key: str, before: Amounts | None = None) -> tuple[Limit, ...]:
    """Return the bounds of one key of the workload file, with what was used of them before."""
    spent = before or Amounts()
    return tuple(
        Limit(f"{key}.{measure}", measure, bound, getattr(spent, measure))
        for measure in MEASURES
        if (bound := getattr(allowance, measure)) is not None
    )


# What a run used by itself; those of all runs add up.
OWN = ("cost/money", "cost/energy_kwh", "time/wall_s")


def own_amounts(entry: Entry) -> Amounts:
    """Return what a run used without the runs it contains: these add up."""
    seconds = entry.metric("time/wall_s")
    return Amounts(entry.metric("cost/money"), entry.metric("cost/energy_kwh"), seconds / 60)


def month_of(moment: datetime) -> datetime:
    """Return when the month of a moment began, UTC."""
    start = moment.astimezone(UTC)
    return start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def billed_runs(runs: Iterable[Entry], workload: str, currency: str) -> tuple[Entry, ...]:
    """Return the runs of a workload that have a bill; money in another currency is not there.

    Their energy and their minutes count, whatever their money is called.
    """
    return tuple(
        e if e.currency == currency else replace(e, metrics=_without_money(e))
        for e in runs
        if e.workload == workload and "cost/money" in e.metrics
    )


def _without_money(entry: Entry) -> dict[str, float]:
    return {name: value for name, value in entry.metrics.items() if name != "cost/money"}


def outside(runs: Sequence[Entry], run_id: str) -> tuple[Entry, ...]:
    """Return the runs that another one does not contain, and that are not that one itself."""
    parents = {e.run_id: e.parent for e in runs}

    def holds(at: str) -> bool:
        seen: set[str] = set()
        while at and at != run_id and at not in seen:
            seen.add(at)
            at = parents.get(at, "")
        return at == run_id

    return tuple(e for e in runs if not holds(e.run_id))


def month_limits(
    budgets: Budgets, runs: Sequence[Entry], loops: Sequence[Loop] = ("training", "inference")
) -> tuple[tuple[Limit, tuple[Entry, ...]], ...]:
    """Return the bounds of a month, what was used of each, and the runs that used it.

    Parameters
    ----------
    budgets
        Of the workload.
    runs
        Of the month: see `billed_runs`.
    loops
        Whose own budgets are asked, beside that of all together.
    """
    asked: list[tuple[Allowance, str, tuple[Entry, ...]]] = [
        (getattr(budgets, loop).month, f"budget.{loop}.month", tuple(_of_loop(runs, loop)))
        for loop in loops
    ]
    asked.append((budgets.month, "budget.month", tuple(runs)))
    return tuple(
        (limit, those)
        for allowance, key, those in asked
        for limit in limits_of(allowance, key, sum(map(own_amounts, those), Amounts()))
    )


def _of_loop(runs: Sequence[Entry], loop: Loop) -> list[Entry]:
    return [e for e in runs if e.loop == loop]


def spent_limits(limits: Sequence[Limit], amounts: Amounts | None = None) -> tuple[Limit, ...]:
    """Return the bounds of which nothing is left."""
    now = amounts or Amounts()
    return tuple(limit for limit in limits if limit.used(now) >= limit.bound)


@dataclass(frozen=True)
class Past:
    """What a run used, and its size; NaN where that is unknown.

    The size is what is known of a run before it starts: the length of its window.
    """

    amounts: Amounts
    size: float = math.nan


@dataclass(frozen=True)
class Estimate:
    """What a run is likely to use.

    Attributes
    ----------
    runs
        How many of the past say so.
    scaled
        Whether by their size.
    alike
        Whether they were to do the same as this one.
    """

    amounts: Amounts
    runs: int
    scaled: bool = False
    alike: bool = True

    def words(self, currency: str, kind: str) -> str:
        """Say it in a sentence."""
        runs = f"the last {self.runs} runs of {kind}" if self.runs > 1 else f"the one {kind} before"
        how = ", scaled by the length of their windows" if self.scaled else ""
        other = "" if self.alike else ", which were not alike"
        return f"{self.amounts.words(currency)}, from {runs}{how}{other}"


def estimate(past: Sequence[Past], size: float) -> Estimate | None:
    """Return what a run is likely to use; None where no run came before.

    It is the median of the last runs: one that was interrupted by the machine, or that had much to
    catch up, moves it little. Where sizes are known and explain more of what they used, each of
    those runs left out in turn and told from the others, it is the median by size, times the size.

    Parameters
    ----------
    past
        The newest runs of the same kind, at most ten of which are read.
    size
        Of the run to come; NaN where unknown.
    """
    known = past[:MOST_RUNS]
    if not known:
        return None
    scaled = _sizes_help(known, size)
    return Estimate(
        Amounts(*(_median([_of(p, m) for p in known], known, size, scaled) for m in MEASURES)),
        len(known),
        scaled,
    )


def _of(past: Past, measure: Measure) -> float:
    return float(getattr(past.amounts, measure))


def _median(values: Sequence[float], past: Sequence[Past], size: float, scaled: bool) -> float:
    if not scaled:
        return statistics.median(values)
    return size * statistics.median(v / p.size for v, p in zip(values, past, strict=True))


def _sizes_help(past: Sequence[Past], size: float) -> bool:
    """Tell whether sizes foretell the time of each past run, from the others, better than none."""
    sized = size > 0 and all(p.size > 0 for p in past)  # not so of NaN
    if not sized or len(past) < _ENOUGH or all(p.size == size for p in past):
        return False
    errors = {}
    for scaled in (False, True):
        off = []
        for i, one in enumerate(past):
            others = [*past[:i], *past[i + 1 :]]
            values = [o.amounts.minutes for o in others]
            told = _median(values, others, one.size, scaled)
            off.append(abs(told - one.amounts.minutes))
        errors[scaled] = statistics.fmean(off)
    return errors[True] < errors[False]


def error_of(said: float, found: float) -> float | None:
    """Return by which share more was used than an estimate said; None where it said nothing."""
    return found / said - 1 if said > 0 else None


def duration_words(seconds: float) -> str:
    """Spell a time in its largest sensible unit."""
    name, length = next(
        ((n, s) for n, s in (("h", 3600.0), ("min", 60.0)) if seconds >= s), ("s", 1.0)
    )
    number = seconds / length
    return f"{number:.0f} {name}" if number >= 9.95 else f"{number:.2g} {name}"


def refusal_words(
    limit: Limit, spent: Sequence[tuple[str, str, Amounts]], workload: str, currency: str
) -> tuple[str, str]:
    """Say what was spent, by what, and what to do.

    Parameters
    ----------
    limit
        The bound of which nothing is left.
    spent
        Kind and name of each run that counts, and what it used.
    workload, currency
        Of the runs.

    Returns
    -------
    tuple of str and str
        The message and the way out.
    """
    by_kind: dict[str, list[float]] = {}
    for kind, _, amounts in spent:
        if used := getattr(amounts, limit.measure):
            by_kind.setdefault(kind, []).append(used)
    ranked = sorted(by_kind.items(), key=lambda item: (-sum(item[1]), item[0]))
    parts = [
        f"{money(sum(used))} by {len(used)} of kind {kind}" for kind, used in ranked[:_MOST_KINDS]
    ]
    _, name, most = max(spent, key=lambda s: getattr(s[2], limit.measure))
    dearest = f"{name!r} with {money(getattr(most, limit.measure))}"
    return (
        f"this month's budget of {workload!r} is spent: {limit.words(Amounts(), currency)}: "
        f"{', '.join(parts)}; the most by {dearest}.",
        f"Raise {limit.key} in the workload file, or wait for the month to end (UTC); "
        f"`twinloop costs {workload}` shows where it went.",
    )
