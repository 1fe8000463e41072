"""An encoding turns conforming rows into one matrix, and learns from its training rows alone."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from twinloop.contract import check_rows, infer_contract
from twinloop.encoding import Encoding, share
from twinloop.workload import Workload


def fitted(table: pa.Table, **more: Any) -> tuple[Encoding, pa.Table]:
    """Fit an encoding, and return it with the rows typed."""
    workload = Workload.model_validate(
        {
            "name": "w",
            "task": "regression",
            "source": {"kind": "files", "path": "x"},
            "target": "y",
        }
        | more
    )
    contract = infer_contract(table, workload, "f.csv")
    good = check_rows(table, contract).good
    return share(good, contract, workload).fit(np.arange(good.num_rows)), good


def test_each_kind_becomes_numbers() -> None:
    """Numbers stay, truths are 0 and 1, levels are their place, times are days; null is NaN."""
    table = pa.table(
        {
            "n": [1.5, None, 3.0],
            "b": [True, False, None],
            "c": ["x", None, "y"],
            "t": pa.array([datetime(1970, 1, 2, 12, tzinfo=UTC), None, None]),
            "y": [1.0, 2.0, 3.0],
        }
    )
    encoding, good = fitted(table)
    X = encoding.encode(good)
    assert encoding.names == ("n", "b", "c", "t")
    assert X.dtype == np.float32
    nan = np.nan
    wanted = [[1.5, 1, 0, 1.5], [nan, 0, nan, nan], [3, nan, 1, nan]]
    np.testing.assert_array_equal(X, np.array(wanted, np.float32))


def test_levels_are_ranked_by_frequency_then_name() -> None:
    """The order hangs on the content alone, so equal data give equal codes."""
    table = pa.table({"c": ["b", "a", "c", "c", None], "y": [1.0, 2.0, 3.0, 4.0, 5.0]})
    encoding, good = fitted(table)
    backwards, _ = fitted(table.take([4, 3, 2, 1, 0]))
    assert encoding.features[0].levels == ("c", "a", "b")
    assert backwards == encoding
    assert encoding.encode(good)[:4, 0].tolist() == [2.0, 1.0, 0.0, 0.0]


def test_rare_levels_beyond_the_limit_are_missing() -> None:
    """A column of free text does not blow the matrix up."""
    words = [f"w{i:03}" for i in range(100)]
    encoding, good = fitted(pa.table({"c": words, "y": np.arange(100.0)}))
    assert len(encoding.features[0].levels) == 64
    assert np.isnan(encoding.encode(good)[:, 0]).sum() == 36


def test_a_level_never_seen_is_missing() -> None:
    """It is encoded as NaN, not refused and not given a code."""
    encoding, _ = fitted(pa.table({"c": ["a", "b"], "y": [1.0, 2.0]}))
    new = pa.table({"c": pa.array(["z", "b", None])})
    np.testing.assert_array_equal(encoding.encode(new)[:, 0], [np.nan, 1.0, np.nan])


def test_calendar_parts_are_chosen_by_the_workload() -> None:
    """They follow the features, and the time itself is none."""
    times = pa.array([datetime(2020, 3, 1, 5, tzinfo=UTC), datetime(2020, 3, 2, 6, tzinfo=UTC)])
    table = pa.table({"n": [1.0, 2.0], "t": times, "y": [1.0, 2.0]})
    encoding, good = fitted(table, time="t", calendar=("month", "hour", "weekday"))
    assert encoding.names == ("n", "t.month", "t.hour", "t.weekday")
    assert encoding.coded == (1, 2, 3)
    assert encoding.encode(good).tolist() == [[1, 2, 5, 6], [2, 2, 6, 0]]


def test_an_encoding_survives_json() -> None:
    """It is saved with the model, and must read back equal."""
    encoding, _ = fitted(pa.table({"c": ["a", "b"], "n": [1.0, 2.0], "y": [1.0, 2.0]}))
    assert Encoding.model_validate_json(encoding.model_dump_json()) == encoding


def test_no_rows_make_an_empty_matrix() -> None:
    """An empty window has a shape, not an error."""
    encoding, good = fitted(pa.table({"c": ["a", "b"], "n": [1.0, 2.0], "y": [1.0, 2.0]}))
    assert encoding.encode(good.slice(0, 0)).shape == (0, 2)
