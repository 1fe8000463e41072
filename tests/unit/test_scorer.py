"""A scorer predicts whatever keeps the contract, and is the same after a trip to disk."""

import json
import os
import pickle
from dataclasses import replace
from functools import cache, partial
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator
from sklearn.preprocessing import FunctionTransformer

from twinloop.calibration import Calibration
from twinloop.contract import check_rows, infer_contract
from twinloop.errors import RegistryError, TargetError
from twinloop.rule import PLAIN, Rule
from twinloop.scorer import (
    Predictions,
    Scorer,
    Target,
    files_digest,
    from_files,
    learn_target,
    to_files,
)
from twinloop.validation import fit_scorer
from twinloop.vocabulary import CandidateName
from twinloop.workload import Workload

CANDIDATES: tuple[CandidateName, ...] = get_args(CandidateName)
# A problem: its task, its metric and the Arrow type of its target.
PROBLEMS = [
    ("regression", "rmse", pa.float64()),
    ("regression", "mae", pa.int64()),
    ("regression", "rmsle", pa.int64()),
    ("binary", "roc_auc", pa.bool_()),
    ("binary", "log_loss", pa.int64()),
    ("binary", "brier", pa.string()),
    ("multiclass", "log_loss", pa.string()),
    ("multiclass", "macro_f1", pa.int64()),
]
N_ROWS = 120


def rows(task: str, kind: pa.DataType) -> pa.Table:
    """Return rows with numbers, truths, levels and nulls, and a target that hangs on them."""
    draw = np.random.default_rng(7)
    n = draw.normal(size=N_ROWS)
    level = draw.integers(0, 3, N_ROWS)
    signal = n + level
    if task == "regression":
        y = pa.array(np.exp(signal)).cast(kind, safe=False)
    else:
        classes = 2 if task == "binary" else 3
        codes = np.digitize(signal, [1.0, 2.0][: classes - 1]).tolist()
        y = pa.array([f"class {c}" if pa.types.is_string(kind) else c for c in codes])
        y = y.cast(kind)
    return pa.table(
        {
            "n": pa.array(n, mask=draw.random(N_ROWS) < 0.1),
            "flag": pa.array((signal > 0).tolist()),
            "level": pa.array([None if v == 2 else "ab"[v] for v in level]),
            "y": y,
        }
    )


def workload_of(task: str, metric: str) -> Workload:
    """Return a workload of this task."""
    return Workload.model_validate(
        {
            "name": "w",
            "task": task,
            "metric": metric,
            "source": {"kind": "files", "path": "x"},
            "target": "y",
        }
    )


@cache
def fitted(name: CandidateName, problem: int) -> tuple[Scorer, pa.Table]:
    """Fit a candidate, and return it with typed rows to predict."""
    task, metric, kind = PROBLEMS[problem]
    workload, table = workload_of(task, metric), rows(task, kind)
    contract = infer_contract(table, workload, "f.parquet")
    good = check_rows(table, contract).good
    target = learn_target(good, workload)
    return fit_scorer(good, name, target, contract, workload, threads=1), good


every_scorer = pytest.mark.parametrize(
    ("name", "problem"), [(name, i) for name in CANDIDATES for i in range(len(PROBLEMS))]
)


@every_scorer
def test_a_scorer_comes_back_from_files_the_same(name: CandidateName, problem: int) -> None:
    """Saved and read, it predicts the very same bits."""
    scorer, table = fitted(name, problem)
    read = from_files(to_files(scorer))
    assert (read.encoding, read.target) == (scorer.encoding, scorer.target)
    before, after = scorer.predict(table), read.predict(table)
    np.testing.assert_array_equal(after.value, before.value)
    assert before.probability is None or np.array_equal(before.probability, after.probability)  # type: ignore[arg-type]


