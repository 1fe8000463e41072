"""An ensemble's weights are those that a look at the errors would give, and it saves as data."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from sklearn.base import BaseEstimator

from twinloop.blend import Blend
from twinloop.contract import infer_contract
from twinloop.ensemble import (
    HeldOut,
    compose,
    fit_members,
    gain_by,
    in_order,
    mean_of,
    members_of,
    on_scale,
    select_weights,
    weights_by_fold,
)
from twinloop.ensembleplan import members_text, plan_members
from twinloop.errors import RegistryError, WorkloadError
from twinloop.importance import importance
from twinloop.logplan import Metric, Param
from twinloop.results import CandidateResult, Member
from twinloop.scorer import Predictions, Scorer, Target, from_files, learn_target, to_files
from twinloop.validation import label_rows
from twinloop.workload import Overrides, Workload

NUMBER = Target(name="y", task="regression")
RMSE = gain_by("rmse", NUMBER)
ERROR = np.random.default_rng(0).normal(size=60)
Y = np.arange(60.0)
MEMBERS = (Member(name="xgboost", weight=0.7), Member(name="linear", weight=0.3))
PROBLEMS = (
    ("regression", "rmse"),
    ("regression", "rmsle"),
    ("binary", "roc_auc"),
    ("multiclass", "log_loss"),
)


def part(*errors: np.ndarray) -> HeldOut:
    """Return rows that members predict with these errors."""
    return HeldOut(np.arange(60), Y, np.stack([Y + e for e in errors]))


@pytest.mark.parametrize(
    ("scales", "weights"),
    [
        ((1, -1), (0.5, 0.5)),
        ((1, -3), (0.75, 0.25)),
        ((1, -9), (0.9, 0.1)),
        ((1, 2), (1, 0)),
        ((2, 1), (0, 1)),
        ((1, 1), (1, 0)),
        ((4, 4, -1), (0.2, 0, 0.8)),
    ],
)
def test_errors_that_cancel_out_get_the_weights_that_cancel_them(
    scales: tuple[float, ...], weights: tuple[float, ...]
) -> None:
    """Of members whose errors are multiples of each other the optimum is plain; of equals one."""
    found = select_weights([part(*(s * ERROR for s in scales))], RMSE)
    np.testing.assert_allclose(found, weights)


def test_parts_without_a_score_do_not_count() -> None:
    """A fold with one class has no ROC AUC; of such folds alone the first member is taken."""
    target = Target(name="y", task="binary", classes=("a", "b"))
    auc = gain_by("roc_auc", target)
    y, share = np.array([0, 1, 0, 1]), np.array([[0.6, 0.4, 0.5, 0.3], [0.1, 0.8, 0.3, 0.9]])
    said = np.stack([1 - share, share], axis=2)
    told, mute = HeldOut(np.arange(4), y, said), HeldOut(np.arange(4), y * 0, said)
    assert select_weights([mute, told], auc).tolist() == [0, 1]
    assert select_weights([mute], auc).tolist() == [1, 0]


def test_without_folds_before_it_a_fold_has_the_best_single_one() -> None:
    """By time the first fold knows nothing, the second the first, and none a later one."""
    folds = [part(ERROR, -ERROR), part(ERROR, 2 * ERROR), part(ERROR, 3 * ERROR)]
    folds = [replace(f, rows=f.rows + 60 * i) for i, f in enumerate(folds)]
    found = [w.tolist() for w in weights_by_fold(folds, RMSE, ordered=True, best=0)]
    assert found[:2] == [[1, 0], [0.5, 0.5]]
    assert found[2][1] > 0


@pytest.mark.parametrize("some", [slice(0, 30), slice(0, 30, 3)])
def test_repeated_folds_do_not_bring_a_fold_its_own_rows(some: slice) -> None:
    """Weights of a fold are selected on no row of it, though another draw has it elsewhere."""
    right, wrong = part(ERROR, 2 * ERROR), part(1e3 * ERROR, 0 * ERROR)
    # The first half speaks for the second member, the other half for the first.
    said = np.concatenate([wrong.said[:, :30], right.said[:, 30:]], axis=1)
    whole = replace(right, said=said)
    half = HeldOut(whole.rows[some], Y[some], said[:, some], fold=whole.rows[:30])
    assert whole.without(half).rows.tolist() == list(range(30, 60))
    first, _ = weights_by_fold([half, whole], RMSE, ordered=False, best=1)
    assert first.tolist() == [1, 0]


def test_members_stand_in_the_order_of_their_cost() -> None:
    """The cheapest is picked first of equals; one of the user's own is the last."""
    assert in_order(["own", "forest", "linear"]) == ("linear", "forest", "own")
    found = members_of(("linear", "xgboost", "forest"), np.array([0.25, 0.75, 0]))
    assert found == (Member(name="xgboost", weight=0.75), Member(name="linear", weight=0.25))


