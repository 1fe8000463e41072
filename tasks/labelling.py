"""Labelling: published predictions joined with the truth, once it has come."""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks import sources
from tasks.fitting import loss_blocks
from tasks.published import Manifest, overlapping, read_published, read_shadow
from tasks.registry import ServedVersion, find_version, load_version
from twinloop.contract import check_rows, duplicated
from twinloop.errors import EmptyWindowError
from twinloop.scorer import Predictions, Target
from twinloop.window import Window
from twinloop.workload import Workload

_EXPLANATION = re.compile(r"(feature|contribution)_\d+")


@dataclass(frozen=True)
class Labelled:
    """Published predictions whose truth has come.

    Attributes
    ----------
    y : np.ndarray, shape (n_rows,)
        Numbers, or codes of classes.
    predictions
        Of the same rows.
    blocks : np.ndarray of int64, shape (n_rows,)
        Day of each row, or the like.
    """

    y: np.ndarray
    predictions: Predictions
    blocks: np.ndarray


def find_labels(
    workload: Workload, window: Window | None, champion: ServedVersion | None = None
) -> Labelled | None:
    """Join published predictions of a window with the truth, by key.

    Parameters
    ----------
    workload
        Its key joins; without one there is nothing to join by.
    window
        Rows of this span only.
    champion
        Predictions of this version only; None: of whichever scored.

    Returns
    -------
    Labelled or None
        None where no row has both.
    """
    if not workload.key:
        return None
    found = [m for m in overlapping(workload, window) if champion in (None, m.version)]
    truth = _truth(workload, window, found[-1].version) if found else None
    if truth is None:
        return None
    scored = _answers([read_published(m) for m in found], workload)
    return _join(workload, scored, truth, found[-1].version)


def find_shadow_labels(
    workload: Workload, window: Window | None, pair: tuple[str, str] | None = None
) -> tuple[Labelled, Labelled] | None:
    """Join what the champion and its challenger said of the same rows with the truth.

    Parameters
    ----------
    workload, window
        Whose rows, and of which span.
    pair
        Numbers of the version that answered and of the one beside it; None: of the newest window.

    Returns
    -------
    tuple of Labelled and Labelled, or None
        The champion's first, row by row the same; None where no row has all three.
    """
    found = [m for m in overlapping(workload, window) if m.shadow] if workload.key else []
    found = [m for m in found if pair in (None, _pair(m))]
    if not found:
        return None
    last = found[-1]
    found = [m for m in found if _pair(m) == _pair(last)]
    truth = _truth(workload, window, last.version)
    if truth is None:
        return None
    theirs = pa.concat_tables([read_shadow(m) for m in found])
    ours = _answers([read_published(m) for m in found], workload).join(
        theirs.select(list(workload.key)), list(workload.key), join_type="left semi"
    )
    # A join keeps no order.
    order = [(name, "ascending") for name in workload.key]
    first = _join(workload, ours, truth, last.version, order)
    second = _join(workload, theirs, truth, find_version(workload, last.challenger), order)
    return None if first is None or second is None else (first, second)


def _answers(tables: list[pa.Table], workload: Workload) -> pa.Table:
    """Put what was published of several windows together, without explanations.

    They may name other features, and another number of them, in each. Windows of which a version
    of other classes or keys has answered are left out: the newest one's columns count.
    """
    own = {*workload.key, workload.time}
    names = [n for n in tables[-1].schema.names if n in own or not _EXPLANATION.fullmatch(n)]
    fit = [table.select(names) for table in tables if {*names} <= {*table.schema.names}]
    return pa.concat_tables([table for table in fit if table.schema.equals(fit[-1].schema)])


def _pair(manifest: Manifest) -> tuple[str, str]:
    return manifest.version.version, manifest.challenger


def _truth(workload: Workload, window: Window | None, version: ServedVersion) -> pa.Table | None:
    """Read keys and labels of a window, one row a key, as far as they keep the contract."""
    try:
        raw = sources.read_window(workload, window)
    except EmptyWindowError:
        return None
    if workload.target not in raw.schema.names:
        return None
    contract = load_version(version, workload.trusted).contract
    good = check_rows(raw, contract, roles=("key", "time", "target")).good
    good = good.filter(good.column(workload.target).is_valid())
    good = good.filter(pa.array(~duplicated(good, workload.key)))
    return good.select([*workload.key, workload.target]) if good.num_rows else None


def _join(
    workload: Workload,
    said: pa.Table,
    truth: pa.Table,
    version: ServedVersion,
    order: list[tuple[str, str]] | None = None,
) -> Labelled | None:
    """Join what a version said with the truth; of several rows with one key the first counts."""
    # Arrow joins no dictionaries that differ; who answered, and why, is not asked here.
    said = said.select([f.name for f in said.schema if not pa.types.is_dictionary(f.type)])
    said = said.filter(pa.array(~duplicated(said, workload.key)))
    joined = said.join(truth, list(workload.key), join_type="inner", use_threads=False)
    if joined.num_rows == 0:
        return None
    if order:
        joined = joined.sort_by(order)
    target = load_version(version, workload.trusted).scorer.target
    y = target.encode(joined.column(target.name))
    return Labelled(y, _predictions(joined, target), loss_blocks(joined, workload))


def _predictions(table: pa.Table, target: Target) -> Predictions:
    if target.task == "regression":
        return Predictions(table.column("prediction").to_numpy())
    codes = target.encode(table.column("prediction"))
    if len(target.classes) == 2:
        second = table.column("probability").to_numpy()
        return Predictions(codes, np.column_stack([1 - second, second]))
    shares = [table.column(f"probability_{c}").to_numpy() for c in target.classes]
    return Predictions(codes, np.column_stack(shares))
