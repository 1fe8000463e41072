"""Each check finds the leak that is planted, and is silent on the same rows without it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from tasks.validating import split_table
from twinloop.cleaning import clean
from twinloop.contract import check_rows, infer_contract
from twinloop.errors import LeakageError
from twinloop.leakage import Finding, find_leaks, refuse_leaks
from twinloop.scorer import learn_target
from twinloop.simulate import simulate_bikes
from twinloop.splitting import Split
from twinloop.training_keys import Checks
from twinloop.vocabulary import CheckCode
from twinloop.workload import Workload

SETTINGS = settings(max_examples=20, deadline=None)
SEEDS = st.integers(0, 10_000)
SIZES = st.integers(150, 1500)
TASKS = st.sampled_from(["regression", "binary", "multiclass"])
START = pd.Timestamp("2024-01-01")


def rows(seed: int, n: int, task: str = "regression") -> pd.DataFrame:
    """Make rows of many kinds of honest column, whole numbers and nulls among them."""
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "a": draw.normal(size=n),
            "b": np.round(draw.normal(50, 9, n), 1),
            "income": np.round(draw.lognormal(10.5, 0.6, n)),
            "count": draw.poisson(3, n).astype(float),
            "yes": draw.random(n) < 0.3,
            "colour": draw.choice(["red", "green", "blue"], n),
        }
    )
    truth = frame["a"] + frame["yes"] + draw.normal(size=n)
    if task == "regression":
        frame["y"] = np.round(20 * truth + 100, 2)
    else:
        labels = ["no", "yes"] if task == "binary" else ["low", "mid", "high"]
        frame["y"] = pd.qcut(truth, len(labels), labels=labels).astype(str)
    frame.loc[draw.random(n) < 0.05, "b"] = np.nan
    return frame


def workload(task: str = "regression", **more: Any) -> Workload:
    """Return a workload of such rows."""
    base = {"name": "w", "source": {"kind": "files", "path": "x"}, "target": "y"}
    return Workload.model_validate(base | {"task": task} | more)


def look(frame: pd.DataFrame | pa.Table, spec: Workload, broken: Any = None) -> list[Finding]:
    """Look for leaks as a training does; `broken` may change the split."""
    raw = (
        frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    )
    contract = infer_contract(raw, spec, "f")
    table = clean(check_rows(raw, contract).good, contract, spec, "f").table
    target = learn_target(table, spec)
    split = split_table(table, target, spec)
    return list(find_leaks(table, contract, target, broken(split) if broken else split, spec))


def found(*arguments: Any) -> set[tuple[str, tuple[str, ...]]]:
    """Return codes and columns of what is found."""
    return {(f.code, f.columns) for f in look(*arguments)}


@SETTINGS
@given(SEEDS, SIZES, TASKS)
def test_honest_rows_raise_no_alarm(seed: int, n: int, task: str) -> None:
    """Nothing is found where there is nothing, time or groups or neither."""
    frame = rows(seed, n, task)
    assert found(frame, workload(task)) == set()
    frame["who"] = np.arange(n) // 5
    assert found(frame, workload(task, group="who")) == set()
    frame["at"] = pd.date_range(START, periods=n, freq="h")
    assert found(frame, workload(task, group="who", time="at")) == set()


DISGUISES = {
    "same": lambda y: y,
    "scaled": lambda y: 0.1 * y + 7,
    "negative": lambda y: -y,
    "log": lambda y: np.log(y - y.min() + 1),
    "cube": lambda y: (y / 100) ** 3,
}


@SETTINGS
@given(SEEDS, SIZES, st.sampled_from(sorted(DISGUISES)), st.floats(0, 0.5))
def test_a_copy_of_a_number_is_found(seed: int, n: int, disguise: str, nulls: float) -> None:
    """Scaled, bent, upside down, with gaps: it is a copy; with some noise on it, it is none."""
    frame = rows(seed, n)
    copy = DISGUISES[disguise](frame["y"])
    draw = np.random.default_rng(seed)
    frame["copy"] = copy.mask(draw.random(n) < nulls)
    assert found(frame, workload()) == {("target_copy", ("copy",))}
    frame["copy"] = copy + draw.normal(0, 0.7 * copy.std(), n)
    assert found(frame, workload()) == set()


def test_a_step_of_the_target_is_no_copy() -> None:
    """What is the same for a tenth of all targets rises with them, and leaves much to learn."""
    frame = rows(4, 1000)
    frame["tenth"] = pd.qcut(frame["y"], 10, labels=False)
    assert found(frame, workload()) == {("near_target", ("tenth",))}
    other_way = frame.rename(columns={"y": "tenth", "tenth": "y"})
    assert found(other_way, workload()) == {("near_target", ("tenth",))}


def test_a_gap_can_give_the_target_away() -> None:
    """A column that is filled in for one class only says all, whatever its values are."""
    frame = rows(4, 1000, "binary")
    fees = np.random.default_rng(4).normal(size=1000)
    frame["fee"] = np.where(frame["y"] == "yes", fees, np.nan)
    assert found(frame, workload("binary")) == {("near_target", ("fee",))}


@SETTINGS
@given(SEEDS, SIZES, st.sampled_from(["binary", "multiclass"]), st.booleans())
def test_another_name_for_a_class_is_found(seed: int, n: int, task: str, number: bool) -> None:
    """Classes by other names, numbers too, are copies; with one row in five wrong they are not."""
    frame = rows(seed, n, task)
    names = {v: i if number else f"kind {i}" for i, v in enumerate(sorted(set(frame["y"])))}
    frame["copy"] = frame["y"].map(names)
    assert found(frame, workload(task)) == {("target_copy", ("copy",))}
    wrong = np.random.default_rng(seed).random(n) < 0.2
    frame["copy"] = frame["copy"].where(~wrong, frame["copy"].sample(frac=1, random_state=0).array)
    assert found(frame, workload(task)) == set()


@SETTINGS
@given(SEEDS, SIZES, st.sampled_from(["+", "-"]))
def test_two_numbers_that_make_the_target_are_found(seed: int, n: int, sign: str) -> None:
    """Parts that add up to the target, or differ by it, are a copy; a near miss is not."""
    frame = rows(seed, n)
    draw = np.random.default_rng(seed)
    frame["part"] = np.round(draw.normal(0, frame["y"].std(), n), 2)
    rest = frame["y"] - frame["part"] if sign == "+" else frame["y"] + frame["part"]
    frame["rest"] = rest.mask(draw.random(n) < 0.1)
    (finding,) = [f for f in look(frame, workload()) if f.code == "target_copy"]
    assert set(finding.columns) == {"part", "rest"}
    assert f" {sign} " in finding.explanation
    frame["rest"] += draw.normal(0, frame["y"].std() / 2, n)
    assert found(frame, workload()) == set()


def test_what_grows_all_the_time_is_no_copy_of_what_grows_too() -> None:
    """Two totals that never fall rise together, step by step, and it means nothing."""
    draw = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "at": pd.date_range(START, periods=400, freq="D"),
            "odometer": np.cumsum(draw.gamma(2.0, size=400)),
            "y": np.cumsum(draw.gamma(2.0, size=400)),
        }
    )
    assert ("target_copy", ("odometer",)) not in found(frame, workload(time="at"))
    frame["odometer"] = 3 * frame["y"] + 1
    assert ("target_copy", ("odometer",)) in found(frame, workload(time="at"))


@SETTINGS
@given(SEEDS, st.integers(300, 2000), TASKS)
def test_a_feature_that_says_nearly_all_is_found(seed: int, n: int, task: str) -> None:
    """The target with a little noise is suspicious; with as much as honest ones have it is not."""
    frame = rows(seed, n, task)
    draw = np.random.default_rng(seed)
    codes = (
        frame["y"] if task == "regression" else pd.Series(pd.factorize(frame["y"])[0], dtype=float)
    )
    quiet, loud = (0.1, 0.45) if task == "regression" else (0.14, 0.6)
    frame["late"] = codes + draw.normal(0, quiet * codes.std(), n)
    assert found(frame, workload(task)) == {("near_target", ("late",))}
    frame["late"] = codes + draw.normal(0, loud * codes.std(), n)
    assert found(frame, workload(task)) == set()


@pytest.mark.parametrize("series", [1, 7])
def test_the_last_value_of_a_steady_target_is_honest(series: int) -> None:
    """Where the target hardly moves its last value says nearly all, and is known beforehand."""
    draw = np.random.default_rng(5)
    n = 4000
    steps = lfilter([1.0], [1.0, -0.995], draw.normal(size=(series, n)))
    at = np.tile(pd.date_range(START, periods=n, freq="h"), series)
    frame = pd.DataFrame({"at": at, "who": np.repeat(np.arange(series), n), "y": steps.ravel()})
    frame["last"] = frame.groupby("who")["y"].shift(1)
    spec = workload(time="at", key=["who", "at"])
    assert found(frame, spec) == set()
    # Without the guard it would be found: it explains enough.
    assert found(frame, workload(key=["who", "at"])) == {("near_target", ("last",))}
    frame["last"] = frame["y"] + draw.normal(0, 0.2, len(frame))
    assert found(frame, spec) == {("near_target", ("last",))}


@SETTINGS
@given(SEEDS, SIZES)
def test_names_of_rows_are_found(seed: int, n: int) -> None:
    """Numbered rows, codes and names are; measures, whole or not, and repeated names are not."""
    frame = rows(seed, n)
    draw = np.random.default_rng(seed)
    frame["fine"] = draw.random(n)
    frame["customer"] = draw.integers(0, n // 3, n) + 5000
    frame["city"] = [f"c{v}" for v in draw.integers(0, n // 3, n)]
    assert found(frame, workload()) == set()
    frame["serial"] = draw.permutation(n) + 1_000_000
    frame["token"] = [f"{v:x}" for v in draw.integers(0, 2**60, n)]
    assert found(frame, workload()) == {("id_like", ("serial",)), ("id_like", ("token",))}


def test_numbers_that_are_strewn_evenly_are_names() -> None:
    """Account numbers leave wide gaps and are names; salaries leave such gaps too and crowd."""
    frame = rows(1, 1000)
    draw = np.random.default_rng(1)
    frame["salary"] = np.round(draw.normal(600_000, 90_000, 1000))
    frame["account"] = draw.integers(10**8, 10**9, 1000)
    assert found(frame, workload()) == {("id_like", ("account",))}


@SETTINGS
@given(SEEDS, st.integers(300, 1500), TASKS, st.floats(0.1, 1.0), st.booleans())
def test_copies_of_rows_are_found(seed: int, n: int, task: str, share: float, keyed: bool) -> None:
    """Some rows twice are twins on both sides of a split, also under a key of their own."""
    frame = rows(seed, n, task)
    frame["number"] = np.arange(n)
    spec = workload(task, key=["number"]) if keyed else workload(task, ignore=["number"])
    assert found(frame, spec) == set()
    twice = pd.concat([frame, frame.sample(frac=share, random_state=seed)], ignore_index=True)
    twice["number"] = np.arange(len(twice))
    assert found(twice, spec) == {("duplicate_rows", ())}


@SETTINGS
@given(SEEDS, st.integers(200, 3000), st.integers(2, 4))
def test_a_table_of_few_values_has_twins_by_nature(seed: int, n: int, k: int) -> None:
    """Rows of a few yes and no have to be alike, and are no copies."""
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame({f"f{i}": draw.random(n) < 0.4 for i in range(k)})
    frame["y"] = np.where(draw.random(n) < 0.8, frame.sum(axis=1) > 1, draw.random(n) < 0.5)
    frame["y"] = frame["y"].astype(float)
    assert "duplicate_rows" not in {f.code for f in look(frame, workload())}


@SETTINGS
@given(SEEDS, SIZES)
def test_a_split_that_tears_groups_apart_is_found(seed: int, n: int) -> None:
    """One row moved to the other side is enough."""
    frame = rows(seed, n)
    frame["who"] = np.arange(n) // 5
    spec = workload(group="who")

    def tear(split: Split) -> Split:
        fitted, valid = split.folds[1]
        folds = list(split.folds)
        folds[1] = (np.append(fitted, valid[0]), valid[1:])
        return replace(split, folds=tuple(folds))

    assert found(frame, spec) == set()
    (finding,) = look(frame, spec, tear)
    assert (finding.code, finding.level, finding.columns) == ("group_overlap", "fail", ("who",))
    assert finding.numbers["cuts"] == 1


@SETTINGS
@given(SEEDS, st.integers(150, 500), st.integers(0, 10))
def test_a_split_that_looks_ahead_is_found(seed: int, n: int, gap: int) -> None:
    """One fitted row within the gap is enough; so are rows with a time that are split by chance."""
    frame = rows(seed, n)
    frame["at"] = pd.date_range(START, periods=n, freq="h")
    spec = workload(time="at", training={"gap": f"{gap}h"})

    def ahead(split: Split) -> Split:
        fitted, valid = split.folds[-1]
        late = np.append(fitted, fitted.max() + 1 if gap else valid.max())
        return replace(split, folds=(*split.folds[:-1], (late, valid)))

    assert found(frame, spec) == set()
    (finding,) = look(frame, spec, ahead)
    assert (finding.code, finding.level, finding.columns) == ("time_overlap", "fail", ("at",))
    assert finding.numbers == {"cuts": 1, "of": 6}
    by_chance = workload(time="at", training={"split": "kfold"})
    (finding,) = look(frame, by_chance)
    assert (finding.code, finding.numbers["cuts"]) == ("time_overlap", 6)


def test_the_rentals_of_the_simulated_city_are_clean() -> None:
    """A year of the shipped workload's rows, which are honest, raises no alarm."""
    table = simulate_bikes(seed=7, hours=24 * 180)
    spec = workload(time="timestamp", key=["timestamp"], target="rentals", metric="rmsle")
    assert found(table, spec) == set()


