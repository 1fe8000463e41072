"""The log plan: pure code that yields what a run logs; one interpreter in tasks/ logs it."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from twinloop.costs import Usage, cost_metrics, energy_words
from twinloop.course import by_effect
from twinloop.decision import Decision
from twinloop.drift_plots import course_plot, drift_plot
from twinloop.driftpage import short_page, write_drift_page
from twinloop.leaderboard import LEGEND, columns, lines, remarks
from twinloop.leakage import Finding
from twinloop.loop_keys import Prices
from twinloop.page import to_html
from twinloop.plots import (
    gap_plot,
    holdout_plots,
    importance_plot,
    leaderboard_plot,
    tradeoff_plot,
)
from twinloop.profile import Reference
from twinloop.results import CandidateResult, Leaderboard
from twinloop.scorer import Predictions, Target
from twinloop.watches import Watch, numbers_of
from twinloop.workload import Workload


@dataclass(frozen=True)
class Param:
    """A setting of the run."""

    name: str
    value: object


@dataclass(frozen=True)
class Metric:
    """A number of the run."""

    name: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Tag:
    """A word to find the run by."""

    name: str
    value: str


@dataclass(frozen=True)
class Text:
    """A text file of the run."""

    path: str
    content: str


@dataclass(frozen=True)
class Plot:
    """A figure of the run.

    Attributes
    ----------
    drawing
        The figure, or what draws it: nobody waits for a figure that nobody will see.
    """

    path: str
    drawing: Figure | Callable[[], Figure]

    @property
    def figure(self) -> Figure:
        """The figure, drawn now."""
        return self.drawing if isinstance(self.drawing, Figure) else self.drawing()


@dataclass(frozen=True)
class Table:
    """A small table for the page of the flow run."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Note:
    """A text in Markdown for the page of the flow run."""

    name: str
    title: str
    markdown: str


LogItem = Param | Metric | Tag | Text | Plot | Table | Note


def plan_candidate(result: CandidateResult) -> Iterator[LogItem]:
    """Yield the log of one candidate's cross-validation."""
    yield Param("candidate", result.name)
    yield Metric(f"accuracy/{result.metric}", result.valid)
    yield Metric(f"accuracy/train_{result.metric}", result.train)
    yield Metric(f"accuracy/spread_{result.metric}", result.spread)
    yield from _interval(result, "")
    yield Metric(f"accuracy/gap_{result.metric}", result.gap)
    yield Tag("twinloop.overfits", "yes" if result.overfits else "no")
    yield Tag("twinloop.accuracy", "cross-validation")
    for i, fold in enumerate(result.folds):
        yield Metric(f"accuracy/fold_{result.metric}", fold.valid, i)
        yield Metric(f"accuracy/fold_train_{result.metric}", fold.train, i)
    yield Metric("time/fit_s", result.fit_seconds)
    yield Metric("time/predict_s", result.predict_seconds)
    yield from _footprint(result)


def _footprint(result: CandidateResult) -> Iterator[LogItem]:
    """Yield what a candidate takes, where it was measured."""
    found = result.footprint
    if found is not None:
        yield Metric("time/predict_1000_rows_s", found.batch_seconds)
        yield Metric("time/predict_1_row_s", found.row_seconds)
        yield Metric("time/fit_cpu_s", found.fit_cpu_seconds)
        yield Metric("cost/model_mb", found.size_bytes / 1e6)
        yield Metric("cost/fit_money", found.fit_money)


def _interval(result: CandidateResult, prefix: str) -> Iterator[LogItem]:
    """Yield the ends of the interval over folds, where there are any."""
    low, high = result.interval
    if not math.isnan(low):
        yield Metric(f"accuracy/{prefix}low_{result.metric}", low)
        yield Metric(f"accuracy/{prefix}high_{result.metric}", high)


def plan_training(
    workload: Workload,
    board: Leaderboard,
    target: Target,
    holdout: tuple[np.ndarray, Predictions, np.ndarray | None],
    score: float,
    reference: Reference,
) -> Iterator[LogItem]:
    """Yield the log of a training: settings, scores and plots.

    Parameters
    ----------
    workload, board, target
        What was learned, and how the candidates did.
    holdout
        Truth, predictions and times (microseconds, or None) of the holdout's rows.
    score
        The metric on the holdout.
    reference
        Holds the features' importance.
    """
    metric = workload.metric
    yield Param("winner", board.winner.name)
    yield Param("choice", workload.training.choice)
    yield Param("split", board.split)
    yield Param("folds", workload.training.folds)
    yield Param("candidates", ",".join(workload.training.candidates))
    yield Param("seed", workload.seed)
    yield Metric(f"accuracy/{metric}", score)
    yield Metric(f"accuracy/cv_{metric}", board.winner.valid)
    yield from _interval(board.winner, "cv_")
    yield Metric(f"accuracy/cv_gap_{board.winner.metric}", board.winner.gap)
    yield from _footprint(board.winner)
    yield Tag("twinloop.accuracy", "holdout")
    yield Tag("twinloop.choice", board.reason)
    yield Tag("twinloop.overfits", "yes" if board.winner.overfits else "no")
    y, predictions, times = holdout
    names = tuple(c.name for c in reference.binning.features)
    for name, draw in holdout_plots(target, y, predictions, times):
        yield Plot(f"plots/{name}.png", draw)
    yield Plot("plots/importance.png", partial(importance_plot, names, reference.importance))
    yield Table(
        "leaderboard",
        f"{'. '.join(remarks(board))}. {board.split}. {LEGEND}",
        columns(board),
        lines(board),
    )
    if len(board.candidates) == 1:
        return  # a refresh: nothing competed, and there is nothing to draw beside it
    yield Plot("plots/leaderboard.png", partial(leaderboard_plot, board))
    yield Plot("plots/train_validation_gap.png", partial(gap_plot, board))
    yield Plot("plots/accuracy_and_cost.png", partial(tradeoff_plot, board))


