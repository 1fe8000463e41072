"""Bookkeeping: from the ledger's runs to the account of a workload."""

import math
import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from twinloop.accounts import (
    GREATER_IS_BETTER,
    Account,
    Accuracy,
    Payback,
    Period,
    Shares,
    Spender,
    Unit,
    VersionAccount,
    points,
)
from twinloop.front import pareto_front
from twinloop.ledger import LOOPS, Entry


def make_account(
    entries: Sequence[Entry], workload: str, metric: str, currency: str, second: float
) -> Account:
    """Make the account of a workload.

    Parameters
    ----------
    entries
        Its ledger, the newest run first.
    workload
        Name of the model: runs of others in the ledger are left out.
    metric
        What it is judged by.
    currency
        Money in another one is left out, and such runs are counted; what they made stays.
    second
        Price of a second of computing, to price timings by.
    """
    own = [e for e in entries if e.workload == workload]
    runs = [e for e in own if e.currency == currency]
    homes = _Homes(own)
    unit, periods = by_period(runs)
    versions = _versions(own, homes, metric, currency, second)
    return Account(
        workload=workload,
        metric=metric,
        currency=currency,
        runs=len(runs),
        until=max((e.started for e in own), default=datetime.now(UTC)),
        unit=unit,
        periods=periods,
        money=shares_of(runs),
        spenders=_spenders(runs),
        versions=versions,
        unversioned=sum(e.money for e in runs if homes.version_of(e) not in homes.trainings),
        unversioned_rows=predictions_of(
            e for e in own if homes.version_of(e) not in homes.trainings
        ),
        estimates=tuple(_estimates(runs)),
        left_out=len(own) - len(runs),
        billed=predictions_of(runs),
        without_bill=sum(e.status != "RUNNING" and not e.billed for e in own),
    )


def shares_of(runs: Iterable[Entry]) -> Shares:
    """Add up the money of runs by loop; what runs contain is on bills of its own."""
    sums: dict[str, float] = dict.fromkeys(LOOPS, 0.0)
    for e in runs:
        sums[e.loop] += e.money
    return Shares(**sums)


class _Homes:
    """Finds the version whose bill a run is on."""

    def __init__(self, runs: Sequence[Entry]) -> None:
        self._by_id = {e.run_id: e for e in runs}
        self.trainings = {e.version: e for e in runs if e.kind == "training" and e.version}
        # A retraining holds the training that it started.
        self._within = {t.parent: t.version for t in self.trainings.values() if t.parent}
        moves = [e for e in runs if e.kind == "promotion" and e.status == "FINISHED"]
        self.moves = sorted((e for e in moves if e.became), key=lambda e: e.started)
        self._moved = [m.started for m in self.moves]
        self._services: dict[str, tuple[datetime, datetime | None]] = {}
        ends = [*(m.as_of for m in self.moves[1:]), None]
        for move, end in zip(self.moves, ends, strict=False):
            first, _ = self._services.get(move.became, (move.as_of, None))
            self._services[move.became] = first, end

    def version_of(self, entry: Entry) -> str:
        """Return the version; empty where it is nobody's."""
        if entry.loop != "training":
            return entry.version or self.champion_at(entry.started)
        if entry.kind == "promotion":
            return entry.became
        above: Entry | None = entry
        while above is not None:
            # A failed attempt is on the bill of what came of it: it is a part of the next one.
            if above.kind == "training" and above.version:
                return above.version
            if above.run_id in self._within:
                return self._within[above.run_id]
            above = self._by_id.get(above.parent)
        return ""

    def served(self, version: str) -> tuple[datetime | None, datetime | None]:
        """Return since when a version served, and until when: of its first and its last service."""
        return self._services.get(version, (None, None))

    def champion_at(self, moment: datetime) -> str:
        """Return which version served when a run began."""
        place = bisect_right(self._moved, moment)
        return self.moves[place - 1].became if place else ""

    def champion_before(self, training: Entry) -> str:
        """Return which version served when a training began; itself it could not."""
        found = self.champion_at(training.started)
        return "" if found == training.version else found


def _versions(
    runs: Sequence[Entry], homes: _Homes, metric: str, currency: str, second: float
) -> tuple[VersionAccount, ...]:
    parts: defaultdict[str, list[Entry]] = defaultdict(list)
    bills: defaultdict[str, list[Entry]] = defaultdict(list)
    for e in runs:
        version = homes.version_of(e)
        parts[version].append(e)
        if e.currency == currency:
            bills[version].append(e)
    champion = homes.moves[-1].became if homes.moves else ""
    made = {
        version: VersionAccount(
            version=version,
            winner=training.chosen,
            verdict=training.verdict,
            trained_at=training.as_of,
            served_from=homes.served(version)[0],
            served_until=homes.served(version)[1],
            is_champion=version == champion,
            score=training.metric(f"accuracy/{metric}", math.nan),
            latency_ms=1000 * training.metric("time/predict_1000_rows_s", math.nan),
            money=shares_of(bills[version]),
            trained_here=training.currency == currency,
            predictions=predictions_of(parts[version]),
            billed=predictions_of(bills[version]),
            gain_on_baseline=_gain_on_baseline(parts[version], training, metric),
            gain_on_champion=points(
                metric,
                training.metric("verdict/champion", math.nan),
                training.metric("verdict/challenger", math.nan),
            ),
            payback=None,
            on_front=False,
        )
        for version, training in homes.trainings.items()
    }
    ordered = sorted(made.values(), key=lambda v: int(v.version) if v.version.isdigit() else 0)
    front = pareto_front([_takes(v, metric) for v in ordered])
    done = []
    for place, v in enumerate(ordered):
        before = made.get(homes.champion_before(homes.trainings[v.version]))
        payback = None
        if before is not None and v.trained_here:
            payback = payback_of(v, before, second)
        done.append(v.model_copy(update={"payback": payback, "on_front": place in front}))
    return tuple(done)


