"""The log plan of a verdict: table, page, numbers and plot."""

from collections.abc import Iterator
from functools import partial

from twinloop.logplan import LogItem, Metric, Plot, Table, Tag, Text
from twinloop.plots import verdict_plot
from twinloop.results import TrainingResult
from twinloop.verdict import Check, Verdict

_HEADS = ("check", "outcome", "number", "interval", "limit", "what was found")
_MOST_SLICES = 10
_LONGEST_TAG = 4000


def plan_verdict(verdict: Verdict) -> Iterator[LogItem]:
    """Yield the log of a verdict: why, each reason with its number, and the gains by slice."""
    yield Tag("twinloop.verdict", verdict.outcome)
    yield Tag("twinloop.verdict_reason", verdict.reason[:_LONGEST_TAG])
    yield Text("verdict.json", verdict.model_dump_json(indent=1))
    rows = tuple(_row(c) for c in verdict.checks)
    yield Text("verdict.md", _page(verdict, rows))
    yield Table(
        "verdict", f"{verdict.outcome}: {verdict.reason}", _HEADS, rows or (_bare(verdict),)
    )
    for name in ("champion", "challenger", "gain", "low", "high"):
        value = getattr(verdict, name)
        if value is not None:
            yield Metric(f"verdict/{name}", value)
    for check in verdict.checks:
        yield from _numbers(check)
    if verdict.gain is not None:
        yield Plot("plots/verdict.png", partial(verdict_plot, verdict))


def _numbers(check: Check) -> Iterator[LogItem]:
    """Yield the numbers of a check; those of the gain are the verdict's own."""
    if check.name == "gain" or check.number is None:
        return
    for part in ("number", "low", "high", "limit"):
        value = getattr(check, part)
        if value is not None:
            name = check.name if part == "number" else f"{check.name}_{part}"
            yield Metric(f"verdict/{name}", value)


def _row(check: Check) -> tuple[str, ...]:
    interval = "" if check.low is None else f"[{check.low:+.4g}, {check.high:+.4g}]"
    return (
        check.name,
        check.outcome,
        "" if check.number is None else f"{check.number:.4g}",
        interval,
        "" if check.limit is None else f"{check.limit:.4g}",
        check.words,
    )


def _bare(verdict: Verdict) -> tuple[str, ...]:
    """Return the one line of a verdict without checks: a first version, or nothing to compare."""
    score = "" if verdict.challenger is None else f"{verdict.challenger:.4g}"
    return "rows", verdict.outcome, score, "", "", verdict.reason


def _page(verdict: Verdict, rows: tuple[tuple[str, ...], ...]) -> str:
    """Write a verdict in Markdown."""
    parts = [f"# Verdict: {verdict.outcome}", verdict.reason]
    if rows:
        parts.append(markdown_table(_HEADS, rows))
    if verdict.slices:
        parts.append(
            f"## Gain by slice\n\nThe worst of {len(verdict.slices)}; p of having got worse, "
            "one-sided, corrected for their number."
        )
        parts.append(
            markdown_table(
                ("slice", "rows", "champion", "challenger", "gain", "interval", "p"),
                tuple(
                    (
                        s.name,
                        str(s.rows),
                        f"{s.champion:.4g}",
                        f"{s.challenger:.4g}",
                        f"{s.gain:+.4g}",
                        f"[{s.low:+.4g}, {s.high:+.4g}]",
                        f"{s.p_worse:.2g}",
                    )
                    for s in verdict.slices[:_MOST_SLICES]
                ),
            )
        )
    return "\n\n".join(parts) + "\n"


def markdown_table(heads: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    """Write a table in Markdown; a bar in a cell would end it, and becomes a slash."""
    lines = (heads, ("---",) * len(heads), *rows)
    return "\n".join(f"| {' | '.join(c.replace('|', '/') for c in cells)} |" for cells in lines)


def plan_retraining(
    reason: str,
    cause: str,
    refusal: str,
    result: TrainingResult | None,
    expected: tuple[str, float] | None = None,
) -> Iterator[LogItem]:
    """Yield the log of a retraining: why, and what came of it.

    Parameters
    ----------
    reason, cause
        What called for it.
    refusal
        Why nothing was trained.
    result
        What was; None if nothing.
    expected
        Metric and score that the champion promised: the accuracy of a retraining that left it.
    """
    yield Tag("twinloop.reason", reason)
    yield Tag("twinloop.cause", cause)
    if result is None:
        yield Tag("twinloop.verdict", refusal)
        if expected is not None:
            yield Metric(f"accuracy/{expected[0]}", expected[1])
            yield Tag("twinloop.accuracy", "expected")
        return
    yield Metric(f"accuracy/{result.metric}", result.holdout)
    yield Tag("twinloop.accuracy", "holdout")
    yield from plan_verdict(result.verdict)
