"""A workload file is read strictly, and every refusal says what to change."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from twinloop.data_keys import SimulatedSource
from twinloop.errors import WorkloadError
from twinloop.vocabulary import METRICS_BY_TASK
from twinloop.workload import Overrides, Workload
from twinloop.workload_file import parse_workload

LEAST = """
name: bikes
task: regression
source: {kind: files, path: raw/*.parquet}
target: rentals
"""


def read(more: str = "", text: str = LEAST, **variables: str) -> Workload:
    """Read a workload of the least keys and some more."""
    return parse_workload(text + more, "bikes.yaml", variables)


def simulated(key: str) -> str:
    """Return the least keys of a workload on the simulated city, and one more of its source."""
    own = f"source:\n  kind: simulated\n  {key}"
    return LEAST.replace("source: {kind: files, path: raw/*.parquet}", own)


def test_four_keys_are_enough() -> None:
    """Everything but name, task, source and target has a default."""
    workload = read()
    assert workload.metric == "rmse"
    assert workload.split == "kfold"
    assert workload.training.folds == 5
    assert workload.training.candidates[0] == "baseline"


@pytest.mark.parametrize("missing", ["name", "task", "source", "target"])
def test_the_four_keys_are_needed(missing: str) -> None:
    """An error names the key that is missing."""
    text = "\n".join(line for line in LEAST.splitlines() if not line.startswith(missing))
    with pytest.raises(WorkloadError, match=f"bikes.yaml: key '{missing}' is missing"):
        read(text=text)


@pytest.mark.parametrize(
    ("more", "key", "near"),
    [
        ("trget: x", "trget", "target"),
        ("training: {fold: 3}", "training.fold", "folds"),
        ("training: {budget: {minuts: 3}}", "training.budget.minuts", "minutes"),
        ("columns: {wind: {minimm: 3}}", "columns.wind.minimm", "minimum"),
        ("columns: {files: {minimm: 3}}", "columns.files.minimm", "minimum"),
        ("training: {checks: {target_cpy: warn}}", "training.checks.target_cpy", "target_copy"),
        ("monitoring: {alfa: 3}", "monitoring.alfa", "alpha"),
        ("retraining: {cooldwn: 3d}", "retraining.cooldwn", "cooldown"),
    ],
)
def test_an_unknown_key_is_refused_at_each_depth(more: str, key: str, near: str) -> None:
    """The error names the file, the key as the file spells it, and the nearest known."""
    with pytest.raises(WorkloadError) as caught:
        read(more)
    assert f"bikes.yaml: unknown key '{key}'" in caught.value.message
    assert f"'{near}'" in caught.value.message


@pytest.mark.parametrize(
    ("source", "key", "near"),
    [
        ("{kind: files, path: a, pth: b}", "source.pth", "path"),
        ("{kind: files, path: a, time_from: {date: d, huor: h}}", "source.time_from.huor", "hour"),
        ("{kind: bundled, dataset: digits, datset: x}", "source.datset", "dataset"),
        ("{kind: simulated, sed: 3}", "source.sed", "seed"),
    ],
)
def test_an_unknown_key_of_a_source_is_refused(source: str, key: str, near: str) -> None:
    """Each kind of source knows its own keys."""
    with pytest.raises(WorkloadError) as caught:
        read(text=LEAST.replace("{kind: files, path: raw/*.parquet}", source))
    assert f"unknown key '{key}'" in caught.value.message
    assert f"'{near}'" in caught.value.message


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("start: 2025-01-01T06:30:00Z", r"source.start: expected a whole hour.*\(got .*2025"),
        ("start: soon", r"source.start: .*\(got 'soon'\)"),
        ("seed: -1", r"source.seed: .*\(got -1\)"),
    ],
)
def test_a_city_that_cannot_be_simulated_is_refused(source: str, told: str) -> None:
    """What the simulation would refuse later is the workload's error, under the key's name."""
    with pytest.raises(WorkloadError, match=told):
        read(text=simulated(source))


@pytest.mark.parametrize(
    "start",
    [
        "2025-01-01",
        "2025-01-01T00:00:00",
        "2025-01-01T00:00:00Z",
        "2025-01-01T02:00:00+02:00",
        "'2025-01-01'",
    ],
)
def test_the_first_hour_of_the_city_is_utc(start: str) -> None:
    """A date, or a time without a zone, is meant in UTC, as everywhere."""
    source = read(text=simulated(f"start: {start}")).source
    assert isinstance(source, SimulatedSource)
    assert source.start == datetime(2025, 1, 1, tzinfo=UTC)
    assert source.start.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("training: {folds: 1}", r"training.folds: .* 2 \(got 1\)"),
        ("training: {candidates: [forst]}", r"training.candidates: .*'forst'. Did .*'forest'"),
        ("training: {window: 180}", r"training.window: 180 has no unit"),
        ("training: {checks: {id_like: off}}", r"training.checks.id_like: .*'disabled'.*'off'"),
        ("training: {gap: -P1D}", r"training.gap: .*negative"),
        ("training: {holdout: 0.95}", r"training.holdout: .*less than 0.9"),
        ("training: {holdout: 5}", r"training.holdout: 5 has no unit"),
        ("training: {rolling: 5}", r"training.rolling: 5 has no unit"),
        ("training: {repeats: 0}", r"training.repeats: .* 1 \(got 0\)"),
        ("inference: {quarantine_limit: 2}", r"inference.quarantine_limit: .*\(got 2\)"),
        ("training: {threshold: 1}", r"training.threshold"),
        ("training: {calibration: platt}", r"training.calibration: .*\(got 'platt'\)"),
        ("key: rentals_id", r"key: .*\(got 'rentals_id'\)"),
        ("columns: {a: {minimum: 5, maximum: 1}}", r"columns.a: minimum 5 is above maximum 1"),
        ("columns: {a: {kind: number, levels: [x]}}", r"columns.a: .*'number' has no levels"),
    ],
)
def test_a_wrong_value_is_named(more: str, told: str) -> None:
    """The error names the key, what was wanted and what was given."""
    with pytest.raises(WorkloadError, match=told):
        read(more)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("metric: rmsl", "metric 'rmsl' does not fit task 'regression'.*'rmsle'"),
        ("metric: accuracy", "metric 'accuracy' does not fit task 'regression'.*Known: mae"),
        ("time: rentals", "time and target are both 'rentals'"),
        ("group: rentals", "group and target are both 'rentals'"),
        ("key: [rentals]", "target 'rentals' is part of the key"),
        ("key: [a, prediction]", "column 'prediction' is the target, the time or a key"),
        ("time: quarantine_row", "column 'quarantine_row' is the target, the time or a key"),
        ("key: [feature_12]", "column 'feature_12' is the target, the time or a key"),
        ("training: {threshold: 0.3}", "threshold is 0.3 but the task is 'regression'"),
        ("slices: [rentals]", "slices names 'rentals', which is the target"),
        ("ignore: [a]\nslices: [a]", "slices names 'a', which is ignored"),
        ("training: {split: time}", "no time column"),
        ("training: {split: group}", "no group column"),
        ("training: {holdout: 7d}", "holdout is a duration but the split is 'kfold'"),
        ("training: {gap: 7d}", "gap is a duration but the split is 'kfold'.*or leave it out"),
        ("training: {rolling: 7d}", "rolling is a duration but the split is 'kfold'"),
        ("group: g\ntraining: {rolling: 7d}", "rolling is a duration but the split is 'group'"),
        ("group: g\ntraining: {split: kfold}", "split is 'kfold'.*has the group 'g'"),
        ("group: g\ntraining: {split: stratified}", "split is 'stratified'.*has the group 'g'"),
        ("training: {split: stratified}", "'stratified' but the task is 'regression'.*'kfold'"),
        ("time: at\ntraining: {repeats: 3}", "repeats is 3 but the split is by time"),
        ("time: at\ntraining: {rolling: 0s}", "rolling is 0s"),
        ("time: at\ntraining: {window: 9d, holdout: 9d}", "window 9d leaves nothing.*holdout"),
        (
            "time: at\ntraining: {window: 20d, rolling: 14d, gap: 2d}",
            "window 20d leaves nothing.*gap of 2d.*fit on 14d",
        ),
        ("time: at\ntraining: {split: kfold, holdout: 7d}", "holdout is a duration"),
    ],
)
def test_a_problem_without_sense_is_refused(more: str, told: str) -> None:
    """Keys that contradict one another are told apart, by name and value."""
    with pytest.raises(WorkloadError, match=told):
        read(more)


@pytest.mark.parametrize(
    ("task", "name", "taken"),
    [
        ("binary", "probability", True),
        ("binary", "probability_a", False),
        ("multiclass", "probability_a", True),
        ("multiclass", "probability", False),
        ("regression", "probability", False),
        ("regression", "quarantine_reasons", False),
    ],
)
def test_names_of_answers_are_taken(task: str, name: str, taken: bool) -> None:
    """What a prediction of this task calls its own cannot be a key: readers could not tell."""
    text = f"name: w\ntask: {task}\nsource: {{kind: files, path: x}}\ntarget: y\nkey: [{name}]"
    if taken:
        with pytest.raises(WorkloadError, match=f"column '{name}'"):
            parse_workload(text, "w.yaml", {})
    else:
        assert parse_workload(text, "w.yaml", {}).key == (name,)


@pytest.mark.parametrize("task", list(METRICS_BY_TASK))
def test_a_metric_belongs_to_a_task(task: str) -> None:
    """Each task takes its own metrics, and no other."""
    text = LEAST.replace("regression", task)
    for owner, metrics in METRICS_BY_TASK.items():
        for metric in metrics:
            if owner == task or metric in METRICS_BY_TASK[task]:  # type: ignore[index]
                assert read(f"metric: {metric}", text).metric == metric
            else:
                with pytest.raises(WorkloadError, match=f"{metric!r} does not fit task"):
                    read(f"metric: {metric}", text)


@pytest.mark.parametrize(
    "text", [LEAST + "target: other", LEAST + "training: {folds: 3, folds: 4}"]
)
def test_equal_keys_are_refused(text: str) -> None:
    """A key given twice is an error, not the last one wins."""
    with pytest.raises(WorkloadError, match=r"bikes.yaml: not valid YAML: .*duplicate key"):
        read(text=text)


@pytest.mark.parametrize("text", ["", "- a", "a: b: c", "just words", "'"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    """Broken YAML, or YAML of something else, is a WorkloadError that names the file."""
    with pytest.raises(WorkloadError, match=r"bikes\.yaml: "):
        read(text=text)


def test_variables_are_put_in() -> None:
    """``${NAME}`` is replaced inside strings, at any depth, and only from what was given."""
    text = LEAST.replace("raw/*.parquet", "'${LAKE}/${YEAR}/*.parquet'")
    assert read(text=text, LAKE="/lake", YEAR="2012").source.path == "/lake/2012/*.parquet"  # type: ignore[union-attr]


def test_an_unset_variable_is_named() -> None:
    """The error says which variable is needed where, and how to set it."""
    with pytest.raises(WorkloadError) as caught:
        read("description: for ${WHOM}")
    assert caught.value.message.startswith("bikes.yaml: 'for ${WHOM}' needs the variable WHOM")
    assert "export WHOM=" in caught.value.hint


def test_a_workload_cannot_be_changed() -> None:
    """Configuration is frozen, all the way down."""
    workload = read()
    with pytest.raises(ValidationError, match="frozen"):
        workload.target = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        workload.training.folds = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", ["Bikes", "../bikes", "bi kes", "1bikes", "", "b" * 65])
def test_a_name_is_safe_as_a_folder(name: str) -> None:
    """Names of models and folders are short words in small letters."""
    with pytest.raises(WorkloadError, match="name: "):
        read(text=LEAST.replace("bikes", repr(name)))


def test_a_baseline_always_takes_part() -> None:
    """It joins where it is not named, and only once."""
    assert read("training: {candidates: [linear]}").training.candidates == ("baseline", "linear")
    named = read("training: {candidates: [linear, baseline]}").training.candidates
    assert named == ("linear", "baseline")


@pytest.mark.parametrize(
    ("task", "more", "split"),
    [
        ("regression", "", "kfold"),
        ("binary", "", "stratified"),
        ("multiclass", "group: g", "group"),
        ("binary", "group: g\ntime: t", "time"),
        ("binary", "time: t\ntraining: {split: stratified}", "stratified"),
    ],
)
def test_auto_finds_the_split(task: str, more: str, split: str) -> None:
    """Time comes first, then groups, then classes; a named split wins."""
    assert read(more, LEAST.replace("regression", task)).split == split


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("at.hour", "hour"),
        ("at.month", "month"),
        ("at.minute", None),
        ("on.hour", None),
        ("at", None),
    ],
)
def test_a_slice_may_be_a_part_of_the_time(name: str, part: str | None) -> None:
    """Hour, weekday or month of the time column, and of no other."""
    assert read("time: at").time_part(name) == part
    assert read().time_part(name) is None


def test_named_columns_are_no_features() -> None:
    """Target, time, group, key and ignored columns never enter a model."""
    workload = read("time: t\ngroup: g\nkey: [k]\nignore: [i]")
    assert workload.not_features == {"rentals", "t", "g", "k", "i"}


def test_a_sandbox_keeps_models_apart() -> None:
    """A replay has its own model and experiment, another than the workload's."""
    workload = read()
    replayed = workload.model_copy(update={"sandbox": "r1"})
    assert (workload.id, workload.experiment) == ("bikes", "bikes")
    assert (replayed.id, replayed.experiment) == ("bikes-r1", "bikes-replay")


def test_overrides_change_what_they_name() -> None:
    """The rest of the workload stays as it was."""
    workload = read("training: {window: 180d, gap: 1h}\ntime: t")
    changed = Overrides.model_validate({"folds": 3, "candidates": ["linear"], "budget_minutes": 1})
    training = changed.apply(workload).training
    assert (training.folds, training.candidates, training.budget.minutes) == (
        3,
        ("baseline", "linear"),
        1,
    )
    assert (training.window, training.gap) == (workload.training.window, workload.training.gap)
    assert Overrides().apply(workload) is workload


@pytest.mark.parametrize(
    "wrong", [{"folds": 1}, {"candidates": ["a.b"]}, {"budget_minutes": 0}, {"path": "/etc"}]
)
def test_overrides_refuse_what_does_not_fit(wrong: dict[str, object]) -> None:
    """Only the documented settings, in their ranges; no path, no dotted name."""
    with pytest.raises(ValidationError):
        Overrides.model_validate(wrong)


@pytest.mark.parametrize("bad", ["linear", "forest"])
def test_an_own_estimator_takes_no_shipped_name(bad: str) -> None:
    """It would be unclear which of the two is meant."""
    with pytest.raises(WorkloadError, match=f"'{bad}' is the name of a shipped candidate"):
        read(f'training: {{estimators: {{{bad}: {{path: "a:b"}}}}}}')


OWN = 'training: {estimators: {fancy: {path: "my.models:make"}}, candidates: [fancy]}'


def test_an_own_estimator_is_a_candidate_by_its_name() -> None:
    """The file gives name and path; candidates, in the file and for one run, name it."""
    workload = read(OWN)
    assert workload.training.candidates == ("baseline", "fancy")
    changed = Overrides.model_validate({"candidates": ["linear", "fancy"]}).apply(workload)
    assert changed.training.candidates == ("baseline", "linear", "fancy")
    assert changed.training.estimators == workload.training.estimators


@pytest.mark.parametrize("wrong", ["fancyy", "my", "xgbost"])
def test_an_override_names_known_candidates_only(wrong: str) -> None:
    """A name that the workload does not give is refused, with the nearest."""
    with pytest.raises(WorkloadError, match=f"no candidate '{wrong}'"):
        Overrides.model_validate({"candidates": [wrong]}).apply(read(OWN))
    with pytest.raises(WorkloadError, match="no candidate 'fancy'"):
        Overrides.model_validate({"candidates": ["fancy"]}).apply(read())


@pytest.mark.parametrize(
    "wrong", ["os:system", "os.system", "my/models", "../x", "Fancy", "a" * 65]
)
def test_no_path_gets_in_by_an_override(wrong: str) -> None:
    """What looks like a path is no name: a page cannot make a worker import something."""
    with pytest.raises(ValidationError):
        Overrides.model_validate({"candidates": [wrong]})
    with pytest.raises(ValidationError):
        Overrides.model_validate({"estimators": {"x": {"path": "os:system"}}})


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ('{path: "my.models"}', r"estimators.fancy.path"),
        ('{path: "my-models:make"}', r"estimators.fancy.path"),
        ('{path: "a:b", parms: {x: 1}}', r"unknown key 'training.estimators.fancy.parms'.*params"),
        ('{path: "a:b", trusted: [Fancy]}', r"estimators.fancy.trusted.0"),
        ("{params: {x: 1}}", r"'training.estimators.fancy.path' is missing"),
    ],
)
def test_a_wrong_own_estimator_is_named(more: str, told: str) -> None:
    """The error names the key of the file."""
    with pytest.raises(WorkloadError, match=told):
        read(f"training: {{estimators: {{fancy: {more}}}}}")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("training: {half_life: 9d}", "half_life is given but rows have no time"),
        ("time: t\ntraining: {half_life: 0s}", "half_life is 0s"),
        ("training: {class_weight: balanced}", "regression has no classes"),
        ("training: {candidates: [seasonal]}", "'seasonal' needs a time column"),
        ("time: t\ncalendar: [month]\ntraining: {candidates: [seasonal]}", "'seasonal' needs"),
    ],
)
def test_weights_and_seasons_need_what_they_weigh(more: str, told: str) -> None:
    """Settings that could do nothing are refused."""
    with pytest.raises(WorkloadError, match=told):
        read(more)


def test_seasonal_takes_part_where_there_are_seasons() -> None:
    """By default: with a time and a calendar; a list of candidates means what it says."""
    seasonal = "seasonal"
    assert seasonal in read("time: t").training.candidates
    assert seasonal not in read().training.candidates
    assert seasonal not in read("time: t\ncalendar: []").training.candidates
    assert seasonal not in read("time: t\ntraining: {candidates: [linear]}").training.candidates
    assert seasonal in Overrides(folds=3).apply(read("time: t")).training.candidates
    with pytest.raises(WorkloadError, match="'seasonal' needs a time column"):
        Overrides(candidates=("seasonal",)).apply(read())


def tuned(**keys: object) -> dict[str, object]:
    """Return keys of a workload that is tuned like this."""
    base: dict[str, object] = {
        "name": "w",
        "task": "regression",
        "source": {"kind": "files", "path": "x"},
    }
    return base | {"target": "y", "training": keys}


@pytest.mark.parametrize(
    ("training", "names"),
    [
        ({}, ()),
        ({"tuning": {"trials": 5}}, ("xgboost",)),
        ({"tuning": {"minutes": 1}}, ("xgboost",)),
        ({"tuning": {"minutes": 1, "trials": 0}}, ()),
        ({"tuning": {"trials": 5, "candidates": ["forest", "boosting"]}}, ("forest",)),
    ],
)
def test_nothing_is_tuned_unless_a_budget_says_so(
    training: dict[str, object], names: tuple[str, ...]
) -> None:
    """Of the candidates to be tuned those are that compete; minutes or money are a budget, too."""
    assert Workload.model_validate(tuned(**training)).tuned == names


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"candidates": ["linear"], "tuning": {"trials": 5}}, "none of them is among"),
        ({"tuning": {"trials": 5, "candidates": ["linear"]}}, "nothing to tune here"),
        ({"tuning": {"trials": 5, "candidates": []}}, "set trials to 0"),
        ({"tuning": {"trials": 5, "candidates": ["seasonal"]}}, "linear"),
        ({"tuning": {"trials": -1}}, "greater than or equal to 0"),
        ({"candidates": ["xgboost-tuned"]}, "there is no candidate 'xgboost-tuned'"),
    ],
)
def test_a_search_for_nothing_is_refused(training: dict[str, object], words: str) -> None:
    """Where nothing can be tuned, or by no such candidate, the message says what can."""
    with pytest.raises(ValidationError, match=words):
        Workload.model_validate(tuned(**training))


def test_trials_are_for_one_run() -> None:
    """An override tunes what the workload would tune; what cannot be tuned is refused."""
    plain = Workload.model_validate(tuned(tuning={"candidates": ["forest"]}))
    assert plain.tuned == ()
    assert Overrides(trials=3).apply(plain).tuned == ("forest",)
    assert Overrides(trials=0).apply(Overrides(trials=3).apply(plain)).tuned == ()
    busy = Overrides(trials=3).apply(plain)
    assert Overrides(candidates=("linear",)).apply(busy).tuned == ()
    with pytest.raises(WorkloadError, match="none of them is among"):
        Overrides(trials=3, candidates=("linear",)).apply(plain)
