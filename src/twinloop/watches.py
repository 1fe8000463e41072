"""Watches: what earlier drift checks of a workload found, as the ledger keeps it."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Self

from twinloop.decision import NEW_LABELS, Decision, Expectation
from twinloop.estimate import Check
from twinloop.evaluation import watched_metric
from twinloop.harm import Period
from twinloop.vocabulary import Frozen
from twinloop.window import as_utc

# So many of the last checks of estimates say whether to trust them.
_LATELY = 3
_MOST_CHECKS = 12
_YEAR = timedelta(days=366)
_BY_LABELS = ("labels", "reached")


class Watch(Frozen):
    """One drift check, in short.

    Attributes
    ----------
    estimated, low, high
        The metric without labels, and its interval.
    realised
        The metric of rows with labels; None where none had come.
    checked, checked_low, checked_high, checked_variance
        The estimate for the same rows.
    loss
        Of these rows, by block.
    """

    as_of: datetime
    version: str = ""
    action: str = ""
    cause: str = ""
    held: str = ""
    estimated: float | None = None
    low: float | None = None
    high: float | None = None
    realised: float | None = None
    promised: float | None = None
    checked: float | None = None
    checked_low: float | None = None
    checked_high: float | None = None
    checked_variance: float | None = None
    rows: int = 0
    loss: Period | None = None

    @property
    def called(self) -> bool:
        """Whether a retraining was to follow."""
        return self.action == "retrain" or self.cause == NEW_LABELS

    @property
    def missed(self) -> bool:
        """Whether labels came for an estimate, and lay outside of its interval."""
        if self.realised is None or self.checked_low is None or self.checked_high is None:
            return False
        return not self.checked_low <= self.realised <= self.checked_high

    @property
    def check(self) -> Check | None:
        """The estimate of rows whose labels came, beside what they said."""
        if self.realised is None or self.checked is None or self.checked_variance is None:
            return None
        return Check(
            estimated=self.checked,
            realised=self.realised,
            variance=self.checked_variance,
            rows=self.rows,
        )

    @classmethod
    def of(cls, metric: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> Self:
        """Read a check back from the metrics and tags of its run, see `numbers_of`."""
        found = {field: metrics[name] for field, name in _names(metric).items() if name in metrics}
        loss = None
        names = loss_names(metric)
        if names["mean"] in metrics:
            loss = Period(
                mean=metrics[names["mean"]],
                deviation=metrics[names["deviation"]],
                blocks=int(metrics[names["blocks"]]),
            )
        return cls(
            as_of=as_utc(datetime.fromisoformat(tags["twinloop.as_of"])),
            version=tags.get("twinloop.version", ""),
            action=tags.get("twinloop.decision", ""),
            cause=tags.get("twinloop.cause_of_retraining", ""),
            held=tags.get("twinloop.held", ""),
            rows=int(metrics.get("rows/labelled", 0)),
            loss=loss,
            **found,
        )


def loss_names(metric: str) -> dict[str, str]:
    """Return the name in the ledger of each number of a period's loss.

    Losses of one metric say nothing of another's: the name is that of the loss, see
    `watched_metric`.
    """
    loss = watched_metric(metric).name
    return {field: f"harm/loss_{field}_{loss}" for field in ("mean", "deviation", "blocks")}


def _names(metric: str) -> dict[str, str]:
    """Return the name in the ledger of each field that is a number."""
    return {
        "estimated": f"accuracy/estimated_{metric}",
        "low": f"accuracy/estimated_low_{metric}",
        "high": f"accuracy/estimated_high_{metric}",
        "realised": f"accuracy/realised_{metric}",
        "promised": f"accuracy/promised_{metric}",
        "checked": f"accuracy/checked_{metric}",
        "checked_low": f"accuracy/checked_low_{metric}",
        "checked_high": f"accuracy/checked_high_{metric}",
        "checked_variance": f"accuracy/checked_variance_{metric}",
    }


def numbers_of(decision: Decision, metric: str) -> Iterator[tuple[str, float]]:
    """Yield name and value of what a decision knows of the metric, under steady names."""
    known, names = decision.expectation, _names(metric)
    if known is None:
        return
    if known.promised is not None:
        yield names["promised"], known.promised
    if known.estimate is not None:
        yield names["estimated"], known.estimate.value
        yield names["low"], known.estimate.low
        yield names["high"], known.estimate.high
    if known.realised is not None:
        yield names["realised"], known.realised
    if known.checked is not None:
        yield names["checked"], known.checked.value
        yield names["checked_low"], known.checked.low
        yield names["checked_high"], known.checked.high
        yield names["checked_variance"], known.checked.variance


def watch_of(decision: Decision, as_of: datetime, version: str) -> Watch:
    """Return a decision of now as one more watch, for what is drawn."""
    known = decision.expectation
    now = Watch(
        as_of=as_of,
        version=version,
        action=decision.action,
        cause=decision.cause,
        held=decision.held,
    )
    if known is None:
        return now
    found: dict[str, float | None] = {"promised": known.promised, "realised": known.realised}
    if known.estimate is not None:
        estimate = known.estimate
        found |= {"estimated": estimate.value, "low": estimate.low, "high": estimate.high}
    if known.checked is not None:
        checked = known.checked
        found |= {
            "checked": checked.value,
            "checked_low": checked.low,
            "checked_high": checked.high,
            "checked_variance": checked.variance,
        }
    return now.model_copy(update=found)


def _apart(watches: Sequence[Watch], span: timedelta) -> Iterator[Watch]:
    """Yield watches from the newest back that share no rows with the one before."""
    last: datetime | None = None
    for watch in sorted(watches, key=lambda w: w.as_of, reverse=True):
        if last is None or last - watch.as_of >= span:
            last = watch.as_of
            yield watch


def past_checks(watches: Sequence[Watch], span: timedelta) -> tuple[Check, ...]:
    """Return how estimates of the past did, once their labels had come: none counts twice.

    Parameters
    ----------
    watches
        Of the past.
    span
        Length of a watch's window.
    """
    known = [w for w in watches if w.check is not None]
    found = [w.check for w in _apart(known, span)]
    return tuple(check for check in found if check is not None)[:_MOST_CHECKS]


def with_record(
    known: Expectation, past: Sequence[Watch], now: datetime, span: timedelta
) -> Expectation:
    """Add how many of the last estimates were wrong, the one that was checked just now included."""
    mine = watch_of(Decision(action="fine", reasons=(), features=(), expectation=known), now, "")
    missed, of = missed_lately((*past, mine), span)
    return known.model_copy(update={"missed": missed, "of": of})


def missed_lately(watches: Sequence[Watch], span: timedelta) -> tuple[int, int]:
    """Return how many of the last estimates were outside of their interval, and of how many."""
    known = [w for w in watches if w.check is not None]
    last = list(_apart(known, span))[:_LATELY]
    return sum(w.missed for w in last), len(last)


def past_periods(watches: Sequence[Watch], span: timedelta, as_of: datetime) -> tuple[Period, ...]:
    """Return the losses of past periods that share no rows with each other, a year back.

    Those that share rows with the newest one are left out.
    """
    known = [w for w in watches if w.loss is not None and as_of - w.as_of <= _YEAR]
    older = [w for w in known if as_of - w.as_of >= span]
    return tuple(w.loss for w in _apart(older, span) if w.loss is not None)


def calls_before(
    watches: Sequence[Watch], cause: str, answers: Sequence[datetime], version: str
) -> tuple[int, Watch | None]:
    """Return how often a cause had its answer in a row, and the check that last called for it.

    An answer is to the newest call at or before it, and to none of those that were held back or
    went unheard before: many calls have one answer.

    Parameters
    ----------
    watches
        Of the past.
    cause
        As a decision names it.
    answers
        When versions were trained, or a retraining found that none was to be.
    version
        The champion's: drift away from what an earlier one was trained on is another matter.
    """
    calls: list[Watch] = []
    labels, heard = cause in _BY_LABELS, _answered(watches, answers)
    for watch in sorted(watches, key=lambda w: w.as_of, reverse=True):
        if labels and watch.realised is not None and watch.cause not in _BY_LABELS:
            break  # it had been well in between
        if watch.action != "retrain" or watch.as_of not in heard:
            continue
        same_model = labels or watch.version == version
        if same_model and _covers(watch.cause, cause):
            calls.append(watch)
    return len(calls), calls[0] if calls else None


def asked_in_vain(watches: Sequence[Watch], answers: Sequence[datetime], since: datetime) -> int:
    """Return how often new labels alone have asked after a champion was made, and had an answer.

    Its successor would serve if any of these answers had been a better model. Calls that were put
    off, or went unheard, asked nothing.

    Parameters
    ----------
    watches
        Of the past.
    answers
        As for `calls_before`.
    since
        The moment the champion was trained for.
    """
    heard = _answered(watches, answers)
    asked = {w.as_of for w in watches if w.cause == NEW_LABELS and w.as_of > since}
    return len(asked & heard)


def last_answered(watches: Sequence[Watch], answers: Sequence[datetime]) -> datetime | None:
    """Return the moment of the last call that had an answer, whatever its cause; None for none.

    Parameters
    ----------
    watches
        Of the past.
    answers
        As for `calls_before`.
    """
    return max(_answered(watches, answers), default=None)


def _answered(watches: Sequence[Watch], answers: Sequence[datetime]) -> set[datetime]:
    """Return the moments of calls that had an answer: the newest call at or before each."""
    called = sorted(w.as_of for w in watches if w.called)
    last = (bisect_right(called, answer) for answer in set(answers))
    return {called[at - 1] for at in last if at}


def _covers(earlier: str, now: str) -> bool:
    """Tell whether a cause is one of before: all that drifts now drifted already then."""
    if now in _BY_LABELS:
        return earlier in _BY_LABELS
    if not (earlier.startswith("drift: ") and now.startswith("drift: ")):
        return earlier == now
    columns = {*now.removeprefix("drift: ").split(", ")}
    return columns <= {*earlier.removeprefix("drift: ").split(", ")}