def _takes(v: VersionAccount, metric: str) -> tuple[float, float, float]:
    loss = -v.score if metric in GREATER_IS_BETTER else v.score
    return loss, v.latency_ms, v.money.training if v.trained_here else math.nan


def predictions_of(runs: Iterable[Entry]) -> int:
    """Count rows that were scored; the same rows of the same window once by each version."""
    scored = {
        (e.version, e.window, e.digest or e.run_id): int(e.metric("rows/scored"))
        for e in runs
        if e.kind == "inference"
    }
    return sum(scored.values())


def _gain_on_baseline(runs: Iterable[Entry], training: Entry, metric: str) -> float:
    baseline = next(
        (e for e in runs if e.kind == "candidate" and e.chosen == "baseline"),
        None,
    )
    if baseline is None:
        return math.nan
    old = baseline.metric(f"accuracy/{metric}", math.nan)
    return points(metric, old, training.metric(f"accuracy/cv_{metric}", math.nan))


def payback_of(version: VersionAccount, before: VersionAccount, second: float) -> Payback:
    """Return after how many predictions a version has paid for its training.

    Saved is what its scoring runs cost less, a prediction, than those of the version before. Where
    one of the two never scored, it is the difference of their timings in training, at the price of
    a second: what else a scoring run takes, reading and writing, is the same for both.

    Parameters
    ----------
    version, before
        The two.
    second
        Price of a second of computing.
    """
    measured = bool(version.billed and before.billed)
    if measured:
        saving = (before.per_1000 - version.per_1000) / 1000
    else:
        saving = (before.latency_ms - version.latency_ms) / 1e6 * second
    after = version.money.training / saving if saving > 0 else None
    return Payback(
        against=before.version,
        saving=saving,
        predictions=after,
        done=version.predictions,
        measured=measured,
    )


def _spenders(runs: Sequence[Entry]) -> tuple[Spender, ...]:
    kinds: defaultdict[str, list[Entry]] = defaultdict(list)
    for e in runs:
        kinds[e.kind].append(e)
    found = [
        Spender(
            kind=kind,
            runs=len(those),
            money=sum(e.money for e in those),
            kwh=sum(e.metric("cost/energy_kwh") for e in those),
            co2_g=sum(e.metric("cost/co2_g") for e in those),
            cpu_s=sum(e.metric("time/cpu_s") for e in those),
        )
        for kind, those in kinds.items()
    ]
    return tuple(sorted(found, key=lambda s: (-s.money, s.kind)))


def _estimates(runs: Sequence[Entry]) -> Iterable[Accuracy]:
    for kind in ("training", "inference"):
        errors = [
            (e.metric("cost/estimate_error"), e.metric("time/estimate_error"))
            for e in runs
            if e.kind == kind and "cost/estimate_error" in e.metrics
        ]
        if errors:
            money, time = (statistics.median(abs(v) for v in part) for part in zip(*errors))  # noqa: B905
            yield Accuracy(kind=kind, runs=len(errors), money=money, time=time)


_MOST_HOURS, _MOST_DAYS, _MOST_WEEKS = timedelta(days=2), timedelta(days=62), timedelta(days=400)


def by_period(runs: Sequence[Entry]) -> tuple[Unit, tuple[Period, ...]]:
    """Add up money over time, in hours, days, weeks or months: what makes up to some sixty bars."""
    if not runs:
        return "day", ()
    first, last = (f(e.started for e in runs) for f in (min, max))
    span = last - first
    unit: Unit = "month"
    if span <= _MOST_HOURS:
        unit = "hour"
    elif span <= _MOST_DAYS:
        unit = "day"
    elif span <= _MOST_WEEKS:
        unit = "week"
    sums: defaultdict[datetime, list[Entry]] = defaultdict(list)
    for e in runs:
        sums[start_of(e.started, unit)].append(e)
    starts, at = [], start_of(first, unit)
    while at <= last:
        starts.append(at)
        at = _next(at, unit)
    return unit, tuple(Period(start=s, money=shares_of(sums[s])) for s in starts)


def start_of(moment: datetime, unit: Unit) -> datetime:
    """Return the beginning of the hour, day, week (Monday) or month that holds a moment, UTC."""
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if unit == "hour":
        return hour
    day = hour.replace(hour=0)
    if unit == "day":
        return day
    return day - timedelta(days=day.weekday()) if unit == "week" else day.replace(day=1)


def _next(start: datetime, unit: Unit) -> datetime:
    if unit == "month":
        return start_of(start + timedelta(days=32), "month")
    return start + {"hour": timedelta(hours=1), "day": timedelta(days=1)}.get(
        unit, timedelta(days=7)
    )
