"""A contract is learned from rows, and says of other rows what they break."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from twinloop.contract import REASON, Contract, check_rows, duplicated, infer_contract
from twinloop.errors import ColumnError
from twinloop.workload import Workload

NOON = datetime(2020, 1, 2, 12, tzinfo=UTC)


def workload(**more: Any) -> Workload:
    """Return a workload that predicts ``y``."""
    known: dict[str, Any] = {
        "name": "w",
        "task": "regression",
        "source": {"kind": "files", "path": "x"},
        "target": "y",
    }
    return Workload.model_validate(known | more)


def rows(**more: list[Any]) -> pa.Table:
    """Return three rows with a number, a word and a target."""
    columns = {"n": [1.0, 2.0, 3.0], "c": ["a", "b", "a"], "y": [1.0, 2.0, 3.0]}
    return pa.table({k: pa.array(v) for k, v in (columns | more).items()})


def learn(table: pa.Table, **more: Any) -> Contract:
    """Learn the contract of a table."""
    return infer_contract(table, workload(**more), "f.parquet")


def reasons(table: pa.Table, contract: Contract) -> list[str]:
    """Return why rows are in quarantine."""
    found: list[str] = check_rows(table, contract).bad.column(REASON).to_pylist()
    return found


def test_columns_play_roles() -> None:
    """Key, time, group and target are no features; ignored columns are not there at all."""
    table = rows(k=[1, 2, 3], t=[NOON] * 3, g=["x"] * 3, i=[0, 0, 0])
    contract = learn(table, key=("k",), time="t", group="g", ignore=("i",))
    assert {c.name: c.role for c in contract.columns} == {
        "k": "key",
        "t": "time",
        "g": "group",
        "y": "target",
        "n": "feature",
        "c": "feature",
    }
    assert contract.features == ("n", "c")


def test_where_a_row_stood_is_no_feature() -> None:
    """A frame teaches the same with its index and without; who describes it has it."""
    frame = rows().to_pandas().sample(frac=1.0, random_state=1)
    table = pa.Table.from_pandas(frame)
    assert "__index_level_0__" in table.schema.names
    assert learn(table).features == ("n", "c")
    named = learn(table, columns={"__index_level_0__": {"kind": "number"}})
    assert named.features == ("n", "c", "__index_level_0__")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"target": "yy"}, "no column 'yy', which is the target.*'y'"),
        ({"time": "tt"}, "no column 'tt', which is the time"),
        ({"key": ("kk",)}, "no column 'kk', which is the key"),
        ({"columns": {"nn": {}}}, "no column 'nn', which is named under 'columns'"),
        ({"ignore": ("ii",)}, "no column 'ii', which is named under 'ignore'"),
        ({"slices": ("nn",)}, "no column 'nn', which is named under 'slices'"),
        ({"slices": ("t.hour",)}, "no column 't.hour', which is named under 'slices'"),
        ({"ignore": ("n", "c")}, "no feature is left"),
        ({"time": "c"}, r"column 'c' \(time\) has no value of kind 'timestamp'"),
    ],
)
def test_a_table_that_lacks_columns_is_refused(more: dict[str, Any], told: str) -> None:
    """The error names the file, the column and its role."""
    with pytest.raises(ColumnError, match=f"f.parquet: .*{told}"):
        learn(rows(), **more)


def test_a_column_of_nulls_is_refused() -> None:
    """Nothing can be learned of it; the way out is named."""
    with pytest.raises(ColumnError, match=r"'n' .* nothing but nulls in 3 rows.*'ignore'"):
        learn(rows(n=[None, None, None]))


def test_the_range_is_wider_than_what_was_seen() -> None:
    """It stops the impossible, not the unusual."""
    (column,) = [c for c in learn(rows(n=[0.0, 5.0, 10.0])).columns if c.name == "n"]
    assert (column.minimum, column.maximum) == (-10.0, 20.0)


def test_rules_come_before_what_was_seen() -> None:
    """Bounds, kind, levels and duty of a column can be told beforehand."""
    contract = learn(
        rows(code=[1, 2, 3]),
        columns={
            "n": {"minimum": 0, "required": True},
            "c": {"levels": ("a", "b")},
            "code": {"levels": ("1", "2", "3")},
        },
    )
    n, c, code = contract.select("feature")
    assert (n.minimum, n.maximum, n.required) == (0.0, 6.0, True)
    assert c.levels == ("a", "b")
    assert code.kind == "category"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"n": [1.0, 2.0, 99.0]}, "out_of_range:n"),
        ({"n": [1.0, 2.0, float("inf")]}, "out_of_range:n"),
        ({"n": ["1", "2", "x"]}, "wrong_type:n"),
        ({"k": [1, 2, None]}, "missing_required:k"),
        ({"k": ["1", "2", "x"]}, "wrong_type:k"),
        ({"k": [1.0, 2.0, 2.5]}, "wrong_type:k"),
        ({"k": [1.0, 2.0, float("inf")]}, "wrong_type:k"),
        ({"c": ["a", "b", "z"]}, "unknown_level:c"),
        ({"t": ["2020-01-02", "2020-01-03", "soon"]}, "wrong_type:t"),
        ({"n": [1.0, 2.0, 99.0], "c": ["a", "b", "z"]}, "out_of_range:n;unknown_level:c"),
    ],
)
def test_a_broken_row_is_kept_with_its_reason(more: dict[str, list[Any]], reason: str) -> None:
    """The third row goes to quarantine as it came; the reason names code and column."""
    whole = rows(k=[1, 2, 3], t=[NOON] * 3)
    contract = learn(whole, key=("k",), time="t", columns={"c": {"levels": ("a", "b")}})
    named: dict[str, list[Any]] = {"k": [1, 2, 3], "t": [NOON] * 3}
    came = rows(**(named | more))
    checked = check_rows(came, contract)
    assert checked.good.num_rows == 2
    assert checked.bad.drop_columns([REASON]).equals(came.slice(2))
    assert sorted(checked.bad.column(REASON)[0].as_py().split(";")) == reason.split(";")


def test_a_missing_value_is_no_fault_unless_required() -> None:
    """Nulls and NaN pass where a value may be missing."""
    contract = learn(rows())
    came = pa.table(
        {"n": pa.array([None, float("nan")], from_pandas=False), "c": [None, "a"], "y": [None, 1]}
    )
    assert check_rows(came, contract).good.column("n").null_count == 2
    assert (
        reasons(came, learn(rows(), columns={"n": {"required": True}}))
        == ["missing_required:n"] * 2
    )


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([2**62 + 1, -(2**63), 2**63 - 1]),
        pa.array([str(2**62 + 1), str(-(2**63)), str(2**63 - 1)]),
        pa.array([2**62 + 1, 5, 2**63 - 1], pa.uint64()),
    ],
)
def test_integers_that_name_things_are_kept_exactly(ids: pa.Array) -> None:
    """No id is rounded to the nearest float on the way, typed or read from text."""
    contract = learn(rows(k=[1, 2, 3]), key=("k",))
    checked = check_rows(rows().append_column("k", ids), contract)
    assert checked.good.schema.field("k").type == pa.int64()
    assert checked.good.column("k").to_pylist() == [int(i) for i in ids.to_pylist()]


def test_an_id_that_cannot_be_kept_is_quarantined() -> None:
    """Floats beyond 2**53 and integers beyond 64 bits no longer name one thing."""
    contract = learn(rows(k=[1, 2, 3]), key=("k",))
    floats = rows().append_column("k", pa.array([1.0, 2.0**53, 1e300]))
    wide = rows().append_column("k", pa.array([1, 2**63, 2**64 - 1], pa.uint64()))
    assert reasons(floats, contract) == reasons(wide, contract) == ["wrong_type:k"] * 2


def test_ids_of_64_bits_without_sign_are_levels() -> None:
    """A contract learned of hashes keeps each of them."""
    hashes = pa.array([2**64 - 1, 2**63, 1], pa.uint64())
    table = rows().append_column("k", hashes)
    good = check_rows(table, learn(table, key=("k",))).good
    assert good.column("k").to_pylist() == [str(h) for h in hashes.to_pylist()]


def test_a_missing_column_is_no_fault_of_a_row() -> None:
    """It fails the whole table, and names the column."""
    with pytest.raises(ColumnError, match="no column 'n', which is part of the contract"):
        check_rows(rows().drop_columns(["n"]), learn(rows()))


def test_rows_without_labels_are_checked_without() -> None:
    """Asked for the roles of inference, the target may be absent; other columns are dropped."""
    table = rows().drop_columns(["y"]).append_column("new", pa.array([1, 2, 3]))
    good = check_rows(table, learn(rows()), roles=("key", "time", "feature")).good
    assert good.schema.names == ["n", "c"]
    assert good.num_rows == 3


def test_a_contract_survives_json() -> None:
    """It is versioned with the model, so it must read back equal."""
    contract = learn(rows(k=[1, 2, 3]), key=("k",), columns={"c": {"levels": ("a", "b")}})
    assert Contract.model_validate_json(contract.model_dump_json()) == contract


def test_repeated_keys_are_marked_from_the_second_on() -> None:
    """Without a key nothing is repeated."""
    table = pa.table({"a": [1, 1, 2, 1], "b": ["x", "y", "x", "x"]})
    assert duplicated(table, ("a",)).tolist() == [False, True, False, True]
    assert duplicated(table, ("a", "b")).tolist() == [False, False, False, True]
    assert not duplicated(table, ()).any()
