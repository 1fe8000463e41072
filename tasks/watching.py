"""Watching: recent windows against what the champion was trained on, and late labels."""

import math
from contextlib import suppress
from datetime import datetime

import numpy as np

from tasks.labelling import Labelled, find_labels, find_shadow_labels
from tasks.metering import step
from tasks.published import overlapping, read_profile
from tasks.recalling import circumstances, past_watches
from tasks.registry import Loaded, ServedVersion, load_version
from tasks.settings import settings
from tasks.showing import show_picture
from tasks.tracking import TrackedRun
from tasks.viewing import file_address
from twinloop.decision import Decision, Expectation, decide, guarded
from twinloop.drift import compare_profiles, windows_ahead
from twinloop.errors import EmptyWindowError
from twinloop.evaluation import METRICS, block_means, watched_metric
from twinloop.harm import Harm, Period, assess_harm
from twinloop.logplan import Metric, Tag, plan_decision, plan_drift_page
from twinloop.profile import Profile, combine
from twinloop.watches import (
    Watch,
    loss_names,
    past_checks,
    past_periods,
    watch_of,
    with_record,
)
from twinloop.window import Window, newest_parts, window_before
from twinloop.workload import Workload

# Days, or bunches of rows, that are looked at by themselves: what began lately shows there first.
_LOOKS = (7, 4)
# Of a window that overlaps newer ones more than this share must be its own for its rows to count.
_ITS_OWN = 0.9


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
) -> tuple[Decision, tuple[Watch, ...]]:
    """Compare what the champion scored lately with what it was trained on, and decide.

    Returns
    -------
    tuple of Decision and tuple of Watch
        The decision, and the earlier checks that it was made in the light of, the oldest first.

    Raises
    ------
    EmptyWindowError
        If nothing was scored in the window.
    """
    loaded, window = load_version(champion, workload.trusted), watch_window(workload, as_of)
    profile = _recent_profile(workload, champion, window, loaded)
    features = compare_profiles(
        loaded.reference,
        profile,
        alpha=workload.monitoring.alpha,
        min_effect=workload.monitoring.min_effect,
        ahead=windows_ahead(loaded.reference, window),
        span=None if window is None else window.end - window.start,
    )
    past = past_watches(workload, as_of, run)
    labelled = find_labels(workload, label_window(workload, as_of), champion)
    losses = _losses(workload, labelled)
    harm = _harm(workload, loaded, losses, 0 if labelled is None else len(labelled.y), past, as_of)
    known = _expectation(workload, champion, loaded, profile, labelled, past, as_of)
    share = profile.quarantined / max(profile.read, 1)
    decision = decide(features, harm, share, workload, known)
    found = circumstances(workload, champion, decision, past, run)
    decision = guarded(decision, found, workload)
    run.rows = profile.rows
    version = Tag("twinloop.version", champion.version)
    run.log(plan_watched(version, losses, labelled, workload.metric))
    run.log(_accuracy(workload, champion, labelled))
    run.log(_shadow(workload, label_window(workload, as_of)))
    return decision, past


@step
def show_decision(
    workload: Workload,
    champion: ServedVersion,
    decision: Decision,
    past: tuple[Watch, ...],
    run: TrackedRun,
) -> None:
    """Log a decision once nothing changes it any more, and the page of the check.

    Parameters
    ----------
    workload, champion
        Whose rows, and who answered them.
    decision
        What the check concluded.
    past
        Earlier checks, the oldest first.
    run
        Of the check.
    """
    run.log(plan_decision(decision, workload.metric))
    course = (*past, watch_of(decision, run.as_of, champion.version))
    run.log(plan_drift_page(decision, course, workload))
    _show_course(workload, run)


def _show_course(workload: Workload, run: TrackedRun) -> None:
    """Put the metric over time on the page of the flow run, where MLflow has pages."""
    page = settings().mlflow_page or settings().mlflow_uri
    if page.startswith("http"):
        title = f"{workload.metric} over time"
        address = file_address(page, run.run_id, "plots/metric_over_time.png")
        show_picture(workload, "metric-over-time", title, address)


def plan_watched(
    version: Tag, losses: np.ndarray | None, labelled: Labelled | None, metric: str
) -> list[Metric | Tag]:
    """Give what later watches read of this one: who served, and what its rows lost by block."""
    if losses is None or labelled is None:
        return [version]
    period = Period.of(losses)
    numbers = (Metric(n, getattr(period, f)) for f, n in loss_names(metric).items())
    return [version, Metric("rows/labelled", len(labelled.y)), *numbers]


