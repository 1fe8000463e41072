"""Judging: a new model against the champion, on rows that neither has seen."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from tasks.measuring import measure_footprint
from tasks.metering import step
from tasks.preparing import Snapshot
from tasks.registering import ModelFiles
from tasks.registry import ServedVersion, find_version, holdout_rule, load_version
from tasks.settings import threads_for
from tasks.tracking import TrackedRun
from tasks.validating import Study, open_study
from twinloop import jury, serving
from twinloop.continuation import recipe_of
from twinloop.contract import check_rows
from twinloop.ensemble import fit_members
from twinloop.errors import ColumnError
from twinloop.evaluation import METRICS, block_ids
from twinloop.paired import Pairing, measure_gain
from twinloop.recipe import Continues
from twinloop.results import CandidateResult, Leaderboard
from twinloop.scorer import Predictions, Scorer
from twinloop.slices import slice_columns, slice_rows
from twinloop.validation import fit_rows, times_of
from twinloop.verdict import (
    Check,
    SliceGain,
    Verdict,
    baseline_check,
    compare,
    first_version,
    limit_check,
    no_evidence,
    slice_gains,
    slices_check,
    with_checks,
)
from twinloop.verdictplan import plan_verdict
from twinloop.workload import Workload


@dataclass(frozen=True)
class _Case:
    """A model to be judged: what it was fitted on, and what it says of fresh rows."""

    workload: Workload
    study: Study
    model: ModelFiles
    winner: CandidateResult
    fresh: pa.Table
    answers: Predictions


@step
def judge(
    workload: Workload,
    snapshot: Snapshot,
    board: Leaderboard,
    model: ModelFiles,
    champion: ServedVersion | None,
    run: TrackedRun,
) -> tuple[Verdict, ModelFiles]:
    """Compare the model with the champion on holdout rows that neither has seen.

    Returns
    -------
    tuple of (Verdict, ModelFiles)
        The model with its jury: the champion's, and where it is promoted some of the fresh rows.
    """
    study = open_study(workload, snapshot)
    scorer = model.judged(workload.trusted)
    held = study.split.holdout
    rows = held if champion is None else fresh_rows(study.table, held, champion, workload)
    fresh = study.table.take(pa.array(rows, pa.int64()))
    # Estimators refuse to predict no rows at all.
    answers = scorer.predict(fresh) if len(rows) else Predictions(np.empty(0))
    case = _Case(workload, study, model, board.winner, fresh, answers)
    if champion is None:
        verdict = first_version(workload.metric, model.score, _limits(case))
    else:
        verdict = _against(champion, case, scorer)
    run.log(plan_verdict(verdict))
    return verdict, _with_jury(case, champion, verdict, run)


def _against(champion: ServedVersion, case: _Case, scorer: Scorer) -> Verdict:
    workload, target = case.workload, case.study.target
    old = load_version(champion, workload.trusted)
    if old.scorer.target.classes != target.classes:
        return no_evidence(workload.metric, f"classes were {old.scorer.target.classes}")
    try:
        checked = check_rows(case.fresh, old.contract)
    except ColumnError as err:
        reason = f"the champion cannot read these rows: {err.message}"
        return no_evidence(workload.metric, reason)
    kept = np.flatnonzero(checked.kept)
    if len(kept) == 0:
        return no_evidence(workload.metric, "no rows that neither has seen")
    fresh, answers = case.fresh.take(pa.array(kept)), case.answers.take(kept)
    y = target.encode(fresh.column(target.name))
    pairing = pair_models(fresh, y, old.scorer.predict(checked.good), answers, workload)
    rules = workload.retraining
    verdict = compare(pairing, min_rows=rules.min_rows, margin=rules.margin)
    if not verdict.checks:
        return verdict
    plain = replace(pairing, old=_baseline(case).predict(fresh))
    checks = [baseline_check(measure_gain(plain), workload.metric), *_limits(case)]
    slices: tuple[SliceGain, ...] = ()
    if rules.slices:
        names = slice_columns(workload, scorer.encoding, case.model.reference().importance)
        slices = slice_gains([slice_rows(fresh, name, workload) for name in names], pairing)
        checks.append(slices_check(slices, workload.metric, rules.confidence))
    verdict = with_checks(verdict, checks, slices)
    if rules.jury is None:
        return verdict
    return with_checks(verdict, [_ask_jury(case, scorer, old.jury, verdict)])


def _ask_jury(case: _Case, scorer: Scorer, content: bytes, verdict: Verdict) -> Check:
    """Have the jury answered, which takes a fit, where the fresh rows speak for a promotion."""
    workload, study = case.workload, case.study
    rules, target = workload.retraining, study.target
    gained = verdict.checks[0].outcome == "pass"
    if not gained or not content:
        why = "there is none yet" if gained else "fresh rows show no gain"
        return Check(name="jury", outcome="open", words=f"the jury was not asked: {why}")
    train = study.split.train
    ids = jury.row_ids(study.table, workload)[train]
    rows, seen = jury.hear(jury.from_bytes(content), ids)
    twin = scorer
    if seen.any():
        # The same recipe without the rows to be asked: what it knows by heart is no evidence.
        twin = replace(_fit_winner(case, train[~seen]), rule=scorer.rule)
    y = target.encode(rows.column(target.name))
    n_classes, metric = len(target.classes), METRICS[workload.metric]
    try:
        answers = twin.predict(rows)
    except (KeyError, pa.ArrowException) as err:
        words = f"the jury was not asked: its rows cannot be read any more ({err})"
        return Check(name="jury", outcome="open", words=words)
    recorded = jury.recorded_predictions(rows, n_classes)
    found, beside = measure_gain(pair_models(rows, y, recorded, answers, workload)), ""
    skill = metric.gain(found.old, metric.score(y, jury.constant(y, metric, n_classes)))
    made = recipe_of(case.winner).continues
    if made is not None:
        # Both records count: what was lost in all, and what the new trees spoil of what it knows.
        own = measure_gain(
            pair_models(rows, y, _known(case, made, rows, recorded), answers, workload)
        )
        if own.high < found.high:
            found, beside = own, f"version {made.version}'s own answers"
    keep, left_out = rules.jury or 0.0, int(seen.sum())
    return jury.jury_check(found, skill, keep, metric.name, left_out, beside)


def _known(case: _Case, made: Continues, rows: pa.Table, recorded: Predictions) -> Predictions:
    """Return what the ancestor of a continuation says of jury rows it may have been fitted on."""
    workload = case.workload
    ancestor, times = find_version(workload, made.version), times_of(rows, workload)
    assert times is not None  # noqa: S101 - only workloads with time are refreshed
    said = load_version(ancestor, workload.trusted).scorer.predict(rows)
    return jury.known_said(recorded, times <= (ancestor.until or 0), said)


def _with_jury(
    case: _Case, champion: ServedVersion | None, verdict: Verdict, run: TrackedRun
) -> ModelFiles:
    """Put the jury among the model's files, so that whichever version serves has its own."""
    workload = case.workload
    content = load_version(champion, workload.trusted).jury if champion else b""
    if verdict.outcome == "promote":
        seated = jury.seat(
            jury.from_bytes(content) if content else None,
            case.fresh,
            jury.row_ids(case.fresh, workload),
            case.answers,
            run.as_of,
        )
        content = jury.to_bytes(seated)
    return case.model.with_file(serving.JURY, content) if content else case.model


