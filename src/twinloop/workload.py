"""A workload: one learning problem, frozen, as one YAML file describes it."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from twinloop.errors import WorkloadError, nearest
from twinloop.window import Cron, Duration, format_duration

Task = Literal["regression", "binary", "multiclass"]
Kind = Literal["number", "boolean", "category", "timestamp"]
TIME_PARTS = ("hour", "weekday", "month")
SEASONS = ("hour", "weekday")
Level = Literal["disabled", "warn", "fail"]
CheckCode = Literal[
    "group_overlap", "time_overlap", "target_copy", "near_target", "id_like", "duplicate_rows"
]
CandidateName = Literal["baseline", "seasonal", "linear", "kernel", "forest", "boosting", "xgboost"]
CANDIDATE_NAMES: tuple[CandidateName, ...] = get_args(CandidateName)
# A shipped candidate, or the name a workload gives to an estimator of its own: never a path.
OwnName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
# Candidates with settings to search, and what they are called once they were searched.
TunableName = Literal["linear", "forest", "boosting", "xgboost"]
TunedName = Literal["linear-tuned", "forest-tuned", "boosting-tuned", "xgboost-tuned"]
# Fits nothing of its own: it weighs what the others predict.
ENSEMBLE: Literal["ensemble"] = "ensemble"
AnyCandidate = CandidateName | TunedName | Literal["ensemble"] | OwnName
# Types a model file may name: dotted, as skops spells them.
TypeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
_NO_SEASONS = "candidate 'seasonal' needs a time column, and 'hour' or 'weekday' in the calendar"
_DOTTED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
ChoiceRule = Literal["best", "cheapest"]
# Where seconds or money are to end a search; more trials gain little.
_MOST_TRIALS = 100

METRICS_BY_TASK: dict[Task, tuple[str, ...]] = {
    "regression": ("rmse", "mae", "rmsle", "r2"),
    "binary": ("roc_auc", "log_loss", "brier", "accuracy", "macro_f1"),
    "multiclass": ("log_loss", "accuracy", "macro_f1"),
}


class Frozen(BaseModel):
    """Configuration that nothing can change and that knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TimeParts(Frozen):
    """Where a table has no time column: the columns it is put together from."""

    date: str = Field(description="Column with the date, ISO 8601")
    hour: str | None = Field(None, description="Column with the hour of the day, 0 to 23")


class FilesSource(Frozen):
    """Local Parquet or CSV files."""

    kind: Literal["files"]
    path: str = Field(description="A glob; relative paths start at Twinloop's home folder")
    time_from: TimeParts | None = Field(None, description="How to build the time column")


class BundledSource(Frozen):
    """A table that comes with scikit-learn."""

    kind: Literal["bundled"]
    dataset: Literal["breast_cancer", "diabetes", "digits"]


class SimulatedSource(Frozen):
    """The simulated city (see docs/simulated-data.md)."""

    kind: Literal["simulated"]
    generator: Literal["bikes"] = "bikes"
    seed: int = 0
    start: datetime = datetime.fromisoformat("2011-01-01T00:00:00+00:00")
    hours: int = Field(17_520, ge=1, description="Rows, one an hour")
    drift: bool = Field(True, description="Whether the documented drift events happen")


Source = Annotated[FilesSource | BundledSource | SimulatedSource, Field(discriminator="kind")]


class ColumnRule(Frozen):
    """What is known of a column beforehand; it overrides what would be learned."""

    kind: Kind | None = None
    minimum: float | None = Field(None, description="Smaller values are impossible")
    maximum: float | None = Field(None, description="Larger values are impossible")
    required: bool = Field(False, description="A row without it is quarantined")
    levels: tuple[str, ...] | None = Field(None, description="The only levels there can be")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        low, high = self.minimum, self.maximum
        if low is not None and high is not None and low > high:
            raise ValueError(f"minimum {low:g} is above maximum {high:g}; no value can be right")
        if self.levels is not None and self.kind not in (None, "category"):
            raise ValueError(f"a column of kind {self.kind!r} has no levels; only a category has")
        return self


class Cleaning(Frozen):
    """What happens to training rows before they become a snapshot."""

    duplicates: Literal["fail", "first", "last"] = Field(
        "fail", description="Rows with one key but different content"
    )
    outliers: float | None = Field(
        None, gt=0, description="Drop rows further than this many interquartile ranges off"
    )


class Budget(Frozen):
    """What one training may use."""

    minutes: float = Field(10.0, gt=0, description="No further candidate starts after this long")