def _accuracy(
    workload: Workload, champion: ServedVersion, labelled: Labelled | None
) -> list[Metric | Tag]:
    """Give the realised metric where labels have come, else the one the holdout promised."""
    if labelled is None:
        name = f"accuracy/{champion.metric}"
        return [Metric(name, champion.score), Tag("twinloop.accuracy", "expected")]
    value = METRICS[workload.metric].score(labelled.y, labelled.predictions)
    return [Metric(f"accuracy/{workload.metric}", value), Tag("twinloop.accuracy", "realised")]


def _shadow(workload: Workload, window: Window | None) -> list[Metric]:
    """Give the realised metric of the champion and of its challenger, on rows both answered."""
    found = find_shadow_labels(workload, window)
    if found is None:
        return []
    metric, name = METRICS[workload.metric], workload.metric
    pairs = zip(("champion", "challenger"), found, strict=True)
    scores = [
        Metric(f"shadow/{who}_{name}", metric.score(known.y, known.predictions))
        for who, known in pairs
    ]
    return [*scores, Metric("shadow/labels", len(found[0].y))]


def _recent_profile(
    workload: Workload, champion: ServedVersion, window: Window | None, loaded: Loaded
) -> Profile:
    """Merge the profiles of what the champion scored in a window, each moment once.

    A window of which newer ones cover a tenth or more is left out: a profile is whole or not at
    all. So is a profile of other bins, which an older release counted by.
    """
    found = [m for m in overlapping(workload, window) if m.version == champion]
    timed = [m.window for m in found if m.window is not None]
    newest = {window for window, _ in newest_parts(timed, _ITS_OWN)}
    bins = loaded.reference.binning.digest
    profiles = [read_profile(m) for m in found if m.window is None or m.window in newest]
    profiles = [profile for profile in profiles if profile.bins == bins]
    if not profiles:
        raise EmptyWindowError(
            f"{workload.id!r}: {champion.label} has scored nothing in {window or 'any window'}"
            f"{', as this release counts' if found else ''}.",
            f"Score first: `twinloop score {workload.name}`.",
        )
    return combine(profiles, loaded.reference.binning)


def _losses(workload: Workload, labelled: Labelled | None) -> np.ndarray | None:
    """Return the mean loss of each block of labelled rows, the oldest first."""
    if labelled is None:
        return None
    metric = watched_metric(workload.metric)
    assert metric.row_loss is not None  # noqa: S101 - watched metrics have one
    return block_means(metric.row_loss(labelled.y, labelled.predictions), labelled.blocks)


def _harm(
    workload: Workload,
    loaded: Loaded,
    losses: np.ndarray | None,
    n_rows: int,
    past: tuple[Watch, ...],
    as_of: datetime,
) -> Harm | None:
    metric = watched_metric(workload.metric)
    # A champion of before the metric was changed promised nothing of this one.
    if losses is None or loaded.reference.loss != metric.name:
        return None
    monitoring = workload.monitoring
    return assess_harm(
        loaded.reference,
        losses,
        n_rows,
        alpha=monitoring.alpha,
        tolerance=monitoring.tolerance,
        of_mean=metric.of_mean,
        looks=_LOOKS,
        past=past_periods(past, monitoring.window, as_of),
    )


def _expectation(
    workload: Workload,
    champion: ServedVersion,
    loaded: Loaded,
    profile: Profile,
    labelled: Labelled | None,
    past: tuple[Watch, ...],
    as_of: datetime,
) -> Expectation:
    """Estimate the metric without labels, and hold earlier estimates to the labels since."""
    span, gauge = workload.monitoring.window, loaded.gauge
    # An estimate is as good as the gauge it comes from: each version has its own.
    past = tuple(w for w in past if w.version == champion.version)
    checks = past_checks(past, span)
    promised = champion.score if champion.metric == workload.metric else None
    realised = checked = None
    if labelled is not None:
        realised = METRICS[workload.metric].score(labelled.y, labelled.predictions)
        realised = realised if math.isfinite(realised) else None
    # A gauge of before the metric was changed tells of another one.
    if gauge is None or gauge.metric != workload.metric:
        return Expectation(promised=promised, realised=realised)
    if labelled is not None:
        # Where they were scored by an older release, nothing tells what was expected of them.
        with suppress(EmptyWindowError):
            then = _recent_profile(workload, champion, label_window(workload, as_of), loaded)
            checked = gauge.estimate(then.expected, checks)
    known = Expectation(
        promised=promised,
        estimate=gauge.estimate(profile.expected, checks),
        checked=checked,
        realised=realised,
    )
    return with_record(known, past, as_of, span)
