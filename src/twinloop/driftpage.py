"""The page of a drift check: the decision, why, and the metric over all checks so far."""

from collections.abc import Sequence

from twinloop.amounts import brackets
from twinloop.course import by_effect, draw_columns, draw_course
from twinloop.decision import ROLLED_BACK, Decision
from twinloop.estimate import Estimate
from twinloop.evaluation import METRICS
from twinloop.page import Drawing, Grid, Page, Section, Words, brief
from twinloop.profile import PREDICTION
from twinloop.watches import Watch, missed_lately
from twinloop.workload import Workload

_MOST_SHOWN = 26
_MEANING = {
    "fine": "nothing to do",
    "watch": "something moved; no retraining is called for",
    "retrain": "a retraining is called for",
}
_BLIND = (
    "The estimate tells what the metric should be if the answer to the same input is still the "
    "same: it sees rows move to where the model errs more. A changed concept, the same input with "
    "another answer, it cannot see, nor what happens at values that were never seen before. Only "
    "labels tell of that.",
    "Its interval covers the size of the sample, and how far such estimates were from the truth "
    "before, in past windows of the training rows and in earlier checks whose labels have come.",
)


def write_drift_page(decision: Decision, watches: Sequence[Watch], workload: Workload) -> Page:
    """Write the page of a drift check.

    Parameters
    ----------
    decision
        What it concluded.
    watches
        All checks so far in order of time, this one the last.
    workload
        Whose.
    """
    now, metric = watches[-1], workload.metric
    shown = tuple(watches[-_MOST_SHOWN:])
    past = Grid(
        ("check", "champion", metric, "estimated", "interval", "promised", "decision", "cause"),
        tuple(_line(w) for w in reversed(shown)),
        numbers=(2, 3, 4, 5),
        marked=tuple(i for i, w in enumerate(reversed(shown)) if w.action == "retrain"),
    )
    better = "greater" if METRICS[metric].greater_is_better else "smaller"
    sections = [
        Section("Why", (Words(decision.reasons, points=True),)),
        Section(
            f"{metric} over time",
            (
                Drawing("All checks so far", (draw_course(tuple(watches), metric),), (), past),
                Words((f"{better.capitalize()} is better. The band is the estimate's interval.",)),
            ),
        ),
    ]
    if decision.features:
        columns = Grid(
            ("column", "moved by", "p", "share of the model", "drifted"),
            tuple(
                (
                    "(predictions)" if f.column == PREDICTION else f.column,
                    f"{f.distance:.3f}",
                    f"{f.p_value:.2g}",
                    "" if f.column == PREDICTION else f"{f.importance:.1%}",
                    "yes" if f.drifted else "",
                )
                for f in by_effect(decision.features)
            ),
            numbers=(1, 2, 3),
        )
        sections.append(
            Section(
                "Columns, by effect",
                (Drawing("How far each moved", (draw_columns(decision.features),), (), columns),),
            )
        )
    sections += [
        Section("What an estimate cannot see", (Words(_BLIND),)),
        Section("The last checks", (past,)),
    ]
    return Page(
        title=f"{workload.id}: {decision.action}",
        lead=f"Drift check of {now.as_of:%Y-%m-%d %H:%M} UTC, champion version {now.version}.",
        tiles=_tiles(decision, watches, workload),
        sections=tuple(sections),
    )


def _tiles(
    decision: Decision, watches: Sequence[Watch], workload: Workload
) -> tuple[tuple[str, str, str], ...]:
    metric, known = workload.metric, decision.expectation
    held = f"held back, {decision.held}" if decision.held else _MEANING[decision.action]
    held = "the champion was rolled back" if decision.held == ROLLED_BACK else held
    tiles: list[tuple[str, str, str]] = [("Decision", decision.action, held)]
    if known is None:
        return tuple(tiles)
    if known.estimate is not None:
        tiles.append(
            (f"{metric}, estimated", brief(known.estimate.value), _interval(known.estimate))
        )
    realised = "no labels yet" if known.realised is None else brief(known.realised)
    promised = "nothing" if known.promised is None else brief(known.promised)
    tiles.append((f"{metric}, realised", realised, f"{promised} promised"))
    # Each version estimates by itself.
    mine = [w for w in watches if w.version == watches[-1].version]
    missed, of = missed_lately(mine, workload.monitoring.window)
    if of:
        trust = "weighs in" if known.trusted else "does not count now"
        tiles.append(("Estimates lately", f"{of - missed} of {of} right", trust))
    drifted = len(decision.drifted)
    tiles.append(("Columns drifted", str(drifted), f"of {len(decision.features)} compared"))
    return tuple(tiles)


def _interval(estimate: Estimate) -> str:
    return f"95 % interval {brackets(estimate.low, estimate.high)}"


def _line(watch: Watch) -> tuple[str, ...]:
    def say(value: float | None) -> str:
        return "" if value is None else brief(value)

    known = watch.low is not None and watch.high is not None
    return (
        f"{watch.as_of:%Y-%m-%d}",
        f"v{watch.version}" if watch.version else "",
        say(watch.realised),
        say(watch.estimated),
        brackets(watch.low, watch.high) if known else "",  # type: ignore[arg-type]
        say(watch.promised),
        f"{watch.action}, held" if watch.held else watch.action,
        watch.cause,
    )


def short_page(decision: Decision, watches: Sequence[Watch], workload: Workload) -> str:
    """Write what the page of a flow run shows, in Markdown: the decision, why, the last checks."""
    from twinloop.page import to_markdown

    whole = write_drift_page(decision, watches, workload)
    keep = [s for s in whole.sections if s.title in ("Why", "The last checks")]
    return to_markdown(Page(whole.title, whole.lead, whole.tiles, tuple(keep)))
