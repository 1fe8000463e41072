"""Refreshing: the champion's recipe on newer rows, asked what it gains before it is paid for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import model_serializer

from tasks.ensembling import cross_validate_again
from tasks.fitting import fit_judged
from tasks.judging import fresh_rows, pair_models
from tasks.metering import step
from tasks.preparing import Snapshot, prepare_snapshot, training_window
from tasks.provenance import recall
from tasks.registry import ServedVersion, load_version
from tasks.settings import threads_for
from tasks.validating import open_study
from twinloop.continuation import continuation_words, plain_recipe, refitted_result
from twinloop.contract import check_rows
from twinloop.errors import ColumnError, EmptyWindowError, TargetError
from twinloop.outlook import Hindrance
from twinloop.recipe import Recipe
from twinloop.refresh import (
    History,
    aged,
    aged_result,
    refresh_holdout,
    refresh_words,
    refresh_workload,
)
from twinloop.results import CandidateResult, Choice, Leaderboard
from twinloop.validation import times_of
from twinloop.verdict import Verdict, compare
from twinloop.vocabulary import Frozen
from twinloop.window import Window
from twinloop.workload import Workload

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Made(Frozen):
    """What a champion was made by, to be fitted again.

    Attributes
    ----------
    winner
        What was fitted, members of an ensemble included.
    recipe
        What stands for it where one fit has to do: with as many trees as it has, and its rows not
        aged by a history.
    history
        Which rows it was fitted on, if it was a refresh.
    """

    winner: CandidateResult
    recipe: Recipe
    history: History | None = None


class Refresh(Frozen):
    """A handle to a refresh that has not been made yet.

    Attributes
    ----------
    champion
        Whose recipe it is.
    history
        Which rows are fitted.
    workload
        As the refresh is trained: its window, its holdout, no search.
    snapshot, window
        The rows there are, and those asked for.
    like
        What is fitted, as it once won.
    new_rows, new
        How many rows, and what time, lie after the champion's last.
    own_holdout
        What a search would hold out.
    """

    champion: ServedVersion
    history: History
    workload: Workload
    snapshot: Snapshot
    window: Window
    like: CandidateResult
    new_rows: int
    new: timedelta
    own_holdout: timedelta | float

    @property
    def ripe(self) -> bool:
        """Whether more that is new would make the holdout no longer."""
        training = self.workload.training
        own = self.own_holdout
        longest = own if isinstance(own, timedelta) else own * (training.window or self.new)
        return isinstance(training.holdout, timedelta) and training.holdout >= longest

    @property
    def priced(self) -> Workload:
        """The workload as budgets know it: one candidate, so that searches foretell nothing."""
        training = self.workload.training.model_copy(update={"candidates": (self.like.name,)})
        return self.workload.model_copy(update={"training": training})

    @property
    def words(self) -> str:
        """Say what it is."""
        words, recipe = refresh_words(self.champion.version, self.history), self.like.recipe
        if recipe is None or recipe.continues is None:
            return words
        return f"{words}, continued by {continuation_words(recipe.continues)}"

    @model_serializer
    def _told(self) -> str:
        """Say it where it is a parameter of a flow: it never leaves the process it was made in."""
        return f"{self.words}, {self.window}, {self.snapshot.rows:,} rows"


def history_window(workload: Workload, history: History, as_of: datetime) -> Window:
    """Return the newest labelled rows of a history."""
    training = workload.training.model_copy(update={"window": history.span})
    window = training_window(workload.model_copy(update={"training": training}), as_of)
    assert window is not None  # noqa: S101 - a workload with time has windows
    return window


@step
def made_by(workload: Workload, champion: ServedVersion) -> Made | Hindrance:
    """Return what the champion was made by, as it would be fitted again."""
    found = recall(champion)
    if found is None:
        words = f"the record of what {champion.label} was made by cannot be read"
        return Hindrance(words=words, lasting=True)
    predictor = load_version(champion, workload.trusted).scorer.predictor
    winner, recipe = refitted_result(found.winner), plain_recipe(found.winner, predictor)
    recipe = aged(recipe, History(span=None), found.history)
    return Made(winner=winner, recipe=recipe, history=found.history)


def probation(
    workload: Workload, champion: ServedVersion, history: History, as_of: datetime
) -> timedelta | Hindrance:
    """Return how long the holdout of a refresh may be, by the calendar alone: nothing is read."""
    window = history_window(workload, history, as_of)
    new = _since(champion.until or 0, window)
    found = refresh_holdout(workload, window.end - window.start, new)
    return _too_new(champion, new) if found is None else found


@step
def prepare_refresh(
    workload: Workload, champion: ServedVersion, made: Made, history: History, as_of: datetime
) -> Refresh | Hindrance:
    """Prepare the rows of a refresh; or say why there is none to be made yet.

    Parameters
    ----------
    workload
        One with time: without, no row is newer than another.
    champion, made
        The version that serves, and what it was made by.
    history
        Which rows to fit.
    as_of
        The moment it is meant for, UTC.
    """
    window, until = history_window(workload, history, as_of), champion.until or 0
    span = window.end - window.start
    held = refresh_holdout(workload, span, _since(until, window))
    if held is None:
        return _too_new(champion, _since(until, window))
    if history.span is not None:
        # What judges comes on top: both models, judged and served, are fitted on the whole history.
        window = Window(start=window.start - held, end=window.end)
    snapshot = prepare_snapshot(workload, window)
    times = times_of(snapshot.table(), workload)
    assert times is not None  # noqa: S101 - as above
    if len(times) == 0:
        return _too_new(champion, timedelta(0))
    new = timedelta(microseconds=max(int(times.max()) - until, 0))
    holdout = refresh_holdout(workload, span, new)
    if holdout is None:
        return _too_new(champion, new)
    # Where the history is shorter than what is new, as many a day as there are in it.
    reach = max(timedelta(microseconds=int(np.ptp(times))) + _rounding(times), _MICROSECOND)
    new_rows = round(int((times > until).sum()) * max(new / reach, 1.0))
    needed = workload.retraining.min_new_rows
    if new_rows < needed:
        words = f"{new_rows} labelled rows are newer than {champion.label}; {needed} wanted"
        return Hindrance(words=words)
    return Refresh(
        champion=champion,
        history=history,
        workload=refresh_workload(workload, window, holdout),
        snapshot=snapshot,
        window=window,
        like=aged_result(made.winner, history, made.history),
        new_rows=new_rows,
        new=new,
        own_holdout=workload.training.holdout,
    )


def _since(until: int, window: Window) -> timedelta:
    """Return the time from a champion's last row to the end of a window."""
    return max(window.end - (_EPOCH + timedelta(microseconds=until)), timedelta(0))


