"""Fitting: the winner on all training rows, judged on the holdout, with all that it shows."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks.engines import are_off
from tasks.ensembling import cross_validate_again
from tasks.metering import step
from tasks.outoffold import OutOfFold, out_of_fold
from tasks.preparing import Snapshot
from tasks.registering import ModelFiles, save_model
from tasks.settings import threads_for
from tasks.tracking import TrackedRun
from tasks.validating import Study, open_study
from twinloop.binning import learn_binning
from twinloop.ensemble import fit_members
from twinloop.evaluation import METRICS, block_ids, block_means, watched_metric
from twinloop.evidence import gather_evidence
from twinloop.gauge import Gauge, fit_gauge
from twinloop.importance import importance
from twinloop.learning_curve import SHARES, CurvePoint, affordable
from twinloop.logplan import plan_training
from twinloop.profile import Reference, combine, window_numbers
from twinloop.recipe import Recipe
from twinloop.reference import Counted, sample_windows, with_quarantined
from twinloop.results import CandidateResult, Leaderboard
from twinloop.rule import Rule, learn_rule
from twinloop.scoreplan import plan_curve, plan_rule, plan_slices
from twinloop.scorer import Predictions, Scorer, Target
from twinloop.slices import SliceReport, score_slices, slice_columns, slice_rows
from twinloop.splitting import Split
from twinloop.tuneplan import plan_recipe
from twinloop.validation import times_of
from twinloop.workload import Workload

_MICROSECOND = 1_000_000


@dataclass(frozen=True)
class Fitted:
    """A candidate fitted on training rows, judged on the holdout, and fitted again to serve.

    Attributes
    ----------
    judged, served
        The model that never saw the holdout, and the one to register.
    held, y, times
        The holdout's rows, their truth, and times in microseconds or None.
    before, predictions
        Of the holdout's rows: as the estimator gives them, and as published.
    score
        The metric on the holdout.
    reference
        What later rows are compared with.
    gauge
        What tells how good later rows' predictions are, before their labels come.
    latest : np.ndarray of int64
        Rows that `served` was fitted on.
    """

    judged: Scorer
    served: Scorer
    held: pa.Table
    y: np.ndarray
    times: np.ndarray | None
    before: Predictions
    predictions: Predictions
    score: float
    reference: Reference
    gauge: Gauge
    latest: np.ndarray


def fit_model(
    workload: Workload, snapshot: Snapshot, winner: CandidateResult, work: Path, *, threads: int
) -> Fitted:
    """Fit a candidate on the training rows and score it once on the holdout; log nothing.

    What comes out hangs on the arguments alone: the same snapshot, candidate and number of threads
    give the same model.

    Parameters
    ----------
    workload, snapshot
        The rows, how they are divided, and the seed.
    winner
        What is to be fitted; its folds' predictions are in `work`.
    work
        Folder of this training.
    threads
        Cores an estimator may use.
    """
    study = open_study(workload, snapshot)
    table, target, split = study.table, study.target, study.split
    held = table.take(pa.array(split.holdout))
    unseen = out_of_fold(work / winner.name)
    rows = table.take(pa.array(unseen.rows))
    rule = _learn_rule(unseen, rows, target, split, workload)
    latest = split.served if workload.refits else split.train
    plain = fit_judged(workload, snapshot, winner, threads=threads)
    judged = replace(plain, rule=rule)
    served = judged
    if workload.refits:
        served = replace(_fit(study, winner, latest, threads), rule=rule)
    before, y = plain.predict(held), target.encode(held.column(target.name))
    predictions = judged.decided(before)
    losses = _block_losses(y, predictions, loss_blocks(held, workload), workload)
    return Fitted(
        judged=judged,
        served=served,
        held=held,
        y=y,
        times=times_of(held, workload),
        before=before,
        predictions=predictions,
        score=METRICS[workload.metric].score(y, predictions),
        reference=_reference(
            judged, rows, judged.decided(unseen.predictions), losses, workload, snapshot
        ),
        gauge=_gauge(
            judged,
            pa.concat_tables([rows, held]),
            (judged.decided(unseen.predictions), predictions),
            workload,
        ),
        latest=latest,
    )


def fit_judged(
    workload: Workload, snapshot: Snapshot, winner: CandidateResult, *, threads: int
) -> Scorer:
    """Fit a candidate on the training rows alone; the last such fit is kept in memory.

    A refresh is asked what it gains before anything is spent on the rest of it.
    """
    what = CandidateResult(
        name=winner.name,
        metric=winner.metric,
        folds=(),
        fit_seconds=0.0,
        predict_seconds=0.0,
        rows=0,
        recipe=winner.recipe,
        members=winner.members,
    )
    return _judged(
        workload.model_dump_json(), snapshot.model_dump_json(), what.model_dump_json(), threads
    )


@lru_cache(maxsize=1)
def _judged(workload_json: str, snapshot_json: str, winner_json: str, threads: int) -> Scorer:
    workload = Workload.model_validate_json(workload_json)
    study = open_study(workload, Snapshot.model_validate_json(snapshot_json))
    winner = CandidateResult.model_validate_json(winner_json)
    return _fit(study, winner, study.split.train, threads)


def _fit(study: Study, winner: CandidateResult, rows: np.ndarray, threads: int) -> Scorer:
    # The folds' bin edges know of rows that these fits must not know of.
    apart = replace(study.rows, edges=None)
    with threadpool_limits(threads):
        return fit_members(
            apart, winner.name, winner.members, rows, threads=threads, recipe=winner.recipe
        )


@step
def fit_winner(
    workload: Workload,
    snapshot: Snapshot,
    board: Leaderboard,
    work: Path,
    run: TrackedRun,
) -> ModelFiles:
    """Fit the winner on the training rows, score it once on the holdout, and log what it shows.

    The model to serve is fitted again with the holdout's rows, once they have judged it, where the
    workload says so.
    """
    winner = board.winner
    fitted = fit_model(workload, snapshot, winner, work, threads=threads_for(snapshot.rows))
    y, predictions, reference = fitted.y, fitted.predictions, fitted.reference
    holdout = (y, predictions, fitted.times)
    target, rule = fitted.judged.target, fitted.judged.rule
    run.log(plan_training(workload, board, target, holdout, fitted.score, reference))
    run.log(plan_recipe(winner.recipe))
    run.log(plan_rule(rule, y, fitted.before.probability, predictions.probability))
    slices = _slices(fitted, workload)
    run.log(plan_slices(slices, workload.metric))
    run.log(plan_curve(_learning_curve(board, snapshot, workload, work), workload.metric))
    table = open_study(workload, snapshot).table
    evidence = gather_evidence(
        workload,
        table,
        fitted.latest,
        fitted.held,
        (fitted.judged, fitted.before),
        slices,
        reference,
    )
    until = _until(table, fitted.latest, workload)
    files = save_model(
        work,
        fitted.served,
        fitted.judged,
        snapshot,
        evidence,
        reference,
        until,
        fitted.held,
        fitted.gauge,
    )
    return files.model_copy(update={"recipe": winner.recipe or Recipe(candidate=winner.name)})


def _learn_rule(
    unseen: OutOfFold, rows: pa.Table, target: Target, split: Split, workload: Workload
) -> Rule:
    """Learn calibration and threshold from the folds' validation rows, never from the holdout's."""
    folds = np.full(int(unseen.rows.max()) + 1, -1)
    # The first fold to predict a row is the one whose prediction was kept.
    for i, (_, valid) in reversed(list(enumerate(split.folds))):
        folds[valid] = i
    y = target.encode(rows.column(target.name))
    return learn_rule(unseen.predictions.probability, y, folds[unseen.rows], workload)


def _slices(fitted: Fitted, workload: Workload) -> SliceReport:
    """Score slices of the holdout; its days hang together, else its groups, else nothing does."""
    held = fitted.held
    blocks = block_ids(fitted.times, held.num_rows)
    if workload.time is None and workload.group is not None:
        _, blocks = np.unique(held.column(workload.group).to_numpy(), return_inverse=True)
    names = slice_columns(workload, fitted.judged.encoding, fitted.reference.importance)
    cuts = tuple(slice_rows(held, name, workload) for name in names)
    metric = METRICS[workload.metric]
    return score_slices(cuts, fitted.y, fitted.predictions, blocks, metric)


def _learning_curve(
    board: Leaderboard, snapshot: Snapshot, workload: Workload, work: Path
) -> tuple[CurvePoint, ...]:
    """Cross-validate the winner on parts of the folds' rows, if it is wanted and affordable."""
    if are_off():
        return ()  # it is drawn, and decides nothing
    winner = board.winner
    alone = [c for c in board.candidates if not c.members]
    spent = max(sum(c.fit_seconds + c.predict_seconds for c in alone), board.seconds)
    if not workload.training.learning_curve or not affordable(winner, spent, workload):
        return ()
    points = []
    for share in SHARES:
        result = cross_validate_again(workload, snapshot, winner, work, share)
        points.append(CurvePoint(share=share, result=result, overlap=winner.overlap))
    return (*points, CurvePoint(share=1.0, result=winner, overlap=winner.overlap))


