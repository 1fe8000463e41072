"""Studies: what Optuna proposes, and the file that finished trials are kept in.

Trials run in memory, and each is written down once, when it has ended: one line, one sync to disk.
A process that is killed loses the trials it was running, and no other. The file is Optuna's own
journal; its dashboard can open it.
"""

import fcntl
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks import storage
from twinloop.recipe import NATIVE_CATEGORIES
from twinloop.search_space import Range, Value, default_values, native_values
from twinloop.tuning import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_ABOUT = "twinloop"
_STARTUP = 8
_KEPT = 20
_MOMENT = 0.2


class TrialStudy:
    """The trials of one search: asks for values, and remembers what came of them.

    Parameters
    ----------
    path
        The file, made where it is missing.
    space
        What is searched.
    seed
        With the number of trials that have ended it seeds each proposal, so that a search that
        was interrupted goes on as if it had not been.
    """

    def __init__(self, path: Path, space: tuple[Range, ...], seed: int) -> None:
        optuna = _optuna()
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self._space, self._seed = space, seed
        self._distributions = {r.name: _distribution(r) for r in space}
        with storage.writing(path):
            _cut_torn_line(path)
            lock: Any = _NoLock()
            backend = JournalFileBackend(str(path), lock_obj=lock)
            self._file = optuna.create_study(
                storage=JournalStorage(backend), study_name=path.stem, load_if_exists=True
            )
        self._memory = optuna.create_study()
        kept = self._file.get_trials(deepcopy=False)
        self._memory.add_trials(kept)
        self.trials = [Trial.model_validate_json(t.user_attrs[_ABOUT]) for t in kept]
        self.resumed = len(self.trials)

    def propose(self, known: Sequence[tuple[str, dict[str, Value]]]) -> None:
        """Have some values tried first, each with its source, unless they were tried before."""
        tried = [t.values for t in self.trials if t.counts]
        for source, values in known:
            if values not in tried:
                tried.append(values)
                self._memory.enqueue_trial(values, user_attrs={"source": source})

    def ask(self, n: int) -> list["Proposal"]:
        """Propose the values of the next trials."""
        native = native_values(self._space)
        # Not among the first: where few can be tried, other settings matter more.
        if self.trials and native is not None:
            self.propose([("categories", native)])
        self._memory.sampler = self._sampler()
        return [Proposal(self._memory.ask(self._distributions)) for _ in range(n)]

    def _sampler(self) -> Any:
        from optuna.samplers import PartialFixedSampler, TPESampler

        seed = np.random.SeedSequence([self._seed, len(self.trials)]).generate_state(1)[0]
        proposing = TPESampler(
            seed=int(seed), multivariate=True, constant_liar=True, n_startup_trials=_STARTUP
        )
        native = native_values(self._space)
        if native is None:
            return proposing
        # One trial says it: to have each say it anew took from all others what is gained.
        codes, categories = self._losses(default_values(self._space)), self._losses(native)
        folds = max(codes.keys() & categories.keys(), default=None)
        better = folds is not None and categories[folds] < codes[folds]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has been on trial since 2021
            return PartialFixedSampler({NATIVE_CATEGORIES: int(better)}, proposing)

    def _losses(self, values: dict[str, Value]) -> dict[int, float]:
        """Return the mean losses of a trial after one fold, after two, and so on."""
        found: dict[int, float] = {}
        for trial in self._memory.get_trials(deepcopy=False):
            if trial.state.is_finished() and trial.params == values:
                found = trial.intermediate_values
        return found

    def tell(self, proposal: "Proposal", trial: Trial, losses: Sequence[float]) -> None:
        """Learn from a trial that has ended, and write it down.

        Parameters
        ----------
        proposal, trial
            What was tried, and what came of it.
        losses
            Mean loss after one fold, after two, and so on, smaller is better.
        """
        from optuna.trial import TrialState

        for step, loss in enumerate(losses, 1):
            if np.isfinite(loss):
                proposal.trial.report(loss, step)
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        state = states.get(trial.state, TrialState.FAIL)
        whole = state == TrialState.COMPLETE and bool(np.isfinite(losses[-1]))
        if not whole and state == TrialState.COMPLETE:
            state = TrialState.FAIL  # no fold has a score
        proposal.trial.set_user_attr(_ABOUT, trial.model_dump_json())
        ended = self._memory.tell(
            proposal.trial, losses[-1] if whole else None, state=state, skip_if_finished=False
        )
        self._file.add_trial(ended)
        self.trials.append(trial)

    def importance(self) -> dict[str, float]:
        """Return the share of each setting in what the trials' scores differ by; {} of too few."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
        from optuna.trial import TrialState

        whole = [t for t in self._memory.trials if t.state == TrialState.COMPLETE]
        if len(whole) < 2 * len(self._space) or len({t.value for t in whole}) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = PedAnovaImportanceEvaluator()
            return dict(get_param_importances(self._memory, evaluator=evaluator))


class Proposal:
    """Values to try."""

    def __init__(self, trial: Any) -> None:
        self.trial = trial
        self.values: dict[str, Value] = dict(trial.params)
        self.source: Any = trial.user_attrs.get("source", "search")


@contextmanager
def locked(path: Path, until: float) -> Iterator[bool]:
    """Hold a file for this process alone; the kernel lets go of it if the process dies.

    Parameters
    ----------
    path
        Of the file, made where it is missing.
    until
        When to stop waiting for another process, on the clock of `time.monotonic`.

    Yields
    ------
    bool
        Whether it is held.
    """
    with storage.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        yield _lock(handle, until)
    finally:
        os.close(handle)


def _lock(handle: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_MOMENT)
        else:
            return True


def forget_old(folder: Path) -> None:
    """Remove the files of all but the latest searches."""
    files = sorted(folder.glob("*.log"), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in files[_KEPT:]:
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)


def _cut_torn_line(path: Path) -> None:
    """Cut off what a power failure left of the last line; what follows would be lost with it."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)


def _distribution(r: Range) -> "BaseDistribution":
    from optuna.distributions import FloatDistribution, IntDistribution

    if r.whole:
        return IntDistribution(int(r.low), int(r.high), log=r.log)
    return FloatDistribution(r.low, r.high, log=r.log)


class _NoLock:
    """A lock that locks nothing: the whole search holds one already.

    Optuna's own are left behind by a process that is killed, and block the next for half a minute.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


def _optuna() -> Any:
    """Import Optuna, which says on standard error what we say elsewhere."""
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    return optuna
