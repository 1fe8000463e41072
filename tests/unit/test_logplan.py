"""The plan of a log: the promised names are there, and every figure can be drawn."""

import io
import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
import pytest
from matplotlib.figure import Figure

from twinloop.decision import Decision, decide
from twinloop.drift import FeatureDrift
from twinloop.drift_plots import course_plot, drift_plot
from twinloop.leaderboard import columns, lines
from twinloop.leakage import Finding
from twinloop.logplan import (
    LogItem,
    Metric,
    Param,
    Plot,
    Table,
    Tag,
    Text,
    plan_candidate,
    plan_decision,
    plan_leakage,
    plan_snapshot,
    plan_training,
)
from twinloop.plots import (
    gap_plot,
    holdout_plots,
    importance_plot,
    leaderboard_plot,
    replay_plot,
    tradeoff_plot,
)
from twinloop.profile import Binning, ColumnProfile, Profile, Reference
from twinloop.results import (
    CandidateResult,
    Choice,
    FoldScore,
    Footprint,
    Leaderboard,
    TrainingResult,
)
from twinloop.scorer import Predictions, Target
from twinloop.verdict import Verdict, first_version
from twinloop.verdictplan import plan_retraining, plan_verdict
from twinloop.vocabulary import CandidateName, Task
from twinloop.watches import Watch
from twinloop.workload import Workload

NAMES = ("n", "k")
COLUMNS = tuple(ColumnProfile(name=n, counts=(0, 0)) for n in (*NAMES, "prediction"))
FEATURES = tuple(
    FeatureDrift(column=n, distance=d, p_value=0.0, importance=0.5, drifted=d > 0.1)
    for n, d in (("n", 0.5), ("k", 0.05))
)
REFERENCE = Reference(
    binning=Binning(columns=COLUMNS),
    whole=Profile(rows=0, columns=COLUMNS),
    windows=(),
    importance=(0.25, 0.75),
    loss="rmse",
    losses=(),
)
TARGETS: dict[str, Target] = {
    "regression": Target(name="y", task="regression"),
    "binary": Target(name="y", task="binary", classes=("no", "yes")),
    "multiclass": Target(name="y", task="multiclass", classes=("a", "b", "c")),
}
TASKS: tuple[Task, ...] = ("regression", "binary", "multiclass")


FOOTPRINT = Footprint(
    batch_seconds=0.0125,
    row_seconds=0.0005,
    size_bytes=1_500_000,
    fit_cpu_seconds=4,
    fit_money=3e-5,
)
FOOTPRINT_METRICS = {
    "time/predict_1000_rows_s": 0.0125,
    "time/predict_1_row_s": 0.0005,
    "time/fit_cpu_s": 4.0,
    "cost/model_mb": 1.5,
    "cost/fit_money": 3e-5,
}


def result(name: CandidateName, valid: float) -> CandidateResult:
    """Return a candidate of two folds."""
    return CandidateResult(
        name=name,
        metric="rmse",
        folds=(FoldScore(train=0.1, valid=valid), FoldScore(train=0.2, valid=valid)),
        fit_seconds=3.25,
        predict_seconds=0.5,
        rows=10,
        footprint=FOOTPRINT,
    )


BOARD = Leaderboard(
    candidates=(result("linear", 0.25), result("baseline", 0.5)),
    skipped=("forest", "xgboost"),
    split="2 folds of weeks",
    choice=Choice(winner="linear", reason="cheaper than another"),
    currency="EUR",
)


def workload_of(task: Task = "regression", **keys: object) -> Workload:
    """Return a workload of this task."""
    base = {"name": "w", "task": task, "source": {"kind": "files", "path": "x"}, "target": "y"}
    return Workload.model_validate(base | keys)


def holdout(task: str, n_rows: int, case: str = "usual") -> tuple[np.ndarray, Predictions]:
    """Return truth and predictions: as usual, all alike, or of one class only."""
    draw = np.random.default_rng(0)
    n = len(TARGETS[task].classes)
    if n == 0:
        y = draw.normal(size=n_rows)
        return y, Predictions(np.full(n_rows, 0.5) if case == "constant" else y + 0.1)
    codes = draw.integers(0, 1 if case == "one class" else n, n_rows)
    shares = draw.dirichlet(np.ones(n), n_rows)
    if case == "constant":
        shares = np.tile(np.eye(n)[0], (n_rows, 1))
    return codes, Predictions(shares.argmax(axis=1), shares)


