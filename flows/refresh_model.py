"""Refresh a model: the champion's recipe on newer rows, judged and registered like any other."""

from datetime import datetime

from tasks.budgeting import within_budget
from tasks.costing import publish_costs
from tasks.describing import describe_version
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


def refresh_model(refresh: Refresh, as_of: datetime) -> TrainingResult:
    """Make a refresh a version, and champion if the verdict says so.

    It runs within a retraining, where it was prepared and probed.
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
    return TrainingResult(
        workload=spec.id,
        window=str(refresh.window),
        version=version.version,
        winner=board.winner.name,
        metric=spec.metric,
        holdout=model.score,
        verdict=verdict,
        champion=serving,
        run_id=run.run_id,
        board=board,
        findings=findings,
    )
