"""Costing: the page on a workload's costs, kept with the run after which a person looks."""

import logging

from tasks.bookkeeping import read_account, read_bounds
from tasks.metering import step
from tasks.showing import show_page
from tasks.tracking import TrackedRun, log_items
from twinloop.costs import cost_metrics
from twinloop.costs_page import write_costs_page
from twinloop.logplan import Text
from twinloop.page import to_html, to_markdown
from twinloop.workload import Workload

COSTS_PAGE = "costs.html"
_log = logging.getLogger("twinloop.progress")


@step
def publish_costs(workload: Workload, run: TrackedRun) -> None:
    """Keep the page on costs with a run that is about to end, and among Prefect's artifacts.

    It is of the moment: the bill of this run until here is on it, and what the page takes to make
    is on the bill of this run. A page that cannot be made is no reason to fail one that has done
    its work; whoever interrupts it ends what comes after the run.

    Parameters
    ----------
    workload
        Of the run; a replay has no page.
    run
        The one that is open, all else done.
    """
    if workload.sandbox:
        return
    try:
        bill = cost_metrics(run.meter.so_far(), workload.prices, run.rows)
        so_far = {run.run_id: bill | {"accuracy/known": float(run.accurate)}}
        page = write_costs_page(
            read_account(workload, so_far), read_bounds(workload, so_far=so_far)
        )
        log_items(run.run_id, [Text(COSTS_PAGE, to_html(page))])
        show_page(workload, "costs", page.title, to_markdown(page))
    except KeyboardInterrupt:
        # What the run was for is done, and may serve already: it has not been interrupted.
        run.interrupted = True
        _log.warning("no page on the costs of %s: interrupted", workload.id)
    except Exception as err:  # noqa: BLE001 - whatever it is, the run is done
        _log.warning("no page on the costs of %s: %s", workload.id, err)