def png(figure: Figure) -> bytes:
    """Draw a figure."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=60)
    return sink.getvalue()


def metrics(items: Iterable[LogItem]) -> dict[str, float]:
    """Return the numbers of a plan, the last of each name."""
    return {i.name: i.value for i in items if isinstance(i, Metric)}


def tags(items: Iterable[LogItem]) -> dict[str, str]:
    """Return the tags of a plan."""
    return {i.name: i.value for i in items if isinstance(i, Tag)}


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("n_rows", [200, 1])
@pytest.mark.parametrize("case", ["usual", "constant", "one class"])
@pytest.mark.parametrize("task", TASKS)
def test_every_plot_of_a_training_is_drawn(task: Task, case: str, n_rows: int, timed: bool) -> None:
    """Whatever the holdout holds, and be it one row, its figures are PNG files, and no warning."""
    y, predictions = holdout(task, n_rows, case)
    times = np.arange(n_rows) * 3_600_000_000 if timed else None
    found = dict(holdout_plots(TARGETS[task], y, predictions, times))
    wanted = {"predicted_against_true"} | ({"residuals_over_time"} if timed else set())
    if task != "regression":
        two = task == "binary" and len(set(y.tolist())) == 2
        wanted = {"roc" if two else "confusion"}
    assert set(found) == wanted
    assert all(png(draw()).startswith(b"\x89PNG\r\n") for draw in found.values())


@pytest.mark.parametrize(
    "figure",
    [
        importance_plot(NAMES, (0.25, 0.75)),
        importance_plot(NAMES, (0.0, 0.0)),
        importance_plot(tuple(f"feature {i}" for i in range(99)), (1 / 99,) * 99),
        gap_plot(BOARD),
        gap_plot(Leaderboard(candidates=(result("baseline", math.nan),))),
        leaderboard_plot(BOARD),
        leaderboard_plot(Leaderboard(candidates=(result("baseline", math.nan),))),
        tradeoff_plot(BOARD),
        tradeoff_plot(Leaderboard(candidates=(result("baseline", math.nan),))),
        tradeoff_plot(
            Leaderboard(candidates=(result("linear", 1.0).model_copy(update={"footprint": None}),))
        ),
        tradeoff_plot(
            Leaderboard(
                candidates=(
                    result("linear", 1.0).model_copy(
                        update={"footprint": FOOTPRINT.model_copy(update={"fit_money": 0.0})}
                    ),
                )
            )
        ),
        drift_plot(FEATURES),
        drift_plot(()),
        course_plot([Watch(as_of=datetime(2024, 1, 1, tzinfo=UTC), action="retrain")], "rmse"),
        replay_plot({"never": [datetime(2024, 1, 1, tzinfo=UTC)]}, {"never": [0.5]}, "rmse"),
        replay_plot({"never": []}, {"never": []}, "rmse"),
    ],
)
def test_every_other_plot_is_drawn(figure: Figure) -> None:
    """With much to show, little, or nothing, the figure is a PNG file."""
    assert png(figure).startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("task", TASKS)
def test_a_training_logs_what_was_promised(task: Task) -> None:
    """Accuracy of the holdout and of the folds, what kind it is, settings, and every plot."""
    workload = workload_of(task)
    y, predictions = holdout(task, 50)
    held = (y, predictions, None)
    plan = list(plan_training(workload, BOARD, TARGETS[task], held, 0.75, REFERENCE))
    assert metrics(plan) == {
        f"accuracy/{workload.metric}": 0.75,
        f"accuracy/cv_{workload.metric}": 0.25,
        "accuracy/cv_low_rmse": 0.25,
        "accuracy/cv_high_rmse": 0.25,
        "accuracy/cv_gap_rmse": pytest.approx(0.1),
        **FOOTPRINT_METRICS,
    }
    assert tags(plan) == {
        "twinloop.accuracy": "holdout",
        "twinloop.choice": "cheaper than another",
        "twinloop.overfits": "yes",
    }
    params = {i.name: i.value for i in plan if isinstance(i, Param)}
    assert params == {
        "winner": "linear",
        "choice": "cheapest",
        "split": "2 folds of weeks",
        "folds": 5,
        "candidates": "baseline,linear,forest,xgboost",
        "seed": 0,
    }
    plots = [i.path for i in plan if isinstance(i, Plot)]
    assert plots[-4:] == [
        f"plots/{name}.png"
        for name in ("importance", "leaderboard", "train_validation_gap", "accuracy_and_cost")
    ]
    (table,) = (i for i in plan if isinstance(i, Table))
    assert (table.columns, table.rows) == (columns(BOARD), lines(BOARD))
    assert table.title.startswith("linear was chosen: cheaper than another. linear overfits")
    assert len(plots) == len(set(plots)) >= 4


def test_a_candidate_logs_each_fold() -> None:
    """Mean, gap and spread under the metric's name, folds as steps, and the time it took."""
    plan = list(plan_candidate(result("linear", 0.25)))
    assert metrics(plan) == {
        "accuracy/rmse": 0.25,
        "accuracy/train_rmse": pytest.approx(0.15),
        "accuracy/spread_rmse": 0.0,
        "accuracy/low_rmse": 0.25,
        "accuracy/high_rmse": 0.25,
        "accuracy/gap_rmse": pytest.approx(0.1),
        "accuracy/fold_rmse": 0.25,
        "accuracy/fold_train_rmse": 0.2,
        "time/fit_s": 3.25,
        "time/predict_s": 0.5,
        **FOOTPRINT_METRICS,
    }
    steps = [i.step for i in plan if isinstance(i, Metric) and i.name == "accuracy/fold_rmse"]
    assert steps == [0, 1]
    assert tags(plan) == {"twinloop.accuracy": "cross-validation", "twinloop.overfits": "yes"}


