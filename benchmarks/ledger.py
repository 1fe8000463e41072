"""What it takes to read 10,000 runs: `twinloop runs` and `twinloop costs` beside a plain client.

A handful of real runs (trainings, scored windows, drift checks) is copied, children with their
parents, until the store holds as many as asked for. Every way is a process of its own, from its
start to its end, as a person waits for it; ways are taken in turns.

    python benchmarks/ledger.py [runs] [rounds]
"""

import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks import frame
else:
    import frame

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
PLAIN_WAY = "a plain loop of search_runs"
_WAYS = ("runs", "costs", "costs --html", "costs --export")
MOST_SECONDS = {f"twinloop {way}": 3.0 for way in _WAYS}
WAYS = {
    PLAIN_WAY: ["-c", PLAIN],
    "import mlflow, nothing else": ["-c", "import mlflow"],
    "twinloop runs": ["-m", "flows.cli", "runs", "city"],
    "twinloop costs": ["-m", "flows.cli", "costs", "city"],
    "twinloop costs, of all": ["-m", "flows.cli", "costs"],
    "twinloop costs --html": ["-m", "flows.cli", "costs", "city", "--html", "costs.html"],
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


def main() -> int:
    """Make the store, take the times, and hold them to their targets."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "data" / "workloads").mkdir(parents=True)
        (home / "data" / "workloads" / "city.yaml").write_text(WORKLOAD)
        os.environ |= {"TWINLOOP_HOME": folder, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        make_real_runs()
        database = home / "mlflow" / "store" / "mlflow.db"
        n, size = copy_runs(database, wanted), database.stat().st_size / 1e6
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
        for _ in range(rounds):
            for name, arguments in WAYS.items():
                taken[name].append(timed(arguments, home))
    medians = {
        name: tuple(statistics.median(t) for t in zip(*times, strict=True))
        for name, times in taken.items()
    }
    plain = medians[PLAIN_WAY][1]
    frame.show_rows(
        f"{n:,} runs, a database of {size:.0f} MB; medians of {rounds} rounds, whole processes",
        ("way", "seconds", "CPU seconds", "share of the plain loop's CPU"),
        [
            (m, f"{wall:.2f}", f"{cpu:.2f}", f"{cpu / plain:.3f}")
            for m, (wall, cpu) in medians.items()
        ],
    )
    return frame.finish(
        "ledger",
        [
            # Of CPU: how long that takes by the clock hangs on what else the machine does.
            frame.Figure(
                f"{way.replace(' --', '_').replace(' ', '_')}_cpu_seconds",
                medians[way][1],
                most,
                "s",
            )
            for way, most in MOST_SECONDS.items()
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
