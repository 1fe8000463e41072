"""The log plan of a comparison of refit and continuation: who did better, and what each took."""

from collections.abc import Iterator

from twinloop.continuation import Contest
from twinloop.evaluation import watched_metric
from twinloop.logplan import LogItem, Metric, Table, Tag, Text
from twinloop.verdictplan import markdown_table
from twinloop.workload import Workload

# `continuation` or `refit`, and why; where there was nothing to compare only the reason.
TAG = "twinloop.made_as"
REASON_TAG = "twinloop.made_as_reason"
# MLflow would refuse a tag of 8,000 characters; so long a reason nobody reads.
LONGEST_TAG = 4000


def plan_contest(contest: Contest, workload: Workload) -> Iterator[LogItem]:
    """Yield the log of a comparison of refit and continuation, CPU seconds of both included."""
    metric, words = watched_metric(workload.metric), contest.words
    heads = ("", metric.name, "saved", "standard error", "rows fitted", "CPU s")
    rows = tuple(
        (
            name,
            f"{metric.of_mean(c.error):.4g}",
            f"{c.gain:+.3g}",
            f"{c.standard_error:.2g}",
            str(c.rows),
            f"{c.cpu_seconds:.3f}",
        )
        for name, c in (("refit", contest.refit), ("continuation", contest.grown))
    )
    yield Tag(TAG, contest.better)
    yield Tag(REASON_TAG, words[:LONGEST_TAG])
    yield Table("continuation", f"Refit or continuation: {words}", heads, rows)
    page = markdown_table(heads, rows)
    yield Text("continuation.md", f"# Refit or continuation\n\n{words}\n\n{page}\n")
    yield Metric("continuation/refit_cpu_s", contest.refit.cpu_seconds)
    yield Metric("continuation/grown_cpu_s", contest.grown.cpu_seconds)
    yield Metric("continuation/chosen", float(contest.better == "continuation"))


def plan_no_contest(words: str) -> Iterator[LogItem]:
    """Yield why nothing was continued."""
    yield Tag(REASON_TAG, f"nothing to continue: {words}"[:LONGEST_TAG])
