"""Choosing: the champion's recipe fitted on several histories, and asked about the newest rows."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from tasks.earlier import earlier_runs
from tasks.estimators import own_estimators
from tasks.metering import step
from tasks.preparing import prepare_snapshot
from tasks.refreshing import Made, history_window
from tasks.tracking import TrackedRun
from tasks.validating import share_cores
from twinloop.continuationplan import LONGEST_TAG
from twinloop.errors import TwinloopError
from twinloop.evaluation import watched_metric
from twinloop.histories import (
    STRETCHES,
    Compared,
    choose,
    histories,
    longest_history,
    stretch_groups,
)
from twinloop.historyplan import OWN_TAG, REASON_TAG, TAG, plan_histories
from twinloop.logplan import Tag
from twinloop.patience import kept_for
from twinloop.recipe import Recipe
from twinloop.refresh import History, aged
from twinloop.scorer import learn_target
from twinloop.validation import LabelledRows, fit_rows, label_rows, times_of
from twinloop.window import as_utc
from twinloop.workload import Workload

# Fewer rows than this are none to fit a model on that is to be compared with another.
FEWEST_ROWS = 100
_progress = logging.getLogger("twinloop.progress")


@step
def choose_history(
    workload: Workload, made: Made, holdout: timedelta, as_of: datetime, run: TrackedRun
) -> History:
    """Choose how far back a refresh reaches, on the newest rows before its holdout.

    Each history is fitted before three stretches, each as long as the holdout, and asked about
    them; all by the champion's recipe, of an ensemble by its heaviest member. A choice is kept for
    a third of the window. Rows older than the window were perhaps never trained on: where they are
    unfit the window stays as it is, and the run says why.

    Parameters
    ----------
    workload
        ``retraining.histories`` says whether there is a choice at all.
    made
        What the champion was made by.
    holdout
        Of the refresh to come: its rows are not asked about.
    as_of
        The moment it is meant for, UTC.
    run
        The retraining, which keeps what was compared.
    """
    own = workload.training.window
    if own is None or workload.retraining.histories == "own" or workload.training.rolling:
        return History(span=own)
    kept = _kept(workload, own, as_of, run)
    if kept is not None:
        return kept
    try:
        compared = _compare_all(workload, own, made.recipe, holdout, as_of)
    except TwinloopError as err:
        words = f"{History(span=own).words}: others could not be compared, {err.message}"
        run.log([Tag(REASON_TAG, words[:LONGEST_TAG])])
        _progress.warning("history of %s: %s", workload.id, words)
        return History(span=own)
    if not compared:
        return History(span=own)
    run.log(plan_histories(compared, workload))
    return choose(compared)


def _compare_all(
    workload: Workload, own: timedelta, recipe: Recipe, holdout: timedelta, as_of: datetime
) -> list[Compared]:
    """Prepare the rows of all histories, and compare a recipe on them; see `choose_history`."""
    longest = longest_history(own) + (STRETCHES + 1) * holdout
    window = history_window(workload, History(span=longest), as_of)
    snapshot = prepare_snapshot(workload, window)
    table = snapshot.table()
    target, estimators = learn_target(table, workload), own_estimators(workload)
    rows = label_rows(table, snapshot.contract, target, workload, own=estimators)
    times = times_of(table, workload)
    assert times is not None  # noqa: S101 - only workloads with time are refreshed
    end = int(times[-1]) + 1 - _micros(holdout)
    bounds = [end - (STRETCHES - i) * _micros(holdout) for i in range(STRETCHES + 1)]
    available = timedelta(microseconds=max(bounds[0] - int(times[0]), 0))
    groups = group_codes(table, workload)
    return compare_histories(rows, recipe, histories(own, available), bounds, groups)


def _within(times: np.ndarray, history: History, end: int) -> np.ndarray:
    """Tell which rows lie in a history that ends at an instant: bool, shape (n_rows,)."""
    late = times < end
    return late if history.span is None else late & (times >= end - _micros(history.span))


def compare_histories(
    rows: LabelledRows,
    recipe: Recipe,
    options: tuple[History, ...],
    bounds: list[int],
    groups: np.ndarray | None = None,
) -> list[Compared]:
    """Fit a recipe on each history before each stretch, and compare what it says of the stretches.

    Parameters
    ----------
    rows
        All there are, encoded once.
    recipe
        What is fitted.
    options
        The workload's own window first; those with too few rows before a stretch are left out.
    bounds
        Where stretches begin, and where the last one ends, microseconds since 1970.
    groups : np.ndarray of int64, shape (n_rows,), or None
        As of `group_codes`: rows of a group that has rows before a stretch are not asked about.
    """
    times = rows.about.times
    assert times is not None  # noqa: S101 - histories are of time
    gap = _micros(rows.workload.training.gap)
    stretches = [(a, asked_rows(times, a, b, gap, groups)) for a, b in pairwise(bounds)]
    asked = [(a, at) for a, at in stretches if len(at)]
    found: list[Compared] = []
    own: np.ndarray | None = None
    parted = stretch_groups(times[np.concatenate([v for _, v in asked])], bounds) if asked else None
    workers, threads = share_cores(len(asked) * len(options), rows.matrix.X.nbytes)
    with threadpool_limits(threads), ThreadPoolExecutor(workers) as pool:
        for option in options:
            span = _micros(option.span or timedelta(0))
            parts = [
                np.flatnonzero((times >= a - gap - span) & (times < a - gap)) for a, _ in asked
            ]
            if not parts or min(len(part) for part in parts) < FEWEST_ROWS:
                if own is None:
                    return []
                continue
            made = aged(recipe, option)
            ask = partial(row_losses, rows, made, threads)
            answers = list(pool.map(ask, parts, [valid for _, valid in asked]))
            losses = np.concatenate([loss for loss, _ in answers])
            own = losses if own is None else own
            assert parted is not None  # noqa: S101 - there are stretches
            cpu = sum(seconds for _, seconds in answers)
            found.append(Compared.of(option, losses, own, parted, len(parts[-1]), cpu))
    return found


def group_codes(table: pa.Table, workload: Workload) -> np.ndarray | None:
    """Return the rows' groups as numbers, shape (n_rows,), or None where rows have no group."""
    if workload.group is None:
        return None
    codes: np.ndarray = pd.factorize(table.column(workload.group).to_numpy())[0]
    return codes


