"""A home with rows to score and a fitted model, without MLflow: what a window's output hangs on."""

import os
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks import scoring
from tasks.published import Manifest
from tasks.registry import Loaded, ServedVersion
from tasks.settings import load_workload
from tasks.storage import write_parquet
from twinloop.binning import learn_binning
from twinloop.contract import check_rows, infer_contract
from twinloop.profile import Reference
from twinloop.scorer import learn_target
from twinloop.validation import fit_scorer
from twinloop.window import Window

ROWS, PART_ROWS, BATCH_ROWS = 1_000, 50, 50
WORKLOAD = f"""
name: shop
task: binary
source: {{kind: files, path: "data/raw/*"}}
key: [order]
target: paid
metric: log_loss
columns:
  weight: {{minimum: 0, maximum: 100}}
  kind: {{levels: [parcel, letter, pallet]}}
  size: {{required: true}}
inference: {{batch_rows: {BATCH_ROWS}, part_rows: {PART_ROWS}, quarantine_limit: 0.2}}
"""
KINDS = ["parcel", "letter", "pallet"]


def orders(n_rows: int = ROWS, seed: int = 0) -> pa.Table:
    """Return orders that keep the contract; one in a hundred of each column may be null."""
    draw = np.random.default_rng(seed)
    weight, kind = draw.uniform(1, 99, n_rows), draw.integers(0, 3, n_rows)
    null = draw.random(n_rows) < 0.01
    return pa.table(
        {
            "order": np.arange(n_rows),
            "weight": pa.array(weight, mask=null),
            "kind": pa.array([KINDS[k] for k in kind], pa.string()),
            "size": draw.normal(size=n_rows),
            "paid": draw.random(n_rows) < weight / 100,
        }
    )


def dirty_orders() -> pa.Table:
    """Return orders of which some break the contract, and some come twice."""
    table = orders()
    weight = table.column("weight").fill_null(1.0).to_numpy().copy()
    weight[::97] = -1.0
    order = table.column("order").to_numpy().copy()
    order[700::31] = order[:10]
    columns = {"order": pa.array(order), "weight": pa.array(weight)}
    return pa.table(columns | {n: table.column(n) for n in ("kind", "size", "paid")})


def make_home(home: Path, rows: pa.Table, workload: str = WORKLOAD) -> Path:
    """Lay out a home: a workload file and one Parquet file of rows."""
    (home / "data" / "raw").mkdir(parents=True)
    (home / "data" / "workloads").mkdir()
    (home / "data" / "workloads" / "shop.yaml").write_text(workload, encoding="utf-8")
    write_parquet(rows, home / "data" / "raw" / "rows.parquet")
    return home


@cache
def loaded(candidate: str = "linear") -> Loaded:
    """Fit a model on orders of another day."""
    return fit(orders(seed=1), candidate)


def fit(rows: pa.Table, candidate: str = "linear") -> Loaded:
    """Fit a model on rows, by the workload of the home."""
    workload = load_workload("shop")
    contract = infer_contract(rows, workload, "orders")
    good = check_rows(rows, contract).good
    target = learn_target(good, workload)
    scorer = fit_scorer(good, candidate, target, contract, workload, threads=1)
    X = scorer.encoding.encode(good)
    said = scorer.predict_matrix(X)
    binning = learn_binning(scorer.encoding, X, said, target)
    importance = (1 / X.shape[1],) * X.shape[1]
    reference = Reference(
        binning=binning,
        whole=binning.count(X, said),
        windows=(),
        importance=importance,
        loss="log_loss",
        losses=(0.5,),
    )
    return Loaded(scorer, contract, reference, b"")


def version(number: int = 1) -> ServedVersion:
    """Return the handle of a version."""
    return ServedVersion(
        name="shop",
        version=str(number),
        run_id=f"{number:032x}",
        source="",
        digest=f"{number:064x}",
        metric="log_loss",
        score=0.5,
        until=None,
        holdout="",
        data_digest="",
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def publish(
    number: int = 1, challenger: int | None = None, window: Window | None = None
) -> Manifest:
    """Score rows with a version, in this process; all of them unless there is a window."""
    named = None if challenger is None else version(challenger)
    return scoring.publish(load_workload("shop"), version(number), window, "run", named)


def files(home: Path) -> dict[str, bytes]:
    """Read all that a window's output is made of, hidden files too."""
    lake = home / "data" / "lake" / "shop"
    found = (p for p in sorted(lake.rglob("*")) if p.is_file() and "locks" not in p.parts)
    return {str(p.relative_to(lake)): p.read_bytes() for p in found}


def main() -> None:
    """Score the home's rows in a new process for each line that comes in; tell how each ended.

    A process forked from one that has everything imported is there in milliseconds.
    """
    model = loaded()
    setattr(scoring, "load_version", lambda *_: model)  # noqa: B010 - types know better
    print("ready", flush=True)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            publish()
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
