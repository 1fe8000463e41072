"""The tables that the systems are compared on, each divided once for all of them."""

import json
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import sources
from tasks.preparing import prepare_snapshot, training_window
from tasks.settings import read_workload, settings
from tasks.validating import split_table
from twinloop.encoding import share
from twinloop.evaluation import block_ids
from twinloop.scorer import learn_target
from twinloop.splitting import Split
from twinloop.validation import times_of
from twinloop.vocabulary import Task
from twinloop.workload import Workload

TARGET, DAYS = "__target__", "__days__"
_SHIPPED = ("diabetes", "breast_cancer", "digits", "bikes")
_CITY = {
    "name": "city",
    "task": "regression",
    "source": {"kind": "simulated", "generator": "bikes", "seed": 11, "hours": 100_000},
    "time": "timestamp",
    "key": ["timestamp"],
    "target": "rentals",
    "metric": "rmsle",
}
_MOST_CLASSES = 20
_MICROSECONDS_A_DAY = 86_400_000_000


@dataclass(frozen=True)
class Table:
    """A divided table, in files of a folder.

    Attributes
    ----------
    folder
        ``train.parquet`` (features and target as all systems learn it), ``test.parquet`` (features
        alone), ``held.parquet`` (the test rows as Twinloop scores them), ``about.json``.
    y : np.ndarray, shape (n_rows,)
        The truth of the test rows: numbers, or codes of classes.
    blocks : np.ndarray of int64, shape (n_rows,)
        Test rows of one block hang together: days, or groups.
    """

    name: str
    folder: Path
    workload: Workload
    rows: int
    classes: int
    log: bool
    y: np.ndarray
    blocks: np.ndarray


def known_sets() -> dict[str, Workload]:
    """Return the workloads that need nothing given, and the real bikes where their file is."""
    shipped = [*_SHIPPED, *(["bikes_real"] if os.environ.get("TWINLOOP_BIKES_CSV") else [])]
    folder = Path(__file__).parents[2] / "data" / "workloads"
    found = {name: read_workload(folder / f"{name}.yaml") for name in shipped}
    return found | {"city": Workload.model_validate(_CITY)}


def given_set(
    path: Path, target: str | None, time: str | None, task: Task | None, ignore: tuple[str, ...]
) -> Workload:
    """Describe a table given on the command line, or read the workload that describes one."""
    if path.suffix in (".yaml", ".yml"):
        return _anywhere(read_workload(path))
    if target is None:
        raise SystemExit(f"{path}: --target is needed, the column to predict")
    found = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    if target not in found:
        raise SystemExit(f"{path}: no column {target!r}; there are {', '.join(found.columns)}")
    name = "".join(c if c.isalnum() else "_" for c in path.stem.lower())
    return Workload.model_validate(
        {
            "name": name if name[0].isalpha() else f"t_{name}",
            "task": task or _task(found[target]),
            "source": {"kind": "files", "path": str(path.resolve())},
            "target": target,
            "time": time,
            "ignore": ignore,
        }
    )


def _anywhere(workload: Workload) -> Workload:
    """Return a workload whose files are found from any home folder."""
    if workload.source.kind != "files":
        return workload
    path = str(settings().root / workload.source.path)
    source = workload.source.model_copy(update={"path": path})
    return workload.model_copy(update={"source": source})


def _task(column: pd.Series) -> Task:
    n = column.nunique()
    if n == 2:
        return "binary"
    few = n <= _MOST_CLASSES and not pd.api.types.is_float_dtype(column)
    return "multiclass" if few or not pd.api.types.is_numeric_dtype(column) else "regression"


def divide(workload: Workload, folder: Path, home: Path) -> Table:
    """Prepare and divide a table as `train_model` would, and write it for all systems.

    They get the same columns: the workload's features, parts of the time with them. Twinloop knows
    the time besides, and weighs rows by it; so the others get it too, as a number.
    """
    os.environ["TWINLOOP_HOME"] = str(home)
    as_of = pd.Timestamp("2100-01-01", tz="UTC").to_pydatetime()
    if workload.time is not None and (ends := sources.time_span(workload)):
        as_of = ends[1] + workload.monitoring.labels_after + timedelta(seconds=1)
    window = training_window(workload, as_of)
    snapshot = prepare_snapshot.fn(workload, window)
    table = snapshot.table()
    target = learn_target(table, workload)
    split = split_table(table, target, workload)
    features = _features(table, share(table, snapshot.contract, workload).features)
    times = times_of(table, workload)
    folder.mkdir(parents=True, exist_ok=True)
    y = target.encode(table.column(workload.target))
    about: dict[str, Any] = {
        "name": workload.name,
        "as_of": as_of.isoformat(),
        "digest": snapshot.digest,
        "seed": workload.seed,
        "n_classes": len(target.classes),
        "optimise": "rmse" if target.log else workload.metric,
        "by_time": times is not None,
        "split": split.description,
    }
    if times is not None:
        features = features.append_column(DAYS, pa.array(times / _MICROSECONDS_A_DAY))
        about["time"] = DAYS
    (folder / "about.json").write_text(json.dumps(about, indent=1))
    _write(table, features, np.log1p(y) if target.log else y, split, folder)
    held = None if times is None else times[split.holdout]
    blocks = block_ids(held, len(split.holdout))
    if times is None and workload.group is not None:
        group = table.column(workload.group).take(pa.array(split.holdout))
        _, blocks = np.unique(group.to_numpy(), return_inverse=True)
    return Table(
        workload.name,
        folder,
        workload,
        len(split.train),
        len(target.classes),
        target.log,
        y[split.holdout],
        blocks,
    )


def _features(table: pa.Table, features: Any) -> pa.Table:
    columns = {}
    for f in features:
        column = table.column(f.source)
        if f.how in ("hour", "weekday", "month"):
            parts = column.to_pandas().dt
            values = {"hour": parts.hour, "weekday": parts.dayofweek, "month": parts.month}[f.how]
            columns[f.name] = pa.array(values, from_pandas=True)
        else:
            columns[f.name] = column
    return pa.table(columns)


def _write(table: pa.Table, features: pa.Table, y: np.ndarray, split: Split, folder: Path) -> None:
    train, held = pa.array(split.train), pa.array(split.holdout)
    seen = features.take(train).append_column(TARGET, pa.array(y[split.train]))
    pq.write_table(seen, folder / "train.parquet")
    pq.write_table(features.take(held), folder / "test.parquet")
    pq.write_table(table.take(held), folder / "held.parquet")
