"""Laws of workloads that hold for all of them."""

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.vocabulary import METRICS_BY_TASK, Task
from twinloop.workload import Workload

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
# A window has room for a holdout, a gap and a rolling fold, whichever are drawn.
SPANS = st.timedeltas(timedelta(0), timedelta(days=100))
ROLLING = st.timedeltas(timedelta(microseconds=1), timedelta(days=100))
WINDOWS = st.timedeltas(timedelta(days=3000), timedelta(days=6000))
SHARES = st.floats(0.01, 0.89)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Draw a workload that makes sense."""
    task: Task = draw(st.sampled_from(list(METRICS_BY_TASK)))
    timed = draw(st.booleans())
    grouped = draw(st.booleans())
    training: dict[str, Any] = {
        "folds": draw(st.integers(2, 50)),
        "window": draw(st.none() | WINDOWS),
        "holdout": draw(SHARES | SPANS if timed else SHARES),
        "candidates": tuple(draw(st.lists(st.sampled_from(["linear", "forest", "xgboost"])))),
    }
    if timed:
        training |= {"gap": draw(SPANS), "rolling": draw(st.none() | ROLLING)}
    else:
        training |= {"repeats": draw(st.integers(1, 20))}
    return Workload.model_validate(
        {
            "name": draw(NAMES),
            "task": task,
            "source": draw(
                st.sampled_from(
                    [
                        {"kind": "files", "path": "a/*.csv", "time_from": {"date": "d"}},
                        {"kind": "bundled", "dataset": "digits"},
                        {"kind": "simulated", "seed": 3},
                    ]
                )
            ),
            "target": "the target",
            "time": "at" if timed else None,
            "group": "who" if grouped else None,
            "key": tuple(draw(st.lists(NAMES, max_size=2))),
            "metric": draw(st.sampled_from(METRICS_BY_TASK[task])),
            "columns": {draw(NAMES): {"minimum": draw(st.floats(-1e9, 0)), "maximum": 1.0}},
            "training": training,
            "prices": {"kwh": draw(st.floats(0, 1))},
        }
    )


@settings(max_examples=100, deadline=None)
@given(workloads())
def test_a_workload_survives_json(workload: Workload) -> None:
    """What a run logged reads back as the very same workload."""
    assert Workload.model_validate_json(workload.model_dump_json()) == workload
    assert Workload.model_validate(workload.model_dump(mode="json")) == workload


@settings(max_examples=50, deadline=None)
@given(workloads())
def test_the_target_is_never_a_feature(workload: Workload) -> None:
    """No workload lets a model see what it is to predict."""
    assert workload.target in workload.not_features
    assert set(workload.key) <= workload.not_features
    assert workload.time is None or workload.time in workload.not_features
