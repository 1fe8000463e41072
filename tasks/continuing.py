"""Continuing: the champion's trees grown on, held to a refit on rows that neither has seen."""

import logging
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks.choosing import row_losses
from tasks.metering import step
from tasks.refreshing import Refresh
from tasks.registry import load_version
from tasks.settings import threads_for
from tasks.tracking import TrackedRun
from tasks.validating import Study, open_study
from twinloop.continuation import (
    Contest,
    can_grow,
    contest_bounds,
    continued_result,
    is_continued,
    newest_span,
    recipe_of,
    unlike,
)
from twinloop.continuationplan import plan_contest, plan_no_contest
from twinloop.contract import check_rows
from twinloop.errors import TwinloopError
from twinloop.histories import Compared, stretch_groups
from twinloop.recipe import Recipe
from twinloop.refresh import History, boosted_rounds
from twinloop.results import CandidateResult
from twinloop.validation import times_of
from twinloop.workload import Workload

# Fewer rows than this are none to fit on.
_FEWEST_ROWS = 100
_progress = logging.getLogger("twinloop.progress")


@step
def choose_making(workload: Workload, refresh: Refresh, run: TrackedRun) -> Refresh:
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
    """
    if not workload.retraining.continuing or not can_grow(refresh.like):
        return refresh
    grown = _grown(workload, refresh)
    try:
        found = _compare(refresh, grown)
    except TwinloopError as err:
        found = err.message
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
    study = open_study(workload, refresh.snapshot)
    old = load_version(champion, workload.trusted)
    if why := unlike(old.scorer, study.rows.matrix.features, study.target):
        return f"{champion.label}: {why}"
    # As the probe will: what lacks a column cannot be read.
    check_rows(study.table.take(pa.array(study.split.train[-_FEWEST_ROWS:])), old.contract)
    made = recipe_of(grown)
    rounds = boosted_rounds(old.scorer.predictor)
    refit = made.model_copy(update={"continues": None, "rounds": rounds})
    found = _ask(refresh, study, (refit, made))
    if not found or made.continues is None:
        return f"too little before the holdout is new to {champion.label}"
    return Contest(refit=found[0], grown=found[1], made=made.continues)


def _ask(refresh: Refresh, study: Study, recipes: tuple[Recipe, Recipe]) -> list[Compared]:
    """Make each recipe before each stretch, and compare what it says of it; none if too few rows.

    The first of them is what the other is compared with.
    """
    workload, train = refresh.workload, study.split.train
    times = times_of(study.table, workload)
    assert times is not None  # noqa: S101 - only workloads with time are refreshed
    bounds = contest_bounds(times[train], refresh.champion.until or 0)
    parts = _parts(times[train], bounds, workload)
    if not parts or min(len(fitted) for fitted, _ in parts) < _FEWEST_ROWS:
        return []
    groups = stretch_groups(times[train[np.concatenate([asked for _, asked in parts])]], bounds)
    rows, threads = replace(study.rows, edges=None), threads_for(refresh.snapshot.rows)
    found: list[Compared] = []
    own: np.ndarray | None = None
    with threadpool_limits(threads):
        for recipe in recipes:
            said = [row_losses(rows, recipe, threads, train[a], train[b]) for a, b in parts]
            losses = np.concatenate([loss for loss, _ in said])
            own = losses if own is None else own
            span = recipe.recent if recipe.continues is None else recipe.continues.recent
            fitted = len(recipe.newest(train[parts[-1][0]], times))
            cpu = sum(seconds for _, seconds in said)
            found.append(Compared.of(History(span=span), losses, own, groups, fitted, cpu))
    return found


def _parts(
    times: np.ndarray, bounds: list[int], workload: Workload
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, of each stretch that has rows, the rows before it and its own."""
    gap = workload.training.gap // timedelta(microseconds=1)
    parts = [
        (np.flatnonzero(times < a - gap), np.flatnonzero((times >= a) & (times < b)))
        for a, b in pairwise(bounds)
    ]
    return [(fitted, asked) for fitted, asked in parts if len(asked)]