@pytest.mark.parametrize("code", Checks.model_fields)
def test_each_check_does_what_the_workload_says(code: CheckCode) -> None:
    """A check can warn, fail or be left out; the error names check, columns and way out."""
    frame = rows(2, 400)
    frame["copy"], frame["serial"] = 2 * frame["y"], np.arange(400)
    frame["late"] = frame["y"] + np.random.default_rng(2).normal(0, 1, 400)
    frame["at"] = START
    frame["who"] = np.arange(400) // 5
    if code == "duplicate_rows":
        frame = pd.concat([frame, frame.assign(who=frame["who"] + 100)])
    found: dict[str, list[Finding]] = {}
    for level in ("disabled", "warn", "fail"):
        training = {"split": "group", "checks": {code: level}}
        spec = workload(time="at", group="who", training=training)

        def torn(split: Split) -> Split:
            return replace(split, train=np.append(split.train, split.holdout[:1]))

        found[level] = [f for f in look(frame, spec, torn) if f.code == code]
    assert found["disabled"] == []
    assert found["warn"]
    assert {f.level for f in found["warn"]} == {"warn"}
    refuse_leaks(found["warn"])
    with pytest.raises(LeakageError, match=f"{code}: .*training.checks.{code}"):
        refuse_leaks(found["fail"])


def test_certain_leaks_fail_and_suspicions_warn() -> None:
    """So it is where the workload says nothing."""
    levels = Checks().model_dump()
    assert {c for c, level in levels.items() if level == "fail"} == {
        *("group_overlap", "time_overlap", "target_copy")
    }
    assert set(levels.values()) == {"fail", "warn"}
