"""Continuing: the champion's trees grown on, held to a refit on rows that neither has seen."""

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks.choosing import FEWEST_ROWS, asked_rows, group_codes, row_losses
from tasks.metering import step
from tasks.preparing import prepare_snapshot
from tasks.refreshing import Refresh
from tasks.registry import load_version
from tasks.settings import threads_for
from tasks.tracking import TrackedRun
from tasks.validating import open_study
from twinloop.continuation import (
    Contest,
    can_grow,
    contest_bounds,
    continued_result,
    is_continued,
    newest_span,
    recipe_of,
    tell_enough,
    unlike,
)
from twinloop.continuationplan import plan_contest, plan_no_contest
from twinloop.contract import check_rows
from twinloop.decision import NEW_LABELS
from twinloop.errors import TwinloopError
from twinloop.histories import Compared, stretch_groups
from twinloop.recipe import Recipe
from twinloop.refresh import History, boosted_rounds
from twinloop.results import CandidateResult
from twinloop.scorer import Scorer, Target
from twinloop.validation import LabelledRows, label_rows, times_of
from twinloop.window import Window
from twinloop.workload import Workload

# Where histories grow the refit before a stretch has a little less than its own; where it has much
# less the continuation, which keeps all its ancestor knew, would win by that alone.
_LEAST_BEFORE = 0.9
_progress = logging.getLogger("twinloop.progress")


@step
def choose_making(
    workload: Workload, refresh: Refresh, run: TrackedRun, trigger: str = ""
) -> Refresh:
    """Choose whether a refresh fits the champion's recipe anew or grows its trees on.

    Both are made before two stretches of rows that are new to the champion, and asked about them;
    the holdout comes after all of these. The continuation goes on where it clearly does better.
    Of what cannot be continued the run says why, and the refresh stays a refit.

    Parameters
    ----------
    workload
        ``retraining.continuing`` says whether there is a choice at all.
    refresh
        A refit.
    run
        The retraining, which keeps what was compared.
    trigger
        What called for it, as a drift check names its cause; empty for a person.
    """
    if not workload.retraining.continuing or not can_grow(refresh.like):
        return refresh
    if trigger == NEW_LABELS:
        # After a break a continuation is far ahead; otherwise it gives nothing for its price.
        run.log(plan_no_contest("only new labels asked, and nothing is known to be worse"))
        return refresh
    from mlflow.exceptions import MlflowException

    grown = _grown(workload, refresh)
    try:
        found = _compare(refresh, grown)
    except TwinloopError as err:
        found = err.message
    except (ValueError, MlflowException) as err:  # XGBoost's own is a ValueError
        # Nobody asked for the comparison: a retraining goes on without it.
        found = f"they could not be compared, {type(err).__name__}: {err}"
        _progress.warning("continuing of %s: %s", workload.id, found)
    if isinstance(found, str):
        run.log(plan_no_contest(found))
        return refresh
    run.log(plan_contest(found, workload))
    _progress.info("%s", found.words)
    better = found.better == "continuation"
    return refresh.model_copy(update={"like": grown}) if better else refresh


def _grown(workload: Workload, refresh: Refresh) -> CandidateResult:
    """Return what the refresh would fit, as a continuation of the champion."""
    champion = refresh.champion
    window = workload.training.window or refresh.window.end - refresh.window.start
    return continued_result(refresh.like, champion.version, champion.digest, newest_span(window))


def _compare(refresh: Refresh, grown: CandidateResult) -> Contest | str:
    """Compare refit and continuation; or say why there is none."""
    workload, champion = refresh.workload, refresh.champion
    if is_continued(champion.recipe):
        return f"{champion.label} is a continuation itself, and these are one generation deep"
    if workload.training.rolling:
        return "by training.rolling no tree may know rows that a rolling window has left behind"
    study = open_study(workload, refresh.snapshot)
    if study.target.classes:
        return "the folds of a refit cannot tell how to calibrate probabilities of a continuation"
    old = load_version(champion, workload.trusted)
    if why := unlike(old.scorer, study.rows.matrix.features, study.target):
        return f"{champion.label}: {why}"
    # As the probe will: what lacks a column cannot be read.
    check_rows(study.table.take(pa.array(study.split.train[-FEWEST_ROWS:])), old.contract)
    times = times_of(study.table, workload)
    assert times is not None  # noqa: S101 - only workloads with time are refreshed
    known = times[study.split.train]
    bounds = contest_bounds(known, champion.until or 0)
    if not bounds:
        return _too_little(champion.label)
    asked = _open_contest(refresh, bounds, int(np.ptp(known)), old.scorer, study.target)
    if isinstance(asked, str):
        return asked
    made = recipe_of(grown)
    rounds = boosted_rounds(old.scorer.predictor)
    refit = made.model_copy(update={"continues": None, "rounds": rounds})
    found = _ask(refresh, asked, bounds, (refit, made))
    if not found or made.continues is None:
        return _too_little(champion.label)
    return Contest(refit=found[0], grown=found[1], made=made.continues)


