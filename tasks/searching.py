"""Searching: trials run side by side, fold by fold, until a budget ends the search."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise

import numpy as np
from threadpoolctl import threadpool_limits

from tasks.metering import Meter
from tasks.studies import Proposal, TrialStudy
from tasks.validating import share_cores
from twinloop.costs import Quantities, bill, price
from twinloop.evaluation import METRICS
from twinloop.recipe import Recipe
from twinloop.search_space import recipe_of
from twinloop.tuning import Ending, Limits, State, Trial, hopeless, mean_losses, stages
from twinloop.validation import LabelledRows, score_fold
from twinloop.vocabulary import TunableName
from twinloop.workload import Workload

# So many trials are proposed at a time on any machine of no more cores: what is found then does not
# hang on how many there are.
_FEWEST_AT_A_TIME = 4
_LONGEST_ERROR = 500


@dataclass(frozen=True)
class Job:
    """What all trials of a search share.

    Attributes
    ----------
    rows, folds
        What is fitted, and what is held out: pairs of row numbers.
    span
        Time that the fitted rows span; None without time.
    limits
        Of the search, over all processes that have a part in it.
    until
        When the training as a whole has had its time, on the clock of `time.monotonic`.
    parent
        MLflow's id of the run that the trials are parts of.
    spent
        Tells whether the training has used what it may.
    kept_back
        Seconds before `until` that are left for what is found to be cross-validated, or as many as
        the best trial took if that is more.
    """

    workload: Workload
    candidate: TunableName
    rows: LabelledRows
    folds: tuple[tuple[np.ndarray, np.ndarray], ...]
    span: timedelta | None
    limits: Limits
    until: float
    parent: str
    spent: Callable[[], bool] = lambda: False
    kept_back: float = 0.0

    @property
    def overlap(self) -> float:
        """Validation rows to one fitted row."""
        return sum(len(v) for _, v in self.folds) / sum(len(t) for t, _ in self.folds)


@dataclass
class _Running:
    """A trial that has not ended."""

    proposal: Proposal
    recipe: Recipe
    started: float
    scores: list[float] = field(default_factory=list)
    seconds: float = 0.0
    used: Quantities = field(default_factory=Quantities)
    peak_bytes: int = 0
    stopped: bool = False
    error: str = ""


@dataclass(frozen=True)
class _Fit:
    """What came of one fold of a trial; None: there was no time for it."""

    score: float | None
    seconds: float
    error: str = ""


class Searcher:
    """Runs the trials of one search.

    Parameters
    ----------
    job
        What they share.
    study
        Proposes values, and keeps what came of them.
    meter
        Of the run they are parts of; what they use is taken off its own bill.
    ended
        Called with each trial that has ended.
    """

    def __init__(
        self, job: Job, study: TrialStudy, meter: Meter, ended: Callable[[Trial], None]
    ) -> None:
        self._job, self._study, self._meter, self._ended = job, study, meter, ended
        self._interrupted = threading.Event()
        self._counted = sum(t.counts for t in study.trials)
        self._money = sum(t.money for t in study.trials)
        before = max((t.spent for t in study.trials), default=0.0)
        # As if the search had begun here, had nothing interrupted it.
        self._began = time.monotonic() - before
        self._stage_cpu = time.process_time()

    def run(self, tell: Callable[[float], None]) -> Ending:
        """Try values until a budget is spent, and return which; `tell` is told how far it is."""
        job = self._job
        at_a_time = max(_FEWEST_AT_A_TIME, share_cores(10**6, job.rows.matrix.X.nbytes)[0])
        workers, threads = share_cores(at_a_time, job.rows.matrix.X.nbytes)
        # OpenMP's limit is each thread's own.
        limit = {"initializer": threadpool_limits, "initargs": (threads, "openmp")}
        with threadpool_limits(threads), ThreadPoolExecutor(workers, **limit) as pool:
            try:
                while (ending := self._ending()) is None:
                    n = min(at_a_time, job.limits.trials - self._counted)
                    self._try(self._study.ask(n), pool, threads, tell)
            except BaseException:
                self._interrupted.set()
                raise
        return ending

    def _ending(self, running: float = 0.0) -> Ending | None:
        spent = (self._counted, time.monotonic() - self._began, self._money + running)
        if time.monotonic() >= self._job.until - self._kept_back() or self._job.spent():
            return "budget"
        return self._job.limits.ending(*spent)

    def _kept_back(self) -> float:
        best = self._best()
        return max(self._job.kept_back, best.seconds if best else 0.0)

    def _no_more(self) -> bool:
        """Tell whether no further fold is to be fitted, of the trials that run."""
        if self._interrupted.is_set():
            return True
        cpu = time.process_time() - self._stage_cpu
        ending = self._ending(bill(0.0, cpu, 0, self._job.workload.prices).money)
        return ending not in (None, "trials")

    def _try(
        self,
        proposals: list[Proposal],
        pool: ThreadPoolExecutor,
        threads: int,
        tell: Callable[[float], None],
    ) -> None:
        job = self._job
        running = [
            _Running(p, recipe_of(job.candidate, p.values, job.workload, job.span), time.time())
            for p in proposals
        ]
        for start, end in pairwise((0, *stages(len(job.folds)))):
            self._fit(running, range(start, end), pool, threads)
            # All are judged before any is written down: their order is to make no difference.
            states = [self._state(trial, running) for trial in running]
            for trial, state in zip(running, states, strict=True):
                if state is not None:
                    self._end(trial, state)
            running = [r for r, state in zip(running, states, strict=True) if state is None]
            tell(job.limits.share(self._counted, time.monotonic() - self._began, self._money))

    def _fit(
        self, running: list[_Running], folds: range, pool: ThreadPoolExecutor, threads: int
    ) -> None:
        """Fit some folds of all trials, and share out among them what that took."""
        units = [(trial, i) for trial in running for i in folds]
        if not units:  # all are given up: nothing is handed over that no trial would pay for
            return
        wall, self._stage_cpu = time.perf_counter(), time.process_time()
        before = self._meter.own()
        done = list(pool.map(lambda unit: self._fit_fold(*unit, threads=threads), units))
        wall = time.perf_counter() - wall
        used, peak = self._meter.hand_over(wall, before)
        total = sum(fit.seconds for fit in done)
        for (trial, _), fit in zip(units, done, strict=True):
            # Where there was no time for any, all were equally in vain.
            share = fit.seconds / total if total else 1 / len(done)
            trial.seconds += wall * share
            trial.used += used.times(share)
            trial.peak_bytes = max(trial.peak_bytes, peak)
            trial.error = trial.error or fit.error
            if fit.score is None:
                trial.stopped = True
            elif not trial.stopped and not trial.error:
                trial.scores.append(fit.score)

    def _fit_fold(self, trial: _Running, number: int, *, threads: int) -> _Fit:
        if self._no_more():
            return _Fit(None, 0.0)
        job, start = self._job, time.perf_counter()
        try:
            score = score_fold(job.rows, trial.recipe, *job.folds[number], threads=threads)
        except Exception as err:  # noqa: BLE001 - values that an estimator refuses are no good
            said = f"{type(err).__name__}: {err}"[:_LONGEST_ERROR]
            return _Fit(math.nan, time.perf_counter() - start, said)
        return _Fit(score, time.perf_counter() - start)

    def _state(self, trial: _Running, beside: list[_Running]) -> State | None:
        """Return how a trial ends here; None: it goes on."""
        if trial.error:
            return "failed"
        if trial.stopped:
            return "stopped"
        if len(trial.scores) == len(self._job.folds):
            return "complete"
        done = self._study.trials
        others = [t.scores for t in done if t.counts]
        others += [tuple(r.scores) for r in beside if r is not trial]
        best = self._best()
        own, rest = self._losses(trial.scores), [self._losses(o) for o in others]
        against = self._losses(best.scores) if best else []
        return "pruned" if hopeless(own, rest, against, self._job.overlap) else None

    def _best(self) -> Trial | None:
        """Return the best trial so far of those that saw all folds."""
        return min(
            (t for t in self._study.trials if t.state == "complete"),
            key=lambda t: (mean_losses(self._losses(t.scores))[-1], t.number),
            default=None,
        )

    def _losses(self, scores: Sequence[float]) -> list[float]:
        gain = METRICS[self._job.workload.metric].gain
        return [gain(0.0, score) for score in scores]

    def _end(self, running: _Running, state: State) -> None:
        """Tell the study of a trial that has ended: from here on a kill does not lose it."""
        prices, energy = self._job.workload.prices, self._meter.energy
        money = price(running.used, prices, measured=bool(energy)).money
        trial = Trial(
            number=len(self._study.trials),
            source=running.proposal.source,
            values=running.proposal.values,
            recipe=running.recipe,
            scores=tuple(running.scores),
            state=state,
            seconds=running.seconds,
            cpu_seconds=running.used.cpu_seconds,
            used=running.used,
            energy=energy,
            peak_bytes=running.peak_bytes,
            money=money,
            started=running.started,
            ended=time.time(),
            spent=time.monotonic() - self._began,
            parent=self._job.parent,
            error=running.error,
        )
        self._counted += trial.counts
        self._money += money
        self._study.tell(running.proposal, trial, mean_losses(self._losses(trial.scores)))
        self._ended(trial)