def test_of_one_fold_no_interval_is_logged() -> None:
    """What is not known is left out."""
    one = result("linear", 0.25).model_copy(update={"folds": (FoldScore(train=0.1, valid=0.25),)})
    assert "accuracy/low_rmse" not in metrics(plan_candidate(one))
    (table,) = (
        item
        for item in plan_training(
            workload_of(),
            Leaderboard(candidates=(one,)),
            TARGETS["regression"],
            (*holdout("regression", 50), None),
            0.75,
            REFERENCE,
        )
        if isinstance(item, Table)
    )
    assert table.rows[0][2] == "unknown"


def test_a_verdict_logs_its_numbers_where_there_are() -> None:
    """Outcome and reason always; numbers that do not exist are left out, zero is a number."""
    plan = list(plan_verdict(first_version("rmse", 0.0)))
    assert metrics(plan) == {"verdict/challenger": 0.0}
    assert tags(plan) == {
        "twinloop.verdict": "promote",
        "twinloop.verdict_reason": "first version",
    }
    text, page = (i for i in plan if isinstance(i, Text))
    assert (text.path, page.path) == ("verdict.json", "verdict.md")
    assert Verdict.model_validate_json(text.content) == first_version("rmse", 0.0)
    assert page.content == "# Verdict: promote\n\nfirst version\n"


@pytest.mark.parametrize("n_columns", [0, 2])
def test_a_decision_logs_how_far_the_columns_are(n_columns: int) -> None:
    """How many drifted and the largest distance, also where nothing could be compared."""
    features = FEATURES[:n_columns]
    decision = decide(features, None, 0.0, workload_of())
    plan = list(plan_decision(decision))
    assert metrics(plan) == {
        "drift/columns": 1.0 if features else 0.0,
        "drift/largest_distance": 0.5 if features else 0.0,
    }
    drifted = {"twinloop.decision": "retrain", "twinloop.cause_of_retraining": "drift: n"}
    assert tags(plan) == (drifted if features else {"twinloop.decision": "fine"})
    (text,) = (i for i in plan if isinstance(i, Text))
    assert Decision.model_validate(json.loads(text.content)) == decision


def test_a_preparation_logs_the_share_of_rows_kept() -> None:
    """Its accuracy is that share; what was dropped is counted by reason; no row is no error."""
    plan = list(plan_snapshot(200, 150, "abc", {"no_label": 50}))
    assert metrics(plan) == {
        "accuracy/rows_kept": 0.75,
        "rows/read": 200,
        "rows/dropped_no_label": 50,
    }
    assert tags(plan) == {
        "twinloop.accuracy": "share of rows kept",
        "twinloop.data_digest": "abc",
    }
    assert metrics(plan_snapshot(0, 0, "abc", {}))["accuracy/rows_kept"] == 0.0


def test_a_retraining_logs_why_and_what_came_of_it() -> None:
    """With a training its score and verdict; refused, what refused it."""
    cold = list(plan_retraining("it drifted", "drift", "cooling down", None))
    assert tags(cold) == {
        "twinloop.reason": "it drifted",
        "twinloop.cause": "drift",
        "twinloop.verdict": "cooling down",
    }
    trained = TrainingResult(
        workload="w",
        window="all",
        version="2",
        winner="linear",
        metric="rmse",
        holdout=0.25,
        verdict=first_version("rmse", 0.25),
        champion="2",
        run_id="r",
        board=BOARD,
    )
    plan = list(plan_retraining("it drifted", "drift", "", trained))
    assert metrics(plan)["accuracy/rmse"] == 0.25
    assert tags(plan)["twinloop.verdict"] == "promote"
    assert {"twinloop.reason", "twinloop.cause", "twinloop.accuracy"} <= set(tags(plan))


def test_signs_of_leakage_are_logged_and_shown() -> None:
    """Their number always; what they are as a tag, a file and a table, where there are any."""
    assert list(plan_leakage(())) == [Metric("leakage/findings", 0.0)]
    finding = Finding(
        code="target_copy",
        level="fail",
        columns=("casual", "registered"),
        numbers={"rows": 9.0},
        explanation="They add up.",
        advice="Ignore them.",
    )
    plan = list(plan_leakage((finding, finding)))
    assert metrics(plan) == {"leakage/findings": 2.0}
    assert tags(plan) == {"twinloop.leakage": "target_copy"}
    (text,) = (i for i in plan if isinstance(i, Text))
    assert [Finding.model_validate(f) for f in json.loads(text.content)] == [finding, finding]
    (table,) = (i for i in plan if isinstance(i, Table))
    assert table.rows[0] == (
        *("fail", "target_copy", "casual, registered", "They add up.", "Ignore them."),
    )
