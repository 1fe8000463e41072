"""The log of how far scores can be trusted: the names are there, and every figure is drawn."""

import io
import math

import numpy as np
import pytest

from twinloop.calibration import Calibration
from twinloop.learning_curve import CurvePoint
from twinloop.logplan import LogItem, Metric, Param, Plot, Table, Tag, Text
from twinloop.results import CandidateResult, FoldScore
from twinloop.rule import PLAIN, Rule
from twinloop.scoreplan import plan_curve, plan_rule, plan_slices
from twinloop.slices import SliceReport, SliceScore
from twinloop.workload import Workload

SIGMOID = Rule(calibration=Calibration(method="sigmoid", slope=0.5, gain=0.125), threshold=0.25)


def workload_of(task: str, metric: str = "", **training: object) -> Workload:
    """Return a workload of this task."""
    return Workload.model_validate(
        {
            "name": "w",
            "task": task,
            "metric": metric,
            "source": {"kind": "files", "path": "x"},
            "target": "y",
            "training": training,
        }
    )


def part(level: str, score: float, *, low: float = 0.5, worse: bool = False) -> SliceScore:
    """Return a slice of thirty rows."""
    return SliceScore(
        column="plan", level=level, rows=30, score=score, low=low, high=score + 1, worse=worse
    )


WHOLE = SliceScore(column="all", level="all", rows=90, score=1.0, low=0.75, high=1.25)
REPORT = SliceReport(
    whole=WHOLE,
    slices=(part("basic", 2.0, worse=True), part("plus", 1.0, low=math.nan)),
    hidden=3,
)


def metrics(plan: list[LogItem]) -> dict[str, float]:
    """Return the numbers of a plan."""
    return {i.name: i.value for i in plan if isinstance(i, Metric)}


def drawn(plan: list[LogItem]) -> list[str]:
    """Draw the figures of a plan, and return their paths."""
    found = [i for i in plan if isinstance(i, Plot)]
    for plot in found:
        sink = io.BytesIO()
        plot.figure.savefig(sink, format="png", dpi=60)
        assert sink.getvalue().startswith(b"\x89PNG\r\n")
    return [plot.path for plot in found]


@pytest.mark.parametrize("n_rows", [1, 30, 500])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("rule", [PLAIN, SIGMOID])
def test_a_rule_logs_what_calibration_did(rule: Rule, n_classes: int, n_rows: int) -> None:
    """Scores after, those before where there is a map, the number of bins, and the threshold."""
    draw = np.random.default_rng(0)
    before = draw.dirichlet(np.ones(n_classes), n_rows)
    y = draw.integers(0, n_classes, n_rows)
    plan = list(plan_rule(rule, y, before, before))
    found = metrics(plan)
    names = {"brier", "log_loss", "error", "bins"}
    if rule != PLAIN:
        names |= {"brier_before", "log_loss_before", "error_before", "log_loss_saved"}
        assert found["calibration/log_loss_saved"] == 0.125
        assert found["calibration/brier_before"] == found["calibration/brier"]
    if n_classes == 2:
        names |= {"threshold"}
        assert found["calibration/threshold"] == rule.threshold
    assert set(found) == {f"calibration/{name}" for name in names}
    assert found["calibration/bins"] == {1: 1, 30: 1, 500: 10}[n_rows]
    params = {i.name: i.value for i in plan if isinstance(i, Param)}
    assert params == {"calibration": rule.calibration.method}
    assert drawn(plan) == ["plots/calibration.png"]


def test_numbers_have_no_rule_to_log() -> None:
    """Of regression nothing is logged."""
    assert list(plan_rule(PLAIN, np.ones(3), None, None)) == []


def test_slices_are_logged_the_worst_first() -> None:
    """How many, how bad, which; as a table, a plot, and whole as a file."""
    plan = list(plan_slices(REPORT, "rmse"))
    assert metrics(plan) == {"slices/shown": 2, "slices/worse": 1, "slices/worst_rmse": 2.0}
    (tag,) = (i for i in plan if isinstance(i, Tag))
    assert (tag.name, tag.value) == ("twinloop.worse_slices", "plan = basic")
    (table,) = (i for i in plan if isinstance(i, Table))
    assert "at least 20 rows (3 others not shown)" in table.title
    assert table.rows == (
        ("plan = basic", "2", "[0.5, 3]", "30", "yes"),
        ("plan = plus", "1", "unknown", "30", ""),
    )
    (text,) = (i for i in plan if isinstance(i, Text))
    assert text.path == "slices.json"
    assert '"basic"' in text.content
    assert drawn(plan) == ["plots/slices.png"]


def test_without_slices_nothing_is_logged() -> None:
    """Neither of slices nor of a curve there is not."""
    assert list(plan_slices(SliceReport(whole=WHOLE), "rmse")) == []
    assert list(plan_curve((), "rmse")) == []


def test_a_curve_logs_its_rows_as_steps() -> None:
    """Train and validation by the number of fitted rows, and the plot."""
    points = tuple(
        CurvePoint(
            share=share,
            result=CandidateResult(
                name="linear",
                metric="rmse",
                folds=tuple(
                    FoldScore(train=0.5, valid=v, train_rows=int(400 * share), valid_rows=100)
                    for v in (1.0, 2.0)
                ),
                fit_seconds=1,
                predict_seconds=1,
                rows=200,
            ),
            overlap=0.25,
        )
        for share in (0.25, 1.0)
    )
    plan = list(plan_curve(points, "rmse"))
    logged = [(i.name, i.value, i.step) for i in plan if isinstance(i, Metric)]
    assert logged == [
        ("accuracy/curve_rmse", 1.5, 100),
        ("accuracy/curve_train_rmse", 0.5, 100),
        ("accuracy/curve_rmse", 1.5, 400),
        ("accuracy/curve_train_rmse", 0.5, 400),
    ]
    assert drawn(plan) == ["plots/learning_curve.png"]
