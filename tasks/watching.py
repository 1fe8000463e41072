"""Watching: recent windows against what the champion was trained on, and late labels."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from tasks import sources
from tasks.fitting import loss_blocks
from tasks.metering import step
from tasks.published import PROFILE, Manifest, published, read_published
from tasks.registry import Loaded, ServedVersion, load_version
from tasks.tracking import TrackedRun
from twinloop.contract import check_rows, duplicated
from twinloop.drift import Decision, Harm, assess_harm, compare_profiles, decide
from twinloop.errors import EmptyWindowError
from twinloop.evaluation import METRICS, block_means, watched_metric
from twinloop.logplan import Metric, Tag, plan_decision
from twinloop.profile import Profile, combine
from twinloop.scorer import Predictions, Target
from twinloop.window import Window, window_before
from twinloop.workload import Workload


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


def watch_window(workload: Workload, as_of: datetime) -> Window | None:
    """Return the window a watch looks at; None where rows have no time."""
    if workload.time is None:
        return None
    return window_before(as_of, workload.monitoring.window)


def label_window(workload: Workload, as_of: datetime) -> Window | None:
    """Return the newest window of the watch's length whose labels are known."""
    if workload.time is None:
        return None
    monitoring = workload.monitoring
    return window_before(as_of, monitoring.window, monitoring.labels_after)


@step
def check_drift(
    workload: Workload, champion: ServedVersion, as_of: datetime, run: TrackedRun
) -> Decision:
    """Compare what the champion scored lately with what it was trained on, and decide.

    Raises
    ------
    EmptyWindowError
        If nothing was scored in the window.
    """
    window = watch_window(workload, as_of)
    loaded = load_version(champion, workload.trusted)
    profile = _recent_profile(workload, champion, window, loaded)
    features = compare_profiles(
        loaded.reference,
        profile,
        alpha=workload.monitoring.alpha,
        min_effect=workload.monitoring.min_effect,
    )
    labelled = find_labels(workload, label_window(workload, as_of), champion)
    harm = _harm(workload, loaded, labelled)
    share = profile.quarantined / max(profile.read, 1)
    decision = decide(features, harm, share, workload)
    run.rows = profile.rows
    run.log(plan_decision(decision))
    run.log(_accuracy(workload, champion, labelled))
    return decision


def _accuracy(
    workload: Workload, champion: ServedVersion, labelled: Labelled | None
) -> list[Metric | Tag]:
    """Give the realised metric where labels have come, else the one the holdout promised."""
    name = f"accuracy/{workload.metric}"
    if labelled is None:
        return [Metric(name, champion.score), Tag("twinloop.accuracy", "expected")]
    value = METRICS[workload.metric].score(labelled.y, labelled.predictions)
    return [Metric(name, value), Tag("twinloop.accuracy", "realised")]


def _recent_profile(
    workload: Workload, champion: ServedVersion, window: Window | None, loaded: Loaded
) -> Profile:
    profiles = [
        Profile.model_validate_json((manifest.place / PROFILE).read_bytes())
        for manifest in _overlapping(workload, window)
        if manifest.version == champion
    ]
    if not profiles:
        raise EmptyWindowError(
            f"{workload.id!r}: {champion.label} has scored nothing in {window or 'any window'}.",
            f"Score first: `twinloop score {workload.name}`.",
        )
    return combine(profiles, loaded.reference.binning)


def _overlapping(workload: Workload, window: Window | None) -> list[Manifest]:
    return [
        m
        for m in published(workload)
        if window is None
        or m.window is None
        or (m.window.start < window.end and m.window.end > window.start)
    ]


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
    found = [m for m in _overlapping(workload, window) if champion is None or m.version == champion]
    if not found:
        return None
    loaded = load_version(found[-1].version, workload.trusted)
    truth = _truth(workload, window, loaded)
    if truth is None:
        return None
    scored = pa.concat_tables([read_published(m) for m in found])
    keys = list(workload.key)
    truth = truth.filter(pa.array(~duplicated(truth, workload.key)))
    truth = truth.select([*keys, workload.target])
    scored = scored.filter(pa.array(~duplicated(scored, workload.key)))
    joined = scored.join(truth, keys, join_type="inner", use_threads=False)
    if joined.num_rows == 0:
        return None
    target = loaded.scorer.target
    y = target.encode(joined.column(target.name))
    return Labelled(y, _predictions(joined, target), loss_blocks(joined, workload))


def _truth(workload: Workload, window: Window | None, loaded: Loaded) -> pa.Table | None:
    """Read keys and labels of a window, as far as they are there and keep the contract."""
    try:
        raw = sources.read_window(workload, window)
    except EmptyWindowError:
        return None
    if workload.target not in raw.schema.names:
        return None
    good = check_rows(raw, loaded.contract, roles=("key", "time", "target")).good
    good = good.filter(good.column(workload.target).is_valid())
    return good if good.num_rows else None


def _predictions(table: pa.Table, target: Target) -> Predictions:
    if target.task == "regression":
        return Predictions(table.column("prediction").to_numpy())
    codes = target.encode(table.column("prediction"))
    if len(target.classes) == 2:
        second = table.column("probability").to_numpy()
        return Predictions(codes, np.column_stack([1 - second, second]))
    shares = [table.column(f"probability_{c}").to_numpy() for c in target.classes]
    return Predictions(codes, np.column_stack(shares))


def _harm(workload: Workload, loaded: Loaded, labelled: Labelled | None) -> Harm | None:
    if labelled is None:
        return None
    metric = watched_metric(workload.metric)
    assert metric.row_loss is not None  # noqa: S101 - watched metrics have one
    losses = metric.row_loss(labelled.y, labelled.predictions)
    return assess_harm(
        loaded.reference,
        block_means(losses, labelled.blocks),
        len(losses),
        alpha=workload.monitoring.alpha,
        tolerance=workload.monitoring.tolerance,
        of_mean=metric.of_mean,
    )
