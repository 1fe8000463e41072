"""Fitting: candidates cross-validated, the winner fitted, and judged against the champion."""

import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks import storage
from tasks.metering import step
from tasks.preparing import Snapshot
from tasks.registry import ModelFiles, ServedVersion, holdout_rule, load_version, save_model
from tasks.settings import settings
from tasks.tracking import TrackedRun, tracked_run
from twinloop.candidates import importance
from twinloop.contract import check_rows
from twinloop.errors import ColumnError
from twinloop.evaluation import METRICS, block_ids, block_means, watched_metric
from twinloop.logplan import Text, model_card, plan_candidate, plan_training, plan_verdict
from twinloop.profile import Reference, combine, learn_binning, window_numbers
from twinloop.results import CandidateResult, FoldScore, Leaderboard
from twinloop.scorer import Predictions, Scorer, Target, fit_scorer, learn_target
from twinloop.splitting import Split, split_rows
from twinloop.tables import row_hashes
from twinloop.verdict import Verdict, compare, first_version
from twinloop.window import Window
from twinloop.workload import CandidateName, Workload

_MICROSECOND = 1_000_000


@lru_cache(maxsize=1)
def _rows(path: Path) -> pa.Table:
    """Keep the rows of the snapshot at hand in memory: every candidate reads them."""
    return storage.read_parquet(path / "rows.parquet")


def times_of(table: pa.Table, workload: Workload) -> np.ndarray | None:
    """Return the rows' times in microseconds since 1970, or None where rows have no time."""
    if workload.time is None:
        return None
    times: np.ndarray = table.column(workload.time).cast(pa.int64()).to_numpy()
    return times


def split_table(table: pa.Table, target: Target, workload: Workload) -> Split:
    """Divide the rows of a snapshot as the workload says."""
    codes = None if target.task == "regression" else target.encode(table.column(target.name))
    groups = None if workload.group is None else table.column(workload.group).to_numpy()
    times = times_of(table, workload)
    identity = None if times is not None else row_hashes(table, sorted(table.schema.names))
    return split_rows(
        workload, table.num_rows, times=times, classes=codes, groups=groups, identity=identity
    )


@step
def compare_candidates(
    workload: Workload, snapshot: Snapshot, window: Window | None, run: TrackedRun
) -> Leaderboard:
    """Cross-validate every candidate, each in a child run, as long as the budget lasts."""
    table = _rows(snapshot.path)
    target = learn_target(table, workload)
    split = split_table(table, target, workload)
    deadline = time.monotonic() + 60 * workload.training.budget.minutes
    results: list[CandidateResult] = []
    skipped: list[CandidateName] = []
    for name in workload.training.candidates:
        if len(results) > 1 and time.monotonic() > deadline:
            skipped.append(name)
            continue
        with tracked_run(workload, "candidate", window=window, as_of=run.as_of, what=name) as child:
            result = _cross_validate(table, name, target, split, snapshot, workload)
            child.rows = result.rows
            child.log(plan_candidate(result))
        results.append(result)
    better = METRICS[workload.metric].greater_is_better
    ranked = sorted(results, key=lambda r: -r.valid if better else r.valid)
    return Leaderboard(candidates=tuple(ranked), skipped=tuple(skipped), split=split.description)


def _cross_validate(
    table: pa.Table,
    name: CandidateName,
    target: Target,
    split: Split,
    snapshot: Snapshot,
    workload: Workload,
) -> CandidateResult:
    """Fit everything, encoding included, within each fold."""
    metric = METRICS[workload.metric]
    scores, fitting, predicting, cpu = [], 0.0, 0.0, time.process_time()
    for train, valid in split.folds:
        start = time.perf_counter()
        fitted, held = table.take(pa.array(train)), table.take(pa.array(valid))
        scorer = _fit(fitted, name, target, snapshot, workload)
        middle = time.perf_counter()
        parts = (fitted, held)
        train_score, valid_score = (
            metric.score(target.encode(p.column(target.name)), scorer.predict(p)) for p in parts
        )
        scores.append(FoldScore(train=train_score, valid=valid_score))
        fitting += middle - start
        predicting += time.perf_counter() - middle
    return CandidateResult(
        name=name,
        metric=metric.name,
        folds=tuple(scores),
        fit_seconds=fitting,
        predict_seconds=predicting,
        cpu_seconds=time.process_time() - cpu,
        rows=sum(len(valid) for _, valid in split.folds),
    )


def _fit(
    table: pa.Table, name: CandidateName, target: Target, snapshot: Snapshot, workload: Workload
) -> Scorer:
    return fit_scorer(table, name, target, snapshot.contract, workload, threads=settings().threads)


