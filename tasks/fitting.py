"""Fitting: candidates cross-validated, the winner fitted, and judged against the champion."""

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks import storage
from tasks.measuring import measure_footprint
from tasks.metering import step
from tasks.preparing import Snapshot
from tasks.registering import ModelFiles, save_model
from tasks.registry import ServedVersion, holdout_rule, load_version
from tasks.settings import settings
from tasks.showing import progress
from tasks.tracking import TrackedRun, tracked_run
from twinloop.candidates import importance
from twinloop.choice import choose
from twinloop.contract import check_rows
from twinloop.errors import ColumnError
from twinloop.evaluation import METRICS, block_ids, block_means, watched_metric
from twinloop.learning_curve import SHARES, CurvePoint, affordable, part_of_folds
from twinloop.logplan import Text, model_card, plan_candidate, plan_training, plan_verdict
from twinloop.profile import Reference, combine, learn_binning, window_numbers
from twinloop.results import CandidateResult, FoldScore, Leaderboard, rank
from twinloop.rule import Rule, learn_rule
from twinloop.scoreplan import card_notes, plan_curve, plan_rule, plan_slices
from twinloop.scorer import Predictions, Scorer, Target, fit_scorer, learn_target
from twinloop.slices import SliceReport, score_slices, slice_columns, slice_rows
from twinloop.splitting import Split, split_rows
from twinloop.tables import row_hashes
from twinloop.verdict import Verdict, compare, first_version
from twinloop.window import Window
from twinloop.workload import CandidateName, Workload

_MICROSECOND = 1_000_000


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of each fold's validation rows by the model fitted without them.

    Attributes
    ----------
    rows : np.ndarray of int64, shape (n_rows,)
        Places in the snapshot, increasing.
    predictions
        Of these rows.
    """

    rows: np.ndarray
    predictions: Predictions

    @classmethod
    def of(cls, folds: list[tuple[np.ndarray, Predictions]]) -> Self:
        """Put the folds together; of a row that repeated folds predict, the first counts.

        The mean over repeats would be steadier than what the one model that serves predicts, and a
        drift check would take the difference for drift.
        """
        rows, first = np.unique(np.concatenate([r for r, _ in folds]), return_index=True)
        values = np.concatenate([p.value for _, p in folds])
        shares = [p.probability for _, p in folds if p.probability is not None]
        whole = Predictions(values, np.concatenate(shares) if shares else None)
        return cls(rows, whole.take(first))

    def save(self, path: Path) -> None:
        """Write to a file."""
        probability = self.predictions.probability
        shares = np.empty((0, 0)) if probability is None else probability
        np.savez(path, rows=self.rows, value=self.predictions.value, probability=shares)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read from a file."""
        with np.load(path) as arrays:
            shares = arrays["probability"]
            known = shares if shares.shape[1] else None
            return cls(arrays["rows"], Predictions(arrays["value"], known))


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
    workload: Workload, snapshot: Snapshot, window: Window | None, work: Path, run: TrackedRun
) -> Leaderboard:
    """Cross-validate every candidate, each in a child run, as long as the budget lasts.

    Predictions of the folds' validation rows are left in `work`.
    """
    table = _rows(snapshot.path)
    target = learn_target(table, workload)
    split = split_table(table, target, workload)
    deadline = time.monotonic() + 60 * workload.training.budget.minutes
    results: list[CandidateResult] = []
    skipped: list[CandidateName] = []
    names = workload.training.candidates
    with progress(workload, "candidates", "Candidates cross-validated", len(names)) as advance:
        for name in names:
            if len(results) > 1 and time.monotonic() > deadline:
                skipped.append(name)
                continue
            with tracked_run(
                workload, "candidate", window=window, as_of=run.as_of, what=name
            ) as child:
                result, unseen = _cross_validate(table, name, target, split, snapshot, workload)
                unseen.save(work / f"{name}.npz")
                child.rows = result.rows
                child.log(plan_candidate(result))
            results.append(result)
            advance()
    ranked = rank(results)
    return Leaderboard(
        candidates=ranked,
        skipped=tuple(skipped),
        split=split.description,
        choice=choose(ranked, workload.training.choice),
        currency=workload.prices.currency,
    )


