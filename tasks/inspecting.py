"""Inspecting: signs of leakage in a snapshot, before anything is fitted on it."""

from tasks.fitting import split_table
from tasks.metering import step
from tasks.preparing import Snapshot
from tasks.tracking import TrackedRun
from twinloop.leakage import Finding, find_leaks, refuse_leaks
from twinloop.logplan import plan_leakage
from twinloop.scorer import learn_target
from twinloop.workload import Workload


@step
def inspect_snapshot(
    workload: Workload, snapshot: Snapshot, run: TrackedRun
) -> tuple[Finding, ...]:
    """Look for leaks, log what was found, and stop where the workload says so.

    Raises
    ------
    LeakageError
        If there is a finding whose check is set to ``fail``.
    """
    table = snapshot.table()
    target = learn_target(table, workload)
    split = split_table(table, target, workload)
    findings = find_leaks(table, snapshot.contract, target, split, workload)
    run.log(plan_leakage(findings))
    refuse_leaks(findings)
    return findings
