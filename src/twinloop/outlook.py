"""Outlook: what a retraining may bring and cost, and which of its three ways is taken."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from twinloop.decision import NEW_LABELS, REACHED
from twinloop.evaluation import METRICS
from twinloop.loop_keys import Retraining
from twinloop.patience import doubled
from twinloop.results import Leaderboard
from twinloop.verdict import Verdict
from twinloop.vocabulary import AnyCandidate, Frozen
from twinloop.window import format_duration

Way = Literal["refresh", "search", "wait"]

# What a search saves where none has shown it yet, and how many searches that counts for.
_PRIOR_LEAD = 0.01
_PRIOR_WEIGHT = 2
# A recipe older than so many windows was found on rows that it is not fitted on any more.
_WINDOWS = 2
# Nor was one found on so much less: more rows carry a larger model.
_GROWTH = 2.0
# Where no recipe gets too old a search waits no longer than this: every season has come by then.
_LONGEST = timedelta(days=366)


class Hindrance(Frozen):
    """Why there is no refresh; `lasting` where waiting for more rows would not help."""

    words: str
    lasting: bool = False


class PastTraining(Frozen):
    """One training of the past.

    Attributes
    ----------
    as_of
        The moment it was meant for, UTC.
    search
        Whether candidates competed; else it was a refresh.
    promoted
        Whether it became champion.
    lead
        Share of the error that the winner saved over the champion's recipe, on the same folds; None
        where that did not take part.
    rows
        It was fitted and judged on.
    money
        In all.
    """

    as_of: datetime
    search: bool
    promoted: bool
    lead: float | None
    rows: int
    money: float


class Outlook(Frozen):
    """What is known before the price of a retraining is paid.

    Attributes
    ----------
    metric, currency
        Of what follows.
    expected
        What the champion's holdout promised.
    ripe
        Whether enough is new for as long a holdout as the workload's own.
    probe
        Champion against refresh on rows that neither has seen; None where there was no refresh.
    hindrance
        Why there is no refresh; None where there is one.
    tolerance
        The rise of the error that may pass, as a share (``monitoring.tolerance``).
    age, oldest
        Of the last search, and how old it may be; None where that is unknown or does not matter.
    growth
        Rows there are now to a row of the last search.
    refused
        Searches that the verdict refused, the last ones in a row.
    refused_since
        Those of them since anything was promoted, be it a refresh.
    patience
        How long a search waits for the one before it, where a refresh is out of the question or
        does not mend harm.
    settled
        How long at least in the latter case: a search chooses on rows of which most are those of
        the one before, and is likely to choose the same.
    alike
        Whether the winner of a search would be fitted as the refresh is: anew, on the same rows.
    lead
        Share of the error that a search is expected to save over a refresh.
    search_money, refresh_money
        What each is expected to cost; None where none has been paid yet.
    trigger
        What called for the retraining, as a `twinloop.decision.Decision` names its cause; empty for
        a person.
    """

    metric: str
    currency: str
    expected: float
    ripe: bool
    probe: Verdict | None
    hindrance: Hindrance | None
    tolerance: float
    age: timedelta | None
    oldest: timedelta | None
    growth: float
    refused: int
    patience: timedelta
    lead: float
    search_money: float | None
    refresh_money: float | None
    settled: timedelta = timedelta(0)
    refused_since: int = 0
    alike: bool = False
    trigger: str = ""

    @property
    def harm(self) -> float | None:
        """Share by which the champion's error on fresh rows exceeds what its holdout promised."""
        now = None if self.probe is None else self.probe.champion
        return None if now is None else _rise(self.metric, self.expected, now)

    @property
    def left(self) -> float | None:
        """The same share of the refresh's error."""
        now = None if self.probe is None else self.probe.challenger
        return None if now is None else _rise(self.metric, self.expected, now)

    @property
    def saved(self) -> float | None:
        """Share of the champion's error that the refresh saves on fresh rows."""
        probe = self.probe
        if probe is None or probe.gain is None or probe.champion is None:
            return None
        return probe.gain / max(METRICS[self.metric].distance(probe.champion), 1e-12)


def _rise(metric: str, expected: float, now: float) -> float:
    found = METRICS[metric]
    return found.gain(expected, now) / max(found.distance(expected), 1e-12)