def test_a_log_target_is_averaged_as_its_logarithm() -> None:
    """What is averaged is what models learn: a geometric mean of 1 + target."""
    target = Target(name="y", task="regression", log=True)
    said = [on_scale(Predictions(np.array([v])), target) for v in (0.0, 8.0)]
    assert target.answers(np.mean(said, axis=0)).value == pytest.approx(2.0)


def workload_of(task: str, metric: str, **training: object) -> Workload:
    """Return a workload of this task."""
    base = {"name": "w", "source": {"kind": "files", "path": "x"}, "target": "y"}
    return Workload.model_validate(base | {"task": task, "metric": metric, "training": training})


@cache
def fitted(task: str, metric: str) -> tuple[Scorer, pa.Table]:
    """Fit the ensemble of `MEMBERS`, and return it with rows to predict."""
    workload, draw = workload_of(task, metric), np.random.default_rng(1)
    n, m = draw.normal(size=(2, 120))
    signal = n + m**2
    y = np.exp(signal) if task == "regression" else np.digitize(signal, [0.5, 1.5])
    y = np.minimum(y, 1) if task == "binary" else y
    table = pa.table({"n": n, "m": m, "y": y})
    contract, target = infer_contract(table, workload, "f"), learn_target(table, workload)
    rows = label_rows(table, contract, target, workload)
    return fit_members(rows, "ensemble", MEMBERS, threads=1), table


@pytest.mark.parametrize(("task", "metric"), PROBLEMS)
def test_an_ensemble_comes_back_from_files_the_same(task: str, metric: str) -> None:
    """Each member in its own format, no pickle, and the very same bits predicted."""
    scorer, table = fitted(task, metric)
    files = to_files(scorer)
    assert sorted(files) == ["member-0.ubj", "member-1.skops", "scorer.json"]
    before, after = scorer.predict(table), from_files(files).predict(table)
    np.testing.assert_array_equal(after.value, before.value)
    assert before.probability is None or np.array_equal(before.probability, after.probability)  # type: ignore[arg-type]
    model = from_files(files).predictor.model
    assert (model.names, model.weights) == (("xgboost", "linear"), (0.7, 0.3))


@pytest.mark.parametrize(("task", "metric"), PROBLEMS)
def test_it_answers_what_the_folds_were_scored_by(task: str, metric: str) -> None:
    """Members' own predictions, averaged on the scale of folds, are what the one model says."""
    scorer, table = fitted(task, metric)
    members = [Scorer(scorer.encoding, p, scorer.target) for p in scorer.predictor.model.members]
    said = [on_scale(m.predict(table), scorer.target) for m in members]
    found = scorer.target.answers(0.7 * said[0] + 0.3 * said[1])
    np.testing.assert_allclose(scorer.predict(table).value, found.value, rtol=1e-12)
    if found.probability is not None:
        whole = scorer.predict(table).probability
        assert whole is not None
        np.testing.assert_allclose(whole, found.probability, rtol=1e-12)
        np.testing.assert_allclose(whole.sum(axis=1), 1)


def powered(task: str, metric: str, power: float) -> tuple[Scorer, pa.Table]:
    """Return the ensemble of `fitted`, its first member's probabilities raised to a power."""
    scorer, table = fitted(task, metric)
    first, second = scorer.predictor.model.members
    parts = [Scorer(scorer.encoding, p, scorer.target) for p in (first, second)]
    members = (MEMBERS[0].model_copy(update={"power": power}), MEMBERS[1])
    return compose(parts, members), table


@pytest.mark.parametrize(("task", "metric"), PROBLEMS[2:])
def test_members_are_averaged_by_calibrated_probabilities(task: str, metric: str) -> None:
    """Saved and read again, too: what is served is what the folds were scored by, to the bit."""
    scorer, table = powered(task, metric, 0.5)
    members = [Scorer(scorer.encoding, p, scorer.target) for p in scorer.predictor.model.members]
    said = np.stack([on_scale(m.predict(table), scorer.target) for m in members])
    part = HeldOut(np.arange(120), np.zeros(120), said).tempered([0.5, 1.0])
    wanted = mean_of(part.said, np.array([0.7, 0.3]))
    plain = mean_of(said, np.array([0.7, 0.3]))
    found = scorer.predict(table).probability
    assert found is not None
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert np.abs(found - plain).max() > 0.01
    files = to_files(scorer)
    again = from_files(files).predict(table).probability
    assert again is not None
    np.testing.assert_array_equal(again, found)
    assert files == to_files(from_files(files))


def test_files_of_before_powers_are_read_and_still_written() -> None:
    """No member has a power written where it would do nothing."""
    files = to_files(powered("binary", "roc_auc", 1.0)[0])
    assert files == to_files(fitted("binary", "roc_auc")[0])
    assert b"power" not in files["scorer.json"]
    assert from_files(files).predictor.model.powers == ()


def test_a_power_is_above_nothing() -> None:
    """And there is one for each member."""
    one = fitted("regression", "rmse")[0].predictor.model
    for powers in ((1.0,), (1.0, 0.0), (1.0, float("nan"))):
        with pytest.raises(ValueError, match="one above 0 for each"):
            replace(one, powers=powers)


