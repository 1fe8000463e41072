"""The digest names the content of a table, and nothing but the content."""

import io
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.digest import ContentDigest, content_digest, row_hashes

SETTINGS = settings(max_examples=60, deadline=None)
SCHEMA = pa.schema(
    {
        "n": pa.float64(),
        "i": pa.int64(),
        "b": pa.bool_(),
        "c": pa.string(),
        "t": pa.timestamp("us", "UTC"),
    }
)
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "n": st.floats(width=32),
    "i": st.integers(-(2**31), 2**31 - 1),
    "b": st.booleans(),
    "c": st.text(max_size=4),
    "t": st.datetimes(
        datetime(1900, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
        datetime(2200, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
        timezones=st.just(UTC),
    ),
}
ROWS = st.fixed_dictionaries({name: st.none() | cells for name, cells in CELLS.items()})


def tables(least: int = 0) -> st.SearchStrategy[pa.Table]:
    """Draw tables of all kinds of columns, nulls included."""
    return st.lists(ROWS, min_size=least, max_size=8).map(
        lambda rows: pa.Table.from_pylist(rows, schema=SCHEMA)
    )


@SETTINGS
@given(tables(), st.randoms(use_true_random=False))
def test_order_is_no_content(table: pa.Table, random: Any) -> None:
    """Rows and columns in any order have one digest."""
    rows = list(range(table.num_rows))
    names = list(table.schema.names)
    random.shuffle(rows)
    random.shuffle(names)
    assert content_digest(table.take(pa.array(rows, pa.int64())).select(names)) == content_digest(
        table
    )


@SETTINGS
@given(tables(), st.integers(1, 4), st.sampled_from(["NONE", "ZSTD", "SNAPPY"]), st.booleans())
def test_files_are_no_content(
    table: pa.Table, rows_a_group: int, compression: str, dictionary: bool
) -> None:
    """Row groups, compression and dictionaries of a Parquet file leave the digest alone."""
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        row_group_size=rows_a_group,
        compression=compression,
        use_dictionary=dictionary,
    )
    read = pq.read_table(io.BytesIO(buffer.getvalue()), read_dictionary=["c"])
    assert content_digest(read) == content_digest(table)


@SETTINGS
@given(tables(), st.lists(st.integers(0, 8), max_size=3))
def test_a_split_into_files_is_no_content(table: pa.Table, cuts: list[int]) -> None:
    """Built file by file, or of a table in chunks, the digest is that of the whole."""
    bounds = [0, *sorted(min(cut, table.num_rows) for cut in cuts), table.num_rows]
    parts = [table.slice(a, b - a) for a, b in pairwise(bounds)]
    digest = ContentDigest()
    for part in reversed(parts):
        digest = digest.merge(ContentDigest.of(part))
    assert ContentDigest.model_validate_json(digest.model_dump_json()) == digest
    assert digest.hexdigest() == content_digest(table)
    assert content_digest(pa.concat_tables(parts)) == content_digest(table)


@SETTINGS
@given(tables(1), st.sampled_from(SCHEMA.names))
def test_encoding_of_a_column_is_no_content(table: pa.Table, name: str) -> None:
    """A dictionary-encoded column has the digest of the plain one."""
    at = table.schema.get_field_index(name)
    encoded = table.set_column(at, name, table.column(name).dictionary_encode())
    assert content_digest(encoded) == content_digest(table)


@SETTINGS
@given(tables())
def test_width_is_no_content(table: pa.Table) -> None:
    """Equal integers, texts and floats of narrower types have one digest."""
    narrow = table.cast(
        pa.schema(
            {
                "n": pa.float32(),
                "i": pa.int32(),
                "b": pa.bool_(),
                "c": pa.large_string(),
                "t": pa.timestamp("us", "Europe/Rome"),
            }
        )
    )
    assert content_digest(narrow) == content_digest(table)


