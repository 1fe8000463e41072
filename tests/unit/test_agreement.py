"""A compiled model that says anything else than the model itself does not pass."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks import registering, storage
from tests.scorers import KINDS, PROBLEMS, fitted, learned, reference_of
from twinloop.agreement import refuse_disagreement, with_dirty_copies
from twinloop.compiled import compiled
from twinloop.contract import check_rows
from twinloop.errors import RegistryError
from twinloop.rule import Rule
from twinloop.scorer import Scorer


def pushed(scorer: Scorer, by: float) -> Scorer:
    """Compile a linear scorer, with another intercept than it has."""
    fast = compiled(scorer)
    table = fast.predictor.model
    wrong = replace(table, intercept=table.intercept + by * np.arange(1, len(table.intercept) + 1))
    return replace(fast, predictor=replace(fast.predictor, model=wrong))


@pytest.mark.parametrize("problem", list(PROBLEMS))
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_models_pass(kind: str, problem: str) -> None:
    """On rows of the table, and on copies as bad as the contract lets them be."""
    plain, (rows, contract, _, _) = fitted(kind, problem), learned(problem)
    refuse_disagreement(plain, compiled(plain), with_dirty_copies(rows, contract))


@pytest.mark.parametrize(
    ("problem", "told"),
    [("number", "numbers"), ("two", "probabilities"), ("five", "probabilities")],
)
def test_another_answer_is_refused(problem: str, told: str) -> None:
    """The error names the row and what both say of it."""
    plain, rows = fitted("linear", problem), learned(problem)[0]
    refuse_disagreement(plain, pushed(plain, 1e-9), rows)
    with pytest.raises(RegistryError, match=rf"row 0: .*{told} may differ by 1e-06") as caught:
        refuse_disagreement(plain, pushed(plain, 1e-3), rows)
    for scorer in (plain, pushed(plain, 1e-3)):
        found = scorer.predict(rows.slice(0, 1))
        said = found.value if found.probability is None else found.probability
        assert repr(said[0].tolist()) in str(caught.value)


def test_one_row_of_many_is_found() -> None:
    """An odd answer to rows without a level is refused by the row where the first stands."""
    plain, rows = fitted("linear", "number"), learned("number")[0]
    fast = compiled(plain)
    at = next(i for i, f in enumerate(plain.encoding.features) if f.name == "level")
    columns = list(fast.predictor.model.columns)
    (place,) = (k for k, c in enumerate(columns) if c.column == at)
    weights = columns[place].weights.copy()
    weights[:, 0] += 1
    columns[place] = replace(columns[place], weights=weights)
    model = replace(fast.predictor.model, columns=tuple(columns))
    wrong = replace(fast, predictor=replace(fast.predictor, model=model))
    first = rows.column("level").is_null().to_pylist().index(True)
    with pytest.raises(RegistryError, match=f"row {first}: "):
        refuse_disagreement(plain, wrong, rows)


@pytest.mark.parametrize(("off", "refused"), [(0.0, False), (1e-3, True)])
def test_another_class_passes_only_where_it_is_a_tie(off: float, refused: bool) -> None:
    """On the threshold the last bit decides; next to it, it must not."""
    plain, rows = fitted("linear", "two"), learned("two")[0].slice(0, 1)
    found = plain.predict(rows).probability
    assert found is not None
    said = float(found[0, 1])
    # The two see thresholds on either side of what they say.
    low, high = (replace(plain, rule=Rule(threshold=said + d)) for d in (-1e-9 - off, 1e-9))
    assert low.predict(rows).value[0] != high.predict(rows).value[0]
    if refused:
        with pytest.raises(RegistryError, match=r"row 0: the model says 1, .* 0; classes"):
            refuse_disagreement(low, high, rows)
    else:
        refuse_disagreement(low, high, rows)


@pytest.mark.parametrize(("one", "other"), [(np.inf, 1.0), (1.0, np.inf), (np.nan, 1.0)])
def test_what_is_no_number_agrees_with_itself_alone(one: float, other: float) -> None:
    """Nothing is near an infinite answer but itself."""

    def says(value: float) -> Scorer:
        predictor: Any = SimpleNamespace(predict=lambda X: np.full(len(X), value))
        return replace(fitted("linear", "number"), predictor=predictor)

    rows = learned("number")[0]
    refuse_disagreement(says(one), says(one), rows)
    with pytest.raises(RegistryError, match="row 0: "):
        refuse_disagreement(says(one), says(other), rows)


def test_dirty_copies_are_as_bad_as_the_contract_allows() -> None:
    """All keep it; there are nulls, new levels, limits, and the first and last moment."""
    rows, contract, _, _ = learned("five")
    dirty = with_dirty_copies(rows, contract)
    checked = check_rows(dirty, contract, roles=("time", "feature"))
    assert checked.bad.num_rows == 0
    added = checked.good.slice(rows.num_rows)
    assert dirty.slice(0, rows.num_rows).equals(rows.select(dirty.schema.names))
    for column in contract.select("feature"):
        assert added.column(column.name).null_count >= 20
    assert "a level that was never seen" in added.column("level").to_pylist()
    number = next(c for c in contract.columns if c.name == "n")
    assert {number.minimum, number.maximum} <= set(added.column("n").to_pylist())
    days = {datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)}
    assert days <= set(added.column("t").to_pylist())
    assert added.column("t").null_count == 0


def test_a_version_whose_compiled_form_disagrees_is_not_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers the probe as it should; only what windows are scored with is off."""
    scorer, (rows, contract, _, workload) = fitted("linear", "number"), learned("number")
    for name, values in scorer.columns(scorer.predict(rows)).items():
        rows = rows.append_column(f"answer.{name}", values)
    storage.write_parquet(rows, tmp_path / "probe.parquet")
    loaded = SimpleNamespace(
        scorer=scorer, contract=contract, reference=reference_of("linear", "number")
    )
    monkeypatch.setattr(registering, "load_version", lambda *_: loaded)
    version: Any = SimpleNamespace(name="w", label="v1")
    registering._verify(version, tmp_path / "probe.parquet", workload)
    monkeypatch.setattr(registering, "compiled", lambda scorer: pushed(scorer, 1e-3))
    with pytest.raises(RegistryError, match="row 0: the model says"):
        registering._verify(version, tmp_path / "probe.parquet", workload)


def test_rows_of_no_table_agree() -> None:
    """Of nothing there is nothing to refuse."""
    plain, rows = fitted("linear", "five"), learned("five")[0]
    refuse_disagreement(plain, compiled(plain), rows.slice(0, 0))
    assert isinstance(rows, pa.Table)
