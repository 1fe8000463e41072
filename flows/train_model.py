"""Train a model: candidates compete, the winner is judged, registered and maybe promoted."""

from datetime import datetime

from flows.form import run_name
from tasks.budgeting import name_over_budget, within_budget
from tasks.costing import publish_costs
from tasks.describing import describe_version
from tasks.engines import flow
from tasks.ensembling import add_ensemble
from tasks.estimators import check_estimators
from tasks.fitting import fit_winner
from tasks.inspecting import inspect_snapshot
from tasks.judging import judge
from tasks.preparing import prepare_snapshot, training_window
from tasks.provenance import provenance_of
from tasks.registering import register_version, work_folder
from tasks.registry import apply_verdict, current_champion
from tasks.settings import load_workload, moment_of
from tasks.tracking import tracked_run
from tasks.tuning import tune_candidates
from tasks.validating import compare_candidates
from twinloop.logplan import Tag
from twinloop.outlookplan import plan_lead
from twinloop.refresh import HOW
from twinloop.results import TrainingResult
from twinloop.window import Window
from twinloop.workload import Overrides


@flow(
    name="train-model",
    flow_run_name=run_name("train"),
    on_completion=[name_over_budget],
    on_failure=[name_over_budget],
)
def train_model(
    workload: str,
    window: Window | None = None,
    as_of: datetime | None = None,
    overrides: Overrides | None = None,
) -> TrainingResult:
    """Train, judge and register a new version.

    The first version becomes champion. A later one becomes challenger, and champion only if a
    paired comparison on rows that neither has seen says so.

    Parameters
    ----------
    workload
        Name of the workload.
    window
        Training rows, UTC; default the newest labelled window before `as_of`.
    as_of
        The moment the run is meant for, UTC; default its scheduled time.
    overrides
        What this run does otherwise than the workload says.
    """
    spec, moment = (overrides or Overrides()).apply(load_workload(workload)), moment_of(as_of)
    span = window or training_window(spec, moment)
    with (
        tracked_run(spec, "training", window=span, as_of=moment) as run,
        within_budget(spec, "training", span, run),
        work_folder(spec, run) as work,
    ):
        check_estimators(spec)
        snapshot = prepare_snapshot(spec, span)
        run.rows = snapshot.rows
        run.log([Tag(HOW, "search")])
        findings = inspect_snapshot(spec, snapshot, run)
        champion = current_champion(spec)
        board = compare_candidates(spec, snapshot, span, work, run)
        board = tune_candidates(spec, snapshot, board, champion, span, work, run)
        board = add_ensemble(spec, snapshot, board, span, work, run)
        run.log(plan_lead(board, champion.recipe if champion else ""))
        model = fit_winner(spec, snapshot, board, work, run)
        verdict, model = judge(spec, snapshot, board, model, champion, run)
        provenance = provenance_of(spec, snapshot, board, span)
        version = register_version(spec, snapshot, model, verdict, provenance, run)
        describe_version(provenance, board, model, findings, verdict, version, champion, run)
        serving = apply_verdict(spec, version, champion, verdict, moment)
        publish_costs(spec, run)
    return TrainingResult.of(
        board,
        verdict,
        workload=spec.id,
        window=span,
        version=version.version,
        holdout=model.score,
        champion=serving,
        run_id=run.run_id,
        findings=findings,
    )
