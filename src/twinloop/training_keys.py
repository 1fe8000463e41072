"""The keys of a workload file on training."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    JsonValue,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from twinloop.errors import nearest
from twinloop.vocabulary import (
    CANDIDATE_NAMES,
    ENSEMBLE,
    AnyCandidate,
    ChoiceRule,
    Frozen,
    Level,
    OwnName,
    TunableName,
)
from twinloop.window import Duration, format_duration

# Types a model file may name: dotted, as skops spells them.
TypeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
_DOTTED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
# Where seconds or money are to end a search; more trials gain little.
_MOST_TRIALS = 100


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


def refuse_misfit_by_time(training: Training) -> None:
    """Refuse keys that make no sense where rows are divided by time."""
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


def refuse_misfit_by_chance(training: Training, split: str) -> None:
    """Refuse keys that make no sense where rows are divided by chance."""
    given = {"holdout": training.holdout, "gap": training.gap or None, "rolling": training.rolling}
    spans = [name for name, value in given.items() if isinstance(value, timedelta)]
    if spans:
        way_out = "give a share like 0.2" if spans[0] == "holdout" else "leave it out"
        raise ValueError(
            f"training.{spans[0]} is a duration but the split is {split!r}, not by time; "
            f"name a time column, or {way_out}"
        )
