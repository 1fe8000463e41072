"""Fitting: the winner on all training rows, judged on the holdout, with all that it shows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.metering import step
from tasks.preparing import Snapshot
from tasks.registering import ModelFiles, save_model
from tasks.settings import settings
from tasks.tracking import TrackedRun
from tasks.validating import OutOfFold, cross_validate, open_study, out_of_fold
from twinloop.evaluation import METRICS, block_ids, block_means, watched_metric
from twinloop.importance import importance
from twinloop.learning_curve import SHARES, CurvePoint, affordable
from twinloop.logplan import Text, model_card, plan_training
from twinloop.profile import Reference, combine, learn_binning, window_numbers
from twinloop.recipe import Recipe
from twinloop.results import Leaderboard
from twinloop.rule import Rule, learn_rule
from twinloop.scoreplan import card_notes, plan_curve, plan_rule, plan_slices
from twinloop.scorer import Predictions, Scorer, Target
from twinloop.slices import SliceReport, score_slices, slice_columns, slice_rows
from twinloop.splitting import Split
from twinloop.tuneplan import plan_recipe
from twinloop.validation import fit_rows, times_of
from twinloop.window import Window
from twinloop.workload import Workload

_MICROSECOND = 1_000_000


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
    study, name = open_study(workload, snapshot), board.winner.name
    table, target, split = study.table, study.target, study.split
    held = table.take(pa.array(split.holdout))
    unseen = out_of_fold(work / name)
    rows = table.take(pa.array(unseen.rows))
    rule = _learn_rule(unseen, rows, target, split, workload)
    # The folds' bin edges know of rows that these fits must not know of.
    rows_apart, threads = replace(study.rows, edge_rows=None), settings().threads
    recipe = board.winner.recipe
    plain = fit_rows(rows_apart, name, split.train, threads=threads, recipe=recipe)
    judged = replace(plain, rule=rule)
    latest = split.served if workload.refits else split.train
    served = (
        replace(fit_rows(rows_apart, name, latest, threads=threads, recipe=recipe), rule=rule)
        if workload.refits
        else judged
    )
    before, y = plain.predict(held), target.encode(held.column(target.name))
    predictions = judged.decided(before)
    score = METRICS[workload.metric].score(y, predictions)
    times = times_of(held, workload)
    losses = _block_losses(y, predictions, loss_blocks(held, workload), workload)
    reference = _reference(judged, rows, judged.decided(unseen.predictions), losses, workload)
    run.log(plan_training(workload, board, target, (y, predictions, times), score, reference))
    run.log(plan_recipe(recipe))
    run.log(plan_rule(rule, y, before.probability, predictions.probability))
    slices = _slices(judged, held, y, predictions, reference, workload)
    run.log(plan_slices(slices, workload.metric))
    run.log(plan_curve(_learning_curve(board, snapshot, workload, work), workload.metric))
    card = model_card(
        workload,
        board,
        score,
        str(window or "all rows"),
        snapshot.digest,
        table.num_rows,
        reference,
        card_notes(rule, slices, workload),
    )
    run.log([Text("model_card.md", card)])
    until = _until(table, latest, workload)
    files = save_model(work, served, judged, snapshot, reference, score, until, held)
    return files.model_copy(update={"recipe": recipe or Recipe(candidate=name)})


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


def _slices(
    scorer: Scorer,
    held: pa.Table,
    y: np.ndarray,
    predictions: Predictions,
    reference: Reference,
    workload: Workload,
) -> SliceReport:
    """Score slices of the holdout; its days hang together, else its groups, else nothing does."""
    blocks = block_ids(times_of(held, workload), held.num_rows)
    if workload.time is None and workload.group is not None:
        _, blocks = np.unique(held.column(workload.group).to_numpy(), return_inverse=True)
    names = slice_columns(workload, scorer.encoding, reference.importance)
    cuts = tuple(slice_rows(held, name, workload) for name in names)
    return score_slices(cuts, y, predictions, blocks, METRICS[workload.metric])


def _learning_curve(
    board: Leaderboard, snapshot: Snapshot, workload: Workload, work: Path
) -> tuple[CurvePoint, ...]:
    """Cross-validate the winner on parts of the folds' rows, if it is wanted and affordable."""
    winner = board.winner
    fits = sum(c.fit_seconds + c.predict_seconds for c in board.candidates)
    spent = max(fits, board.seconds)
    if not workload.training.learning_curve or not affordable(winner, spent, workload):
        return ()
    points = []
    for share in SHARES:
        folder = work / f"{winner.name}-{share:g}"
        result = cross_validate(
            workload, snapshot, winner.name, folder, share=share, recipe=winner.recipe
        )
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
) -> Reference:
    """Profile rows window by window, with predictions of models that had not seen them.

    Predictions of rows a model was fitted on are too good to compare later ones with.
    """
    X = scorer.encoding.encode(table)
    binning = learn_binning(scorer.encoding, X, unseen, scorer.target)
    span = int(workload.monitoring.window.total_seconds() * _MICROSECOND)
    at = window_numbers(times_of(table, workload), table.num_rows, span)
    windows = [binning.count(X[at == i], unseen.take(at == i)) for i in np.unique(at)]
    return Reference(
        binning=binning,
        whole=combine(windows, binning),
        windows=tuple(windows),
        importance=tuple(float(w) for w in importance(scorer.predictor, X.shape[1])),
        loss=watched_metric(workload.metric).name,
        losses=tuple(float(v) for v in losses),
    )


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
