"""Guards: what holds a retraining back that a drift check calls for."""

from datetime import timedelta

from twinloop.patience import wait_to_ask
from twinloop.vocabulary import Frozen
from twinloop.window import format_duration
from twinloop.workload import Workload

# An error so many times that of the last call is another matter.
_WORSE = 1.15


class Circumstances(Frozen):
    """What a guard has to know; None where nothing is known, so that it holds nothing back.

    Attributes
    ----------
    since_training
        Since any version was last trained.
    new_rows
        Rows scored since the newest of the champion's training, their labels due.
    calls
        How often the same cause has had its retraining, in a row.
    since_call
        Since the last of them.
    since_any
        Since the last call, whatever its cause and whatever came of it.
    since_answer
        Since the last call that had an answer, whatever its cause.
    idle
        How often new labels alone have asked since the champion was made, and none came of it.
    worsened
        The error now, as a multiple of that at the last of them.
    spent
        The budgets of this month of which nothing is left, in words; empty if there is none.
    """

    since_training: timedelta | None = None
    new_rows: int | None = None
    calls: int = 0
    since_call: timedelta | None = None
    since_any: timedelta | None = None
    since_answer: timedelta | None = None
    idle: int = 0
    worsened: float | None = None
    spent: str = ""


def holds(cause: str, found: Circumstances, workload: Workload) -> str:
    """Return which guard holds a retraining back, in words; empty if none does.

    Parameters
    ----------
    cause
        What calls for it: ``labels``, ``reached``, ``estimate``, or ``drift`` and columns.
    found
        How things are.
    workload
        Its retraining keys are the guards.
    """
    rules = workload.retraining
    wait = rules.cooldown
    if found.since_training is not None and found.since_training < wait:
        return f"cooldown: {_span(wait - found.since_training)} of {format_duration(wait)} left"
    if found.new_rows is not None and found.new_rows < rules.min_new_rows:
        return (
            f"min_new_rows: {found.new_rows} scored rows since the champion's training, "
            f"{rules.min_new_rows} wanted"
        )
    if held := _same_cause(cause, found, wait):
        return held
    if found.spent:
        return f"budget: {found.spent}"
    return ""


def probes(found: Circumstances, workload: Workload) -> str:
    """Return why it is time to ask what a refresh would bring, in words; empty if it is not.

    It takes one fit to know. Where a refresh is out of the question the answer would be a search,
    which nobody called for. What has often been asked in vain is asked ever more rarely; a call
    that was put off, or went unheard, asked nothing: the next follows it after the usual time.
    """
    rules = workload.retraining
    if rules.probe_after is None or rules.search == "always" or workload.split != "time":
        return ""
    if found.spent or found.new_rows is None or found.new_rows < rules.min_new_rows:
        return ""
    trained = found.since_training
    longer = wait_to_ask(rules.probe_after, found.idle, workload.training.window)
    waits = (trained, longer), (found.since_answer, longer), (found.since_any, rules.probe_after)
    known = [(since, wait) for since, wait in waits if since is not None]
    if not known or any(since < wait for since, wait in known):
        return ""
    return (
        f"{found.new_rows} scored rows whose labels are due are newer than the champion's: a fit "
        "of its recipe on them tells whether a refresh pays"
    )


def _same_cause(cause: str, found: Circumstances, wait: timedelta) -> str:
    """Hold back what a cause calls for again.

    Drift is answered once: without labels nothing tells whether that helped. Labels that stay bad
    may call again, each time after one cooldown more, so that rows have come that were not there:
    ever more rarely where nothing can be gained. An error that got clearly worse is a new cause.
    """
    if not found.calls or found.since_call is None:
        return ""
    if not cause.startswith(("labels", "reached")):
        return f"one retraining a cause: {cause} had its own {_span(found.since_call)} ago"
    longer = wait * found.calls
    if found.since_call >= longer or (found.worsened or 0.0) >= _WORSE:
        return ""
    times = "once" if found.calls == 1 else f"{found.calls} times"
    return (
        f"one retraining a cause: it was tried {times} and the error stayed; again in "
        f"{_span(longer - found.since_call)}"
    )


def _span(span: timedelta) -> str:
    """Spell a duration in whole days or hours, so that it can be read."""
    if span >= timedelta(days=2):
        return f"{span / timedelta(days=1):.0f} days"
    return f"{span / timedelta(hours=1):.0f} hours"
