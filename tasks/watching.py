"""Watching: recent windows against what the champion was trained on, and late labels."""

from datetime import datetime

from tasks.labelling import Labelled, find_labels, find_shadow_labels
from tasks.metering import step
from tasks.published import overlapping, read_profile
from tasks.registry import Loaded, ServedVersion, load_version
from tasks.tracking import TrackedRun
from twinloop.decision import Decision, Harm, assess_harm, decide
from twinloop.drift import compare_profiles, windows_ahead
from twinloop.errors import EmptyWindowError
from twinloop.evaluation import METRICS, block_means, watched_metric
from twinloop.logplan import Metric, Tag, plan_decision
from twinloop.profile import Profile, combine
from twinloop.window import Window, window_before
from twinloop.workload import Workload


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
        ahead=windows_ahead(loaded.reference, window),
    )
    labelled = find_labels(workload, label_window(workload, as_of), champion)
    harm = _harm(workload, loaded, labelled)
    share = profile.quarantined / max(profile.read, 1)
    decision = decide(features, harm, share, workload)
    run.rows = profile.rows
    run.log(plan_decision(decision))
    run.log(_accuracy(workload, champion, labelled))
    run.log(_shadow(workload, label_window(workload, as_of)))
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
    profiles = [
        read_profile(manifest)
        for manifest in overlapping(workload, window)
        if manifest.version == champion
    ]
    if not profiles:
        raise EmptyWindowError(
            f"{workload.id!r}: {champion.label} has scored nothing in {window or 'any window'}.",
            f"Score first: `twinloop score {workload.name}`.",
        )
    return combine(profiles, loaded.reference.binning)


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
