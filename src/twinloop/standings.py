"""Standings: policies held against never retraining, and against the best schedule."""

import csv
import io
from collections.abc import Sequence

from twinloop.evaluation import METRICS
from twinloop.replay import Policy, PolicyResult
from twinloop.vocabulary import Frozen


class Standing(Frozen):
    """Where a policy stands among those it was replayed with.

    Attributes
    ----------
    gain
        How much better than ``never``, in the metric; positive is better. None where ``never`` was
        not replayed.
    share
        Of the gain of the best schedule; None without a schedule that gained.
    cost
        Cost of training, relative to that of the dearest policy, 0 to 1; None where all is free.
    frontier
        Whether no schedule is both at most as dear and better, or as good and cheaper. ``never`` is
        the schedule of no retraining.
    """

    policy: str
    gain: float | None
    share: float | None
    cost: float | None
    frontier: bool


def compare_policies(results: Sequence[PolicyResult]) -> tuple[Standing, ...]:
    """Hold policies against each other, in the order given."""
    never = next((r for r in results if r.policy == "never"), None)
    best = max((_gain(r, never) or 0.0 for r in _scheduled(results)), default=0.0)
    dearest = max((r.training_money for r in results), default=0.0)
    return tuple(
        Standing(
            policy=result.policy,
            gain=_gain(result, never),
            share=_share(_gain(result, never), best),
            cost=result.training_money / dearest if dearest else None,
            frontier=not any(_beats(other, result) for other in schedules(results)),
        )
        for result in results
    )


def schedules(results: Sequence[PolicyResult]) -> list[PolicyResult]:
    """Return those that go by the clock alone, ``never`` included."""
    return [r for r in results if Policy.parse(r.policy).kind != "drift"]


def frontier(results: Sequence[PolicyResult]) -> list[PolicyResult]:
    """Return schedules that no other schedule beats in error and cost, the cheapest first."""
    found = schedules(results)
    front = [r for r in found if not any(_beats(other, r) for other in found)]
    return sorted(front, key=lambda r: r.training_money)


def _scheduled(results: Sequence[PolicyResult]) -> list[PolicyResult]:
    return [r for r in results if Policy.parse(r.policy).kind == "every"]


def _gain(result: PolicyResult, never: PolicyResult | None) -> float | None:
    return None if never is None else METRICS[result.metric].gain(result.error, never.error)


def _share(gain: float | None, best: float) -> float | None:
    return None if gain is None or best <= 0 else gain / best


def _beats(other: PolicyResult, result: PolicyResult) -> bool:
    gain = METRICS[result.metric].gain(other.error, result.error)
    saved = result.training_money - other.training_money
    return gain >= 0 and saved >= 0 and (gain > 0 or saved > 0)


def policies_csv(results: Sequence[PolicyResult], standings: Sequence[Standing]) -> str:
    """Write policies side by side as CSV; empty where there is nothing to say."""
    sink = io.StringIO()
    said = [_facts(r, s) for r, s in zip(results, standings, strict=True)]
    writer = csv.DictWriter(sink, list(said[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(said)
    return sink.getvalue()


def _facts(result: PolicyResult, standing: Standing) -> dict[str, object]:
    return {
        "policy": result.policy,
        result.metric: result.error,
        "gain_over_never": standing.gain,
        "share_of_best_schedule": standing.share,
        "trainings": result.trainings,
        "promotions": result.promotions,
        f"training_{result.currency}": result.training_money,
        "relative_training_cost": standing.cost,
        f"all_{result.currency}": result.money,
        "training_kwh": result.training_energy_kwh,
        "all_kwh": result.energy_kwh,
        "on_frontier": standing.frontier,
    }