def test_importance_is_that_of_the_members() -> None:
    """Weighted as their predictions are."""
    predictor = fitted("regression", "rmse")[0].predictor
    one, two = (importance(p, 2) for p in predictor.model.members)
    np.testing.assert_allclose(importance(predictor, 2), 0.7 * one + 0.3 * two)


# What is put in place of a file, and of a key of the description or of its first member.
BROKEN: dict[str, tuple[dict[str, bytes], dict[str, object], dict[str, object]]] = {
    "empty member": ({"member-1.skops": b""}, {}, {}),
    "cut booster": ({"member-0.ubj": b"cut"}, {}, {}),
    "no weight": ({}, {}, {"weight": None}),
    "weights beyond 1": ({}, {}, {"weight": 0.9}),
    "negative weight": ({}, {}, {"weight": -0.7}),
    "negative power": ({}, {}, {"power": -1.0}),
    "an ensemble within": ({}, {}, {"library": "ensemble"}),
    "nobody": ({}, {"members": []}, {}),
    "no members": ({}, {"members": None}, {}),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_broken_files_are_refused(case: str) -> None:
    """Each member's file is held to its digest before it is read, each weight to what it can be."""
    changed, whole, first = BROKEN[case]
    files = to_files(fitted("regression", "rmse")[0])
    about = json.loads(files["scorer.json"])
    about["members"][0] |= first
    files["scorer.json"] = json.dumps(about | whole).encode()
    with pytest.raises(RegistryError):
        from_files(files | changed)


def test_a_missing_member_is_refused() -> None:
    """The error lists the files there are."""
    files = to_files(fitted("regression", "rmse")[0])
    del files["member-1.skops"]
    with pytest.raises(RegistryError, match="do not make a scorer"):
        from_files(files)


class Own(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """An estimator of the user's own."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Own":
        """Learn the mean."""
        self.mean_ = float(np.mean(y[: len(X)]))
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Say the mean."""
        return np.full(len(X), self.mean_)


def test_a_member_of_the_users_own_is_loaded_where_it_is_trusted() -> None:
    """The list is the workload file's, as for such an estimator alone."""
    name = f"{Own.__module__}.{Own.__qualname__}"
    spec = {"own": {"path": "a:b", "trusted": [name]}}
    workload = workload_of("regression", "rmse", estimators=spec, candidates=["own", "linear"])
    table = fitted("regression", "rmse")[1]
    contract, target = infer_contract(table, workload, "f"), learn_target(table, workload)
    rows = label_rows(table, contract, target, workload, own={"own": lambda *_: Own()})
    members = (Member(name="own", weight=0.5), Member(name="linear", weight=0.5))
    files = to_files(fit_members(rows, "ensemble", members, threads=1))
    with pytest.raises(RegistryError, match="not trusted"):
        from_files(files)
    assert np.isfinite(from_files(files, (name,)).predict(table).value).all()


def test_members_of_other_rows_make_no_ensemble() -> None:
    """They would be asked with codes that mean something else to each."""
    one = fitted("regression", "rmse")[0]
    feature = one.encoding.features[0].model_copy(update={"name": "other"})
    other = replace(one, encoding=one.encoding.model_copy(update={"features": (feature,)}))
    with pytest.raises(ValueError, match="not fitted on the same rows"):
        compose([one, other], MEMBERS)
    with pytest.raises(ValueError, match="1 in all"):
        Blend(("a",), (one.predictor,), (0.5,))


@pytest.mark.parametrize("names", [["ensemble"], ["baseline", "ensemble", "linear"]])
def test_an_ensemble_of_fewer_than_two_is_refused(names: list[str]) -> None:
    """The error says who could be a member, in the file and in an override; order is free."""
    with pytest.raises(ValidationError, match="at least two others beside the baseline"):
        workload_of("regression", "rmse", candidates=names)
    with pytest.raises(WorkloadError, match="at least two others"):
        Overrides(candidates=tuple(names)).apply(workload_of("regression", "rmse"))
    made = workload_of("regression", "rmse", candidates=["ensemble", "linear", "xgboost"])
    assert made.training.members == ("linear", "xgboost")
    with pytest.raises(ValidationError, match="name of a shipped candidate"):
        workload_of("regression", "rmse", estimators={"ensemble": {"path": "a:b"}})


def test_its_log_names_its_members() -> None:
    """Weights as metrics, so that runs compare, and in words; other candidates have none."""
    result = CandidateResult(
        name="ensemble", metric="rmse", folds=(), fit_seconds=1, predict_seconds=1, rows=1
    )
    assert list(plan_members(result)) == []
    assert members_text(result.members) == ""
    result = result.model_copy(update={"members": MEMBERS})
    items = list(plan_members(result))
    assert Param("members", "xgboost 70 %, linear 30 %") in items
    assert Metric("weight/linear", 0.3) in items
    assert members_text(result.members) == "xgboost 70 %, linear 30 %"
