"""Score a batch: the champion predicts a window, bad rows go to quarantine."""

from contextlib import suppress
from datetime import datetime

from flows.form import run_name
from tasks.budgeting import name_over_budget, within_budget
from tasks.engines import flow
from tasks.published import Manifest
from tasks.registry import resolve_champion
from tasks.scoring import missed_windows, score_rows, scoring_window
from tasks.settings import load_workload, moment_of
from tasks.tracking import tracked_run
from twinloop.errors import TwinloopError
from twinloop.window import Window
from twinloop.workload import Workload


@flow(
    name="score-batch",
    flow_run_name=run_name("score"),
    on_completion=[name_over_budget],
    on_failure=[name_over_budget],
)
def score_batch(
    workload: str,
    window: Window | None = None,
    as_of: datetime | None = None,
    champion_at: datetime | None = None,
) -> Manifest:
    """Score a window with the champion and publish predictions, whole or not at all.

    A run that was given no window is a scheduled one: having scored its own, it makes up for those
    that earlier ones missed, each by the version that was champion at its end, in a run of its own.

    Parameters
    ----------
    workload
        Name of the workload.
    window
        Rows to score, UTC; default the newest whole inference window before `as_of`.
    as_of
        The moment the run is meant for, UTC; default its scheduled time.
    champion_at
        Score with the version that was champion then, UTC; default the one that is now.
    """
    spec, moment = load_workload(workload), moment_of(as_of)
    span = window or scoring_window(spec, moment)
    with (
        tracked_run(spec, "inference", window=span, as_of=moment) as run,
        within_budget(spec, "inference", span, run),
    ):
        champion = resolve_champion(spec, champion_at)
        manifest = score_rows(spec, champion, span, run)
        run.rows = None if manifest.reused else manifest.read
    if window is None:
        _make_up(spec, moment)
    return manifest


def _make_up(workload: Workload, moment: datetime) -> None:
    missed_ones: list[Window] = []
    with suppress(TwinloopError):
        missed_ones = missed_windows(workload, moment)
    for missed in missed_ones:
        # One that cannot be made up for says so in its own run, and keeps no other from it.
        with suppress(TwinloopError):
            score_batch(workload.id, missed, missed.end, missed.end)
