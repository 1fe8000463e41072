"""Validation: candidates fitted on some rows and held to others, the table encoded but once."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pyarrow as pa

from twinloop.boosting import EDGE_ROWS
from twinloop.candidates import fit_candidate
from twinloop.continuation import grow
from twinloop.contract import Contract
from twinloop.edges import bin_edges, with_levels
from twinloop.encoding import SharedMatrix, share
from twinloop.evaluation import METRICS
from twinloop.problem import Make, Problem, Rows
from twinloop.recipe import Continues, Recipe
from twinloop.results import FoldScore
from twinloop.row_order import evenly
from twinloop.scorer import Predictions, Scorer, Target, refuse_unloadable
from twinloop.splitting import Split
from twinloop.tempering import best_power, raised, tempers
from twinloop.vocabulary import AnyCandidate
from twinloop.weighting import row_weights
from twinloop.workload import Workload

_SEEN_ROWS = 20_000


@dataclass(frozen=True)
class LabelledRows:
    """Rows with their truth, encoded once for all fits on parts of them.

    Attributes
    ----------
    matrix
        The features.
    y : np.ndarray, shape (n_rows,)
        Targets: numbers, or codes of classes.
    about
        Times and groups of the rows; weights depend on which rows are fitted.
    edges : np.ndarray of float32, shape (n_edges, n_features), or None
        Bin edges of quantities for boosted trees in every fold (see `twinloop.edges.bin_edges`);
        None: each fold finds its own.
    own
        The user's own estimators, by name.
    ancestor
        Finds the model that a recipe continues; None: none is to be continued.
    """

    matrix: SharedMatrix
    y: np.ndarray
    target: Target
    workload: Workload
    about: Rows
    edges: np.ndarray | None = None
    own: Mapping[str, Make] | None = None
    ancestor: Callable[[Continues], Scorer] | None = None


def times_of(table: pa.Table, workload: Workload) -> np.ndarray | None:
    """Return the rows' times in microseconds since 1970, or None where rows have no time."""
    if workload.time is None:
        return None
    times: np.ndarray = table.column(workload.time).cast(pa.int64()).to_numpy()
    return times


def label_rows(
    table: pa.Table,
    contract: Contract,
    target: Target,
    workload: Workload,
    split: Split | None = None,
    own: Mapping[str, Make] | None = None,
) -> LabelledRows:
    """Encode a table for fits on parts of it.

    Where rows are drawn by chance, the folds of a split share their bin edges, taken from features
    of its training rows: no target and no row of the holdout has a part in them. By time each fold
    finds its own, so that none has seen what came after.

    Parameters
    ----------
    table
        Clean rows, shape (n_rows, n_columns).
    contract, workload
        Columns, metric and seed.
    target
        What is predicted.
    split
        The folds to come, if any.
    own
        The user's own estimators, by name.
    """
    y = target.encode(table.column(target.name))
    times, groups = times_of(table, workload), None
    if times is None and workload.group is not None:
        _, groups = np.unique(table.column(workload.group).to_numpy(), return_inverse=True)
    about = Rows(times=times, groups=groups)
    matrix, edges = share(table, contract, workload), None
    if split is not None and workload.split != "time":
        edges = bin_edges(matrix.X[split.train[evenly(len(split.train), EDGE_ROWS)]])
    return LabelledRows(matrix, y, target, workload, about, edges, own)


def fit_scorer(
    table: pa.Table,
    name: AnyCandidate,
    target: Target,
    contract: Contract,
    workload: Workload,
    *,
    threads: int,
    own: Mapping[str, Make] | None = None,
) -> Scorer:
    """Fit encoding and estimator on all rows of a table: `fit_rows` of `label_rows`."""
    rows = label_rows(table, contract, target, workload, own=own)
    return fit_rows(rows, name, threads=threads)


def fit_rows(
    rows: LabelledRows,
    name: AnyCandidate,
    train: np.ndarray | None = None,
    *,
    threads: int,
    rounds: int | None = None,
    recipe: Recipe | None = None,
) -> Scorer:
    """Fit encoding and estimator on some rows, and only on these.

    Parameters
    ----------
    rows
        All there are.
    name
        Candidate to fit.
    train : np.ndarray of int64, or None
        The rows to fit; None for all.
    threads
        Cores the estimator may use.
    rounds
        How many trees XGBoost grows; None: as the recipe says, else as many as do good.
    recipe
        Settings, and which rows count how much; None: as shipped, and as the workload says. One
        that continues a model grows it on, by its own encoding.

    Raises
    ------
    WorkloadError
        If an estimator of the user's own answers oddly, or could not be loaded again.
    """
    recipe = recipe or Recipe(candidate=name)
    name = recipe.candidate
    chosen = np.arange(len(rows.y)) if train is None else train
    made, ancestor = recipe.continues, None
    if made is not None:
        if rows.ancestor is None:
            raise ValueError(f"these rows cannot find version {made.version}, to be continued")
        ancestor = rows.ancestor(made)
    # Of all rows: an ensemble's members, whose recipes may differ, share their encoding.
    encoding = ancestor.encoding if ancestor else rows.matrix.fit(chosen)
    chosen = recipe.newest(chosen, rows.about.times)
    levels = {i: f.n_levels for i, f in enumerate(encoding.features) if f.how == "category"}
    edges = None if rows.edges is None else with_levels(rows.edges, levels)
    target, workload = rows.target, rows.workload
    problem = Problem(
        target.task,
        len(target.classes),
        workload.metric,
        workload.seed,
        threads,
        edges,
        rounds or recipe.rounds,
        workload.training.gap // timedelta(microseconds=1),
        recipe.params,
    )
    y = rows.y[chosen]
    about = _about(rows, chosen, problem.n_classes, recipe)
    X = rows.matrix.encode(chosen, encoding)
    if made is not None and ancestor is not None:
        grown = grow(ancestor, made, X, target.learned(y), about.weight, problem)
        return Scorer(encoding, grown, target)
    predictor = fit_candidate(name, X, target.learned(y), encoding, problem, about, rows.own)
    if name in (rows.own or {}):
        # Now, not when it has won.
        refuse_unloadable(name, predictor.model, workload)
    return Scorer(encoding, predictor, target)