def _cross_validate(
    table: pa.Table,
    name: CandidateName,
    target: Target,
    split: Split,
    snapshot: Snapshot,
    workload: Workload,
) -> tuple[CandidateResult, OutOfFold]:
    """Fit everything, encoding included, within each fold."""
    metric = METRICS[workload.metric]
    scores, unseen, fitting, predicting, cpu = [], [], 0.0, 0.0, 0.0
    for train, valid in split.folds:
        start = time.perf_counter()
        fitted, held = table.take(pa.array(train)), table.take(pa.array(valid))
        busy = time.process_time()
        scorer = _fit(fitted, name, target, snapshot, workload)
        middle, cpu = time.perf_counter(), cpu + time.process_time() - busy
        seen, unseen_now = scorer.predict(fitted), scorer.predict(held)
        truths = [target.encode(part.column(target.name)) for part in (fitted, held)]
        scores.append(
            FoldScore(
                train=metric.score(truths[0], seen),
                valid=metric.score(truths[1], unseen_now),
                train_rows=len(train),
                valid_rows=len(valid),
            )
        )
        unseen.append((valid, unseen_now))
        fitting += middle - start
        predicting += time.perf_counter() - middle
    result = CandidateResult(
        name=name,
        metric=metric.name,
        folds=tuple(scores),
        fit_seconds=fitting,
        predict_seconds=predicting,
        rows=sum(len(valid) for _, valid in split.folds),
        footprint=measure_footprint(scorer, held, cpu, workload.prices),
    )
    return result, OutOfFold.of(unseen)


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
    unseen = OutOfFold.load(work / f"{name}.npz")
    rows = table.take(pa.array(unseen.rows))
    rule = _learn_rule(unseen, rows, target, split, workload)
    plain = _fit(train, name, target, snapshot, workload)
    judged = replace(plain, rule=rule)
    latest = table.take(pa.array(split.served)) if workload.refits else train
    served = (
        replace(_fit(latest, name, target, snapshot, workload), rule=rule)
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
    run.log(plan_rule(rule, y, before.probability, predictions.probability))
    slices = _slices(judged, held, y, predictions, reference, workload)
    run.log(plan_slices(slices, workload.metric))
    run.log(
        plan_curve(
            _learning_curve(table, target, split, board, snapshot, workload), workload.metric
        )
    )
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
    return save_model(
        work, served, judged, snapshot, reference, score, _until(times_of(latest, workload)), held
    )


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
    table: pa.Table,
    target: Target,
    split: Split,
    board: Leaderboard,
    snapshot: Snapshot,
    workload: Workload,
) -> tuple[CurvePoint, ...]:
    """Cross-validate the winner on parts of the folds' rows, if it is wanted and affordable."""
    winner = board.winner
    spent = sum(c.fit_seconds + c.predict_seconds for c in board.candidates)
    if not workload.training.learning_curve or not affordable(winner, spent, workload):
        return ()
    times = times_of(table, workload)
    groups = None if workload.split != "group" else table.column(workload.group).to_numpy()
    points = []
    for share in SHARES:
        part = part_of_folds(split, share, times=times, groups=groups, seed=workload.seed)
        result, _ = _cross_validate(table, winner.name, target, part, snapshot, workload)
        points.append(CurvePoint(share=share, result=result, overlap=winner.overlap))
    return (*points, CurvePoint(share=1.0, result=winner, overlap=winner.overlap))


def _until(times: np.ndarray | None) -> int | None:
    return None if times is None else int(times.max())


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
    held = split_table(table, target, workload).holdout
    fresh = table.take(pa.array(fresh_rows(table, held, champion, workload)))
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


def fresh_rows(
    table: pa.Table, held: np.ndarray, champion: ServedVersion, workload: Workload
) -> np.ndarray:
    """Return the holdout rows that the champion was not fitted on.

    With time: the rows after its last one, and of no group that has a row before. Without: all, if
    it was held to the same holdout and never fitted on it; none otherwise.
    """
    times = times_of(table, workload)
    if times is None:
        return held if champion.holdout == holdout_rule(workload) else held[:0]
    late = times > (champion.until or 0)
    if workload.group is not None:
        groups = table.column(workload.group)
        late &= ~pc.is_in(groups, groups.filter(pa.array(~late))).to_numpy()
    return held[late[held]]
