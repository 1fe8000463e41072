"""Refresh a model: the champion's recipe on newer rows, judged and registered like any other."""

from datetime import datetime

from flows.form import run_name
from tasks.budgeting import name_over_budget, within_budget
from tasks.costing import publish_costs
from tasks.describing import describe_version
from tasks.engines import flow
from tasks.fitting import fit_winner
from tasks.inspecting import inspect_snapshot
from tasks.judging import judge
from tasks.provenance import provenance_of
from tasks.refreshing import Refresh, validate_refresh
from tasks.registering import register_version, work_folder
from tasks.registry import apply_verdict
from tasks.tracking import tracked_run
from twinloop.refresh import plan_refresh
from twinloop.results import TrainingResult


@flow(
    name="refresh-model",
    flow_run_name=run_name("refresh"),
    on_completion=[name_over_budget],
    on_failure=[name_over_budget],
)
def refresh_model(
    workload: str,  # noqa: ARG001 - what pages show
    as_of: datetime,
    refresh: Refresh,
) -> TrainingResult:
    """Make a refresh a version, and champion if the verdict says so.

    It runs within a retraining, where it was prepared and probed: it is no deployment.

    Parameters
    ----------
    workload
        Name of the workload, for the pages: `refresh` knows it as the rows were prepared for it.
    as_of
        The moment the run is meant for, UTC.
    refresh
        What was prepared.
    """
    spec, snapshot, champion = refresh.workload, refresh.snapshot, refresh.champion
    with (
        tracked_run(spec, "training", window=refresh.window, as_of=as_of, what="again") as run,
        within_budget(refresh.priced, "training", refresh.window, run),
        work_folder(spec, run) as work,
    ):
        run.rows = snapshot.rows
        run.log(plan_refresh(refresh.words, champion.version))
        findings = inspect_snapshot(spec, snapshot, run)
        board = validate_refresh(refresh, work)
        model = fit_winner(spec, snapshot, board, work, run)
        verdict, model = judge(spec, snapshot, board, model, champion, run)
        provenance = provenance_of(
            spec, snapshot, board, refresh.window, refresh.words, refresh.history
        )
        version = register_version(spec, snapshot, model, verdict, provenance, run)
        describe_version(provenance, board, model, findings, verdict, version, champion, run)
        serving = apply_verdict(spec, version, champion, verdict, as_of)
        publish_costs(spec, run)
    return TrainingResult.of(
        board,
        verdict,
        workload=spec.id,
        window=refresh.window,
        version=version.version,
        holdout=model.score,
        champion=serving,
        run_id=run.run_id,
        findings=findings,
    )
