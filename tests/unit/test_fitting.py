"""Which predictions stand for a row, and which rows a champion has not seen."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.judging import fresh_rows
from tasks.outoffold import OutOfFold
from tasks.registry import ServedVersion
from twinloop.scorer import Predictions
from twinloop.workload import Workload

START = datetime(2024, 1, 1, tzinfo=UTC)


def champion(until: int | None) -> ServedVersion:
    """Return a champion that was fitted on rows until an hour."""
    return ServedVersion(
        name="w",
        version="1",
        run_id="r",
        source="s",
        digest="d",
        metric="rmse",
        score=1.0,
        until=until,
        holdout="0.2:0",
        data_digest="d",
        trained_at=START,
    )


def workload(**more: object) -> Workload:
    """Return a workload with more keys."""
    base = {"name": "w", "task": "regression", "source": {"kind": "files", "path": "x"}}
    return Workload.model_validate(base | {"target": "y", "training": {"refit": "train"}} | more)


@pytest.mark.parametrize("shares", [True, False])
def test_the_first_of_repeated_predictions_counts(shares: bool, tmp_path: Path) -> None:
    """Each row is there once, in order, with what the first fold that held it out said of it."""

    def fold(rows: list[int], values: list[float]) -> tuple[np.ndarray, Predictions]:
        value = np.array(values)
        probability = np.column_stack([1 - value, value]) if shares else None
        return np.array(rows), Predictions(value, probability)

    folds = [fold([4, 0], [0.4, 0.0]), fold([2], [0.2]), fold([0, 2, 4], [0.9, 0.9, 0.9])]
    OutOfFold.of(folds).save(tmp_path / "oof.npz")
    found = OutOfFold.load(tmp_path / "oof.npz")
    assert found.rows.tolist() == [0, 2, 4]
    assert found.predictions.value.tolist() == [0.0, 0.2, 0.4]
    if shares:
        assert found.predictions.probability is not None
        assert found.predictions.probability[:, 1].tolist() == [0.0, 0.2, 0.4]
    else:
        assert found.predictions.probability is None


def test_fresh_rows_are_later_and_of_new_groups() -> None:
    """Of the holdout count rows after the champion's last, of groups it has no row of."""
    times = [START + timedelta(hours=h) for h in range(8)]
    table = pa.table({"t": times, "g": ["a", "a", "b", "c", "c", "d", "b", "e"]})
    table = table.cast(pa.schema({"t": pa.timestamp("us", "UTC"), "g": pa.string()}))
    until = int((START + timedelta(hours=3)).timestamp() * 1e6)
    held = np.array([3, 4, 5, 6, 7])
    by_time = fresh_rows(table, held, champion(until), workload(time="t"))
    assert by_time.tolist() == [4, 5, 6, 7]
    apart = fresh_rows(table, held, champion(until), workload(time="t", group="g"))
    assert apart.tolist() == [5, 7]


def test_fresh_rows_without_time_are_those_of_one_holdout() -> None:
    """They are the whole holdout where the champion had the same, and none where it had not."""
    table, held = pa.table({"y": [1.0, 2.0]}), np.array([1])
    assert fresh_rows(table, held, champion(None), workload()).tolist() == [1]
    assert fresh_rows(table, held, champion(None), workload(seed=1)).tolist() == []