def _about(rows: LabelledRows, chosen: np.ndarray, n_classes: int, recipe: Recipe) -> Rows:
    about = rows.about.take(chosen)
    weight = row_weights(rows.y[chosen], about.times, n_classes, rows.workload, recipe.half_life)
    return replace(about, weight=weight)


def score_fold(
    rows: LabelledRows, recipe: Recipe, train: np.ndarray, valid: np.ndarray, *, threads: int
) -> float:
    """Fit a recipe on some rows, and return its metric on others: what a trial is judged by.

    Where the metric reads probabilities it is that of calibrated ones, as these very rows calibrate
    them: one number, fitted on folds that nothing else is judged by, flatters all trials alike, and
    a trial has no other folds yet.
    """
    scorer = fit_rows(rows, recipe.candidate, train, threads=threads, recipe=recipe)
    predictions = scorer.predict_matrix(rows.matrix.encode(valid, scorer.encoding))
    y = rows.y[valid]
    if tempers(rows.workload):
        predictions = tempered(predictions, best_power(shares_of(predictions), y))
    return METRICS[rows.workload.metric].score(y, predictions)


def shares_of(predictions: Predictions) -> np.ndarray:
    """Return probabilities of classes: float64, shape (n_rows, n_classes).

    Raises
    ------
    ValueError
        If these are predictions of numbers.
    """
    if predictions.probability is None:
        raise ValueError("predictions of numbers have no probabilities")
    return predictions.probability


def tempered(predictions: Predictions, power: float) -> Predictions:
    """Return predictions with probabilities raised to a power; the likeliest class stays so."""
    if power == 1.0:
        return predictions
    return Predictions(predictions.value, raised(shares_of(predictions), power))


@dataclass(frozen=True)
class Fold:
    """What one fold showed of a candidate.

    Attributes
    ----------
    predictions
        Of the validation rows.
    seen, again
        Fitted rows, spread evenly, and their predictions.
    fit_seconds, predict_seconds
        Wall time.
    fit_cpu_seconds
        CPU time of the fit; with several threads, of all that the process did meanwhile.
    """

    scorer: Scorer
    score: FoldScore
    predictions: Predictions
    seen: np.ndarray
    again: Predictions
    fit_seconds: float
    predict_seconds: float
    fit_cpu_seconds: float


def validate(
    rows: LabelledRows,
    name: AnyCandidate,
    train: np.ndarray,
    valid: np.ndarray,
    *,
    threads: int,
    rounds: int | None = None,
    recipe: Recipe | None = None,
) -> Fold:
    """Fit a candidate on some rows and predict others.

    The metric of the fitted rows, there to show overfitting, is that of at most 20,000 of them,
    spread evenly.

    Parameters
    ----------
    rows
        All there are.
    name
        Candidate to fit.
    train, valid : np.ndarray of int64
        Rows to fit, and rows to predict.
    threads
        Cores the estimator may use.
    rounds
        How many trees XGBoost grows; None: as many as do good.
    recipe
        What is fitted; None: the candidate as shipped.
    """
    metric = METRICS[rows.workload.metric]
    # Folds are fitted side by side: what the process uses is not this one's alone. Of a fit with
    # several threads it is all there is to go by.
    clock = time.thread_time if threads == 1 else time.process_time
    start, busy = time.perf_counter(), clock()
    scorer = fit_rows(rows, name, train, threads=threads, rounds=rounds, recipe=recipe)
    fitted, busy = time.perf_counter(), clock() - busy
    predictions = scorer.predict_matrix(rows.matrix.encode(valid, scorer.encoding))
    predicted = time.perf_counter()
    seen = train[evenly(len(train), _SEEN_ROWS)]
    again = scorer.predict_matrix(rows.matrix.encode(seen, scorer.encoding))
    score = FoldScore(
        train=metric.score(rows.y[seen], again),
        valid=metric.score(rows.y[valid], predictions),
        train_rows=len(train),
        valid_rows=len(valid),
    )
    times = fitted - start, predicted - fitted, busy
    return Fold(scorer, score, predictions, seen, again, *times)
