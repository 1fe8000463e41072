"""What scoring a million rows costs beside the limit, and beside the usual ways.

The same XGBoost model of 300 trees of depth 6 answers the same rows, from Parquet to Parquet: an
integer key and 30 mixed columns, which are 17 numbers (2 % missing), 8 categories as text, 3 truths
and 2 times.

- the limit: the predictor alone on a float32 matrix that lies in memory, and beside it the Parquet
  file read and the answers written, with nothing in between;
- Twinloop: the rows held to their contract, keys looked through, encoded, predicted, counted for
  the drift check, digested, and published in parts with a manifest;
- a scikit-learn pipeline, streamed in batches of 65,536 rows;
- pandas, `mlflow.pyfunc` (a model logged with its signature) and ``to_parquet``, all rows at once.

CPU seconds are of all threads. Memory is measured in processes of their own, at one, ten and (with
``--full``) thirty million rows. What the profile takes is measured on a single thread, where the
rest of a batch's work is.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost as xgb

if TYPE_CHECKING:
    from benchmarks import frame
else:
    import frame

ROWS, LEVELS = 1_000_000, 20
NUMBERS = [f"x{i}" for i in range(17)]
TEXTS = [f"c{i}" for i in range(8)]
TRUTHS = [f"b{i}" for i in range(3)]
TIMES = [f"t{i}" for i in range(2)]
DAY = 86_400_000_000
TREES, DEPTH, FITTED = 300, 6, 50_000
GROUP, BATCH = 131_072, 65_536
ROUNDS = 3
MOST_MEGABYTES, MOST_GROWTH = 600, 1.10
WORKLOAD = """
name: mixed
task: regression
source: {kind: files, path: "data/raw/*.parquet"}
key: [row]
target: y
metric: rmse
"""


def main() -> int:
    """Measure."""
    if "--memory" in sys.argv:
        return _peak(Path(sys.argv[-1]))
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        _lay_out(home, ROWS)
        ways = _ways(home)
        samples = frame.interleave(ways, rounds=ROUNDS)
        frame.show_samples(samples)
        figures = _compare(samples)
        figures.append(_profile_share())
        figures += _memory()
    return frame.finish("inference", figures)


def _compare(samples: dict[str, frame.Samples]) -> list[frame.Figure]:
    cpu = {name: s.cpus for name, s in samples.items()}
    wall = {name: s.walls for name, s in samples.items()}
    ours = "Twinloop"
    return [
        frame.Figure(
            "times_limit",
            frame.median_ratio(cpu[ours], cpu["limit"]),
            1.3,
            "x",
            meaning="CPU of Twinloop, times the limit",
        ),
        frame.Figure(
            "pipeline_cpu",
            frame.median_ratio(cpu["pipeline"], cpu[ours]),
            1.4,
            "x",
            at_least=True,
            meaning="CPU of a scikit-learn pipeline in batches, times Twinloop",
        ),
        frame.Figure(
            "pyfunc_cpu",
            frame.median_ratio(cpu["pyfunc"], cpu[ours]),
            2.0,
            "x",
            at_least=True,
            meaning="CPU of pandas and pyfunc, times Twinloop",
        ),
        frame.Figure(
            "pyfunc_wall",
            frame.median_ratio(wall["pyfunc"], wall[ours]),
            2.5,
            "x",
            at_least=True,
            meaning="wall time of pandas and pyfunc, times Twinloop",
        ),
    ]


# -- the table, the model, and a home with both ----------------------------------------------------


def _lay_out(home: Path, rows: int) -> None:
    """Make a home with a workload and its rows."""
    raw = home / "data" / "raw"
    raw.mkdir(parents=True)
    workloads = home / "data" / "workloads"
    workloads.mkdir()
    (workloads / "mixed.yaml").write_text(WORKLOAD, encoding="utf-8")
    first = _table(0, GROUP)
    with pq.ParquetWriter(raw / "rows.parquet", first.schema, write_page_checksum=True) as file:
        for start in range(0, rows, GROUP):
            file.write_table(_table(start, min(GROUP, rows - start)))


def _table(start: int, rows: int) -> pa.Table:
    rng = np.random.default_rng(start)
    X = rng.normal(size=(rows, len(NUMBERS)))
    codes = rng.integers(0, LEVELS, (rows, len(TEXTS)))
    truths = rng.random((rows, len(TRUTHS))) < 0.3
    days = rng.uniform(18_000, 20_000, (rows, len(TIMES)))
    y = 2 * X[:, 0] + np.sin(3 * X[:, 1]) + X[:, 2] * X[:, 3] + 0.1 * codes[:, 0]
    y += (codes[:, 1] == 3) + truths[:, 0] + days[:, 0] / 1000 + rng.normal(size=rows)
    X[rng.random(X.shape) < 0.02] = np.nan
    names = pa.array([f"level {i}" for i in range(LEVELS)])
    columns = {"row": pa.array(np.arange(start, start + rows))}
    columns |= {n: pa.array(X[:, i], from_pandas=True) for i, n in enumerate(NUMBERS)}
    columns |= {n: names.take(pa.array(codes[:, i])) for i, n in enumerate(TEXTS)}
    columns |= {n: pa.array(truths[:, i]) for i, n in enumerate(TRUTHS)}
    micros = (days * DAY).astype("datetime64[us]")
    columns |= {n: pa.array(micros[:, i]) for i, n in enumerate(TIMES)}
    return pa.table(columns | {"y": y})


@lru_cache
def _model() -> Any:
    """Fit the model, and return what a registered version of it would load to."""
    from tasks.registry import Loaded
    from tasks.settings import load_workload
    from twinloop.binning import learn_binning
    from twinloop.candidates import Predictor
    from twinloop.contract import check_rows, infer_contract
    from twinloop.encoding import share
    from twinloop.profile import Reference
    from twinloop.scorer import Scorer, learn_target

    workload, table = load_workload("mixed"), _table(0, FITTED)
    contract = infer_contract(table, workload, "made up")
    good = check_rows(table, contract).good
    encoding = share(good, contract, workload).fit(np.arange(good.num_rows))
    X, target = encoding.encode(good), learn_target(good, workload)
    y = target.encode(good.column("y"))
    params = {"max_depth": DEPTH, "eta": 0.1, "tree_method": "hist", "seed": 0}
    booster = xgb.train(params, xgb.QuantileDMatrix(X, y), TREES)
    scorer = Scorer(encoding, Predictor("xgboost", booster, 0), target)
    said = scorer.predict_matrix(X)
    binning = learn_binning(encoding, X, said, target)
    whole = binning.count(X, said)
    shares = (1 / X.shape[1],) * X.shape[1]
    reference = Reference(
        binning=binning, whole=whole, windows=(), importance=shares, loss="rmse", losses=()
    )
    return Loaded(scorer, contract, reference, b"")


def _version() -> Any:
    from tasks.registry import ServedVersion

    return ServedVersion(
        name="mixed",
        version="1",
        run_id="0" * 32,
        source="",
        digest="0" * 64,
        metric="rmse",
        score=1.0,
        until=None,
        holdout="",
        data_digest="",
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def _write_model(home: Path) -> None:
    from tasks.registering import version_files

    loaded = _model()
    (home / "model").mkdir()
    for name, content in version_files(loaded.scorer, loaded.contract, loaded.reference).items():
        (home / "model" / name).write_bytes(content)


def _read_model(home: Path) -> Any:
    from tasks.registry import Loaded
    from twinloop import serving
    from twinloop.contract import Contract
    from twinloop.profile import Reference
    from twinloop.scorer import from_files

    files = serving.read_files(home / "model")
    return Loaded(
        from_files(serving.scorer_files(files)),
        Contract.model_validate_json(files[serving.CONTRACT]),
        Reference.model_validate_json(files[serving.REFERENCE]),
        b"",
    )


def _ways(home: Path) -> dict[str, Callable[[], object]]:
    os.environ["TWINLOOP_HOME"] = str(home)
    loaded = _model()
    return {
        "limit": _limit(home, loaded),
        "Twinloop": _twinloop(home),
        "pipeline": _pipeline(home),
        "pyfunc": _pyfunc(home),
    }


def _limit(home: Path, loaded: Any) -> Callable[[], object]:
    path, out = home / "data" / "raw" / "rows.parquet", home / "limit.parquet"
    X = np.concatenate(
        [
            np.ascontiguousarray(loaded.scorer.encoding.encode(pa.Table.from_batches([batch])))
            for batch in pq.ParquetFile(path).iter_batches(BATCH)
        ]
    )
    booster = loaded.scorer.predictor.model
    answers = pa.table({"row": np.arange(len(X)), "prediction": booster.inplace_predict(X)})

    def run() -> None:
        booster.inplace_predict(X)
        with pq.ParquetFile(
            path, read_dictionary=TEXTS, pre_buffer=False, page_checksum_verification=True
        ) as file:
            for _ in file.iter_batches(BATCH, use_threads=False):
                pass
        pq.write_table(answers, out, write_page_checksum=True)

    return run


def _twinloop(home: Path) -> Callable[[], object]:
    from tasks import scoring
    from tasks.settings import load_workload

    version, workload = _version(), load_workload("mixed")
    loaded = _read_model(home) if (home / "model").is_dir() else _model()
    # The model comes from memory; loading one from MLflow takes milliseconds, whatever the rows.
    setattr(scoring, "load_version", lambda *_: loaded)  # noqa: B010 - types know better

    def run() -> None:
        shutil.rmtree(home / "data" / "lake", ignore_errors=True)
        manifest = scoring.publish(workload, version, None, "run")
        assert manifest.scored == manifest.read == ROWS or "--memory" in sys.argv

    return run


def _pipeline(home: Path) -> Callable[[], object]:
    model = _fitted_pipeline()

    def run() -> None:
        path, out = home / "data" / "raw" / "rows.parquet", home / "pipeline.parquet"
        schema = pa.schema([("row", pa.int64()), ("prediction", pa.float32())])
        with pq.ParquetFile(path, pre_buffer=False) as file, pq.ParquetWriter(out, schema) as to:
            for batch in file.iter_batches(BATCH):
                rows = batch.to_pandas()
                said = model.predict(rows)
                to.write_table(pa.table({"row": rows["row"], "prediction": said}, schema))

    return run


@lru_cache
def _fitted_pipeline() -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer(
        [
            ("numbers", "passthrough", NUMBERS + TRUTHS),
            (
                "texts",
                encoder,
                TEXTS,
            ),
            ("times", FunctionTransformer(_days), TIMES),
        ]
    )
    model = make_pipeline(
        columns, xgb.XGBRegressor(n_estimators=TREES, max_depth=DEPTH, learning_rate=0.1)
    )
    rows = _table(0, FITTED).to_pandas()
    return model.fit(rows[NUMBERS + TEXTS + TRUTHS + TIMES], rows["y"])


def _days(times: pd.DataFrame) -> pd.DataFrame:
    return times.astype("int64") / DAY


def _pyfunc(home: Path) -> Callable[[], object]:
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow.models import infer_signature

    place, model = home / "pyfunc", _fitted_pipeline()
    some = _table(0, 1000).to_pandas()[NUMBERS + TEXTS + TRUTHS + TIMES]
    mlflow.sklearn.save_model(
        model,
        place,
        pip_requirements=["scikit-learn"],
        signature=infer_signature(some, model.predict(some)),
        serialization_format="cloudpickle",
    )
    served = mlflow.pyfunc.load_model(str(place))

    def run() -> None:
        rows = pd.read_parquet(home / "data" / "raw" / "rows.parquet")
        said = served.predict(rows)
        answers = pd.DataFrame({"row": rows["row"], "prediction": said})
        answers.to_parquet(home / "pyfunc.parquet")

    return run


# -- the profile, and memory -----------------------------------------------------------------------


def _profile_share() -> frame.Figure:
    """Measure what counting adds to a batch."""
    from twinloop.inference import BatchScorer
    from twinloop.profile import Counter

    loaded = _model()
    scorer = BatchScorer(loaded.compiled, loaded.contract, loaded.reference, ("row",), {})
    batch = _table(0, 16_384)
    counter, X = Counter(loaded.reference.binning), loaded.scorer.encoding.encode(batch)
    said = loaded.scorer.predict_matrix(X)
    parts = frame.interleave(
        {"batch": lambda: scorer.score(batch), "profile": lambda: counter.count(X, said)},
        rounds=50,
    )
    whole, alone = parts["batch"].cpus, parts["profile"].cpus
    rest = [w - a for w, a in zip(whole, alone, strict=True)]
    return frame.Figure(
        "profile_share",
        100 * frame.median_ratio(alone, rest),
        5.0,
        "%",
        meaning="CPU that the profile adds to a batch",
    )


def _memory() -> list[frame.Figure]:
    sizes = [1_000_000, 10_000_000, *([30_000_000] if "--full" in sys.argv else [])]
    peaks = {}
    for rows in sizes:
        with tempfile.TemporaryDirectory() as place:
            _lay_out(Path(place), rows)
            _write_model(Path(place))
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, __file__, "--memory", place], capture_output=True, check=True
            )
            peaks[rows] = json.loads(done.stdout.splitlines()[-1])
            frame.show(f"{rows:,} rows: {peaks[rows]:.0f} MB, {time.perf_counter() - began:.0f} s")
    return [
        frame.Figure(
            "peak_memory",
            max(peaks.values()),
            MOST_MEGABYTES,
            "MB",
            meaning="largest memory of a process that scores, whatever the rows",
        ),
        frame.Figure(
            "memory_growth",
            max(peaks.values()) / peaks[sizes[0]],
            MOST_GROWTH,
            "x",
            meaning=f"memory at {sizes[-1]:,} rows, times that at {sizes[0]:,}",
        ),
    ]


def _peak(home: Path) -> int:
    """Score in this process, and print its largest memory in megabytes."""
    os.environ["TWINLOOP_HOME"] = str(home)
    run = _twinloop(home)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    run()
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            print(int(line.split()[1]) / 1000)
    return 0


if __name__ == "__main__":
    sys.exit(main())
