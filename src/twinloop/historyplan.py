"""The log plan of a choice of history: what was compared, with its numbers."""

from collections.abc import Iterator, Sequence

from twinloop.evaluation import watched_metric
from twinloop.histories import Compared, choice_words, choose
from twinloop.logplan import LogItem, Metric, Table, Tag, Text
from twinloop.verdictplan import markdown_table
from twinloop.workload import Workload

# The choice, as JSON, with the run that made it.
TAG = "twinloop.history"
# The workload's own window, which the choice was made for.
OWN_TAG = "twinloop.history_of"
REASON_TAG = "twinloop.history_reason"


def plan_histories(compared: Sequence[Compared], workload: Workload) -> Iterator[LogItem]:
    """Yield the log of a choice of history."""
    chosen, metric = choose(compared), watched_metric(workload.metric)
    words = choice_words(compared)
    heads = ("history", metric.name, "saved", "standard error", "rows", "CPU s", "")
    rows = tuple(
        (
            c.history.words,
            f"{metric.of_mean(c.error):.4g}",
            f"{c.gain:+.3g}",
            f"{c.standard_error:.2g}",
            str(c.rows),
            f"{c.cpu_seconds:.2f}",
            "chosen" if c.history == chosen else "",
        )
        for c in compared
    )
    yield Tag(TAG, chosen.model_dump_json())
    yield Tag(OWN_TAG, compared[0].history.words)
    yield Tag(REASON_TAG, words)
    yield Table("histories", f"How far back: {words}", heads, rows)
    page = markdown_table(heads, rows)
    yield Text("histories.md", f"# How far back\n\n{words}\n\n{page}\n")
    yield Metric("history/options", float(len(compared)))
    yield Metric("history/cpu_s", sum(c.cpu_seconds for c in compared))
