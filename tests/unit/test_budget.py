"""The budget of a workload file: what it bounds, and how it goes with older keys."""

import pytest

from twinloop.errors import WorkloadError
from twinloop.workload import Overrides
from twinloop.workload_file import parse_workload

TEXT = """
name: city
task: regression
source: {{kind: simulated, hours: 48, start: "2026-01-01T00:00:00Z"}}
time: timestamp
target: rentals
{more}
"""


@pytest.mark.parametrize(
    ("more", "minutes"),
    [
        ("", 10),
        ("budget: {training: {run: {minutes: 30}}}", 30),
        ("budget: {training: {run: {minutes: 30}}}\ntraining: {budget: {minutes: 3}}", 3),
        ("budget: {training: {run: {money: 1}}}", 10),
    ],
)
def test_candidates_have_all_the_time_of_the_run_unless_given_less(
    more: str, minutes: float
) -> None:
    """A longer run is not cut short by a default nobody wrote."""
    workload = parse_workload(TEXT.format(more=more), "city.yaml", {})
    assert workload.training.budget.minutes == minutes
    assert Overrides(budget_minutes=1).apply(workload).training.budget.minutes == 1


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("{training: {run: {mony: 1}}}", "money"),
        ("{training: {hard: true}}", "budget.training.hard"),
        ("{month: {money: 0}}", "budget.month.money"),
        ("{monitoring: {month: {money: 1}}}", "budget.monitoring"),
    ],
)
def test_what_is_no_budget_is_refused(budget: str, said: str) -> None:
    """Naming the key, and the nearest one."""
    with pytest.raises(WorkloadError, match=said):
        parse_workload(TEXT.format(more=f"budget: {budget}"), "city.yaml", {})
