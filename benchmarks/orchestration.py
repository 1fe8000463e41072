"""What Prefect, MLflow and the meter cost a flow run, beside the same work as a bare script.

The same small trainings, Ridge on 2,000 rows, run as functions called in order and as a flow of
Twinloop's own make: tasks that are metered, in a run that is tracked in MLflow, against a Prefect
server that runs already. A flow run is one of 10 tasks; what a task costs is the slope between
flows of 10 and of 110 tasks. Both are what the flow adds to the bare script, round by round.

The server's own start, once a command, is not in it, nor are imports. Runs follow one another at
once, as in a replay: what one leaves to the server is on the next one's clock.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.servers import prefect_server, set_environment

if TYPE_CHECKING:
    from benchmarks import frame
else:
    import frame

ROWS, COLUMNS = 2_000, 10
FEW, MANY = 10, 110
ROUNDS = 7

MOST_SECONDS_A_RUN = 0.8
MOST_MILLISECONDS_A_TASK = 15.0


def main() -> int:
    """Measure against a server and a store of their own, in a folder that goes away."""
    with tempfile.TemporaryDirectory() as folder:
        _set_up(Path(folder))
        with prefect_server():
            samples = frame.interleave(_ways(), rounds=ROUNDS)
    frame.show(
        f"A training in {FEW} and in {MANY} steps, each Ridge on {ROWS:,} rows: as a bare script, "
        f"and as a flow. {ROUNDS} rounds."
    )
    frame.show_samples(samples)
    few, bare_few = samples[f"flow, {FEW} tasks"], samples[f"script, {FEW} steps"]
    many, bare_many = samples[f"flow, {MANY} tasks"], samples[f"script, {MANY} steps"]
    a_run = frame.median_difference(few.walls, bare_few.walls)
    a_task = frame.median_difference(
        [m - b for m, b in zip(many.walls, bare_many.walls, strict=True)],
        [f - b for f, b in zip(few.walls, bare_few.walls, strict=True)],
    ) / (MANY - FEW)
    return frame.finish(
        "orchestration",
        [
            frame.Figure(
                "added_seconds_per_flow_run",
                a_run,
                MOST_SECONDS_A_RUN,
                "s",
                meaning=f"added to a run of {FEW} steps",
            ),
            frame.Figure(
                "added_milliseconds_per_task",
                1000 * a_task,
                MOST_MILLISECONDS_A_TASK,
                "ms",
                meaning=f"added by each further task (slope between {FEW} and {MANY})",
            ),
        ],
    )


def _set_up(home: Path) -> None:
    """Set the environment; before Prefect, MLflow and NumPy are imported, which read it then."""
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "TWINLOOP_WORKLOAD_FILE"):
        os.environ.pop(name, None)
    os.environ["TWINLOOP_HOME"] = str(home)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["PREFECT_HOME"] = str(home / ".prefect")
    set_environment(home / ".prefect")


def _ways() -> dict[str, Callable[[], object]]:
    import numpy as np
    from prefect import flow
    from sklearn.linear_model import Ridge

    from tasks.metering import step
    from tasks.tracking import tracked_run
    from twinloop.workload import Workload

    draw = np.random.default_rng(0)
    features = draw.normal(size=(ROWS, COLUMNS))
    target = features @ draw.normal(size=COLUMNS) + draw.normal(size=ROWS)
    workload = Workload.model_validate(
        {
            "name": "orchestration",
            "task": "regression",
            "source": {"kind": "bundled", "dataset": "diabetes"},
            "target": "target",
        }
    )

    def fit_ridge(strength: float) -> float:
        model = Ridge(alpha=strength).fit(features, target)
        return float(model.score(features, target))

    fit_task = step(fit_ridge)

    def script(steps: int) -> list[float]:
        return [fit_ridge(1.0 + i) for i in range(steps)]

    @flow(name="fit-in-steps")
    def fit_in_steps(steps: int) -> list[float]:
        with tracked_run(workload, "training", window=None, as_of=datetime.now(UTC)) as run:
            run.rows = ROWS
            return [fit_task(1.0 + i) for i in range(steps)]

    ways: dict[str, Callable[[], object]] = {}
    for steps in (FEW, MANY):
        ways[f"script, {steps} steps"] = partial(script, steps)
        ways[f"flow, {steps} tasks"] = partial(fit_in_steps, steps)
    return ways


if __name__ == "__main__":
    sys.exit(main())
