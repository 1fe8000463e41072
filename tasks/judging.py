"""Judging: a new model against the champion, on rows that neither has seen."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.metering import step
from tasks.preparing import Snapshot
from tasks.registering import ModelFiles
from tasks.registry import ServedVersion, holdout_rule, load_version
from tasks.tracking import TrackedRun
from tasks.validating import open_study
from twinloop.contract import check_rows
from twinloop.errors import ColumnError
from twinloop.evaluation import METRICS, block_ids
from twinloop.logplan import plan_verdict
from twinloop.validation import times_of
from twinloop.verdict import Verdict, compare, first_version
from twinloop.workload import Workload


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
    study = open_study(workload, snapshot)
    table, target, held = study.table, study.target, study.split.holdout
    fresh = table.take(pa.array(fresh_rows(table, held, champion, workload)))
    old = load_version(champion, workload.trusted)
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
        model.judged(workload.trusted).predict(fresh),
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
