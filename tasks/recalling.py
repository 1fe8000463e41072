"""Recalling: what earlier drift checks found, and what came of them, from the ledger."""

from datetime import datetime, timedelta

from tasks.bookkeeping import read_bounds
from tasks.earlier import earlier_runs
from tasks.published import overlapping
from tasks.registry import ServedVersion, champion_moves, versions
from tasks.tracking import TrackedRun
from twinloop.budget import Amounts, spent_limits
from twinloop.decision import NEW_LABELS, Decision
from twinloop.evaluation import METRICS, Metric
from twinloop.guards import Circumstances
from twinloop.outlookplan import ANSWERED
from twinloop.watches import Watch, asked_in_vain, calls_before, last_answered
from twinloop.window import Window, as_utc, newest_parts
from twinloop.workload import Workload

# So many checks are read back, whatever they found: of hourly ones those of six weeks.
_MOST = 1000
# Those that called are looked for further back.
_CALLED = (
    "tags.`twinloop.decision` = 'retrain'",
    f"tags.`twinloop.cause_of_retraining` = '{NEW_LABELS}'",
)


def past_watches(workload: Workload, as_of: datetime, run: TrackedRun) -> tuple[Watch, ...]:
    """Read earlier checks of a workload, or of its replay, the oldest first.

    Of several of one moment the last that ran counts. Where there are very many, the newest, and
    those of before that called for a retraining: what was asked once is not to be forgotten.
    """
    runs = earlier_runs(workload, "monitoring", run, limit=_MOST)[::-1]
    if len(runs) == _MOST:
        known = {one.info.run_id for one in runs}
        for more in _CALLED:
            calls = earlier_runs(workload, "monitoring", run, more=more, limit=_MOST)
            runs += [one for one in calls if one.info.run_id not in known]
    found: dict[datetime, Watch] = {}
    runs.sort(key=lambda r: int(r.info.start_time))
    for one in runs:
        watch = Watch.of(workload.metric, one.data.metrics, one.data.tags)
        found[watch.as_of] = watch
    return tuple(found[moment] for moment in sorted(found) if moment < as_of)


def circumstances(
    workload: Workload,
    champion: ServedVersion,
    decision: Decision,
    past: tuple[Watch, ...],
    run: TrackedRun,
) -> Circumstances:
    """Gather what the guards of a retraining have to know."""
    as_of = run.as_of
    trained = [at for at in _trainings(workload, run) if at <= as_of]
    answers = [*trained, *_answers(workload, as_of, run)]
    calls, last = calls_before(past, decision.cause, answers, champion.version)
    called = [w.as_of for w in past if w.called]
    answered = last_answered(past, answers)
    return Circumstances(
        since_training=as_of - max(trained) if trained else None,
        new_rows=_new_rows(workload, champion, as_of),
        calls=calls,
        since_call=as_of - last.as_of if last else None,
        since_any=as_of - max(called) if called else None,
        since_answer=as_of - answered if answered else None,
        idle=asked_in_vain(past, answers, _made_champion(workload, champion, as_of)),
        worsened=_worsened(decision, last, METRICS[workload.metric]),
        spent=spent_budgets(workload),
    )


def _made_champion(workload: Workload, champion: ServedVersion, as_of: datetime) -> datetime:
    """Return when a version came to serve: as it was trained, or later where it was rolled back to.

    What led to the version that had to give way again was not asked in vain.
    """
    moves = (m.at for m in champion_moves(workload) if m.became == champion.version)
    return max([champion.trained_at, *(at for at in moves if at <= as_of)])


def _trainings(workload: Workload, run: TrackedRun) -> list[datetime]:
    """Return when versions were trained; in a replay, those of this one: a sandbox keeps others."""
    found = versions(workload)
    if run.replay:
        mine = {one.info.run_id for one in earlier_runs(workload, "training", run)}
        found = [version for version in found if version.run_id in mine]
    return [version.trained_at for version in found]


def _worsened(decision: Decision, last: Watch | None, metric: Metric) -> float | None:
    """Return the error now as a multiple of that at the last call; None where one is unknown."""
    now = decision.expectation.realised if decision.expectation else None
    if last is None or last.realised is None or now is None:
        return None
    then = metric.distance(last.realised)
    return metric.distance(now) / then if then > 0 else None


def _answers(workload: Workload, as_of: datetime, run: TrackedRun) -> list[datetime]:
    """Return when retrainings were meant for that chose a course, be it that none was to be.

    Those that were put off because too little was new yet are no answer.
    """
    chose = f"tags.`{ANSWERED}` = 'yes'"
    found = earlier_runs(workload, "retraining", run, more=chose)
    moments = [as_utc(datetime.fromisoformat(r.data.tags["twinloop.as_of"])) for r in found]
    return [moment for moment in moments if moment < as_of]


def _new_rows(workload: Workload, champion: ServedVersion, as_of: datetime) -> int | None:
    """Count rows scored since the newest that the champion was fitted on, labels due.

    Of a window that begins earlier, ends later than labels are known, or lies in part in a newer
    one, its share counts.
    """
    if workload.time is None or champion.until is None:
        return None
    since = datetime.fromtimestamp(champion.until / 1e6, as_of.tzinfo)
    until = as_of - workload.monitoring.labels_after
    if until <= since:
        return 0
    found = overlapping(workload, Window(start=since, end=until))
    scored = {m.window: m.scored for m in found if m.window is not None}
    rows = 0.0
    for window, part in newest_parts(list(scored)):
        counted = min(part.end, until) - max(part.start, since)
        if counted > timedelta(0):
            rows += scored[window] * (counted / (window.end - window.start))
    return int(rows)


def spent_budgets(workload: Workload) -> str:
    """Say which budgets of this month are spent; those of a replay never are."""
    if workload.sandbox:
        return ""
    over = spent_limits(read_bounds(workload, "training"))
    return " and ".join(limit.words(Amounts(), workload.prices.currency) for limit in over)
