"""The words of workload files, and of runs: tasks, metrics, candidates, checks, kinds."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

Task = Literal["regression", "binary", "multiclass"]
Kind = Literal["number", "boolean", "category", "timestamp"]
# The jobs of both loops, each with a run in MLflow and a bill.
RunKind = Literal[
    "preparation",
    "training",
    "candidate",
    "tuning",
    "trial",
    "inference",
    "monitoring",
    "retraining",
    "promotion",
    "reproduction",
    "replay",
]
RUN_KINDS: tuple[RunKind, ...] = get_args(RunKind)
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
ChoiceRule = Literal["best", "cheapest"]
# A fold may have no score: NaN, which JSON has no word for but null.
Score = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]

METRICS_BY_TASK: dict[Task, tuple[str, ...]] = {
    "regression": ("rmse", "mae", "rmsle", "r2"),
    "binary": ("roc_auc", "log_loss", "brier", "accuracy", "macro_f1"),
    "multiclass": ("log_loss", "accuracy", "macro_f1"),
}


class Frozen(BaseModel):
    """A value that nothing can change and that knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
