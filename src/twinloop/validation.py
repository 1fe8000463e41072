"""Validation: candidates fitted on some rows and held to others, the table encoded but once."""

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from twinloop.candidates import Problem, evenly, fit_candidate
from twinloop.contract import Contract
from twinloop.encoding import SharedMatrix, share
from twinloop.evaluation import METRICS
from twinloop.results import FoldScore
from twinloop.scorer import Predictions, Scorer, Target
from twinloop.splitting import Split
from twinloop.workload import CandidateName, Workload

_EDGE_ROWS = 20_000
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
    edge_rows : np.ndarray of int64, or None
        Rows whose quantiles give boosted trees their bin edges in every fold; None: the fold's.
    """

    matrix: SharedMatrix
    y: np.ndarray
    target: Target
    workload: Workload
    edge_rows: np.ndarray | None = None


def label_rows(
    table: pa.Table,
    contract: Contract,
    target: Target,
    workload: Workload,
    split: Split | None = None,
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
    """
    edges = None
    if split is not None and workload.split != "time":
        edges = split.train[evenly(len(split.train), _EDGE_ROWS)]
    y = target.encode(table.column(target.name))
    return LabelledRows(share(table, contract, workload), y, target, workload, edges)


def fit_scorer(
    table: pa.Table,
    name: CandidateName,
    target: Target,
    contract: Contract,
    workload: Workload,
    *,
    threads: int,
) -> Scorer:
    """Fit encoding and estimator on all rows of a table: `fit_rows` of `label_rows`."""
    return fit_rows(label_rows(table, contract, target, workload), name, threads=threads)


def fit_rows(
    rows: LabelledRows, name: CandidateName, train: np.ndarray | None = None, *, threads: int
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
    """
    chosen = np.arange(len(rows.y)) if train is None else train
    encoding = rows.matrix.fit(chosen)
    edges = None if rows.edge_rows is None else rows.matrix.encode(rows.edge_rows, encoding)
    target, workload = rows.target, rows.workload
    n_classes = len(target.classes)
    problem = Problem(target.task, n_classes, workload.metric, workload.seed, threads, edges)
    y = rows.y[chosen]
    X = rows.matrix.encode(chosen, encoding)
    learned = np.log1p(y) if target.log else y
    return Scorer(encoding, fit_candidate(name, X, learned, encoding, problem), target)


@dataclass(frozen=True)
class Fold:
    """What one fold showed of a candidate.

    Attributes
    ----------
    predictions
        Of the validation rows.
    fit_seconds, predict_seconds
        Wall time.
    """

    score: FoldScore
    predictions: Predictions
    fit_seconds: float
    predict_seconds: float


def validate(
    rows: LabelledRows,
    name: CandidateName,
    train: np.ndarray,
    valid: np.ndarray,
    *,
    threads: int,
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
    """
    metric = METRICS[rows.workload.metric]
    start = time.perf_counter()
    scorer = fit_rows(rows, name, train, threads=threads)
    fitted = time.perf_counter()
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
    return Fold(score, predictions, fitted - start, predicted - fitted)