def _limits(case: _Case) -> list[Check]:
    limits = case.workload.retraining.limits
    if limits.latency_ms is None and limits.size_mb is None:
        return []
    served = case.model.served(case.workload.trusted)
    rows = case.study.table.take(pa.array(case.study.split.holdout))
    took = measure_footprint(served, rows, 0.0, case.workload.prices)
    checks = []
    if limits.latency_ms is not None:
        checks.append(limit_check("latency", 1e3 * took.batch_seconds, limits.latency_ms))
    if limits.size_mb is not None:
        checks.append(limit_check("size", took.size_bytes / 1e6, limits.size_mb))
    return checks


def _baseline(case: _Case) -> Scorer:
    study = case.study
    return fit_rows(study.rows, "baseline", study.split.train, threads=1)


def _fit_winner(case: _Case, rows: np.ndarray) -> Scorer:
    """Fit what was judged once more, on other rows."""
    winner, apart = case.winner, replace(case.study.rows, edges=None)
    threads = threads_for(len(rows))
    with threadpool_limits(threads):
        return fit_members(
            apart, winner.name, winner.members, rows, threads=threads, recipe=winner.recipe
        )


def pair_models(
    rows: pa.Table, y: np.ndarray, old: Predictions, new: Predictions, workload: Workload
) -> Pairing:
    """Put two models before rows; days hang together, else groups, else nothing does."""
    times = times_of(rows, workload)
    blocks = block_ids(times, rows.num_rows)
    if times is None and workload.group is not None:
        _, blocks = np.unique(rows.column(workload.group).to_numpy(), return_inverse=True)
    metric, confidence = METRICS[workload.metric], workload.retraining.confidence
    return Pairing(y, old, new, blocks, metric, confidence, ordered=times is not None)


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
