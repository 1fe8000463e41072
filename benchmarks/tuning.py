"""What MLflow adds to a search of 200 trials, beside the same trials written to their file alone.

The shipped bikes: 180 days, hourly, five folds by time, XGBoost. Both ways run the very same
trials, since the seed is the same and neither time nor money ends them. One keeps them in Optuna's
file, as every search must to survive a kill. The other also makes a run in MLflow of each, and of
the search, with its plots and tables, as a training does.

``--trials N`` takes another number; what MLflow adds to each trial stays about the same, so what it
is beside the trial hangs on what the trial takes. CPU time is the steadier figure where others use
the machine, too.
"""

import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks import frame
    from tasks.preparing import Snapshot
    from twinloop.workload import Workload
else:
    import frame

TRIALS = 200
ROUNDS = 1
MOST = 1.05
AS_OF = datetime(2011, 10, 1, tzinfo=UTC)
WORKLOAD = Path(__file__).parent.parent / "data" / "workloads" / "bikes.yaml"


def main() -> int:
    """Measure in a home that goes away."""
    trials = int(sys.argv[sys.argv.index("--trials") + 1]) if "--trials" in sys.argv else TRIALS
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        _set_up(home)
        _tracked(*_prepare(4), home)  # imports, and the store
        workload, snapshot = _prepare(trials)
        ways = {
            "file alone": partial(_untracked, workload, snapshot, home),
            "file and MLflow": partial(_tracked, workload, snapshot, home),
        }
        samples = frame.interleave(ways, rounds=ROUNDS)
    frame.show(f"{trials} trials of XGBoost, {ROUNDS} rounds.")
    frame.show_samples(samples)
    alone, both = samples["file alone"], samples["file and MLflow"]
    walls = frame.median_ratio([both.cold.wall, *both.walls], [alone.cold.wall, *alone.walls])
    cpus = frame.median_ratio([both.cold.cpu, *both.cpus], [alone.cold.cpu, *alone.cpus])
    return frame.finish(
        "tuning",
        [
            frame.Figure("times_wall", walls, MOST, meaning="time with MLflow, beside without"),
            frame.Figure("times_cpu", cpus, MOST, meaning="CPU time with MLflow, beside without"),
        ],
    )


def _set_up(home: Path) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "TWINLOOP_WORKLOAD_FILE"):
        os.environ.pop(name, None)
    os.environ["TWINLOOP_HOME"] = str(home)
    from tasks.servers import set_environment

    set_environment(home / ".prefect")
    (home / "data" / "workloads").mkdir(parents=True)
    shutil.copy(WORKLOAD, home / "data" / "workloads" / WORKLOAD.name)


def _prepare(trials: int) -> "tuple[Workload, Snapshot]":
    from tasks.preparing import prepare_snapshot, training_window
    from tasks.settings import load_workload
    from twinloop.workload import Overrides

    workload = Overrides(trials=trials).apply(load_workload("bikes"))
    return workload, prepare_snapshot.fn(workload, training_window(workload, AS_OF))


def _tracked(workload: "Workload", snapshot: "Snapshot", home: Path) -> None:
    """Search as a training does."""
    from tasks.tracking import tracked_run
    from tasks.tuning import search_settings

    shutil.rmtree(home / "data" / "lake" / "bikes" / "tuning", ignore_errors=True)
    with tracked_run(workload, "tuning", window=None, as_of=AS_OF, what="xgboost") as run:
        search_settings(workload, snapshot, "xgboost", None, None, 1e6, run)


def _untracked(workload: "Workload", snapshot: "Snapshot", home: Path) -> None:
    """Search, and tell nobody."""
    from tasks.metering import metered
    from tasks.searching import Job, Searcher
    from tasks.studies import TrialStudy
    from tasks.tuning import fitted_span
    from tasks.validating import open_study, search_folds
    from twinloop.search_space import first_values, search_space
    from twinloop.tuning import Limits

    opened, folds = open_study(workload, snapshot), search_folds(workload, snapshot)
    span = fitted_span(opened, workload)
    categories = any(f.levels for f in opened.rows.matrix.features)
    space = search_space("xgboost", workload, span, categories=categories)
    limits = Limits.of(workload.training.tuning, 1)
    until = time.monotonic() + 1e6
    job = Job(workload, "xgboost", opened.rows, folds, span, limits, until, "")
    path = home / "untracked.log"
    path.unlink(missing_ok=True)
    with metered() as meter:
        study = TrialStudy(path, space, workload.seed)
        study.propose(first_values(space))
        Searcher(job, study, meter, ended=lambda _: None).run(tell=lambda _: None)


if __name__ == "__main__":
    sys.exit(main())