def _too_little(label: str) -> str:
    return f"too little before the holdout is new to {label}"


@dataclass(frozen=True)
class _Asked:
    """What both ways are tried on: all rows, and of each stretch those before it and its own."""

    rows: LabelledRows
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]


def _open_contest(
    refresh: Refresh, bounds: list[int], span: int, ancestor: Scorer, target: Target
) -> _Asked | str:
    """Prepare rows so far back that the refit has its whole history before each stretch, too.

    Parameters
    ----------
    refresh
        Its own rows reach one history back from its holdout.
    bounds
        Where stretches begin, and where the last one ends, microseconds since 1970.
    span
        Microseconds from the first to the last row that the refit would be fitted on.
    ancestor
        Found here once: what it takes to find it is not what it takes to grow it.
    target
        What both have learned.
    """
    workload = refresh.workload
    gap = workload.training.gap // timedelta(microseconds=1)
    snapshot = refresh.snapshot
    if refresh.history.span is not None:
        more = timedelta(microseconds=bounds[-1] - bounds[0] + gap)
        window = Window(start=refresh.window.start - more, end=refresh.window.end)
        snapshot = prepare_snapshot(workload, window)
    table = snapshot.table()
    rows = label_rows(table, snapshot.contract, target, workload)
    if why := unlike(ancestor, rows.matrix.features, target):
        return f"{refresh.champion.label}: {why}"
    times, groups = rows.about.times, group_codes(table, workload)
    assert times is not None  # noqa: S101 - only workloads with time are refreshed
    if bounds[0] - gap - int(times.min()) < _LEAST_BEFORE * span:
        return "too little before what is new: the refit would have less than it is fitted on"
    parts = [
        (
            np.flatnonzero((times >= a - gap - span) & (times < a - gap)),
            asked_rows(times, a, b, gap, groups),
        )
        for a, b in pairwise(bounds)
    ]
    found = replace(rows, ancestor=lambda _: ancestor)
    return _Asked(found, tuple((fitted, asked) for fitted, asked in parts if len(asked)))


def _ask(
    refresh: Refresh, contest: _Asked, bounds: list[int], recipes: tuple[Recipe, Recipe]
) -> list[Compared]:
    """Make each recipe before each stretch, and compare what it says of it; none if too few rows.

    The first of them is what the other is compared with.
    """
    rows, parts, times = contest.rows, contest.parts, contest.rows.about.times
    assert times is not None  # noqa: S101 - only workloads with time are refreshed
    learned = [len(recipe.newest(fitted, times)) for recipe in recipes for fitted, _ in parts]
    if not parts or min(learned) < FEWEST_ROWS:
        return []
    asked = times[np.concatenate([valid for _, valid in parts])]
    groups = stretch_groups(asked, bounds)
    if not tell_enough(asked, groups, refresh.workload.retraining.min_new_rows):
        return []
    threads = threads_for(refresh.snapshot.rows)
    found: list[Compared] = []
    own: np.ndarray | None = None
    with threadpool_limits(threads):
        for recipe in recipes:
            said = [row_losses(rows, recipe, threads, before, valid) for before, valid in parts]
            losses = np.concatenate([loss for loss, _ in said])
            own = losses if own is None else own
            span = recipe.recent if recipe.continues is None else recipe.continues.recent
            fitted = len(recipe.newest(parts[-1][0], times))
            cpu = sum(seconds for _, seconds in said)
            found.append(Compared.of(History(span=span), losses, own, groups, fitted, cpu))
    return found
