"""Results: what training found out, as plain values that travel between tasks."""

import math
import statistics

from twinloop.evaluation import METRICS
from twinloop.leakage import Finding
from twinloop.verdict import Verdict
from twinloop.workload import CandidateName, Frozen


class FoldScore(Frozen):
    """Metric of one fold on the rows fitted and on the rows held out."""

    train: float
    valid: float


class CandidateResult(Frozen):
    """Cross-validation of one candidate.

    Attributes
    ----------
    fit_seconds, predict_seconds
        Sums over the folds.
    rows
        Rows predicted, all folds together.
    """

    name: CandidateName
    metric: str
    folds: tuple[FoldScore, ...]
    fit_seconds: float
    predict_seconds: float
    rows: int

    @property
    def valid(self) -> float:
        """Mean metric over the validation folds that have one."""
        return _mean([f.valid for f in self.folds])

    @property
    def train(self) -> float:
        """Mean metric over the fitted rows."""
        return _mean([f.train for f in self.folds])

    @property
    def spread(self) -> float:
        """Standard deviation of the metric over the validation folds; 0 with fewer than two."""
        known = [f.valid for f in self.folds if not math.isnan(f.valid)]
        return statistics.stdev(known) if len(known) > 1 else 0.0


def _mean(values: list[float]) -> float:
    """Return the mean of the values there are: a fold with one class has no ROC AUC."""
    known = [v for v in values if not math.isnan(v)]
    return statistics.fmean(known) if known else math.nan


def rank(results: list[CandidateResult]) -> tuple[CandidateResult, ...]:
    """Order candidates by their mean over the folds, the best first, those without one last."""

    def key(result: CandidateResult) -> tuple[bool, float]:
        value = result.valid
        return math.isnan(value), METRICS[result.metric].gain(0.0, value)

    return tuple(sorted(results, key=key))


class Leaderboard(Frozen):
    """All candidates, the best first."""

    candidates: tuple[CandidateResult, ...]
    skipped: tuple[CandidateName, ...] = ()
    split: str = ""

    @property
    def winner(self) -> CandidateResult:
        """The candidate with the best mean over the folds."""
        return self.candidates[0]


class TrainingResult(Frozen):
    """What a training run ended with."""

    workload: str
    window: str
    version: str
    winner: CandidateName
    metric: str
    holdout: float
    verdict: Verdict
    champion: str
    run_id: str
    board: Leaderboard
    findings: tuple[Finding, ...] = ()