@every_scorer
def test_what_is_published_has_the_type_of_the_target(name: CandidateName, problem: int) -> None:
    """Classes come out as they stood in the source, numbers as numbers."""
    scorer, table = fitted(name, problem)
    task, _, kind = PROBLEMS[problem]
    published = scorer.columns(scorer.predict(table))
    wanted = pa.float64() if task == "regression" else kind
    assert published["prediction"].type == wanted
    assert all(len(column) == N_ROWS for column in published.values())
    if task != "regression":
        assert set(published["prediction"].to_pylist()) <= set(table.column("y").to_pylist())


@every_scorer
def test_predictions_are_possible_values(name: CandidateName, problem: int) -> None:
    """Probabilities sum to 1; with a log target nothing is below 0."""
    scorer, table = fitted(name, problem)
    found = scorer.predict(table)
    assert np.isfinite(found.value).all()
    if scorer.target.log:
        assert (found.value >= 0).all()
    if found.probability is not None:
        np.testing.assert_allclose(found.probability.sum(axis=1), 1.0, atol=1e-6)
        assert (found.probability >= 0).all()
        np.testing.assert_array_equal(found.value, found.probability.argmax(axis=1))


@every_scorer
def test_whatever_is_missing_or_new_is_predicted(name: CandidateName, problem: int) -> None:
    """Unseen levels and rows of nothing but nulls get a prediction, not an error."""
    scorer, table = fitted(name, problem)
    strange = pa.table(
        {"n": [None, 1e6, -1e6], "flag": [None, True, None], "level": [None, "new", "b"]},
        table.schema.remove(table.schema.get_field_index("y")),
    )
    with np.errstate(over="ignore"):
        value = scorer.predict(strange).value
    assert not np.isnan(value).any()
    assert len(scorer.predict(strange.slice(0, 1)).value) == 1


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_row_is_predicted_alone(name: CandidateName) -> None:
    """Batches of any size give the same predictions as the whole."""
    scorer, table = fitted(name, 6)
    parts = [scorer.predict(table.slice(at, 50)) for at in range(0, N_ROWS, 50)]
    whole = scorer.predict(table)
    assert whole.probability is not None
    np.testing.assert_allclose(
        np.concatenate([p.probability for p in parts if p.probability is not None]),
        whole.probability,
        rtol=1e-12,
    )


@pytest.mark.parametrize("problem", [0, 4, 6])
@pytest.mark.parametrize("name", CANDIDATES)
def test_equal_rows_make_equal_models(name: CandidateName, problem: int) -> None:
    """Fitted twice, a candidate predicts the same bits: the seed decides, not the hour."""
    scorer, table = fitted(name, problem)
    again, _ = fitted.__wrapped__(name, problem)
    np.testing.assert_array_equal(again.predict(table).value, scorer.predict(table).value)


@pytest.mark.parametrize(
    ("name", "problem"), [("linear", 0), ("forest", 3), ("boosting", 4), ("xgboost", 6)]
)
def test_a_candidate_learns(name: CandidateName, problem: int) -> None:
    """On its own rows it beats the baseline: the signal is there."""
    scorer, table = fitted(name, problem)
    baseline, _ = fitted("baseline", problem)
    y = scorer.target.encode(table.column("y"))
    off = [np.mean((s.predict(table).value - y) ** 2) for s in (scorer, baseline)]
    assert off[0] < 0.8 * off[1]


@pytest.mark.parametrize("kept", [["n"], ["level"], ["flag"], ["n", "level"]])
@pytest.mark.parametrize("name", CANDIDATES)
def test_any_kind_of_column_alone_is_enough(name: CandidateName, kept: list[str]) -> None:
    """With only numbers or only levels a candidate is fitted, saved and read all the same."""
    workload = workload_of("regression", "rmse")
    table = rows("regression", pa.float64()).select([*kept, "y"])
    contract = infer_contract(table, workload, "f.parquet")
    target = learn_target(table, workload)
    scorer = fit_scorer(table, name, target, contract, workload, threads=1)
    np.testing.assert_array_equal(
        from_files(to_files(scorer)).predict(table).value, scorer.predict(table).value
    )


RULES = {
    4: Rule(calibration=Calibration(method="sigmoid", slope=0.5, shift=-0.25), threshold=0.375),
    5: Rule(calibration=Calibration(method="isotonic", said=(0.2, 0.6), meant=(0.1, 0.9))),
    6: Rule(calibration=Calibration(method="temperature", slope=1.5)),
}


