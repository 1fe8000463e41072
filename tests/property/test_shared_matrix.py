"""One matrix for all folds gives each what encoding its own rows apart would give it."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contract import check_rows, infer_contract
from twinloop.encoding import share
from twinloop.workload import Workload

WORKLOAD = Workload.model_validate(
    {
        "name": "w",
        "task": "regression",
        "source": {"kind": "files", "path": "x"},
        "target": "y",
        "columns": {"c": {"kind": "category"}, "x": {"kind": "number"}},
    }
)
LEVELS = st.sampled_from([*"abcdefgh", "é", "", "Z", None])


@given(
    st.lists(st.tuples(LEVELS, st.one_of(st.none(), st.floats(-9, 9))), min_size=4, max_size=60),
    st.randoms(use_true_random=False),
)
def test_a_fold_of_the_matrix_is_the_fold_encoded_apart(rows: list[tuple], random: object) -> None:  # type: ignore[type-arg]
    """Levels, their order and every cell agree, for rows fitted and for rows held out."""
    rows = [("a", 1.0), ("b", 2.0), *rows]
    table = pa.table(
        {
            "c": pa.array([c for c, _ in rows], pa.string()),
            "x": pa.array([x for _, x in rows], pa.float64()),
            "y": pa.array([float(i) for i in range(len(rows))]),
        }
    )
    contract = infer_contract(table, WORKLOAD, "here")
    table = check_rows(table, contract).good
    order = np.random.default_rng(random.randint(0, 99)).permutation(table.num_rows)  # type: ignore[attr-defined]
    train, held = np.sort(order[::2]), np.sort(order[1::2])
    shared = share(table, contract, WORKLOAD)
    before = shared.X.copy()
    encoding = shared.fit(train)
    apart = share(table.take(pa.array(train)), contract, WORKLOAD).fit(np.arange(len(train)))
    assert encoding == apart
    counts = Counter(
        c for c in table.column("c").take(pa.array(train)).to_pylist() if c is not None
    )
    ranked = sorted(counts, key=lambda level: (-counts[level], level))
    assert next(f for f in encoding.features if f.source == "c").levels == tuple(ranked)
    for part in (train, held):
        expected = apart.encode(table.take(pa.array(part)))
        np.testing.assert_array_equal(shared.encode(part, encoding), expected)
    np.testing.assert_array_equal(shared.X, before)


def test_a_fold_knows_the_common_levels_of_its_own_rows_only() -> None:
    """Levels are ranked by the fold's counts, not by all rows', and those it lacks are missing."""
    table = pa.table({"c": ["a", "b", "b", "a", "a", "z"], "x": [0.0] * 6, "y": [1.0] * 6})
    contract = infer_contract(table, WORKLOAD, "here")
    shared = share(check_rows(table, contract).good, contract, WORKLOAD)
    encoding = shared.fit(np.array([0, 1, 2]))
    place = next(i for i, f in enumerate(encoding.features) if f.source == "c")
    assert encoding.features[place].levels == ("b", "a")
    assert shared.encode(np.array([1, 0]), encoding)[:, place].tolist() == [0.0, 1.0]
    assert np.isnan(shared.encode(np.array([5]), encoding)[0, place])
