"""A compiled model says what the plain one says, row by row, whatever rows there are."""

import copy
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scorers import KINDS, NATIVE, PROBLEMS, SCHEMA, fitted, rows_of
from twinloop.agreement import MOST_APART
from twinloop.candidates import Predictor, fit_candidate
from twinloop.compiled import compile_predictor, compiled
from twinloop.full_trees import FullTrees
from twinloop.problem import Problem
from twinloop.scorer import Scorer
from twinloop.vocabulary import Task

SETTINGS = settings(max_examples=15, deadline=None)
LARGEST = float(np.finfo(np.float32).max)
NUMBERS = st.none() | st.floats(-1e3, 1e3) | st.floats(-LARGEST, LARGEST)
NUMBERS |= st.sampled_from([LARGEST, -LARGEST, 0.0, -0.0, 5e-324])
LEVELS = st.sampled_from([None, *"abcdxyz", "", "never seen", "A"])
TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
TIMES |= st.sampled_from([datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
ROWS = st.fixed_dictionaries(
    {
        "n": NUMBERS,
        "m": NUMBERS,
        "flag": st.none() | st.booleans(),
        "level": LEVELS,
        "full": LEVELS,
        "at": TIMES,
        "t": TIMES,
    }
)
TABLES = st.lists(ROWS, min_size=1, max_size=12).map(
    lambda rows: pa.Table.from_pylist(rows, schema=SCHEMA)
)
EXACT = [(kind, problem) for kind in ("linear", "xgboost", NATIVE) for problem in PROBLEMS]
every_scorer = pytest.mark.parametrize(
    ("kind", "problem"), [(kind, problem) for kind in KINDS for problem in PROBLEMS]
)


def said(scorer: Scorer, X: np.ndarray) -> np.ndarray:
    """Return numbers, or probabilities."""
    # What is learned as its logarithm may be too large to be a number; so it is in both forms.
    with np.errstate(over="ignore"):
        found = scorer.predict_matrix(X)
    return found.value if found.probability is None else found.probability


def apart(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Tell which answers are further apart than they may be."""
    with np.errstate(invalid="ignore"):
        far = np.abs(found - wanted) > MOST_APART * np.maximum(1.0, np.abs(wanted))
    return np.where(np.isfinite(wanted) & np.isfinite(found), far, found != wanted)


@every_scorer
@SETTINGS
@given(table=TABLES)
def test_a_compiled_model_agrees_with_the_plain_one(
    kind: str, problem: str, table: pa.Table
) -> None:
    """Nulls, unseen levels, the largest numbers and the first and last day there is included."""
    plain = fitted(kind, problem)
    X = plain.encoding.encode(table)
    before = X.copy()
    wanted, found = said(plain, X), said(compiled(plain), X)
    assert found.dtype == np.float64
    assert found.shape == wanted.shape
    assert not np.isnan(wanted).any()
    assert not apart(wanted, found).any()
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(("kind", "problem"), EXACT)
@SETTINGS
@given(table=TABLES)
def test_a_row_has_the_same_bits_alone(kind: str, problem: str, table: pa.Table) -> None:
    """Its answer does not hang on the rows around it."""
    fast = compiled(fitted(kind, problem))
    X = fast.encoding.encode(table)
    alone = np.concatenate([said(fast, X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_array_equal(alone, said(fast, X))


@pytest.mark.parametrize(("kind", "problem"), EXACT)
def test_a_batch_of_any_size_has_the_same_bits(kind: str, problem: str) -> None:
    """So has one whose matrix lies in memory column by column."""
    fast = compiled(fitted(kind, problem))
    X = fast.encoding.encode(rows_of(problem, 1500))
    whole = said(fast, X)
    for size in (1, 7, 64, 65, 1024):
        parts = [said(fast, X[at : at + size]) for at in range(0, len(X), size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(said(fast, np.asfortranarray(X)), whole)


@pytest.mark.parametrize(("kind", "problem"), [*EXACT, ("ensemble", "five")])
def test_many_threads_ask_at_once(kind: str, problem: str) -> None:
    """Each gets what it would get alone, from the very first call."""
    plain = fitted(kind, problem)
    X = plain.encoding.encode(rows_of(problem, 2000))
    parts = [X[at : at + 50] for at in range(0, len(X), 50)]
    wanted = [said(compiled(plain), part) for part in parts]
    fast = compiled(plain)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: said(fast, part), parts))
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize("problem", list(PROBLEMS))
def test_the_plain_booster_is_left_as_it_was(problem: str) -> None:
    """A copy keeps to one thread; the model that is saved has its own settings."""
    plain = fitted("xgboost", problem)
    plain.predictor.model.set_param({"nthread": 2})
    before = plain.predictor.model.save_config()
    fast = compiled(plain)
    for booster in (fast.predictor.model.plain, fast.predictor.model.trees):
        assert '"nthread":"1"' in booster.save_config()
    assert plain.predictor.model.save_config() == before
    assert '"nthread":"2"' in before


@every_scorer
def test_what_gains_nothing_is_left_alone(kind: str, problem: str) -> None:
    """Linear models become tables, XGBoost a copy, ensembles are of both; others stay."""
    plain = fitted(kind, problem)
    fast = compiled(plain)
    library = {"linear": "table"}.get(kind, plain.predictor.library)
    assert fast.predictor.library == library
    assert (fast is plain) == (kind not in ("linear", "xgboost", NATIVE, "ensemble"))
    if kind == "ensemble":
        libraries = [m.library for m in fast.predictor.model.members]
        assert libraries == ["table", "xgboost", "sklearn"]


def test_an_empty_batch_has_no_answers() -> None:
    """Their shape is as ever."""
    none = np.empty((0, 9), np.float32)
    assert said(compiled(fitted("linear", "number")), none).shape == (0,)
    assert said(compiled(fitted("linear", "five")), none).shape == (0, 5)


@pytest.mark.parametrize(
    "changed",
    [
        {"levels__drop": "first"},
        {"levels__handle_unknown": "error"},
        {"quantities__standardscaler__with_mean": False},
        {"quantities__simpleimputer__strategy": "mean"},
        {"transformer_weights": {"levels": 2.0}},
    ],
)
def test_a_pipeline_with_other_settings_is_no_table(changed: dict[str, object]) -> None:
    """Of the user's own it may have any; it then answers for itself."""
    scorer = fitted("linear", "number")
    other = copy.deepcopy(scorer.predictor.model)
    other[0].set_params(**changed)
    predictor = Predictor("sklearn", other, 0)
    assert compile_predictor(predictor, scorer.encoding) is predictor


def test_classes_that_no_fitted_row_had_are_impossible() -> None:
    """Two of three: the one output speaks for both, the third has probability 0."""
    scorer = fitted("linear", "two")
    X = scorer.encoding.encode(rows_of("two"))
    y = np.where(rows_of("two").column("y").to_numpy() > 0, 2, 0)
    problem = Problem("multiclass", 3, "log_loss", seed=0, threads=1)
    plain = fit_candidate("linear", X, y, scorer.encoding, problem)
    found = compile_predictor(plain, scorer.encoding).predict(X)
    np.testing.assert_allclose(found, plain.predict(X), atol=1e-12)
    assert (found[:, 1] == 0).all()


@pytest.mark.parametrize(("task", "classes"), [("regression", 0), ("binary", 2), ("multiclass", 3)])
def test_several_trees_a_round_say_what_they_say_plain(task: Task, classes: int) -> None:
    """They are compiled too, and they are not what one tree a round would be."""
    encoding = fitted("xgboost", "number").encoding
    X = encoding.encode(rows_of("number"))
    y = np.nan_to_num(X[:, 0])
    labels = np.digitize(y, [-0.5, 0.5][: classes - 1]) if classes else y
    one, several = (
        fit_candidate(
            "xgboost",
            X,
            labels,
            encoding,
            Problem(task, classes, "log_loss", 0, 1, rounds=5, params={"num_parallel_tree": n}),
        )
        for n in (1, 3)
    )
    fast = compile_predictor(several, encoding)
    assert isinstance(fast.model, FullTrees)
    np.testing.assert_array_equal(fast.predict(X), several.predict(X))
    assert not np.array_equal(one.predict(X), several.predict(X))


@every_scorer
def test_what_is_missing_goes_where_it_went(kind: str, problem: str) -> None:
    """With nothing but missing values, and with each feature missing alone, the answer stays."""
    scorer = fitted(kind, problem)
    X = scorer.encoding.encode(rows_of(problem).slice(0, 40))
    blank = np.repeat(X[:, None, :], X.shape[1], axis=1)
    each = np.arange(X.shape[1])
    blank[:, each, each] = np.nan
    rows = np.vstack([X, blank.reshape(-1, X.shape[1]), np.full((1, X.shape[1]), np.nan)])
    rows = rows.astype(np.float32)
    wanted, found = said(scorer, rows), said(compiled(scorer), rows)
    if kind in ("xgboost", NATIVE):
        whole = isinstance(compiled(scorer).predictor.model, FullTrees)
        assert whole == (kind == "xgboost")
        np.testing.assert_array_equal(found, wanted)
    assert not apart(wanted, found).any()
