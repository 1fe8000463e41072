"""Train by Twinloop's own flow on a workload and predict the rows of its holdout.

``python ours.py FOLDER OUT SECONDS CORES``, like ``others.py``; `TWINLOOP_HOME` is an empty folder.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq


def main() -> None:
    """Train, predict, and say what it took."""
    folder, out, _, cores = sys.argv[1:]
    os.environ["TWINLOOP_THREADS"] = cores
    os.environ["TWINLOOP_WORKLOAD_FILE"] = str(Path(out) / "workload.yaml")
    about = json.loads((Path(folder) / "about.json").read_text())
    from tasks.servers import prefect_server

    with prefect_server():
        from flows.train_model import train_model
        from tasks.registry import load_version, versions
        from tasks.settings import load_workload

        start = time.perf_counter()
        result = train_model(about["name"], as_of=pd.Timestamp(about["as_of"]).to_pydatetime())
        fitted = time.perf_counter()
        version = versions(load_workload(about["name"]))[0]
        scorer = load_version(version).scorer
        table = pq.read_table(Path(folder) / "held.parquet")
        start_predicting = time.perf_counter()
        answers = scorer.predict(table)
        done = time.perf_counter()
    if version.data_digest != about["digest"]:
        raise SystemExit(f"trained on {version.data_digest}, not on {about['digest']}")
    columns = {"value": np.asarray(answers.value, float)}
    if answers.probability is not None:
        columns = {f"p{i}": p for i, p in enumerate(answers.probability.T)}
    columns["chosen"] = np.asarray(answers.value, float)
    pd.DataFrame(columns).to_parquet(Path(out) / "predictions.parquet")
    means = {c.name: round(c.valid, 5) for c in result.board.candidates}
    used = {
        "fit_seconds": fitted - start,
        "predict_seconds": done - start_predicting,
        "note": result.winner,
        "board": means,
        "skipped": list(result.board.skipped),
    }
    (Path(out) / "used.json").write_text(json.dumps(used))


if __name__ == "__main__":
    main()