class Tuning(Frozen):
    """The search for better settings: what is searched, and which budget ends it."""

    candidates: tuple[TunableName, ...] = Field(
        ("xgboost",), description="Which candidates are tuned, of those that compete"
    )
    trials: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="Settings tried for each; 0: no tuning; none: 100, if there is another budget",
    )
    minutes: float | None = Field(None, gt=0, description="What all searches together may take")
    money: float | None = Field(None, gt=0, description="What their fits may cost, by the prices")
    recency: Literal["auto", "none"] = Field(
        "auto",
        description="auto: where rows have time, how fast they age and how far back they reach "
        "are tuned too",
    )

    @field_validator("candidates")
    @classmethod
    def _some(cls, value: tuple[TunableName, ...]) -> tuple[TunableName, ...]:
        if not value:
            raise ValueError("no candidate to tune is named; set trials to 0 to tune none")
        return tuple(dict.fromkeys(value))

    @property
    def most_trials(self) -> int:
        """Trials of each candidate; 0 where nothing is tuned."""
        if self.trials is not None:
            return self.trials
        return _MOST_TRIALS if self.minutes or self.money else 0


class OwnEstimator(Frozen):
    """An estimator of the user's own: a function or class that makes one.

    Only a workload file, which lies on the worker, names one. Overrides know its name alone.
    """

    path: str = Field(
        pattern=rf"^{_DOTTED}:{_DOTTED}$", description="Where it is, like my_models.trees:fancy"
    )
    params: dict[str, JsonValue] = Field({}, description="What it is called with, by name")
    trusted: tuple[TypeName, ...] = Field(
        (), description="Types its saved model may name, beside those of scikit-learn"
    )


class Checks(Frozen):
    """What follows from a sign of a leak: nothing, a warning, or no training."""

    group_overlap: Level = Field("fail", description="A group on both sides of a split")
    time_overlap: Level = Field("fail", description="Fitted on rows no earlier than those judged")
    target_copy: Level = Field("fail", description="A column, or two added up, is the target")
    near_target: Level = Field("warn", description="A column alone all but gives the target away")
    id_like: Level = Field("warn", description="A feature that names its row")
    duplicate_rows: Level = Field("warn", description="Copies of rows on both sides of a split")


