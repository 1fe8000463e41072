"""Whatever comes, rows are divided and none is lost or let through."""

from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.contract import REASON, Contract, check_rows

SETTINGS = settings(max_examples=150, deadline=None)
CODES = {"wrong_type", "missing_required", "out_of_range", "unknown_level"}
CONTRACT = Contract.model_validate(
    {
        "columns": [
            {"name": "k", "role": "key", "kind": "number", "exact": True, "required": True},
            {"name": "t", "role": "time", "kind": "timestamp", "required": True},
            {"name": "n", "role": "feature", "kind": "number", "minimum": -10, "maximum": 10},
            {"name": "b", "role": "feature", "kind": "boolean"},
            {"name": "c", "role": "feature", "kind": "category", "levels": ["a", "b"]},
            {"name": "y", "role": "target", "kind": "number", "minimum": 0},
        ]
    }
)
FLOATS = st.none() | st.floats() | st.floats(-12, 12)
WORDS = st.none() | st.sampled_from(
    ["1", "-3.5", "x", "", "inf", "nan", "a", "b", "true", "no", "2020-01-02", "now", "9" * 25]
)
# A column of one Arrow type, of any, whether it fits the contract or not.
COLUMNS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.float64(), FLOATS),
    (pa.float32(), st.none() | st.floats(width=32)),
    (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-12, 12)),
    (pa.uint64(), st.none() | st.integers(0, 2**64 - 1)),
    (pa.string(), WORDS),
    (pa.large_string(), WORDS),
    (pa.dictionary(pa.int32(), pa.string()), WORDS),
    (pa.bool_(), st.none() | st.booleans()),
    (pa.timestamp("us"), st.none() | st.integers(-(2**50), 2**50)),
    (pa.date32(), st.none() | st.integers(-10_000, 10_000)),
    (pa.null(), st.none()),
]

# Columns of the right type, so that a row falls by one cell and not by many.
FITTING: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "more": (pa.int8(), st.just(1)),
    "k": (pa.int64(), st.integers(0, 9)),
    "t": (pa.timestamp("us"), st.integers(0, 9)),
    "n": (pa.float64(), st.none() | st.floats(-12, 12)),
    "b": (pa.bool_(), st.none() | st.booleans()),
    "c": (pa.string(), st.sampled_from(["a", "b", None, "z"])),
    "y": (pa.float64(), st.sampled_from([0.0, 1.0, None, -1.0, float("inf"), float("nan")])),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Draw a table with the contract's columns in any types, and one column more."""
    n_rows = draw(st.integers(0, 6))
    columns = {}
    for name in ("more", "y", "c", "b", "n", "t", "k"):
        strange = draw(st.integers(0, 9)) == 0
        kind, cells = draw(st.sampled_from(COLUMNS)) if strange else FITTING[name]
        drawn = draw(st.lists(cells, min_size=n_rows, max_size=n_rows))
        columns[name] = pa.array(drawn, kind, from_pandas=False)
    return pa.table(columns)


@SETTINGS
@given(tables())
def test_good_and_quarantined_are_all_rows(table: pa.Table) -> None:
    """No row is lost or doubled; a quarantined row is as it came, with codes and columns."""
    checked = check_rows(table, CONTRACT)
    assert checked.good.num_rows + checked.bad.num_rows == table.num_rows
    assert checked.bad.drop_columns([REASON]).schema == table.schema
    known = {c.name for c in CONTRACT.columns}
    for reason in checked.bad.column(REASON).to_pylist():
        for code, column in (part.split(":") for part in reason.split(";")):
            assert code in CODES
            assert column in known


@SETTINGS
@given(tables())
def test_good_rows_conform(table: pa.Table) -> None:
    """They have the contract's types, lie in its ranges and domains, and lack nothing required."""
    good = check_rows(table, CONTRACT).good
    assert good.schema == CONTRACT.arrow_schema("key", "time", "group", "target", "feature")
    for column in CONTRACT.columns:
        cells = good.column(column.name)
        values = cells.drop_null().to_pylist() if column.kind != "timestamp" else []
        assert not (column.required and cells.null_count)
        assert column.levels is None or set(values) <= set(column.levels)
        if column.kind == "number":
            assert all(v >= column.minimum for v in values if column.minimum is not None)
            assert all(v <= column.maximum for v in values if column.maximum is not None)
            assert all(abs(v) < float("inf") for v in values)


@SETTINGS
@given(tables())
def test_good_rows_stay_good(table: pa.Table) -> None:
    """Checked again, all of them pass, unchanged."""
    good = check_rows(table, CONTRACT).good
    again = check_rows(good, CONTRACT)
    assert again.bad.num_rows == 0
    assert again.good.equals(good)


@SETTINGS
@given(tables(), st.integers(0, 6))
def test_a_row_is_judged_alone(table: pa.Table, cut: int) -> None:
    """Batch by batch or as a whole, the same rows are good."""
    parts = [table.slice(0, cut), table.slice(cut)]
    good = pa.concat_tables([check_rows(part, CONTRACT).good for part in parts])
    assert good.equals(check_rows(table, CONTRACT).good)
