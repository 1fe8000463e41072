"""Results: what training found out, as plain values that travel between tasks."""

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
    fit_seconds, predict_seconds, cpu_seconds
        Sums over the folds.
    rows
        Rows predicted, all folds together.
    """

    name: CandidateName
    metric: str
    folds: tuple[FoldScore, ...]
    fit_seconds: float
    predict_seconds: float
    cpu_seconds: float
    rows: int

    @property
    def valid(self) -> float:
        """Mean metric over the validation folds."""
        return sum(f.valid for f in self.folds) / len(self.folds)

    @property
    def train(self) -> float:
        """Mean metric over the fitted rows."""
        return sum(f.train for f in self.folds) / len(self.folds)

    @property
    def spread(self) -> float:
        """Standard deviation of the metric over the validation folds."""
        mean = self.valid
        variance = sum((f.valid - mean) ** 2 for f in self.folds) / max(len(self.folds) - 1, 1)
        return float(variance**0.5)


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