@pytest.mark.parametrize(("one", "other"), [(-0.0, 0.0), (float("nan"), None)])
def test_equal_floats_have_one_digest(one: float, other: float | None) -> None:
    """Minus zero is zero, and NaN is a missing value."""
    tables = [
        pa.table({"n": pa.array([1.5, v], pa.float64(), from_pandas=False)}) for v in (one, other)
    ]
    assert content_digest(tables[0]) == content_digest(tables[1])


@SETTINGS
@given(tables(1), st.data())
def test_one_changed_cell_changes_the_digest(table: pa.Table, data: st.DataObject) -> None:
    """Any other value, null included, in any one cell makes another table."""
    name = data.draw(st.sampled_from(table.schema.names))
    row = data.draw(st.integers(0, table.num_rows - 1))
    cells = table.column(name).to_pylist()
    new = data.draw(st.none() | CELLS[name])
    missing = [v is None or v != v for v in (new, cells[row])]
    same = all(missing) or new == cells[row]
    changed = [*cells[:row], new, *cells[row + 1 :]]
    at = table.schema.get_field_index(name)
    other = table.set_column(at, SCHEMA.field(name), pa.array(changed, SCHEMA.field(name).type))
    assert (content_digest(other) == content_digest(table)) is same


@SETTINGS
@given(tables(1), st.integers(0, 7))
def test_a_row_more_or_less_changes_the_digest(table: pa.Table, at: int) -> None:
    """Equal rows count: a row given twice is another table."""
    row = table.slice(min(at, table.num_rows - 1), 1)
    assert content_digest(pa.concat_tables([table, row])) != content_digest(table)
    assert content_digest(table.slice(1)) != content_digest(table)


@SETTINGS
@given(tables(), st.sampled_from(SCHEMA.names))
def test_names_and_columns_change_the_digest(table: pa.Table, name: str) -> None:
    """A renamed, dropped or doubled column makes another table, even of no rows."""
    renamed = table.rename_columns({name: f"{name}2"})
    doubled = table.append_column("again", table.column(name))
    digests = {content_digest(t) for t in (table, renamed, doubled, table.drop_columns([name]))}
    assert len(digests) == 4


@pytest.mark.parametrize("kind", [pa.int64(), pa.bool_(), pa.string(), pa.timestamp("us")])
@pytest.mark.parametrize("cells", [[0.0, 1.0], [None, None], []])
def test_the_kind_of_a_column_is_content(kind: pa.DataType, cells: list[float | None]) -> None:
    """Zero, "0" and False are not the same, and neither are nulls of two kinds."""
    floats = pa.array(cells, pa.float64())
    other = floats.cast(pa.int64()).cast(kind)
    assert content_digest(pa.table({"x": other})) != content_digest(pa.table({"x": floats}))


def test_true_is_not_one() -> None:
    """A column of truths differs from one of the integers they would be."""
    truths = pa.table({"x": [True, False]})
    integers = pa.table({"x": pa.array([1, 0], pa.int64())})
    assert content_digest(truths) != content_digest(integers)


def test_swapped_columns_do_not_cancel_out() -> None:
    """Values that change places between columns or rows make another table."""
    table = pa.table({"a": [1, 2], "b": [3, 4]})
    across = pa.table({"a": [3, 2], "b": [1, 4]})
    along = pa.table({"a": [1, 2], "b": [4, 3]})
    assert len({content_digest(t) for t in (table, across, along)}) == 3


def test_a_digest_is_of_one_schema() -> None:
    """Files of other columns than the first are refused."""
    digest = ContentDigest.of(pa.table({"a": [1]}))
    with pytest.raises(ValueError, match="differ from"):
        digest.merge(ContentDigest.of(pa.table({"a": ["1"]})))


def test_rows_are_hashed_by_the_columns_named() -> None:
    """Equal cells there, equal hashes; other columns do not count."""
    table = pa.table({"a": [1, 1, 2], "b": ["x", "y", "x"]})
    first, second, third = row_hashes(table, ["a"])
    assert first == second != third
    assert len(set(row_hashes(table, ["a", "b"]).tolist())) == 3
