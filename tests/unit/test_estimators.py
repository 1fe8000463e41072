"""A user's own estimator is imported from the workload file alone, and saved without pickle."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.estimators import check_estimators, own_estimators
from twinloop.contract import infer_contract
from twinloop.errors import RegistryError, WorkloadError
from twinloop.scorer import Scorer, from_files, learn_target, to_files
from twinloop.validation import fit_scorer
from twinloop.workload import Workload

MODULE = '''
"""Estimators of a user."""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline


def trees(n_estimators=5, random_state=None, n_jobs=None):
    return make_pipeline(
        SimpleImputer(keep_empty_features=True),
        ExtraTreesRegressor(n_estimators, random_state=random_state, n_jobs=n_jobs),
    )


class Constant(BaseEstimator):
    def __init__(self, value=3.0, coded=(), features=()):
        self.value, self.coded, self.features = value, coded, features

    def fit(self, X, y, sample_weight=None):
        self.weight_ = sample_weight
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.value)

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


class Wide(Constant):
    def predict(self, X):
        return np.full((len(X), 1), self.value)


class Blind(Constant):
    def fit(self, X, y):
        return self


class Local(Constant):
    def fit(self, X, y):
        self.how = lambda: 3
        return self


def broken():
    raise RuntimeError("no licence")


number = 3
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Put a user's module on the path; take it away, loaded or not, afterwards."""
    (tmp_path / "my_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_models"
    sys.modules.pop("my_models", None)


def workload(path: str, task: str = "regression", **own: Any) -> Workload:
    """Return a workload with an estimator of its own."""
    return Workload.model_validate(
        {
            "name": "w",
            "task": task,
            "source": {"kind": "files", "path": "x"},
            "target": "y",
            "seed": 7,
            "training": {"estimators": {"fancy": {"path": path} | own}, "candidates": ["fancy"]},
        }
    )


def fitted(spec: Workload) -> tuple[Scorer, pa.Table]:
    """Fit the own estimator as a fold does."""
    draw = np.random.default_rng(0)
    n = draw.normal(size=60)
    y: Any = n * 2 if spec.task == "regression" else n > 0
    table = pa.table({"n": n, "c": ["a", "b"] * 30, "y": y})
    contract, target = infer_contract(table, spec, "f"), learn_target(table, spec)
    own = own_estimators(spec)
    return fit_scorer(table, "fancy", target, contract, spec, threads=1, own=own), table


def test_a_function_with_params_makes_a_candidate(module: str) -> None:
    """It is called with them, fitted, and comes back from its files without a list of types."""
    spec = workload("my_models:trees", params={"n_estimators": 3})
    check_estimators(spec)
    scorer, table = fitted(spec)
    forest = scorer.predictor.model[-1]
    assert (forest.n_estimators, forest.random_state, forest.n_jobs) == (3, 7, 1)
    read = from_files(to_files(scorer))
    np.testing.assert_array_equal(read.predict(table).value, scorer.predict(table).value)


def test_a_class_of_scikit_learn_is_enough() -> None:
    """Any importable class serves, too; params come before what would be offered."""
    spec = workload(
        "sklearn.ensemble:ExtraTreesRegressor", params={"random_state": 1, "n_estimators": 3}
    )
    check_estimators(spec)
    scorer, table = fitted(spec)
    assert scorer.predictor.model.random_state == 1
    again, _ = fitted(spec)
    np.testing.assert_array_equal(again.predict(table).value, scorer.predict(table).value)


def test_an_own_class_is_told_of_the_columns_and_weights(module: str) -> None:
    """Names of features and places of codes, if it asks for them; weights, if it takes them."""
    spec = workload("my_models:Constant", trusted=["my_models.Constant"])
    model = fitted(spec)[0].predictor.model
    assert (model.features, model.coded, model.weight_) == (("n", "c"), (1,), None)
    classes = workload("my_models:Constant", "binary", trusted=["my_models.Constant"])
    training = classes.training.model_copy(update={"class_weight": "balanced"})
    scorer, table = fitted(classes.model_copy(update={"training": training}))
    weight, y = scorer.predictor.model.weight_, table.column("y").to_numpy()
    assert weight[y].sum() == pytest.approx(weight[~y].sum())


def test_an_own_classifier_says_which_classes_it_saw(module: str) -> None:
    """Without them nobody knows what its columns mean."""
    spec = workload("my_models:Blind", "binary", trusted=["my_models.Blind"])
    with pytest.raises(WorkloadError, match="'fancy' has no classes_ after its fit"):
        fitted(spec)


def test_only_listed_types_are_loaded(module: str) -> None:
    """The list comes from the caller, that is the workload file; the model's files have none."""
    scorer, table = fitted(workload("my_models:Constant", trusted=["my_models.Constant"]))
    files = to_files(scorer)
    with pytest.raises(RegistryError, match=r"not trusted.*my_models.Constant.*trusted"):
        from_files(files)
    with pytest.raises(RegistryError, match="not trusted"):
        from_files(files, ("my_models.Wide",))
    read = from_files(files, ("my_models.Constant",))
    np.testing.assert_array_equal(read.predict(table).value, 3.0)


def test_a_package_that_is_gone_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model whose class cannot be imported says which, and what to do."""
    files = to_files(fitted(workload("my_models:Constant", trusted=["my_models.Constant"]))[0])
    monkeypatch.setitem(sys.modules, "my_models", None)
    with pytest.raises(RegistryError, match=r"cannot be imported here.*my_models.*Install"):
        from_files(files, ("my_models.Constant",))


@pytest.mark.parametrize(
    ("path", "task", "told"),
    [
        ("my_modles:trees", "regression", r"'my_modles' cannot be imported.*PYTHONPATH"),
        ("my_models:tres", "regression", r"no 'tres' in it. Did you mean 'trees'"),
        ("my_models:number", "regression", "neither a function nor a class"),
        ("my_models:broken", "regression", r"failed: RuntimeError\('no licence'\)"),
        ("my_models:trees", "binary", "Pipeline has no predict_proba; binary needs"),
        ("builtins:dict", "regression", "dict has no fit and no predict"),
        ("my_models:Constant", "regression", r"my_models.Constant is not trusted.*fancy.trusted"),
    ],
)
def test_what_cannot_compete_is_refused_at_once(
    module: str, path: str, task: str, told: str
) -> None:
    """Before anything is read: the error names the key and what was wrong."""
    with pytest.raises(WorkloadError, match=told):
        check_estimators(workload(path, task))


def test_params_that_do_not_fit_are_named(module: str) -> None:
    """So is what they were."""
    with pytest.raises(WorkloadError, match=r"'my_models:trees' with \{'leaves': 3\} failed"):
        check_estimators(workload("my_models:trees", params={"leaves": 3}))


@pytest.mark.parametrize(
    ("kind", "told"),
    [("Wide", r"answers 3 rows with \[\[3.0\].*shape \(3,\)"), ("Local", "without pickle|trusted")],
)
def test_oddities_of_the_fitted_are_refused_in_the_first_fold(
    module: str, kind: str, told: str
) -> None:
    """Answers of another shape, and what only a fit shows cannot be saved."""
    spec = workload(f"my_models:{kind}", trusted=[f"my_models.{kind}"])
    check_estimators(spec)
    with pytest.raises(WorkloadError, match=told):
        fitted(spec)


def test_an_estimator_that_does_not_compete_is_not_imported() -> None:
    """A run with other candidates does without the package."""
    spec = workload("nowhere:at_all")
    training = spec.training.model_copy(update={"candidates": ("baseline",)})
    assert own_estimators(spec.model_copy(update={"training": training})) == {}
