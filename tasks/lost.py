"""Lost runs: the bill of one whose process was killed, from its last sign of life."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tasks.attempts import prices_of
from tasks.signs import Sign, drop_note, place_of, read_note
from tasks.tracking import log_items
from twinloop.costs import Quantities, Usage
from twinloop.logplan import LogItem, Tag, plan_costs
from twinloop.window import format_instant

if TYPE_CHECKING:
    from mlflow.entities import Run


def bill_lost(run: "Run") -> None:
    """Write the bill of a run that nobody closed, as far as it is known; one it has is left."""
    workload = run.data.tags.get("twinloop.workload", "")
    if "cost/money" not in run.data.metrics:
        sign = read_note(workload, run.info.run_id) or _sign_of(run)
        log_items(run.info.run_id, _plan(run, sign))
    drop_note(place_of(workload, run.info.run_id))


def _plan(run: "Run", sign: Sign) -> Iterator[LogItem]:
    names = [n for n in run.data.metrics if n.startswith("accuracy/")]
    known = any(not math.isnan(run.data.metrics[n]) for n in names)
    yield from plan_costs(sign.usage, prices_of(run), None, known=known)
    if not known:
        yield Tag("twinloop.accuracy", "none: killed")
    at = datetime.fromtimestamp(sign.at, UTC).replace(microsecond=0)
    yield Tag("twinloop.bill", f"until its last sign of life, {format_instant(at)}")


def _sign_of(run: "Run") -> Sign:
    """Return what MLflow knows of a run that left no note: it was there at its last number."""
    began = run.info.start_time / 1000
    at = max([began, *(m.timestamp / 1000 for m in run.data._metric_objs)])
    wall, nothing = at - began, Quantities()
    return Sign(at=at, usage=Usage(wall, wall, 0, own=nothing, total=nothing))