@pytest.mark.parametrize("problem", list(RULES))
@pytest.mark.parametrize("name", CANDIDATES)
def test_a_rule_is_part_of_the_scorer(name: CandidateName, problem: int) -> None:
    """It is applied to what the estimator says, and comes back from files to the last bit."""
    plain, table = fitted(name, problem)
    scorer = replace(plain, rule=RULES[problem])
    read = from_files(to_files(scorer))
    assert read.rule == RULES[problem]
    before, after, again = plain.predict(table), scorer.predict(table), read.predict(table)
    assert before.probability is not None
    assert after.probability is not None
    wanted = RULES[problem].calibration.apply(before.probability)
    np.testing.assert_array_equal(after.probability, wanted)
    np.testing.assert_array_equal(again.probability, after.probability)
    np.testing.assert_array_equal(again.value, after.value)
    np.testing.assert_array_equal(after.value, RULES[problem].decide(wanted))
    np.testing.assert_array_equal(scorer.decided(before).value, after.value)
    np.testing.assert_allclose(after.probability.sum(axis=1), 1.0, atol=1e-6)


def test_numbers_have_no_rule() -> None:
    """Predictions of regression are left as they are."""
    scorer, table = fitted("linear", 0)
    found = scorer.predict(table)
    assert replace(scorer, rule=RULES[4]).decided(found) is found


def test_a_version_without_a_rule_has_the_plain_one() -> None:
    """Those registered before there was calibration load, and answer as they did."""
    files = to_files(fitted("linear", 4)[0])
    about = json.loads(files["scorer.json"])
    del about["rule"]
    old = from_files(files | {"scorer.json": json.dumps(about).encode()})
    assert old.rule == PLAIN


@pytest.mark.parametrize("rule", [[], {"threshold": "low"}, {"calibration": {"method": "magic"}}])
def test_a_broken_rule_is_refused(rule: Any) -> None:
    """A rule that cannot be read is no plain one."""
    files = to_files(fitted("linear", 4)[0])
    about = json.loads(files["scorer.json"]) | {"rule": rule}
    with pytest.raises(RegistryError, match="do not make a scorer"):
        from_files(files | {"scorer.json": json.dumps(about).encode()})