class Training(Frozen):
    """The training loop."""

    window: Duration | None = Field(None, description="How much history; none: all there is")
    folds: int = Field(5, ge=2, le=50)
    split: Literal["auto", "time", "stratified", "kfold", "group"] = "auto"
    rolling: Duration | None = Field(
        None, description="Folds by time fit on the last so long only; none: on all before"
    )
    repeats: int = Field(
        1, ge=1, le=20, description="How often folds by chance are drawn, each time otherwise"
    )
    gap: Duration = Field(timedelta(0), description="Time left out between training and validation")
    holdout: Duration | Annotated[float, Field(gt=0, lt=0.9)] = Field(
        0.2, description="Last rows (a duration or a share) kept for the final score"
    )
    estimators: dict[OwnName, OwnEstimator] = Field(
        {}, description="Estimators of your own, by the name they have among the candidates"
    )
    candidates: tuple[AnyCandidate, ...] = ("baseline", "linear", "forest", "xgboost")
    class_weight: Literal["auto", "none", "balanced"] = Field(
        "auto",
        description="balanced: rare classes weigh as much as common ones; auto: only for macro_f1, "
        "which counts classes alike, of more than two",
    )
    half_life: Duration | None = Field(
        None, description="Age at which a row weighs half as much as the newest; none: all alike"
    )
    choice: ChoiceRule = Field(
        "cheapest",
        description="Who wins: the best by mean over folds, or the cheapest that the folds cannot "
        "tell from it",
    )
    refit: Literal["auto", "all", "train"] = Field(
        "auto",
        description="Rows of the served model: with the holdout, once judged, or without; "
        "auto: with it where rows have time, since only then later rows are fresh ones",
    )
    calibration: Literal["auto", "none"] = Field(
        "auto", description="auto: probabilities are calibrated where that lowers the log loss"
    )
    threshold: Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        "auto",
        description="Probability above which the second of two classes is predicted; auto: tuned "
        "where the metric hangs on the class predicted, else one half",
    )
    learning_curve: bool = Field(
        False, description="Whether the winner is fitted on parts of the folds, too"
    )
    budget: Budget = Budget()
    tuning: Tuning = Tuning()
    checks: Checks = Checks()

    @field_validator("estimators")
    @classmethod
    def _new_names(cls, value: dict[str, OwnEstimator]) -> dict[str, OwnEstimator]:
        taken = sorted(set(value) & {*CANDIDATE_NAMES, ENSEMBLE})
        if taken:
            raise ValueError(f"{taken[0]!r} is the name of a shipped candidate; take another")
        return value

    @field_validator("candidates")
    @classmethod
    def _known_names(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        # Where `estimators` was refused, that error is the one to show.
        known = {*CANDIDATE_NAMES, ENSEMBLE, *info.data.get("estimators", value)}
        unknown = [name for name in value if name not in known]
        if unknown:
            raise ValueError(f"there is no candidate {unknown[0]!r}. {nearest(unknown[0], known)}")
        return value

    @model_validator(mode="after")
    def _with_baseline(self) -> Self:
        if "baseline" not in self.candidates:
            object.__setattr__(self, "candidates", ("baseline", *self.candidates))
        return self

    @model_validator(mode="after")
    def _with_members(self) -> Self:
        if ENSEMBLE in self.candidates and len(self.members) < 2:
            raise ValueError(
                f"candidate 'ensemble' is made of at least two others beside the baseline, but "
                f"there is {', '.join(map(repr, self.members)) or 'none'}; name more, like linear "
                "and xgboost, or leave it out"
            )
        return self

    @property
    def members(self) -> tuple[AnyCandidate, ...]:
        """Candidates that an ensemble may be made of: all but the baseline."""
        return tuple(dict.fromkeys(n for n in self.candidates if n not in ("baseline", ENSEMBLE)))


class Inference(Frozen):
    """The inference loop."""

    schedule: Cron = Field("0 5 * * *", description="Cron, UTC")
    window: Duration = timedelta(days=1)
    catch_up: Duration = Field(
        timedelta(days=7), description="How far back a scheduled run makes up for missed windows"
    )
    batch_rows: int = Field(65_536, ge=1, description="Rows held in memory at a time")
    quarantine_limit: float = Field(
        0.05, ge=0, le=1, description="Share of quarantined rows above which the run fails"
    )


class Monitoring(Frozen):
    """The watch between the loops."""

    schedule: Cron = Field("0 6 * * *", description="Cron, UTC")
    window: Duration = timedelta(days=7)
    labels_after: Duration = Field(timedelta(days=1), description="When the truth is known")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Level of the drift tests, corrected")
    min_effect: float = Field(0.1, ge=0, le=1, description="Smallest distance worth a word")
    tolerance: float = Field(0.05, ge=0, description="Relative rise of the error that may pass")


class Limits(Frozen):
    """What a model may take to be promoted."""

    latency_ms: float | None = Field(
        None, gt=0, description="Milliseconds to predict 1,000 rows in a batch"
    )
    size_mb: float | None = Field(None, gt=0, description="Megabytes of the saved model")


class Retraining(Frozen):
    """When a challenger is trained, and what it must show."""

    on: Literal["drift", "never"] = "drift"
    cooldown: Duration = timedelta(days=7)
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Of the verdict, one-sided")
    min_rows: int = Field(30, ge=1, description="Fresh rows a verdict needs")
    margin: float = Field(
        0.0, ge=0, lt=1, description="Share of the champion's loss that a challenger must save"
    )
    slices: bool = Field(True, description="Whether a slice that gets clearly worse is a veto")
    jury: float | None = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of what was known of rows accepted earlier that must be left; none: "
        "they are not asked",
    )
    limits: Limits = Limits()


class Prices(Frozen):
    """What the machine costs."""

    currency: str = "EUR"
    core_hour: float = Field(0.04, ge=0)
    gb_hour: float = Field(0.005, ge=0)
    kwh: float = Field(0.30, ge=0)
    grams_co2_per_kwh: float = Field(300.0, ge=0)
    watts_per_core: float = Field(10.0, ge=0, description="For the estimate of energy")


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
    columns: dict[str, ColumnRule] = {}
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
            _fits_time(training)
        else:
            _fits_chance(training, split)
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


def _fits_time(training: Training) -> None:
    if training.repeats > 1:
        raise ValueError(
            f"training.repeats is {training.repeats} but the split is by time, which has no chance "
            "in it to repeat; take more training.folds"
        )
    if training.rolling == timedelta(0):
        raise ValueError("training.rolling is 0s; no row lies in a window of no length")
    if training.window is None:
        return
    before = training.window
    if isinstance(training.holdout, timedelta):
        before -= training.holdout
    else:
        before *= 1 - training.holdout
    taken = training.gap + (training.rolling or timedelta(0))
    if before <= taken:
        raise ValueError(
            f"training.window {format_duration(training.window)} leaves nothing to validate on "
            f"beside the holdout, a gap of {format_duration(training.gap)} and folds that fit on "
            f"{format_duration(training.rolling) if training.rolling else 'all before'}; widen it"
        )


def _fits_chance(training: Training, split: str) -> None:
    given = {"holdout": training.holdout, "gap": training.gap or None, "rolling": training.rolling}
    spans = [name for name, value in given.items() if isinstance(value, timedelta)]
    if spans:
        way_out = "give a share like 0.2" if spans[0] == "holdout" else "leave it out"
        raise ValueError(
            f"training.{spans[0]} is a duration but the split is {split!r}, not by time; "
            f"name a time column, or {way_out}"
        )


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
