"""A workload: one learning problem, frozen, as one YAML file describes it."""

import re
from datetime import timedelta
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from twinloop.budget_keys import Budgets
from twinloop.data_keys import Cleaning, ColumnRule, Source
from twinloop.errors import WorkloadError, nearest
from twinloop.loop_keys import Inference, Monitoring, Prices, Retraining
from twinloop.training_keys import (
    Budget,
    Training,
    refuse_misfit_by_chance,
    refuse_misfit_by_time,
)
from twinloop.vocabulary import (
    METRICS_BY_TASK,
    SEASONS,
    TIME_PARTS,
    AnyCandidate,
    Frozen,
    Task,
    TunableName,
)

_NO_SEASONS = "candidate 'seasonal' needs a time column, and 'hour' or 'weekday' in the calendar"
_ALWAYS = (
    r"prediction|model_version|model_run_id|(feature|contribution)_\d+|"
    r"quarantine_(reason|file|row|rows|text)"
)
# What predictions and quarantine call their own columns.
_PUBLISHED: dict[Task, re.Pattern[str]] = {
    "regression": re.compile(_ALWAYS),
    "binary": re.compile(rf"{_ALWAYS}|probability"),
    "multiclass": re.compile(rf"{_ALWAYS}|probability_.*", re.DOTALL),
}


class Workload(Frozen):
    """One learning problem: source, time, key, target, metric, schedules, prices, budget."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)
    description: str = ""
    task: Task
    source: Source
    target: str
    time: str | None = None
    key: tuple[str, ...] = ()
    group: str | None = Field(
        None, description="Rows of one group never straddle a split, by time or by chance"
    )
    metric: str = ""
    ignore: tuple[str, ...] = Field((), description="Columns that are no features")
    calendar: tuple[Literal["hour", "weekday", "month"], ...] = ("hour", "weekday")
    columns: dict[str, ColumnRule] = Field(default_factory=dict)
    slices: tuple[str, ...] | None = Field(
        None, description="Columns, or parts of the time, to score by; none named: a few are taken"
    )
    seed: int = Field(0, ge=0, lt=2**32)
    sandbox: str = Field("", description="Set by replays: keeps their models and data apart")
    cleaning: Cleaning = Cleaning()
    training: Training = Training()
    inference: Inference = Inference()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    prices: Prices = Prices()
    budget: Budgets = Budgets()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = METRICS_BY_TASK[self.task]
        if not self.metric:
            object.__setattr__(self, "metric", known[0])
        if self.metric not in known:
            raise ValueError(
                f"metric {self.metric!r} does not fit task {self.task!r}; "
                f"{nearest(self.metric, known)}"
            )
        for role, column in (("time", self.time), ("group", self.group)):
            if column == self.target:
                raise ValueError(
                    f"{role} and target are both {column!r}; the target is what is predicted"
                )
        if self.target in self.key:
            raise ValueError(f"target {self.target!r} is part of the key; a key identifies a row")
        return self

    @model_validator(mode="after")
    def _publishable(self) -> Self:
        """Refuse columns that are called as what is published beside them, or joined with them."""
        named = [*self.key, *([self.time] if self.time else []), self.target]
        taken = [name for name in named if _PUBLISHED[self.task].fullmatch(name)]
        if taken:
            raise ValueError(
                f"column {taken[0]!r} is the target, the time or a key, and what is published has "
                "a column of that name too; give it another one in the source"
            )
        return self

    @model_validator(mode="after")
    def _splittable(self) -> Self:
        training, split = self.training, self.split
        if split == "time" and self.time is None:
            raise ValueError("training.split is 'time' but the workload has no time column")
        if split == "group" and self.group is None:
            raise ValueError("training.split is 'group' but the workload has no group column")
        if split in ("kfold", "stratified") and self.group is not None:
            raise ValueError(
                f"training.split is {split!r}, which puts rows of one group on both sides, but the "
                f"workload has the group {self.group!r}; set training.split to 'group', or list "
                "the column under 'ignore' instead"
            )
        if split == "stratified" and self.task == "regression":
            raise ValueError(
                "training.split is 'stratified' but the task is 'regression', which has no classes "
                "to keep in proportion; set training.split to 'kfold'"
            )
        if split == "time":
            refuse_misfit_by_time(training)
        else:
            refuse_misfit_by_chance(training, split)
        return self

    @model_validator(mode="after")
    def _judgeable(self) -> Self:
        if self.training.threshold != "auto" and self.task != "binary":
            raise ValueError(
                f"training.threshold is {self.training.threshold:g} but the task is {self.task!r}; "
                "only binary tasks have a threshold"
            )
        for name in self.slices or ():
            if name == self.target or name in self.ignore:
                role = "the target" if name == self.target else "ignored"
                raise ValueError(f"slices names {name!r}, which is {role}; name another column")
        return self

    @model_validator(mode="after")
    def _fits_candidates(self) -> Self:
        training = self.training
        if training.half_life is not None and self.time is None:
            raise ValueError("training.half_life is given but rows have no time to grow old by")
        if training.half_life == timedelta(0):
            raise ValueError("training.half_life is 0s; give an age like 90d, or leave it out")
        if training.class_weight == "balanced" and self.task == "regression":
            raise ValueError("training.class_weight is 'balanced' but regression has no classes")
        if "candidates" not in training.model_fields_set and self.seasons:
            first, *others = training.candidates
            names = (first, "seasonal", *others)
            object.__setattr__(self, "training", training.model_copy(update={"candidates": names}))
        elif "seasonal" in training.candidates and not self.seasons:
            raise ValueError(_NO_SEASONS)
        _fits_tuning(self)
        return self

    @model_validator(mode="after")
    def _one_clock(self) -> Self:
        """Let candidates have all the time a training has, unless they are given less."""
        minutes, budget = self.budget.training.run.minutes, self.training.budget
        if minutes is not None and "minutes" not in budget.model_fields_set:
            changed = self.training.model_copy(update={"budget": Budget(minutes=minutes)})
            object.__setattr__(self, "training", changed)
        return self

    def time_part(self, name: str) -> str | None:
        """Return the part that ``<time>.<part>`` names: ``hour``, ``weekday`` or ``month``."""
        column, _, part = name.rpartition(".")
        return part if self.time and column == self.time and part in TIME_PARTS else None

    @property
    def id(self) -> str:
        """Name of the registered model and of the lake's folder."""
        return f"{self.name}-{self.sandbox}" if self.sandbox else self.name

    @property
    def experiment(self) -> str:
        """Name of the MLflow experiment."""
        return f"{self.name}-replay" if self.sandbox else self.name

    @property
    def split(self) -> Literal["time", "group", "stratified", "kfold"]:
        """How rows are divided, with ``auto`` resolved."""
        if self.training.split != "auto":
            return self.training.split
        if self.time is not None:
            return "time"
        if self.group is not None:
            return "group"
        return "kfold" if self.task == "regression" else "stratified"

    @property
    def refits(self) -> bool:
        """Whether the served model is fitted again with the holdout's rows."""
        if self.training.refit == "auto":
            return self.time is not None
        return self.training.refit == "all"

    @property
    def tuned(self) -> tuple[TunableName, ...]:
        """Candidates that are tuned: those named that compete; empty without tuning."""
        tuning, competing = self.training.tuning, self.training.candidates
        return tuple(c for c in tuning.candidates if tuning.most_trials and c in competing)

    @property
    def tunes_recency(self) -> bool:
        """Whether tuning looks for how much older rows are worth, too."""
        return self.time is not None and self.training.tuning.recency == "auto"

    @property
    def seasons(self) -> tuple[str, ...]:
        """Parts of the time that rows recur by; empty without time or calendar."""
        return tuple(p for p in self.calendar if p in SEASONS) if self.time else ()

    @property
    def balances(self) -> bool:
        """Whether every class weighs the same in a fit, however rare.

        Weights spoil probabilities, which log loss, Brier score and ROC AUC are computed from;
        accuracy counts rows, not classes. Macro F1 of two classes is served by the threshold: on
        rare ones, with it, weights brought nothing; of three they brought 0.03 to 0.11.
        """
        if self.training.class_weight == "auto":
            return self.metric == "macro_f1" and self.task == "multiclass"
        return self.training.class_weight == "balanced"

    @property
    def trusted(self) -> tuple[str, ...]:
        """Types that models saved for this workload may name, beside those always allowed."""
        own = self.training.estimators.values()
        return tuple(sorted({name for estimator in own for name in estimator.trusted}))

    @property
    def log_target(self) -> bool:
        """Whether models learn ``log(1 + target)``: what RMSLE rewards."""
        return self.metric == "rmsle"

    @property
    def not_features(self) -> frozenset[str]:
        """Columns that never enter a model."""
        named = {self.target, self.time, self.group, *self.key, *self.ignore}
        return frozenset(c for c in named if c)


