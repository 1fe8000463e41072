"""Inspecting: signs of leakage in a snapshot, before anything is fitted on it."""

from tasks.metering import step
from tasks.preparing import Snapshot
from tasks.tracking import TrackedRun
from tasks.validating import open_study
from twinloop.leakage import Finding, find_leaks, refuse_leaks
from twinloop.logplan import plan_leakage
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
    study = open_study(workload, snapshot)
    findings = find_leaks(study.table, snapshot.contract, study.target, study.split, workload)
    run.log(plan_leakage(findings))
    refuse_leaks(findings)
    return findings
