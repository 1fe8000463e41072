"""What it takes to read 10,000 runs: `twinloop runs` and `twinloop costs` beside a plain client.

A handful of real runs (trainings, scored windows, drift checks) is copied, children with their
parents, until the store holds as many as asked for. Every way is a process of its own, from its
start to its end, as a person waits for it; ways are taken in turns.

    python benchmarks/ledger.py [runs] [rounds]
"""

import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parent.parent
START = datetime(2026, 2, 1, tzinfo=UTC)
WORKLOAD = """
name: city
task: regression
source: {kind: simulated, hours: 1440, start: "2026-01-01T00:00:00Z"}
time: timestamp
key: [timestamp]
target: rentals
metric: rmsle
training: {holdout: 7d, folds: 2, candidates: [baseline, linear]}
"""
PLAIN = """
from tasks.tracking import client
found, token = [], None
mlflow_client = client()
experiment = mlflow_client.get_experiment_by_name("city").experiment_id
while True:
    page = mlflow_client.search_runs([experiment], max_results=1000, page_token=token)
    found += page
    token = page.token
    if not token:
        break
print(len(found), sum(r.data.metrics.get("cost/money", 0.0) for r in found))
"""
WAYS = {
    "a plain loop of search_runs": ["-c", PLAIN],
    "import mlflow, nothing else": ["-c", "import mlflow"],
    "twinloop runs": ["-m", "flows.cli", "runs", "city"],
    "twinloop costs": ["-m", "flows.cli", "costs", "city"],
    "twinloop costs, of all": ["-m", "flows.cli", "costs"],
    "twinloop costs --export": ["-m", "flows.cli", "costs", "city", "--export", "costs.parquet"],
}


def make_real_runs() -> None:
    """Train twice, score two windows with each version, and watch."""
    from tasks.servers import prefect_server, set_environment
    from tasks.settings import settings

    set_environment(settings().prefect_home)
    with prefect_server():
        from flows.score_batch import score_batch
        from flows.train_model import train_model
        from flows.watch_drift import watch_drift
        from twinloop.window import Window

        for week in range(2):
            at = START + timedelta(days=7 * week)
            train_model("city", as_of=at)
            for day in range(2):
                end = at + timedelta(days=day + 1)
                score_batch("city", Window(start=end - timedelta(days=1), end=end), end)
            watch_drift("city", at + timedelta(days=3))


def copy_runs(database: Path, wanted: int) -> int:
    """Copy all runs there are, an hour earlier each time, until there are enough."""
    with sqlite3.connect(database) as store:
        runs = store.execute("SELECT * FROM runs").fetchall()
        names = [c[1] for c in store.execute("PRAGMA table_info(runs)")]
        key, start, end = (names.index(n) for n in ("run_uuid", "start_time", "end_time"))
        parts = {}
        for table in ("metrics", "latest_metrics", "tags", "params"):
            columns = [c[1] for c in store.execute(f"PRAGMA table_info({table})")]
            rows = store.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - ours
            parts[table] = (columns, rows)
        for copy in range(1, -(-wanted // len(runs))):
            ids = {run[key]: uuid.uuid4().hex for run in runs}
            earlier = copy * 3_600_000
            added = []
            for run in runs:
                new = list(run)
                new[key], new[start], new[end] = (
                    ids[run[key]],
                    run[start] - earlier,
                    run[end] - earlier,
                )
                added.append(new)
            _insert(store, "runs", added)
            for table, (columns, rows) in parts.items():
                _insert(store, table, [_moved(columns, row, ids, copy) for row in rows])
        return int(store.execute("SELECT count(*) FROM runs").fetchone()[0])


def _moved(columns: list[str], row: tuple[object, ...], ids: dict[str, str], copy: int) -> list:  # type: ignore[type-arg]
    """Return a row of a copied run: other ids, other versions, somewhat other numbers."""
    new = list(row)
    new[columns.index("run_uuid")] = ids[str(row[columns.index("run_uuid")])]
    at = columns.index("value")
    name, value = row[columns.index("key")], row[at]
    if name == "mlflow.parentRunId":
        new[at] = ids[str(value)]
    elif name in ("twinloop.version", "twinloop.from", "twinloop.to") and value:
        new[at] = str(int(str(value)) + 2 * copy)
    elif isinstance(value, float):
        new[at] = value * (1 + (copy % 97) / 1000)
    return new


def _insert(store: sqlite3.Connection, table: str, rows: list[list[object]]) -> None:
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        store.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - ours


def timed(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Run a process; return its seconds by the clock and of CPU."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Make the store, take the times, print them."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    home = Path(tempfile.mkdtemp(prefix="ledger-"))
    try:
        (home / "data" / "workloads").mkdir(parents=True)
        (home / "data" / "workloads" / "city.yaml").write_text(WORKLOAD)
        os.environ |= {"TWINLOOP_HOME": str(home), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        make_real_runs()
        n = copy_runs(home / "mlflow" / "store" / "mlflow.db", wanted)
        size = (home / "mlflow" / "store" / "mlflow.db").stat().st_size / 1e6
        print(f"{n:,} runs, a database of {size:.0f} MB; {rounds} rounds, medians")
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
        for _ in range(rounds):
            for name, arguments in WAYS.items():
                taken[name].append(timed(arguments, home))
        first = [statistics.median(t) for t in zip(*taken[next(iter(WAYS))], strict=True)]
        print(f"{'':30} {'wall s':>8} {'CPU s':>8} {'ratio of CPU':>13}")
        for name, times in taken.items():
            wall, cpu = (statistics.median(t) for t in zip(*times, strict=True))
            print(f"{name:30} {wall:8.2f} {cpu:8.2f} {cpu / first[1]:13.2f}")
    finally:
        if os.environ.get("KEEP") != "1":
            shutil.rmtree(home)
        else:
            print(home)


if __name__ == "__main__":
    main()