def _fits_tuning(workload: Workload) -> None:
    tuning, candidates = workload.training.tuning, workload.training.candidates
    if tuning.most_trials and not workload.tuned:
        raise ValueError(
            f"training.tuning.candidates are {', '.join(tuning.candidates)} but none of them is "
            f"among training.candidates, {', '.join(candidates)}; name one that competes"
        )
    if "linear" in workload.tuned and workload.task == "regression" and not workload.tunes_recency:
        raise ValueError(
            "training.tuning.candidates names 'linear', which has nothing to tune here: every fit "
            "finds its penalty by itself; leave it out"
        )


class Overrides(Frozen):
    """What a person may change for one run."""

    window: timedelta | None = Field(None, description="Length of the training window")
    candidates: tuple[AnyCandidate, ...] | None = Field(
        None, description="Estimators that compete: shipped ones, or names the workload gives"
    )
    folds: int | None = Field(None, ge=2, le=50, description="Folds of the cross-validation")
    budget_minutes: float | None = Field(None, gt=0, description="No candidate starts after this")
    trials: int | None = Field(
        None, ge=0, le=10_000, description="Settings tried for each tuned candidate; 0: no tuning"
    )

    def apply(self, workload: Workload) -> Workload:
        """Return the workload with these changes.

        Raises
        ------
        WorkloadError
            If a candidate is neither shipped nor an estimator of the workload, or none of those
            that compete can be tuned.
        """
        changes: dict[str, Any] = {
            name: value
            for name in ("window", "candidates", "folds")
            if (value := getattr(self, name)) is not None
        }
        if self.budget_minutes is not None:
            changes["budget"] = {"minutes": self.budget_minutes}
        if self.trials is not None:
            changes["tuning"] = workload.training.tuning.model_dump() | {"trials": self.trials}
        if not changes:
            return workload
        try:
            training = Training.model_validate(workload.training.model_dump() | changes)
        except ValidationError as err:
            reason = err.errors()[0]["msg"].removeprefix("Value error, ")
            raise WorkloadError(f"overrides of {workload.name!r}: {reason}") from err
        if "seasonal" in training.candidates and not workload.seasons:
            raise WorkloadError(f"overrides of {workload.name!r}: {_NO_SEASONS}")
        changed = workload.model_copy(update={"training": training})
        if self.trials:
            try:
                _fits_tuning(changed)
            except ValueError as err:
                raise WorkloadError(f"overrides of {workload.name!r}: {err}") from err
        return changed
