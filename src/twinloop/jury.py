"""The jury: rows accepted with earlier versions, for which a newer window cannot vouch.

Where the newest rows are broken, their truth is, too: a challenger fitted on them beats the
champion on them. So each promotion leaves some of its holdout's rows behind, with what was
predicted of them before anyone was fitted on them, and later challengers answer them again.
"""

import contextlib
import io
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.digest import row_hashes
from twinloop.evaluation import Metric
from twinloop.paired import Gain
from twinloop.scorer import Predictions
from twinloop.verdict import Check, gain_words
from twinloop.workload import Workload

JURY_ROWS = 2000
# A twin fitted without more than this share of its rows would be another model.
_MOST_LEFT_OUT = 0.25
_ROW, _SINCE, _VALUE, _SHARE = "jury.row", "jury.since", "jury.value", "jury.probability_"


def row_ids(table: pa.Table, workload: Workload) -> np.ndarray:
    """Return what a row is known by, whatever its label: uint64, shape (n_rows,).

    A hash of key and time; where the workload names no key, of the whole row.
    """
    known = sorted({*workload.key, *filter(None, [workload.time])}) if workload.key else []
    return row_hashes(table, known or sorted(table.schema.names))


def seat(
    earlier: pa.Table | None,
    rows: pa.Table,
    ids: np.ndarray,
    recorded: Predictions,
    since: datetime,
    most: int = JURY_ROWS,
) -> pa.Table:
    """Add rows to a jury, and draw from all of them alike as many as there is room for.

    The rows with the least hashes stay. That is a sample of all rows ever added, each as likely as
    any other, that needs no count of those gone by (the bottom-k sketch of Cohen and Kaplan 2007).

    Parameters
    ----------
    earlier
        The jury so far; of a row that is in it already, the older record counts. Where its columns
        have other types than those of `rows` it is given up.
    rows, ids
        What to add, and their `row_ids`.
    recorded
        Predictions of `rows` by a model that had not seen them.
    since
        When they were accepted, UTC.
    most
        How many rows there may be.
    """
    extra: dict[str, pa.Array] = {
        _ROW: pa.array(ids, pa.uint64()),
        _SINCE: pa.array([since] * rows.num_rows, pa.timestamp("us", "UTC")),
        _VALUE: pa.array(recorded.value.astype(np.float64)),
    }
    if recorded.probability is not None:
        for i, share in enumerate(recorded.probability.T):
            extra[f"{_SHARE}{i}"] = pa.array(share, pa.float64())
    added = rows
    for name, values in extra.items():
        added = added.append_column(name, values)
    if earlier is not None:
        # Where a column changed its type, the old rows can be predicted no more.
        with contextlib.suppress(pa.ArrowException):
            added = pa.concat_tables([earlier, added], promote_options="permissive")
    _, first = np.unique(added.column(_ROW).to_numpy(), return_index=True)
    return added.take(pa.array(first[:most]))


def recorded_predictions(jury: pa.Table, n_classes: int) -> Predictions:
    """Return what was predicted of the rows when they were accepted.

    Parameters
    ----------
    jury
        As `seat` made it.
    n_classes
        0 for regression.
    """
    value = jury.column(_VALUE).to_numpy()
    if n_classes == 0:
        return Predictions(value)
    shares = [jury.column(f"{_SHARE}{i}").to_numpy() for i in range(n_classes)]
    return Predictions(value.astype(np.int64), np.column_stack(shares))


def hear(jury: pa.Table, train_ids: np.ndarray) -> tuple[pa.Table, np.ndarray]:
    """Choose the rows to ask, and the training rows that whoever answers must not have seen.

    Parameters
    ----------
    jury
        All of it.
    train_ids : np.ndarray of uint64, shape (n_train,)
        `row_ids` of the rows that the challenger was fitted on.

    Returns
    -------
    tuple of (pa.Table, np.ndarray of bool, shape (n_train,))
        The rows to ask, and which training rows are among them: no more than a quarter.
    """
    ids = jury.column(_ROW).to_numpy()
    seen = np.isin(ids, train_ids)
    beyond = np.cumsum(seen) > len(train_ids) * _MOST_LEFT_OUT
    asked = ~(seen & beyond)
    return jury.filter(pa.array(asked)), np.isin(train_ids, ids[asked])


def constant(y: np.ndarray, metric: Metric, n_classes: int) -> Predictions:
    """Return the best predictions of some rows by one constant: what no model at all would say.

    Parameters
    ----------
    y : np.ndarray, shape (n_rows,)
        The truth.
    metric
        Says which constant is best.
    n_classes
        0 for regression.
    """
    if n_classes == 0:
        if metric.name == "rmsle":
            best = np.expm1(np.mean(np.log1p(y)))
        else:
            best = np.median(y) if metric.name == "mae" else np.mean(y)
        return Predictions(np.full(len(y), float(best)))
    shares = np.bincount(y[y >= 0], minlength=n_classes) / max(int((y >= 0).sum()), 1)
    return Predictions(np.full(len(y), int(shares.argmax())), np.tile(shares, (len(y), 1)))


def known_said(recorded: Predictions, known: np.ndarray, said: Predictions) -> Predictions:
    """Return what was recorded, but of rows that an ancestor knows what it says of them now.

    A model grown on from it says the same of them, but for what its new trees spoil: beside a
    record from before anyone was fitted on these rows it would have a head start.

    Parameters
    ----------
    recorded
        Of all rows, when they were accepted.
    known : np.ndarray of bool, shape (n_rows,)
        Which rows the ancestor may have been fitted on.
    said
        What it says of all rows.
    """
    value = np.where(known, said.value, recorded.value)
    if recorded.probability is None or said.probability is None:
        return Predictions(value)
    return Predictions(value, np.where(known[:, None], said.probability, recorded.probability))


def jury_check(
    found: Gain, skill: float, keep: float, metric: str, left_out: int, beside: str = ""
) -> Check:
    """Fail where the challenger lost more of what was once known than drift explains.

    Parameters
    ----------
    found
        Gain of the challenger over the recorded predictions.
    skill
        Gain of the recorded predictions over a constant, on the same rows.
    keep
        The share of it that must be left.
    metric
        Its name.
    left_out
        Training rows that the model that answered was fitted without.
    beside
        Whose answers it was held to; empty for the recorded ones.
    """
    if np.isnan(found.low) or not skill > 0:
        why = "too few rows" if np.isnan(found.low) else "nothing better than a constant recorded"
        return Check(name="jury", outcome="open", words=f"the jury does not tell: {why}")
    limit = -(1 - keep) * skill
    fails = found.high < limit
    how = f" (by a twin fitted without {left_out} of them)" if left_out else ""
    how += f", beside {beside}" if beside else ""
    return Check(
        name="jury",
        outcome="fail" if fails else "pass",
        words=(
            f"{'worse' if fails else 'no worse'} than allowed on {found.rows} rows accepted "
            f"earlier{how}: {gain_words(metric, found)}, {limit:+.4g} allowed"
        ),
        number=found.gain,
        low=found.low,
        high=found.high,
        limit=limit,
    )


def to_bytes(jury: pa.Table) -> bytes:
    """Write a jury as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(jury, sink, write_page_checksum=True)
    return sink.getvalue()


def from_bytes(content: bytes) -> pa.Table:
    """Read what `to_bytes` wrote."""
    return pq.read_table(io.BytesIO(content), page_checksum_verification=True)