class Course(Frozen):
    """Which way a retraining takes, and why.

    Attributes
    ----------
    way
        Refresh, search, or wait.
    reason
        In words.
    put_off
        Whether it waits only for rows that are to come, so that the call for it stands.
    """

    way: Way
    reason: str
    put_off: bool = False


def lead_over(board: Leaderboard, name: AnyCandidate) -> float | None:
    """Return the share of a candidate's error that the winner of a board saves, on the same folds.

    None where the candidate did not compete, or has no score.
    """
    other = next((c for c in board.candidates if c.name == name), None)
    if other is None:
        return None
    metric = METRICS[other.metric]
    share = metric.gain(board.winner.valid, other.valid) / max(metric.distance(other.valid), 1e-12)
    return None if math.isnan(share) else share


def expected_lead(past: Sequence[PastTraining]) -> float:
    """Return the share of the error that a search is expected to save over a refresh.

    The mean of what searches of the past saved, drawn towards a prior that counts for two of them:
    one lucky search is no reason for the next.
    """
    leads = [max(p.lead, 0.0) for p in past if p.search and p.lead is not None]
    return (sum(leads) + _PRIOR_WEIGHT * _PRIOR_LEAD) / (len(leads) + _PRIOR_WEIGHT)


def expected_money(past: Sequence[PastTraining], *, search: bool) -> float | None:
    """Return what the last three trainings of a kind cost on average; None before the first.

    Of one that is billed in another currency the money is NaN: it tells nothing.
    """
    alike = [p for p in sorted(past, key=lambda p: p.as_of) if p.search is search]
    paid = [p.money for p in alike if not math.isnan(p.money)][-3:]
    return sum(paid) / len(paid) if paid else None


def refused_in_a_row(past: Sequence[PastTraining], *, refreshes: bool = False) -> int:
    """Count the last searches that were not promoted.

    One that was ends the row. A refresh does not: that newer rows do good is no sign that other
    candidates would.

    Parameters
    ----------
    past
        Trainings.
    refreshes
        Whether a promoted refresh ends the row, too.
    """
    count = 0
    for training in sorted(past, key=lambda p: p.as_of, reverse=True):
        if training.promoted and (training.search or refreshes):
            break
        count += training.search
    return count


def oldest_recipe(rules: Retraining, window: timedelta | None) -> timedelta | None:
    """Return how old a recipe may get before candidates compete anew."""
    if rules.search_after is not None:
        return rules.search_after
    return None if window is None else _WINDOWS * window


def set_course(outlook: Outlook, rules: Retraining) -> Course:
    """Decide between a refresh, a search and neither.

    A search is paid for where a refresh cannot be made or does not help although there is harm,
    where the recipe is old or was found on far fewer rows, or where it is expected to save so much
    over a refresh as the workload asks of one. For the sake of harm it waits until a refresh had as
    long a holdout as it would have, and after each search that the verdict refused the next waits
    twice as long: what is lacking then is rows, not candidates. So it does where a refresh cannot
    be made for good; new labels alone are no reason for a search then, unless the recipe is old. No
    search waits until the recipe is older than it may be.

    Parameters
    ----------
    outlook
        What is known.
    rules
        ``retraining.search`` and what goes with it.
    """
    if rules.search == "always":
        return Course(way="search", reason="retraining.search is always")
    probe, searches = outlook.probe, rules.search == "auto"
    if probe is None:
        return _hindered(outlook, outlook.hindrance or Hindrance(words="no refresh"), searches)
    said, gains = _probed(outlook), probe.outcome == "promote"
    old = _old(outlook)
    if searches and old and (gains or _harmed(outlook)):
        return Course(way="search", reason=f"{said}; {old}")
    if gains:
        if searches and outlook.lead >= rules.search_gain:
            why = f"a search is expected to save {_priced(outlook)}, at least what is asked of it"
            return Course(way="search", reason=f"{said}; {why} ({rules.search_gain:.1%})")
        why = f"a search is expected to save {_priced(outlook)} beyond that"
        return Course(way="refresh", reason=f"{said}; {why}" if searches else said)
    if not searches:
        return Course(way="wait", reason=f"{said}; retraining.search is never")
    if not _harmed(outlook):
        return Course(way="wait", reason=f"{said}, and there is no harm to mend")
    if not outlook.ripe:
        words = f"{said}; little is new yet, and more of it may help"
        return Course(way="wait", reason=words, put_off=True)
    span = max(outlook.patience, outlook.settled)
    if early := _too_early(outlook, span, outlook.refused):
        return Course(way="wait", reason=f"{said}; {early}")
    if _out_of_reach(outlook) and (early := _too_early(outlook, span, outlook.refused, span)):
        words = f"{said}: more than a search is expected to save ({_priced(outlook)})"
        return Course(way="wait", reason=f"{words}; {early}")
    return Course(way="search", reason=f"{said}, though there is harm")