def _until(table: pa.Table, rows: np.ndarray, workload: Workload) -> int | None:
    times = times_of(table, workload)
    return None if times is None else int(times[rows].max())


def _reference(
    scorer: Scorer,
    table: pa.Table,
    unseen: Predictions,
    losses: np.ndarray,
    workload: Workload,
    snapshot: Snapshot,
) -> Reference:
    """Profile rows window by window, with predictions of models that had not seen them.

    Predictions of rows a model was fitted on are too good to compare later ones with.
    """
    X = scorer.encoding.encode(table)
    binning = learn_binning(scorer.encoding, X, unseen, scorer.target)
    counted = Counted(scorer.encoding, binning, table, X, unseen)
    times = times_of(table, workload)
    at = _windows(table, workload)
    weights = tuple(float(w) for w in importance(scorer.predictor, X.shape[1]))
    profiles = [counted.profile(at == i) for i in np.unique(at)]
    windows, sample, separations = sample_windows(profiles, weights)
    until = None if times is None else int(times.max())
    gapless = times is not None and len(windows) == int(at.max()) + 1
    windows = with_quarantined(
        windows,
        snapshot.quarantined,
        snapshot.rows,
        snapshot.bad_days,
        # Windows without rows have no profile; where there are some, days tell no window.
        until if gapless else None,
        _span(workload),
    )
    return Reference(
        binning=binning,
        whole=combine(list(windows), binning),
        windows=windows,
        until=until,
        sample=sample,
        separations=separations,
        quarantine=True,
        span=workload.monitoring.window if gapless else None,
        importance=weights,
        loss=watched_metric(workload.metric).name,
        losses=tuple(float(v) for v in losses),
    )