@step
def fit_winner(
    workload: Workload,
    snapshot: Snapshot,
    board: Leaderboard,
    window: Window | None,
    work: Path,
    run: TrackedRun,
) -> ModelFiles:
    """Fit the winner on the training rows, score it once on the holdout, and log what it shows.

    The model to serve is fitted again with the holdout's rows, once they have judged it, where the
    workload says so.
    """
    table = _rows(snapshot.path)
    target = learn_target(table, workload)
    split = split_table(table, target, workload)
    name = board.winner.name
    train, held = table.take(pa.array(split.train)), table.take(pa.array(split.holdout))
    judged = _fit(train, name, target, snapshot, workload)
    served = _fit(table, name, target, snapshot, workload) if workload.refits else judged
    predictions, y = judged.predict(held), target.encode(held.column(target.name))
    score = METRICS[workload.metric].score(y, predictions)
    reference = _reference(judged, train, held, y, predictions, workload)
    times = times_of(held, workload)
    run.log(plan_training(workload, board, target, (y, predictions, times), score, reference))
    card = model_card(
        workload,
        board,
        score,
        str(window or "all rows"),
        snapshot.digest,
        table.num_rows,
        reference,
    )
    run.log([Text("model_card.md", card)])
    seen = table if workload.refits else train
    return save_model(
        work, served, judged, snapshot, reference, score, _until(times_of(seen, workload)), held
    )


def _until(times: np.ndarray | None) -> int | None:
    return None if times is None else int(times.max())


def _reference(
    scorer: Scorer,
    train: pa.Table,
    held: pa.Table,
    y: np.ndarray,
    predictions: Predictions,
    workload: Workload,
) -> Reference:
    """Profile the training rows, window by window, and the holdout's losses, block by block.

    Predictions of rows a model was fitted on are too good to compare with: the profile of
    predictions is that of the holdout.
    """
    X = scorer.encoding.encode(train)
    fitted = scorer.predict_matrix(X)
    binning = learn_binning(scorer.encoding, X, predictions, scorer.target)
    span = int(workload.monitoring.window.total_seconds() * _MICROSECOND)
    at = window_numbers(times_of(train, workload), train.num_rows, span)
    windows = [binning.count(X[at == i], fitted.take(at == i)) for i in np.unique(at)]
    metric = watched_metric(workload.metric)
    assert metric.row_loss is not None  # noqa: S101 - watched metrics have one
    blocks = loss_blocks(held, workload)
    whole = combine(windows, binning)
    unseen = binning.count(scorer.encoding.encode(held), predictions).columns[-1]
    return Reference(
        binning=binning,
        whole=whole.model_copy(update={"columns": (*whole.columns[:-1], unseen)}),
        windows=tuple(windows),
        importance=tuple(float(w) for w in importance(scorer.predictor, X.shape[1])),
        loss=metric.name,
        losses=tuple(float(v) for v in block_means(metric.row_loss(y, predictions), blocks)),
    )


def loss_blocks(table: pa.Table, workload: Workload) -> np.ndarray:
    """Return the block of each row: its day, or one of twenty where rows have no time."""
    times = times_of(table, workload)
    if times is None:
        return np.arange(table.num_rows) * 20 // max(table.num_rows, 1)
    return block_ids(times, table.num_rows)


@step
def judge(
    workload: Workload,
    snapshot: Snapshot,
    model: ModelFiles,
    champion: ServedVersion | None,
    run: TrackedRun,
) -> Verdict:
    """Compare the model with the champion on holdout rows that neither has seen."""
    if champion is None:
        verdict = first_version(workload.metric, model.score)
    else:
        verdict = _against(champion, workload, snapshot, model)
    run.log(plan_verdict(verdict))
    return verdict


def _against(
    champion: ServedVersion, workload: Workload, snapshot: Snapshot, model: ModelFiles
) -> Verdict:
    table = _rows(snapshot.path)
    target = learn_target(table, workload)
    held = table.take(pa.array(split_table(table, target, workload).holdout))
    fresh = _unseen(held, champion, workload)
    old = load_version(champion)
    if old.scorer.target.classes != target.classes:
        return _no_evidence(workload, f"classes were {old.scorer.target.classes}")
    try:
        checked = check_rows(fresh, old.contract)
    except ColumnError as err:
        return _no_evidence(workload, f"the champion cannot read these rows: {err.message}")
    fresh = fresh.filter(pa.array(checked.kept))
    if fresh.num_rows == 0:
        return _no_evidence(workload, "no rows that neither has seen")
    return compare(
        target.encode(fresh.column(target.name)),
        old.scorer.predict(checked.good),
        model.judged().predict(fresh),
        block_ids(times_of(fresh, workload), fresh.num_rows),
        METRICS[workload.metric],
        confidence=workload.retraining.confidence,
        min_rows=workload.retraining.min_rows,
        seed=workload.seed,
    )


def _no_evidence(workload: Workload, reason: str) -> Verdict:
    return Verdict(outcome="insufficient evidence", reason=reason, metric=workload.metric)


def _unseen(held: pa.Table, champion: ServedVersion, workload: Workload) -> pa.Table:
    """Return the holdout rows that the champion was not fitted on.

    With time: the rows after its last one. Without: all, if it was held to the same holdout and
    never fitted on it; none otherwise.
    """
    times = times_of(held, workload)
    if times is not None:
        return held.filter(pa.array(times > (champion.until or 0)))
    return held if champion.holdout == holdout_rule(workload) else held.slice(0, 0)