def _rounding(times: np.ndarray) -> timedelta:
    """Return the usual time between rows: each stands for the time until the next."""
    return (
        timedelta(microseconds=int(np.median(np.diff(times)))) if len(times) > 1 else _MICROSECOND
    )


def _too_new(champion: ServedVersion, new: timedelta) -> Hindrance:
    days = new / timedelta(days=1)
    return Hindrance(
        words=f"{days:.3g} days of labelled rows are newer than {champion.label}: "
        "half of them would be too few to judge on"
    )


@step
def probe_refresh(refresh: Refresh) -> Verdict | Hindrance:
    """Fit the champion's recipe on newer rows once, and compare the two on rows neither has seen.

    That is the verdict's first check and the price of one fit. Where it does not pass the verdict
    could not either, and nothing more is spent. Probabilities are calibrated by the champion's
    rule: a refresh has none of its own yet.
    """
    workload, champion = refresh.workload, refresh.champion
    try:
        study = open_study(workload, refresh.snapshot)
    except (EmptyWindowError, TargetError) as err:
        # So short a holdout may have none of the rows that it needs: more that is new brings them.
        return Hindrance(words=f"these rows cannot be split for a refresh: {err.message}")
    old = load_version(champion, workload.trusted)
    if old.scorer.target.classes != study.target.classes:
        return Hindrance(words=f"classes were {old.scorer.target.classes}", lasting=True)
    rows = fresh_rows(study.table, study.split.holdout, champion, workload)
    fresh = study.table.take(pa.array(rows, pa.int64()))
    try:
        checked = check_rows(fresh, old.contract)
    except ColumnError as err:
        words = f"the champion cannot read these rows: {err.message}"
        return Hindrance(words=words, lasting=True)
    kept = np.flatnonzero(checked.kept)
    if len(kept) == 0:
        return Hindrance(words="no rows that neither has seen")
    fresh = fresh.take(pa.array(kept))
    fitted = fit_judged(
        workload, refresh.snapshot, refresh.like, threads=threads_for(refresh.snapshot.rows)
    )
    new = replace(fitted, rule=old.scorer.rule).predict(fresh)
    y = study.target.encode(fresh.column(study.target.name))
    pairing = pair_models(fresh, y, old.scorer.predict(checked.good), new, workload)
    rules = workload.retraining
    return compare(pairing, min_rows=rules.min_rows, margin=rules.margin)


@step
def validate_refresh(refresh: Refresh, work: Path) -> Leaderboard:
    """Cross-validate what the refresh fits, and nothing beside it.

    What the folds predict teaches calibration, threshold and the reference profile.
    """
    workload = refresh.workload
    result = cross_validate_again(workload, refresh.snapshot, refresh.like, work)
    return Leaderboard(
        candidates=(result,),
        split=open_study(workload, refresh.snapshot).split.description,
        choice=Choice(winner=result.name, reason=f"{refresh.words}: its recipe, no search"),
        currency=workload.prices.currency,
        seconds=result.fit_seconds + result.predict_seconds,
    )
