"""Slices show where a model is worse, and do not cry wolf."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from twinloop.encoding import Encoding, Feature
from twinloop.errors import ColumnError
from twinloop.evaluation import METRICS
from twinloop.scorer import Predictions
from twinloop.slices import (
    MIN_ROWS,
    SliceReport,
    SliceScore,
    Slicing,
    score_slices,
    slice_columns,
    slice_rows,
)
from twinloop.workload import Workload

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday


def workload_of(**keys: object) -> Workload:
    """Return a workload with a time."""
    base = {
        "name": "w",
        "task": "regression",
        "source": {"kind": "files", "path": "x"},
        "target": "y",
        "time": "t",
    }
    return Workload.model_validate(base | keys)


def cut(column: pa.Array, name: str = "c") -> tuple[list[str], Slicing]:
    """Return each row's level, by its name."""
    found = slice_rows(pa.table({name: column}), name, workload_of())
    return [found.levels[code] for code in found.codes], found


def test_levels_are_those_of_the_column() -> None:
    """Words, truths and few numbers as they stand; a null is a level, too."""
    assert cut(pa.array(["b", None, "a"]))[0] == ["b", "missing", "a"]
    assert cut(pa.array([True, None, False]))[0] == ["true", "missing", "false"]
    assert cut(pa.array([3, 1, None]))[0] == ["3", "1", "missing"]


def test_rare_levels_go_together() -> None:
    """The twelve most frequent stay themselves."""
    words = [f"w{14 - i:02d}" for i in range(15) for _ in range(20 - i)]
    levels, found = cut(pa.array(words))
    assert set(levels) == {f"w{14 - i:02d}" for i in range(12)} | {"other"}
    assert levels.count("other") == 8 + 7 + 6
    assert len(found.codes) == len(words)


def test_numbers_are_cut_into_quarters() -> None:
    """Each holds as many rows; nulls are by themselves."""
    levels, _ = cut(pa.array([*range(100), None], pa.float64()))
    counts = {level: levels.count(level) for level in dict.fromkeys(levels)}
    assert list(counts.values()) == [25, 25, 25, 25, 1]
    assert list(counts) == [
        *("to 24.75", "24.75 to 49.5", "49.5 to 74.25", "above 74.25", "missing")
    ]


@pytest.mark.parametrize(
    ("part", "step", "levels"),
    [
        ("hour", timedelta(hours=5), ["00h", "05h", "10h"]),
        ("weekday", timedelta(days=1), ["Mon", "Tue", "Wed"]),
        ("month", timedelta(days=31), ["1", "2", "3"]),
    ],
)
def test_parts_of_the_time_have_names(part: str, step: timedelta, levels: list[str]) -> None:
    """Hours, days of the week and months, UTC, whether or not they are features."""
    times = pa.array([START + i * step for i in range(3)], pa.timestamp("us", "UTC"))
    found = slice_rows(pa.table({"t": times}), f"t.{part}", workload_of(calendar=[]))
    assert [found.levels[code] for code in found.codes] == levels


def test_a_column_that_is_not_there_is_named() -> None:
    """With the nearest that is."""
    with pytest.raises(ColumnError, match=r"slices names 'plam'.*'plan'"):
        slice_rows(pa.table({"plan": ["a"]}), "plam", workload_of())


FEATURES = Encoding(
    features=(
        Feature(name="n", source="n", how="number"),
        Feature(name="few", source="few", how="category", levels=("a", "b")),
        Feature(name="many", source="many", how="category", levels=tuple(map(str, range(13)))),
        Feature(name="one", source="one", how="category", levels=("a",)),
        Feature(name="flag", source="flag", how="boolean"),
        Feature(name="t.hour", source="t", how="hour"),
        Feature(name="t.weekday", source="t", how="weekday"),
        Feature(name="t.month", source="t", how="month"),
    )
)


def test_the_features_leant_on_most_are_taken() -> None:
    """Of those with few levels, four; equal ones in their order."""
    importance = (0.5, 0.05, 0.2, 0.1, 0.0, 0.05, 0.1, 0.0)
    found = slice_columns(workload_of(), FEATURES, importance)
    assert found == ("t.weekday", "few", "t.hour", "flag")


@pytest.mark.parametrize("named", [(), ("n", "t.month")])
def test_what_the_workload_names_is_taken(named: tuple[str, ...]) -> None:
    """That and nothing else; none is none."""
    assert slice_columns(workload_of(slices=named), FEATURES, (0.0,) * 8) == named


