"""What a simulated replay saves: the same policies over the same weeks, with engines and without.

Both ways in one run, on a home of their own each; what a server of Prefect uses counts as well.
Prints wall and CPU seconds of both, their ratio, and whether both say the same.
"""

import argparse
import os
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

START, WEEK = datetime(2012, 4, 6, tzinfo=UTC), timedelta(days=7)
ROOT = Path(__file__).parent.parent


def cpu_seconds() -> float:
    """Return CPU seconds of this process and of all its children, ended or not."""
    here = psutil.Process()
    own = sum(here.cpu_times()[:4])
    return own + sum(sum(c.cpu_times()[:4]) for c in here.children(recursive=True))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weeks", type=int, default=4)
    parser.add_argument("--policy", action="append")
    arguments = parser.parse_args()
    policies = tuple(arguments.policy or ("never", "every:14d"))
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        shutil.copytree(ROOT / "data" / "workloads", home / "data" / "workloads")
        os.environ["TWINLOOP_HOME"] = str(home)
        from tasks.servers import prefect_server, set_environment

        set_environment(home / ".prefect")
        from flows.replay_history import replay_history
        from flows.replay_policies import replay_policies

        took, said = {}, {}
        with prefect_server():
            for name, replay in (("flows", replay_history), ("simulated", replay_policies)):
                wall, cpu = time.perf_counter(), cpu_seconds()
                result = replay("bikes", policies, START, START + arguments.weeks * WEEK, WEEK)
                took[name] = time.perf_counter() - wall, cpu_seconds() - cpu
                said[name] = [
                    [(t.error, t.decision, t.reason, t.verdict, t.champion) for t in p.ticks]
                    for p in result.policies
                ]
                print(f"{name:10} {took[name][0]:7.1f} s wall, {took[name][1]:7.1f} s CPU")
    wall, cpu = (a / b for a, b in zip(took["flows"], took["simulated"], strict=True))
    same = said["flows"] == said["simulated"]
    print(f"simulated is {wall:.1f} times as fast, with 1/{cpu:.1f} of the CPU time; same: {same}")
    assert same


if __name__ == "__main__":
    main()
