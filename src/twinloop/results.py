"""Results: what training found out, as plain values that travel between tasks."""

import math
import statistics
from typing import Self

from twinloop.evaluation import METRICS
from twinloop.intervals import corrected_error, t_interval
from twinloop.leakage import Finding
from twinloop.recipe import Recipe
from twinloop.verdict import Verdict
from twinloop.vocabulary import AnyCandidate, Frozen, Score
from twinloop.window import Window


class FoldScore(Frozen):
    """Metric of one fold on the rows fitted and on the rows held out, and how many these were.

    Attributes
    ----------
    power
        What probabilities were raised to before they were scored (see `twinloop.tempering`), fitted
        without the fold's rows.
    """

    train: Score
    valid: Score
    train_rows: int = 0
    valid_rows: int = 0
    power: float = 1.0


class Footprint(Frozen):
    """What a candidate takes, beside what it gives; measured, but for the size never twice alike.

    Attributes
    ----------
    batch_seconds, row_seconds
        Wall time to predict 1,000 rows in a batch, and a single row; medians of a few repeats.
    size_bytes
        Of the saved model's files.
    fit_cpu_seconds, fit_money
        CPU time of the folds' fits, and its price in the workload's currency.
    """

    batch_seconds: float
    row_seconds: float
    size_bytes: int
    fit_cpu_seconds: float
    fit_money: float


class Member(Frozen):
    """A candidate within an ensemble, its share of what is predicted, and its recipe if tuned.

    Attributes
    ----------
    power
        What its probabilities are raised to before they are averaged.
    """

    name: AnyCandidate
    weight: float
    recipe: Recipe | None = None
    power: float = 1.0


class CandidateResult(Frozen):
    """Cross-validation of one candidate.

    Attributes
    ----------
    fit_seconds, predict_seconds
        Sums over the folds.
    rows
        Rows predicted, all folds together.
    footprint
        None in boards written before it was measured.
    recipe
        What was fitted; None: the candidate as it is shipped.
    members
        Of an ensemble, the one with most weight first; empty for all others.
    pool
        All that an ensemble was chosen from, the best first.
    threads
        Cores that the fit of one fold could use; 0 where it was not written down.
    power
        What its probabilities would be raised to by all rows that the folds held out.
    """

    name: AnyCandidate
    metric: str
    folds: tuple[FoldScore, ...]
    fit_seconds: float
    predict_seconds: float
    rows: int
    footprint: Footprint | None = None
    recipe: Recipe | None = None
    members: tuple[Member, ...] = ()
    pool: tuple[Member, ...] = ()
    threads: int = 0
    power: float = 1.0

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
        known = self._known
        return statistics.stdev(known) if len(known) > 1 else 0.0

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over folds, corrected for the training rows they share.

        See `twinloop.intervals.corrected_error`. NaN with fewer than two folds.
        """
        return corrected_error(self._known, self.overlap)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean over folds; NaN twice with fewer than two."""
        return self.interval_at(self.overlap)

    def interval_at(self, overlap: float) -> tuple[float, float]:
        """Return the interval that another overlap of folds would give."""
        error, freedom = corrected_error(self._known, overlap), len(self._known) - 1
        return t_interval(self.valid, error, freedom, METRICS[self.metric].bounds)

    @property
    def gap(self) -> float:
        """How much better the metric is on fitted rows than on validation rows."""
        return METRICS[self.metric].gain(self.train, self.valid)

    @property
    def overfits(self) -> bool:
        """Whether the score on fitted rows lies beyond the interval of the validation score.

        The gap is then more than chance makes of a model that does as well on new rows: its
        training score says nothing of what to expect. That is a warning, no verdict; a forest
        that fits its rows by heart may still predict best (Belkin et al. 2019), and candidates
        are ranked by validation alone.
        """
        low, high = self.interval
        return self.gap > 0 and not low <= self.train <= high and not math.isnan(low)

    @property
    def _known(self) -> list[float]:
        return [f.valid for f in self.folds if not math.isnan(f.valid)]

    @property
    def overlap(self) -> float:
        """Validation rows to one fitted row; results without counts are taken for k even folds."""
        fitted = sum(f.train_rows for f in self.folds)
        if fitted == 0:
            return 1 / max(len(self.folds) - 1, 1)
        return sum(f.valid_rows for f in self.folds) / fitted


def _mean(values: list[float]) -> float:
    """Return the mean of the values there are: a fold with one class has no ROC AUC."""
    known = [v for v in values if not math.isnan(v)]
    return statistics.fmean(known) if known else math.nan


def gap_text(result: CandidateResult) -> str:
    """Spell the gap between fitted and validation rows, and whether it is wide."""
    return f"{result.gap:.2g}, wide" if result.overfits else f"{result.gap:.2g}"


def rank(results: list[CandidateResult]) -> tuple[CandidateResult, ...]:
    """Order candidates by their mean over the folds, the best first, those without one last."""

    def key(result: CandidateResult) -> tuple[bool, float]:
        value = result.valid
        return math.isnan(value), METRICS[result.metric].gain(0.0, value)

    return tuple(sorted(results, key=key))


class Choice(Frozen):
    """Which candidate is to serve, and why, in words.

    Attributes
    ----------
    nothing_learned
        Whether the baseline is within one standard error of the best.
    """

    winner: AnyCandidate
    reason: str
    nothing_learned: bool = False


class Leaderboard(Frozen):
    """All candidates, the best first, and which of them was chosen.

    Attributes
    ----------
    choice
        See `twinloop.choice.choose`; None: the best.
    currency
        Of what fits cost.
    seconds
        Wall time that the comparison took.
    notes
        What else there is to say of the candidates, in words: how tuning went, who was left out.
    """

    candidates: tuple[CandidateResult, ...]
    skipped: tuple[AnyCandidate, ...] = ()
    split: str = ""
    choice: Choice | None = None
    currency: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def winner(self) -> CandidateResult:
        """The candidate chosen, without a choice the one with the best mean over the folds."""
        if self.choice is None:
            return self.candidates[0]
        return next(c for c in self.candidates if c.name == self.choice.winner)

    @property
    def reason(self) -> str:
        """Why the winner was chosen, in words."""
        best = f"the best mean {self.winner.metric} over folds"
        return best if self.choice is None else self.choice.reason


class TrainingResult(Frozen):
    """What a training run ended with."""

    workload: str
    window: str
    version: str
    winner: AnyCandidate
    metric: str
    holdout: float
    verdict: Verdict
    champion: str
    run_id: str
    board: Leaderboard
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(
        cls,
        board: Leaderboard,
        verdict: Verdict,
        *,
        workload: str,
        window: Window | None,
        version: str,
        holdout: float,
        champion: str,
        run_id: str,
        findings: tuple[Finding, ...],
    ) -> Self:
        """Sum up a training, be it a search or a refresh: the board says by whom and what metric.

        Parameters
        ----------
        board, verdict, findings
            Who competed, how the winner was judged, and what was found of the rows.
        workload, window
            What was trained, and on which rows; None for all.
        version, champion
            The version made, and the one that serves now.
        holdout
            The winner's metric on it.
        run_id
            MLflow's.
        """
        return cls(
            workload=workload,
            window=str(window or "all"),
            version=version,
            winner=board.winner.name,
            metric=board.winner.metric,
            holdout=holdout,
            verdict=verdict,
            champion=champion,
            run_id=run_id,
            board=board,
            findings=findings,
        )
