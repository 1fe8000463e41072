"""Budgets: what a run is likely to use, what it may, and what follows when that is spent."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from prefect import get_client, get_run_logger
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.runtime import flow_run as this_run
from pydantic import ValidationError

from tasks.announcing import drift_resource
from tasks.bookkeeping import read_month
from tasks.ledger import read_entries
from tasks.showing import show_words
from tasks.tracking import TrackedRun
from twinloop.budget import (
    Amounts,
    Estimate,
    Limit,
    Past,
    error_of,
    estimate,
    limits_of,
    month_limits,
    outside,
    own_amounts,
    refusal_words,
    spent_limits,
)
from twinloop.costs import price
from twinloop.errors import BudgetError, ServiceError
from twinloop.ledger import Entry
from twinloop.logplan import LogItem, Metric, Tag
from twinloop.window import Window
from twinloop.workload import Workload

BUDGET_EVENT = "twinloop.budget.exceeded"
OVER_BUDGET = "OverBudget"
BoundedLoop = Literal["training", "inference"]
_WHOLE = ("cost/money_total", "cost/energy_total_kwh", "time/wall_total_s")
# Of so many runs some may have failed, or have had other things to do.
_LOOK_BACK = 50
_LONGEST_TAG = 4000
_NAMED: set[str] = set()
_progress = logging.getLogger("twinloop.progress")


class Purse:
    """What a run may use, and what it has used of that.

    Parameters
    ----------
    run
        Whose usage counts.
    limits
        Bounds of the run, and of the month with what was used of them before.
    hard
        Whether the run is to stop where one is spent.
    """

    def __init__(self, run: TrackedRun, limits: Sequence[Limit], *, hard: bool) -> None:
        self._run, self.limits, self._hard = run, tuple(limits), hard
        self.ended: tuple[Limit, ...] = ()

    def is_spent(self) -> bool:
        """Tell whether nothing further is to be started; asked often, and from any thread."""
        if self.limits and not self.ended:
            self.ended = self.over()
        return bool(self.ended)

    def over(self) -> tuple[Limit, ...]:
        """Return the bounds of which nothing is left now."""
        return spent_limits(self.limits, used_by(self._run))

    def refuse_more(self) -> None:
        """Stop a run that may not go on.

        Raises
        ------
        BudgetError
            If a budget is spent, and the workload says that this stops the run.
        """
        if self._hard and self.is_spent():
            workload = self._run.workload
            words = ", ".join(_words(self.ended, used_by(self._run), workload))
            raise BudgetError(
                f"the budget of a run of {workload.id!r} is spent: {words}.",
                "What is done is kept; raise the budget, and run it again to go on.",
            )


_CURRENT: ContextVar[Purse | None] = ContextVar("purse", default=None)


def purse() -> Purse | None:
    """Return the purse of the run that is open here, if it has one."""
    return _CURRENT.get()


def is_spent() -> bool:
    """Tell whether the run that is open here has no budget left to start anything further."""
    here = _CURRENT.get()
    return here is not None and here.is_spent()


def refuse_over_budget() -> None:
    """Stop the run that is open here, if it may not go on: see `Purse.refuse_more`."""
    here = _CURRENT.get()
    if here is not None:
        here.refuse_more()


def used_by(run: TrackedRun) -> Amounts:
    """Return what a run has used until now, with the runs it contains."""
    used = run.meter.so_far()
    found = price(used.total, run.workload.prices, measured=bool(used.cpu_energy))
    return Amounts(found.money, found.energy_kwh, used.total_wall_seconds / 60)


@contextmanager
def within_budget(
    workload: Workload, loop: BoundedLoop, window: Window | None, run: TrackedRun
) -> Iterator[Purse]:
    """Estimate what a run will use, hold it to its budget, and say how far off the estimate was.

    In a replay no month is over and nothing is foretold: years go by in an hour.

    Raises
    ------
    BudgetError
        If the month's budget is spent; where scoring, only if the budget is hard.
    """
    budget = getattr(workload.budget, loop)
    hard = loop == "training" or (workload.budget.inference.hard and not workload.sandbox)
    limits = limits_of(budget.run, f"budget.{loop}.run")
    told: tuple[str, ...] = ()
    if not workload.sandbox and month_limits(workload.budget, (), (loop,)):
        runs = read_month(workload)
        told = _begin_month(workload, month_limits(workload.budget, runs, (loop,)), run, hard=hard)
        # What it tried before is part of what it uses itself.
        others = month_limits(workload.budget, outside(runs, run.run_id), (loop,))
        limits += tuple(limit for limit, _ in others)
    said = None if workload.sandbox else _estimate(workload, loop, window, run)
    here = Purse(run, limits, hard=hard)
    token = _CURRENT.set(here)
    try:
        yield here
        _tell_error(run, said)
    finally:
        _CURRENT.reset(token)
        # Those that were spent before it began were told then.
        over = [limit for limit in here.ended or here.over() if limit.key not in told]
        if over:
            tell_over(workload, over, run, used_by(run), _consequence(loop, here))


def _begin_month(
    workload: Workload,
    month: Sequence[tuple[Limit, tuple[Entry, ...]]],
    run: TrackedRun,
    *,
    hard: bool,
) -> tuple[str, ...]:
    """Say which budgets of the month are spent already, and refuse the run if that stops it."""
    over = spent_limits([limit for limit, _ in month])
    if not over:
        return ()
    then = "it does not start" if hard else "it goes on all the same"
    tell_over(workload, over, run, Amounts(), then, refused=hard)
    if hard:
        limit, those = next((limit, those) for limit, those in month if limit in over)
        amounts = [(e.kind, e.name, own_amounts(e)) for e in those]
        message, hint = refusal_words(limit, amounts, workload.id, workload.prices.currency)
        raise BudgetError(message, hint)
    return tuple(limit.key for limit in over)


def _estimate(
    workload: Workload, loop: BoundedLoop, window: Window | None, run: TrackedRun
) -> Estimate | None:
    """Say what a run is likely to use, from those before; None where there is none."""
    shape = shape_of(workload) if loop == "training" else ""
    names = (*_WHOLE, "cost/energy_kwh")
    try:
        runs = read_entries([workload.experiment], metrics=names, kind=loop, limit=_LOOK_BACK)
    except ServiceError as err:
        _progress.warning("no estimate for %s of %s: %s", loop, workload.id, err)
        return None
    ended = [e for e in runs if _tells(e, workload)]
    alike = [e for e in ended if e.shape == shape]
    found = estimate([_past(e) for e in alike or ended], _length(str(window or "")))
    items: list[LogItem] = [Tag("twinloop.shape", shape)] if shape else []
    if found is not None:
        found = Estimate(found.amounts, found.runs, found.scaled, bool(alike))
        words = found.words(workload.prices.currency, loop)
        items += [
            Tag("twinloop.estimate", words),
            Metric("cost/estimated_money", found.amounts.money),
            Metric("cost/estimated_kwh", found.amounts.kwh),
            Metric("time/estimated_s", 60 * found.amounts.minutes),
        ]
        show_words(workload, f"Estimate: {words}")
        _progress.info("%s %s: %s", loop, workload.id, words)
    run.log(items)
    return found


def _tells(entry: Entry, workload: Workload) -> bool:
    """Tell whether a run of before says what one takes: one that did nothing does not."""
    own = entry.workload == workload.id and entry.currency == workload.prices.currency
    return own and entry.status == "FINISHED" and not entry.reused


def shape_of(workload: Workload) -> str:
    """Say what a training is to try: another one that says the same takes about as long."""
    training = workload.training
    tuned = f", {training.tuning.most_trials} trials" if workload.tuned else ""
    return f"{','.join(training.candidates)}; {training.folds} folds{tuned}"


def _past(entry: Entry) -> Past:
    money, kwh, seconds = (entry.metric(name) for name in _WHOLE)
    return Past(
        Amounts(money, kwh or entry.metric("cost/energy_kwh"), seconds / 60),
        _length(entry.window),
    )


def _length(window: str) -> float:
    """Return the seconds a window spans; NaN for all rows."""
    try:
        found = Window.model_validate(window)
    except ValidationError:
        return math.nan
    return (found.end - found.start).total_seconds()


def _tell_error(run: TrackedRun, said: Estimate | None) -> None:
    """Log what was used in all, and by how much that is more or less than was said."""
    if said is None:
        return
    used = used_by(run)
    errors = {
        "cost/estimate_error": error_of(said.amounts.money, used.money),
        "time/estimate_error": error_of(said.amounts.minutes, used.minutes),
    }
    run.log([Metric(name, value) for name, value in errors.items() if value is not None])


def _consequence(loop: BoundedLoop, here: Purse) -> str:
    if not here.ended:
        return "known when it was done"
    if loop == "training":
        return "nothing further was started, and the best so far was judged"
    return "it stopped, and what is done is kept"


def tell_over(
    workload: Workload,
    over: Sequence[Limit],
    run: TrackedRun,
    used: Amounts,
    then: str,
    *,
    refused: bool = False,
) -> None:
    """Say that a budget is spent: to MLflow, on the page, in the log, and as an event."""
    text = f"Budget of {workload.id} spent: {', '.join(_words(over, used, workload))}; {then}"
    run.log([Tag("twinloop.over_budget", text[:_LONGEST_TAG])])
    if workload.sandbox:
        return
    if this_run.id:
        _NAMED.add(str(this_run.id))
    show_words(workload, text)
    if FlowRunContext.get() is not None:
        get_run_logger().warning(text)
    emit_event(
        event=BUDGET_EVENT,
        resource={
            "prefect.resource.id": drift_resource(workload),
            "prefect.resource.name": workload.id,
            "twinloop.workload": workload.id,
        },
        payload={
            "workload": workload.id,
            "budgets": [limit.key for limit in over],
            "words": text,
            "refused": refused,
            "run_id": run.run_id,
        },
    )


def _words(over: Sequence[Limit], used: Amounts, workload: Workload) -> list[str]:
    return [limit.words(used, workload.prices.currency) for limit in over]


def name_over_budget(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001 - as hooks are
    """Call the last state of a flow run ``OverBudget`` where a budget has ended it or was spent.

    A hook for flows: its type, completed or failed, stays as it is.
    """
    refused = f"[{BudgetError.code}]" in (state.message or "")
    if str(flow_run.id) not in _NAMED and not refused:
        return
    _NAMED.discard(str(flow_run.id))
    named = state.model_copy(update={"name": OVER_BUDGET, "data": None})
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, named, force=True)
