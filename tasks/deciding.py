"""Deciding: whether a retraining refreshes the champion, searches anew, or waits."""

import logging
import math
from datetime import datetime, timedelta

from tasks.bookkeeping import read_bounds
from tasks.budgeting import tell_over
from tasks.choosing import choose_history
from tasks.continuing import choose_making
from tasks.earlier import earlier_runs
from tasks.metering import step
from tasks.refreshing import Refresh, made_by, prepare_refresh, probation, probe_refresh
from tasks.registry import ServedVersion
from tasks.tracking import TrackedRun
from twinloop.budget import Amounts, spent_limits
from twinloop.outlook import (
    Course,
    Hindrance,
    Outlook,
    PastTraining,
    expected_lead,
    expected_money,
    oldest_recipe,
    refused_in_a_row,
    set_course,
)
from twinloop.outlookplan import plan_course
from twinloop.patience import kept_for
from twinloop.refresh import HOW, History
from twinloop.verdict import Verdict
from twinloop.window import Window, as_utc
from twinloop.workload import Workload

# Older trainings tell nothing more.
_MOST = 200
progress = logging.getLogger("twinloop.progress")


def decide_course(
    workload: Workload,
    champion: ServedVersion | None,
    as_of: datetime,
    run: TrackedRun,
    trigger: str = "",
) -> tuple[Course, Refresh | None]:
    """Look at what a refresh would gain, and decide which way the retraining takes.

    Parameters
    ----------
    workload, champion
        What is trained, and what serves.
    as_of
        The moment the retraining is meant for, UTC.
    run
        The retraining.
    trigger
        What called for it, as a drift check names its cause; empty for a person.

    Returns
    -------
    tuple of (Course, Refresh or None)
        The refresh where there can be one, whichever way is taken.
    """
    if champion is None or workload.split != "time":
        why = "there is no champion to refresh" if champion is None else "rows have no order"
        return _told(Course(way="search", reason=why), None, run), None
    if workload.retraining.search == "always":
        return _told(Course(way="search", reason="retraining.search is always"), None, run), None
    prepared = _prepare(workload, champion, as_of, run)
    refresh = prepared if isinstance(prepared, Refresh) else None
    found: Verdict | Hindrance
    if isinstance(prepared, Hindrance):
        found = prepared
    else:
        run.rows = prepared.snapshot.rows
        refresh = choose_making(workload, prepared, run, trigger)
        found = probe_refresh(refresh)
    past = past_trainings(workload, as_of, run)
    outlook = _outlook(workload, champion, refresh, found, past, as_of)
    outlook = outlook.model_copy(update={"trigger": trigger})
    return _told(set_course(outlook, workload.retraining), outlook, run), refresh


def refuse_over_month(workload: Workload, run: TrackedRun) -> str:
    """Say which budget of the month is spent, so that no retraining starts; empty for none.

    What is refused is told as a training is that does not start. Asking what a refresh would bring
    costs some fits, too.
    """
    if workload.sandbox:
        return ""
    over = spent_limits(read_bounds(workload, "training"))
    if not over:
        return ""
    tell_over(workload, over, run, Amounts(), "no retraining starts", refused=True)
    words = (limit.words(Amounts(), workload.prices.currency) for limit in over)
    return f"the budget is spent: {' and '.join(words)}"


def searched_window(refresh: Refresh | None, own: Window | None) -> Window | None:
    """Return the rows of a search: as far back as was chosen, the workload's own where they age.

    What a search makes of old rows is its own affair: tuning looks for how fast they age, too. The
    history was chosen on rows before the refresh's holdout. As long as that is shorter than the
    search's own, some of them would be judged on again, so that nothing is taken over.
    """
    taken = refresh is not None and refresh.ripe and refresh.history.half_life is None
    return refresh.window if refresh is not None and taken else own


def searched_alike(refresh: Refresh | None) -> bool:
    """Tell whether a search would fit its winner as the refresh is fitted: anew, on its rows."""
    recipe = None if refresh is None else refresh.like.recipe
    grown = recipe is not None and recipe.continues is not None
    return not grown and searched_window(refresh, None) is not None


def _prepare(
    workload: Workload, champion: ServedVersion, as_of: datetime, run: TrackedRun
) -> Refresh | Hindrance:
    own = History(span=workload.training.window)
    holdout = probation(workload, champion, own, as_of)
    if isinstance(holdout, Hindrance):
        return holdout
    made = made_by(workload, champion)
    if isinstance(made, Hindrance):
        return made
    history = choose_history(workload, made, holdout, as_of, run)
    return prepare_refresh(workload, champion, made, history, as_of)


def _told(course: Course, outlook: Outlook | None, run: TrackedRun) -> Course:
    run.log(plan_course(course, outlook))
    progress.info("%s: %s", course.way, course.reason)
    return course


def _outlook(
    workload: Workload,
    champion: ServedVersion,
    refresh: Refresh | None,
    found: Verdict | Hindrance,
    past: list[PastTraining],
    as_of: datetime,
) -> Outlook:
    searches = [p for p in past if p.search]
    last = max(searches, key=lambda p: p.as_of) if searches else None
    # Of a history that was chosen longer there are more rows, and no more has come.
    own = refresh is not None and refresh.history.span == workload.training.window
    growth = refresh.snapshot.rows / last.rows if refresh and last and last.rows and own else 1.0
    training = workload.training
    holdout = training.holdout
    if not isinstance(holdout, timedelta):
        holdout = holdout * (training.window or timedelta(days=30))
    return Outlook(
        metric=workload.metric,
        currency=workload.prices.currency,
        expected=champion.score,
        ripe=refresh is not None and refresh.ripe,
        probe=found if isinstance(found, Verdict) else None,
        hindrance=found if isinstance(found, Hindrance) else None,
        tolerance=workload.monitoring.tolerance,
        age=as_of - last.as_of if last else None,
        oldest=oldest_recipe(workload.retraining, training.window),
        growth=growth,
        refused=refused_in_a_row(past),
        refused_since=refused_in_a_row(past, refreshes=True),
        alike=searched_alike(refresh),
        patience=holdout,
        settled=timedelta(0) if training.window is None else kept_for(training.window),
        lead=expected_lead(past),
        search_money=expected_money(past, search=True),
        refresh_money=expected_money(past, search=False),
    )


@step
def past_trainings(workload: Workload, as_of: datetime, run: TrackedRun) -> list[PastTraining]:
    """Read the trainings of this workload up to a time; within a replay, only those of it."""
    found = earlier_runs(workload, "training", run, limit=_MOST)
    past = [
        PastTraining(
            as_of=as_utc(datetime.fromisoformat(r.data.tags["twinloop.as_of"])),
            search=r.data.tags.get(HOW) != "refresh",
            promoted=r.data.tags.get("twinloop.verdict") == "promote",
            lead=r.data.metrics.get("search/lead"),
            rows=int(r.data.metrics.get("time/rows", 0.0)),
            money=r.data.metrics.get("cost/money_total", 0.0)
            if r.data.tags.get("twinloop.currency") == workload.prices.currency
            else math.nan,
        )
        for r in found
    ]
    return [p for p in past if p.as_of <= as_of]
