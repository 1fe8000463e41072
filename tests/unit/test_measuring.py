"""What a model takes is measured on real models, and no single slow call decides."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.measuring import measure_footprint
from twinloop.contract import infer_contract
from twinloop.costs import bill
from twinloop.results import Footprint
from twinloop.scorer import Predictions, Scorer, learn_target, to_files
from twinloop.validation import fit_scorer
from twinloop.workload import Workload

N_ROWS = 300
WORKLOAD = Workload.model_validate(
    {
        "name": "w",
        "task": "regression",
        "source": {"kind": "files", "path": "x"},
        "target": "y",
        "prices": {"core_hour": 3600.0, "kwh": 0.0},
    }
)


def table() -> pa.Table:
    """Return rows with something to learn."""
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, N_ROWS))
    return pa.table({"a": a, "b": b, "y": a * b + draw.normal(size=N_ROWS) / 10})


def fitted(name: str) -> Scorer:
    """Fit a candidate."""
    rows = table()
    contract = infer_contract(rows, WORKLOAD, "a test")
    return fit_scorer(rows, name, learn_target(rows, WORKLOAD), contract, WORKLOAD, threads=2)


def test_a_footprint_is_that_of_the_files_and_the_fits() -> None:
    """Bytes are those a registered version has, money is CPU time at the workload's prices."""
    scorer = fitted("linear")
    found = measure_footprint(scorer, table().slice(0, 3), 2.5, WORKLOAD.prices)
    assert found.size_bytes == sum(map(len, to_files(scorer).values()))
    assert found.fit_cpu_seconds == 2.5
    assert found.fit_money == pytest.approx(2.5)
    assert found.fit_money == bill(0.0, 2.5, 0, WORKLOAD.prices).money
    assert found.row_seconds > 0
    assert found.batch_seconds > 0


def test_a_baseline_is_smallest_and_a_forest_largest() -> None:
    """The one cost that two runs measure alike agrees with the order at its ends."""
    sizes = {
        name: measure_footprint(fitted(name), table(), 0.0, WORKLOAD.prices).size_bytes
        for name in ("baseline", "linear", "xgboost", "forest")
    }
    assert sorted(sizes, key=lambda name: sizes[name])[:: len(sizes) - 1] == ["baseline", "forest"]


@dataclass
class Slow:
    """Stands for a scorer: takes a time of its own for each call, and remembers the rows."""

    takes: Callable[[int], float]
    asked: list[int] = field(default_factory=list)

    def predict(self, rows: pa.Table) -> Predictions:
        """Take as long as was said for this call."""
        self.asked.append(rows.num_rows)
        time.sleep(self.takes(len(self.asked)))
        return Predictions(np.zeros(rows.num_rows))


def measured(slow: Slow, monkeypatch: pytest.MonkeyPatch, rows: int) -> Footprint:
    """Measure a model whose times are known."""
    monkeypatch.setattr("tasks.measuring.to_files", lambda _: {"a": b"12", "b": b"3"})
    scorer: Any = slow
    return measure_footprint(scorer, table().slice(0, rows), 0.0, WORKLOAD.prices)


def test_a_batch_has_a_thousand_rows_however_few_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workloads compare: 1,000 rows and one row, whatever a fold holds."""
    slow = Slow(lambda _: 0.0)
    found = measured(slow, monkeypatch, 7)
    assert set(slow.asked) == {1000, 1}
    assert found.size_bytes == 3


def test_the_first_call_and_a_disturbed_one_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A median of repeats after a warm-up."""
    slow = Slow(lambda n: 0.2 if n in (1, 3) else 0.001)
    found = measured(slow, monkeypatch, 7)
    assert found.batch_seconds < 0.02


def test_measuring_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick calls are repeated a few times, slow ones hardly."""
    quick, slow = Slow(lambda _: 0.0), Slow(lambda _: 0.05)
    measured(quick, monkeypatch, 7)
    measured(slow, monkeypatch, 7)
    assert len(quick.asked) == 2 * 16
    assert len(slow.asked) == 2 * 6