def report(
    off: np.ndarray, codes: np.ndarray, blocks: np.ndarray | None = None, metric: str = "mae"
) -> SliceReport:
    """Score slices of rows whose errors are these."""
    levels = tuple(f"l{i}" for i in range(int(codes.max()) + 1))
    slicing = Slicing("c", codes, levels)
    rows = np.arange(len(off)) if blocks is None else blocks
    return score_slices((slicing,), np.zeros(len(off)), Predictions(off), rows, METRICS[metric])


def test_a_bad_slice_is_found() -> None:
    """It leads the report with its rows and interval, and only it is flagged."""
    draw = np.random.default_rng(0)
    codes = np.arange(1000) % 5
    off = draw.normal(size=1000) * np.where(codes == 3, 2.0, 1.0)
    found = report(off, codes)
    assert [s.level for s in found.worse] == ["l3"]
    first = found.slices[0]
    assert (first.level, first.rows, first.column) == ("l3", 200, "c")
    assert first.score == pytest.approx(np.abs(off[codes == 3]).mean())
    assert first.low < 2 * math.sqrt(2 / math.pi) < first.high
    assert found.whole.score == pytest.approx(np.abs(off).mean())
    assert found.whole.rows == 1000
    gaps = [s.score for s in found.slices[1:]]
    assert gaps == sorted(gaps, reverse=True)


def test_a_metric_to_be_large_is_read_the_other_way_round() -> None:
    """The slice with least accuracy is the worst, and one that is never right is flagged."""
    codes = np.arange(400) % 4
    y = np.ones(400, int)
    value = np.where(codes == 2, 0, 1)
    slicing = Slicing("c", codes, ("a", "b", "c", "d"))
    found = score_slices((slicing,), y, Predictions(value), np.arange(400), METRICS["accuracy"])
    assert [s.level for s in found.worse] == ["c"]
    assert found.slices[0].low == 0.0
    # 1 - 0.025 ** (1 / 100), as Clopper and Pearson have it.
    assert found.slices[0].high == pytest.approx(0.0362, abs=1e-4)
    assert (found.slices[1].low, found.slices[1].high) == pytest.approx((1 - 0.0362, 1), abs=1e-4)


def test_a_little_less_accuracy_is_not_clearly_worse() -> None:
    """Slices within luck of the whole are not flagged where more is better, either."""
    right = (np.random.default_rng(4).random(400) < 0.8).astype(int)
    slicing = Slicing("c", np.arange(400) % 4, ("a", "b", "c", "d"))
    found = score_slices(
        (slicing,), np.ones(400, int), Predictions(right), np.arange(400), METRICS["accuracy"]
    )
    assert len(found.slices) == 4
    assert found.worse == ()


def test_equal_slices_are_rarely_flagged() -> None:
    """Of two hundred tables without a bad slice, about one in twenty has one flagged."""
    draw = np.random.default_rng(1)
    codes = np.arange(600) % 10
    flagged = sum(bool(report(draw.normal(size=600), codes).worse) for _ in range(200))
    assert flagged <= 20


def test_bad_days_are_no_bad_slice() -> None:
    """A slice that lies in few days cannot be told from its days, so nothing is said of it."""
    draw = np.random.default_rng(2)
    days = np.arange(600) // 60
    codes = (days < 2).astype(int)
    found = report(draw.normal(size=600) * np.where(codes == 1, 5.0, 1.0), codes, days)
    bad = next(s for s in found.slices if s.level == "l1")
    assert math.isnan(bad.low)
    assert not bad.worse


def test_few_rows_are_not_shown() -> None:
    """They are counted instead; a column with one level cuts nothing."""
    codes = np.repeat([0, 1, 2], [100, MIN_ROWS, MIN_ROWS - 1])
    found = report(np.ones(len(codes)), codes)
    assert {s.level for s in found.slices} == {"l0", "l1"}
    assert found.hidden == 1
    assert report(np.ones(50), np.zeros(50, int)).slices == ()


def test_a_score_that_does_not_exist_is_not_shown() -> None:
    """Of one class there is no area under the curve."""
    draw = np.random.default_rng(3)
    codes = np.arange(200) % 2
    y = np.where(codes == 1, 1, draw.integers(0, 2, 200))
    second = draw.random(200)
    found = score_slices(
        (Slicing("c", codes, ("mixed", "ones")),),
        y,
        Predictions((second > 0.5).astype(int), np.column_stack([1 - second, second])),
        np.arange(200),
        METRICS["roc_auc"],
    )
    assert [s.level for s in found.slices] == ["mixed"]
    assert found.hidden == 1


def test_a_report_survives_json() -> None:
    """It is a file of the run."""
    found = SliceReport(
        whole=SliceScore(column="all", level="all", rows=1, score=1.0, low=0.5, high=1.5)
    )
    assert SliceReport.model_validate_json(found.model_dump_json()) == found
