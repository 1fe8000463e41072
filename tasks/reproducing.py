"""Reproducing: a version fitted again, and compared with what was registered."""

from pathlib import Path

from tasks.ancestors import load_ancestor
from tasks.ensembling import cross_validate_again
from tasks.fitting import fit_model
from tasks.metering import step
from tasks.provenance import Provenance, software
from tasks.registering import version_files
from tasks.registry import ServedVersion, registered_files
from tasks.settings import settings
from tasks.tracking import TrackedRun
from twinloop import serving
from twinloop.logplan import Metric, Tag, Text
from twinloop.reproduction import Reproduction, compare_files, compare_software


@step
def fit_again(
    version: ServedVersion, provenance: Provenance, work: Path, run: TrackedRun
) -> Reproduction:
    """Fit a version again, folds and all, and compare its files with the registered ones.

    The folds come first: calibration, threshold and the reference profile are learned from what
    they predict.
    """
    spec, snapshot, winner = provenance.workload, provenance.snapshot, provenance.winner
    registered = registered_files(version)
    # Rows of earlier holdouts, there to judge by; nothing that is fitted.
    registered.pop(serving.JURY, None)
    if winner.recipe is not None and winner.recipe.continues is not None:
        load_ancestor(spec, winner.recipe.continues)  # before the folds are paid for
    cross_validate_again(spec, snapshot, winner, work, threads=winner.threads or None)
    fitted = fit_model(spec, snapshot, winner, work, threads=provenance.threads)
    # Versions of before gauges have none.
    gauge = fitted.gauge if serving.GAUGE in registered else None
    now = version_files(fitted.served, snapshot.contract, fitted.reference, gauge)
    files = compare_files(registered, now)
    same = all(f.same for f in files)
    changes = compare_software(provenance.software, software())
    if provenance.threads > settings().threads:
        cores = f"cores {provenance.threads} -> {settings().threads}"
        changes = (*changes, f"{cores} (asked for as many as then)")
    run.rows = snapshot.rows
    result = Reproduction(
        workload=spec.id,
        version=version.version,
        run_id=run.run_id,
        winner=winner.name,
        metric=spec.metric,
        score_then=version.score,
        score_now=fitted.score,
        files=files,
        changes=changes,
        same=same,
    )
    run.log(
        [
            Metric(f"accuracy/{spec.metric}", fitted.score),
            Metric("reproduction/same", float(same)),
            Tag("twinloop.accuracy", "holdout"),
            Tag("twinloop.reproduces", version.version),
            Tag("twinloop.data_digest", snapshot.digest),
            Text("reproduction.json", result.model_dump_json(indent=1)),
        ]
    )
    return result