def asked_rows(
    times: np.ndarray, start: int, end: int, gap: int, groups: np.ndarray | None
) -> np.ndarray:
    """Return the rows to be asked about of a stretch of time, as the holdout has them.

    Rows of a group that has rows before, which may be fitted, would reward learning by heart.

    Parameters
    ----------
    times : np.ndarray of int64, shape (n_rows,)
        Microseconds since 1970.
    start, end, gap
        The stretch, and what is left out before it, in microseconds.
    groups : np.ndarray of int64, shape (n_rows,), or None
        As of `group_codes`.
    """
    asked = (times >= start) & (times < end)
    if groups is not None:
        asked &= ~np.isin(groups, groups[times < start - gap])
    return np.flatnonzero(asked)


def row_losses(
    rows: LabelledRows, recipe: Recipe, threads: int, train: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the losses of validation rows, and the CPU seconds that it took to know them."""
    metric = watched_metric(rows.workload.metric)
    assert metric.row_loss is not None  # noqa: S101 - watched metrics have one
    clock = time.thread_time if threads == 1 else time.process_time
    began = clock()
    scorer = fit_rows(rows, recipe.candidate, train, threads=threads, recipe=recipe)
    said = scorer.predict_matrix(rows.matrix.encode(valid, scorer.encoding))
    return metric.row_loss(rows.y[valid], said), clock() - began


def _kept(workload: Workload, own: timedelta, as_of: datetime, run: TrackedRun) -> History | None:
    """Return the last choice for such a window, if not too old; within a replay, only one of it."""
    chose = f"tags.`{TAG}` != '' and tags.`{OWN_TAG}` = '{History(span=own).words}'"
    # What failed later had chosen all the same.
    found = earlier_runs(workload, "retraining", run, more=chose, limit=1, finished=False)
    for one in found:
        age = as_of - as_utc(datetime.fromisoformat(one.data.tags["twinloop.as_of"]))
        if timedelta(0) <= age < kept_for(own):
            try:
                return History.model_validate_json(one.data.tags[TAG])
            except ValidationError:
                return None  # of a later release
    return None


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