def _hindered(outlook: Outlook, found: Hindrance, searches: bool) -> Course:
    """Decide where there is no refresh: more rows mend most of it, a search the rest."""
    if not found.lasting:
        return Course(way="wait", reason=found.words, put_off=True)
    if not searches:
        return Course(way="wait", reason=f"{found.words}; retraining.search is never")
    if old := _old(outlook):
        return Course(way="search", reason=f"{found.words}; {old}")
    if outlook.trigger == NEW_LABELS:
        return Course(way="wait", reason=f"{found.words}, and nothing calls for a search")
    # A refresh could still be made when it was promoted: refusals of before were of another matter.
    if early := _too_early(outlook, outlook.patience, outlook.refused_since):
        return Course(way="wait", reason=f"{found.words}; {early}")
    return Course(way="search", reason=found.words)


def _too_early(
    outlook: Outlook, first: timedelta, refused: int, more: timedelta = timedelta(0)
) -> str:
    """Say how long the next search has to wait for the last; empty where it need not.

    Doubled for each that was refused, and some more; but never until the recipe is too old.
    """
    limit = max(first, _LONGEST) if outlook.oldest is None else outlook.oldest
    wait = min(doubled(first, refused) + more, limit)
    if outlook.age is None or outlook.age >= wait:
        return ""
    return (
        f"the last search is {format_duration(outlook.age)} old, {refused} in a row were "
        f"refused: the next may follow in {format_duration(wait - outlook.age)}"
    )


def _out_of_reach(outlook: Outlook) -> bool:
    """Tell whether a refresh is clearly worse than the champion, by more than a search saves.

    Only where what wins is fitted as the refresh is, so that it differs by its candidate alone.
    What a search saves is known of other times: by this one a search is put off, not ruled out.
    """
    probe = outlook.probe
    if not outlook.alike or probe is None or probe.high is None or probe.challenger is None:
        return False
    saved = outlook.lead * METRICS[outlook.metric].distance(probe.challenger)
    return probe.high + saved <= 0.0


def _harmed(outlook: Outlook) -> bool:
    """Tell whether there is harm to mend: beyond the promise, or beyond what was once reached."""
    beyond = outlook.harm is not None and outlook.harm > outlook.tolerance
    # A champion of a bad time promises so little that it keeps to it.
    return beyond or outlook.trigger == REACHED


def _old(outlook: Outlook) -> str:
    """Say why the recipe is old; empty where it is not."""
    if outlook.age is not None and outlook.oldest is not None and outlook.age >= outlook.oldest:
        limit = format_duration(outlook.oldest)
        return f"the last search is {format_duration(outlook.age)} old, at most {limit} wanted"
    if outlook.growth >= _GROWTH:
        return f"there are {outlook.growth:.1f} times the rows of the last search"
    return ""


def _probed(outlook: Outlook) -> str:
    """Spell what the champion and its refresh showed on fresh rows."""
    probe = outlook.probe
    if probe is None or outlook.harm is None or outlook.saved is None:
        return "" if probe is None else f"no refresh: {probe.reason}"
    name, low, high = outlook.metric, probe.low or 0.0, probe.high or 0.0
    helps = "helps" if probe.outcome == "promote" else "does not clearly help"
    return (
        f"a refresh {helps}: {name} of the champion {probe.champion:.4g} ({outlook.harm:+.1%} of "
        f"what was expected), of the refresh {probe.challenger:.4g}, gain {probe.gain:+.4g} in "
        f"[{low:+.4g}, {high:+.4g}] ({outlook.saved:+.1%})"
    )


def _priced(outlook: Outlook) -> str:
    share = f"{outlook.lead:.1%} of the error"
    if outlook.search_money is None:
        return share
    text = f"{share} for {outlook.currency} {outlook.search_money:.2g}"
    if outlook.refresh_money is not None:
        text += f" (a refresh costs {outlook.refresh_money:.2g})"
    return text