class Custom(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A class that no trusted list names."""


class Fires:
    """An object whose unpickling would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Ask pickle to run a command."""
        return (os.system, ("touch /tmp/twinloop-was-here",))


@pytest.mark.parametrize(
    "model",
    [
        Custom(),
        FunctionTransformer(os.system),
        FunctionTransformer(rows),
        FunctionTransformer(partial(os.system, "true")),
        partial(exec, "0"),
    ],
)
def test_a_type_that_is_not_trusted_is_refused(model: Any) -> None:
    """A model file that names anything but estimators is not loaded."""
    scorer, _ = fitted("linear", 0)
    predictor = replace(scorer.predictor, model=model)
    with pytest.raises(RegistryError, match="not trusted"):
        from_files(to_files(replace(scorer, predictor=predictor)))


BROKEN: dict[str, tuple[str, bytes | None]] = {
    "no model": ("model.skops", None),
    "no json": ("scorer.json", None),
    "cut json": ("scorer.json", b'{"library": "skle'),
    "other json": ("scorer.json", b"[1, 2]"),
    "empty json": ("scorer.json", b"{}"),
    "bytes for json": ("scorer.json", b"\xff\xfe\x00"),
    "cut model": ("model.skops", b"PK\x03\x04 cut"),
    "empty model": ("model.skops", b""),
    "pickle for model": ("model.skops", pickle.dumps(Fires())),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_broken_files_are_refused(case: str) -> None:
    """A missing or broken file is a RegistryError, whichever it is."""
    name, content = BROKEN[case]
    files = to_files(fitted("linear", 0)[0])
    del files[name]
    with pytest.raises(RegistryError):
        from_files(files if content is None else files | {name: content})


def test_no_files_are_no_scorer() -> None:
    """The error lists what there is, which is nothing."""
    with pytest.raises(RegistryError, match=r"files \[\] do not make a scorer"):
        from_files({})


@pytest.mark.parametrize("key", ["encoding", "target", "library", "n_classes", "model_sha256"])
def test_a_description_with_a_hole_is_refused(key: str) -> None:
    """Each key of ``scorer.json`` is needed."""
    files = to_files(fitted("xgboost", 0)[0])
    files["scorer.json"] = files["scorer.json"].replace(f'"{key}"'.encode(), b'"other"')
    with pytest.raises(RegistryError, match="do not make a scorer"):
        from_files(files)


@pytest.mark.parametrize("name", ["linear", "xgboost"])
@pytest.mark.parametrize("keep", [0, 2, 100, -1])
def test_a_cut_model_is_refused_before_it_is_parsed(name: CandidateName, keep: int) -> None:
    """XGBoost would abort the whole process on half a file, so its digest is held first."""
    files = to_files(fitted(name, 0)[0])
    (model,) = set(files) - {"scorer.json"}
    with pytest.raises(RegistryError, match=f"'{model}' is not the file"):
        from_files(files | {model: files[model][:keep]})


def test_a_digest_tells_files_apart() -> None:
    """Names and contents count, their order does not, and bytes do not flow across files."""
    digests = {
        files_digest(files)
        for files in ({"a": b"1", "b": b"2"}, {"b": b"2", "a": b"1"}, {"a": b"12", "b": b""})
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("task", "metric", "y", "told"),
    [
        ("binary", "", [1, 1, 1], "has one class only"),
        ("binary", "", [1, 2, 3], "has 3 classes.*multiclass"),
        ("multiclass", "", list(range(1001)), "has 1001 classes.*regression"),
        ("regression", "rmse", ["a", "b"], "is string; regression needs numbers"),
        ("regression", "rmsle", [-1.0, 2.0], "goes down to -1; metric 'rmsle'"),
        ("regression", "mae", [2.0, 2.0], "is 2 in every row"),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused(
    task: str, metric: str, y: list[Any], told: str
) -> None:
    """The error names the target, what it holds and what the task wants."""
    with pytest.raises(TargetError, match=f"target 'y' .*{told}"):
        learn_target(pa.table({"y": y}), workload_of(task, metric))


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        ([10, 9, 2, None], ("2", "9", "10")),
        (["b", "10", "9", "-1"], ("-1", "9", "10", "b")),
        ([True, False], ("false", "true")),
        (["03", "3", "²"], ("03", "3", "²")),
    ],
)
def test_classes_have_one_order(cells: list[Any], classes: tuple[str, ...]) -> None:
    """Numbers by size, then words by name, whatever the order of rows."""
    for y in (cells, cells[::-1]):
        assert learn_target(pa.table({"y": y}), workload_of("multiclass", "")).classes == classes


@pytest.mark.parametrize("cells", [[3, 1, 3], [True, False, True], ["spam", "ham", "spam"]])
def test_classes_are_decoded_as_they_came(cells: list[Any]) -> None:
    """Encoding and decoding give the column back; a class never seen is -1."""
    table = pa.table({"y": cells})
    target = learn_target(table, workload_of("binary", ""))
    codes = target.encode(table.column("y"))
    assert target.decode(codes).to_pylist() == cells
    assert target.encode(pa.chunked_array([["new", None]])).tolist() == [-1, -1]


def test_a_target_survives_json() -> None:
    """It is part of the saved scorer."""
    target = Target(name="y", task="binary", classes=("false", "true"), boolean=True)
    assert Target.model_validate_json(target.model_dump_json()) == target


def test_predictions_of_some_rows_are_theirs() -> None:
    """Taking rows takes values and probabilities together."""
    found = Predictions(np.array([0, 1, 0]), np.eye(2)[[0, 1, 0]]).take(np.array([1]))
    assert found.value.tolist() == [1]
    assert found.probability is not None
    assert found.probability.tolist() == [[0.0, 1.0]]
