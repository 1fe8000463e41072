"""Measuring: what a fitted model takes to serve, and what its fits cost."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from twinloop.costs import bill
from twinloop.loop_keys import Prices
from twinloop.results import Footprint
from twinloop.scorer import Scorer, to_files

_BATCH_ROWS = 1000
_MOST_REPEATS = 15
_FEWEST_REPEATS = 5
_ENOUGH_SECONDS = 0.1


def measure_footprint(
    scorer: Scorer, table: pa.Table, fit_cpu_seconds: float, prices: Prices
) -> Footprint:
    """Measure what serving a model takes, encoding included, on rows it was not fitted on.

    Parameters
    ----------
    scorer
        A fitted model.
    table
        Rows that keep the contract, at least one; few are repeated until they make a batch.
    fit_cpu_seconds
        CPU time of the fits behind it.
    prices
        The workload's.
    """
    batch = table.take(pa.array(np.arange(_BATCH_ROWS) % table.num_rows))
    row = table.slice(0, 1)
    return Footprint(
        batch_seconds=_median_seconds(lambda: scorer.predict(batch)),
        row_seconds=_median_seconds(lambda: scorer.predict(row)),
        size_bytes=sum(len(content) for content in to_files(scorer).values()),
        fit_cpu_seconds=fit_cpu_seconds,
        fit_money=bill(0.0, fit_cpu_seconds, 0, prices).money,
    )


def _median_seconds(call: Callable[[], object]) -> float:
    """Return the median wall time of a call: what disturbs a few repeats does not count."""
    call()  # the first one pays for what later ones find made
    taken: list[float] = []
    while len(taken) < _FEWEST_REPEATS or (
        len(taken) < _MOST_REPEATS and sum(taken) < _ENOUGH_SECONDS
    ):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