def plan_costs(usage: Usage, prices: Prices, rows: int | None, *, known: bool) -> Iterator[LogItem]:
    """Yield time and cost of a run, how its energy was got, and whether its accuracy is known."""
    for name, value in cost_metrics(usage, prices, rows).items():
        yield Metric(name, value)
    yield Metric("accuracy/known", float(known))
    yield Tag("twinloop.energy", energy_words(usage, prices))


def plan_bill(
    usage: Usage, prices: Prices, rows: int | None, *, known: bool, flow_level: bool
) -> Iterator[LogItem]:
    """Yield the bill of a run; that of a whole flow run as a table, too.

    Parameters
    ----------
    usage, prices, rows
        As in `twinloop.costs.cost_metrics`.
    known
        Whether the run measured an accuracy.
    flow_level
        Whether it stands for a whole flow run, and is no part of one.
    """
    yield from plan_costs(usage, prices, rows, known=known)
    if flow_level:
        costs = cost_metrics(usage, prices, rows)
        lines_of = tuple((name, f"{value:.6g}") for name, value in costs.items())
        title = f"Time and cost; money in {prices.currency}, energy {energy_words(usage, prices)}"
        yield Table("bill", title, ("what", "value"), lines_of)


def plan_decision(decision: Decision, metric: str = "") -> Iterator[LogItem]:
    """Yield the log of a drift check.

    Parameters
    ----------
    decision
        What it concluded.
    metric
        Of the workload: the one that is estimated.
    """
    yield Tag("twinloop.decision", decision.action)
    if decision.cause:
        yield Tag("twinloop.cause_of_retraining", decision.cause)
    if decision.held:
        yield Tag("twinloop.held", decision.held)
    for name, value in numbers_of(decision, metric):
        yield Metric(name, value)
    yield Text("decision.json", decision.model_dump_json(indent=1))
    yield Metric("drift/columns", float(len(decision.drifted)))
    yield Metric(
        "drift/largest_distance", max((f.distance for f in decision.features), default=0.0)
    )
    yield Table(
        "drift",
        f"{decision.action}: {'; '.join(decision.reasons)}",
        ("column", "distance", "p", "share of the model", "drifted"),
        tuple(
            (
                f.column,
                f"{f.distance:.3f}",
                f"{f.p_value:.2g}",
                f"{f.importance:.1%}",
                "yes" if f.drifted else "",
            )
            for f in by_effect(decision.features)
        ),
    )
    yield Plot("plots/drift.png", partial(drift_plot, by_effect(decision.features)))


def plan_drift_page(
    decision: Decision, watches: Sequence[Watch], workload: Workload
) -> Iterator[LogItem]:
    """Yield the page of a drift check, and the metric over all checks so far.

    Parameters
    ----------
    decision
        What it concluded.
    watches
        All checks so far in order of time, this one the last.
    workload
        Whose.
    """
    yield Text("drift.html", to_html(write_drift_page(decision, watches, workload)))
    yield Plot("plots/metric_over_time.png", partial(course_plot, watches, workload.metric))
    note = short_page(decision, watches, workload)
    yield Note("drift-check", f"{workload.id}: {decision.action}", note)


def plan_snapshot(read: int, rows: int, digest: str, dropped: dict[str, int]) -> Iterator[LogItem]:
    """Yield the log of a preparation; its accuracy is the share of rows that were fit for use."""
    yield Metric("accuracy/rows_kept", rows / max(read, 1))
    yield Tag("twinloop.accuracy", "share of rows kept")
    yield Tag("twinloop.data_digest", digest)
    yield Metric("rows/read", read)
    for why, n in dropped.items():
        yield Metric(f"rows/dropped_{why}", n)


def plan_leakage(findings: tuple[Finding, ...]) -> Iterator[LogItem]:
    """Yield the log of the checks for leakage: how many signs there are, and what they are."""
    yield Metric("leakage/findings", float(len(findings)))
    if not findings:
        return
    yield Tag("twinloop.leakage", ", ".join(sorted({f.code for f in findings})))
    yield Text("leakage.json", json.dumps([f.model_dump() for f in findings], indent=1))
    yield Table(
        "leakage",
        f"{len(findings)} signs of leakage, looked for before anything was fitted",
        ("level", "check", "columns", "what was found", "what to do"),
        tuple((f.level, f.code, ", ".join(f.columns), f.explanation, f.advice) for f in findings),
    )