def _gauge(
    scorer: Scorer,
    table: pa.Table,
    parts: tuple[Predictions, Predictions],
    workload: Workload,
) -> Gauge:
    """Fit what estimates the metric without labels, on the folds' validation rows and the holdout.

    None of them was seen by the model that predicted it.
    """
    target, shares = scorer.target, [p.probability for p in parts if p.probability is not None]
    predictions = Predictions(
        np.concatenate([p.value for p in parts]), np.concatenate(shares) if shares else None
    )
    return fit_gauge(
        workload.metric,
        len(target.classes),
        scorer.encoding.encode(table),
        predictions,
        target.encode(table.column(target.name)),
        _windows(table, workload),
        ordered=workload.time is not None,
    )


def _windows(table: pa.Table, workload: Workload) -> np.ndarray:
    return window_numbers(times_of(table, workload), table.num_rows, _span(workload))


def _span(workload: Workload) -> int:
    """Return the length of a watch's window, microseconds."""
    return int(workload.monitoring.window.total_seconds() * _MICROSECOND)


def _block_losses(
    y: np.ndarray, predictions: Predictions, blocks: np.ndarray, workload: Workload
) -> np.ndarray:
    metric = watched_metric(workload.metric)
    assert metric.row_loss is not None  # noqa: S101 - watched metrics have one
    return block_means(metric.row_loss(y, predictions), blocks)


def loss_blocks(table: pa.Table, workload: Workload) -> np.ndarray:
    """Return the block of each row: its day, or one of twenty where rows have no time."""
    times = times_of(table, workload)
    if times is None:
        return np.arange(table.num_rows) * 20 // max(table.num_rows, 1)
    return block_ids(times, table.num_rows)
