"""What a drift check costs beside Evidently's preset: a million rows against a million, 30 columns.

Twinloop profiles rows batch by batch while they are scored, which has read, encoded and hashed them
already. So two things are measured: what drift checks add (counting, sampling, the check), and all
of it by itself, Parquet, encoding and hashing included, as if nothing were scored. The past is
profiled anew in both, which a user does once, at training. Evidently gets both tables in
memory, where it wants them, and the data drift preset by its defaults, in its own environment.
Each runs in a process of its own; CPU seconds are of all threads, imports left out, memory is the
largest of the process.

    python benchmarks/drift_speed.py --rows 1000000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from benchmarks import frame
    from benchmarks.drift import others, world
else:
    import frame
    from drift import others, world

BATCH, CHECKS = 16_384, 20
ROOT = Path(__file__).parent.parent


def main() -> int:
    """Measure."""
    asked = _arguments()
    if asked.ours:
        return _ours(asked.ours)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        _write(home, asked.rows)
        path = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        ours = _measure([sys.executable, __file__, "--ours", place], path)
        python = others.environment("evidently", asked.cache)
        theirs = None
        if python is not None:
            script = str(Path(__file__).parent / "drift" / "peers.py")
            theirs = _measure([str(python), script, "speed", place, "1"], {})
    frame.show(f"Twinloop: {json.dumps(ours)}\nEvidently: {json.dumps(theirs)}")
    return frame.finish("drift_speed", _figures(ours, theirs))


def _figures(ours: dict[str, float], theirs: dict[str, float] | None) -> list[frame.Figure]:
    theirs_cpu = theirs["cpu"] if theirs else float("nan")
    return [
        frame.Figure(
            "evidently_cpu",
            theirs_cpu / ours["added"],
            40.0,
            "x",
            at_least=True,
            meaning="CPU of Evidently's preset, times what profiles and check add to scoring",
        ),
        frame.Figure(
            "evidently_cpu_alone",
            theirs_cpu / ours["cpu"],
            10.0,
            "x",
            at_least=True,
            meaning="the same, reading, encoding and hashing included",
        ),
        frame.Figure(
            "peak_memory",
            ours["peak"],
            500.0,
            "MB",
            meaning="largest memory of the process that profiles and checks",
        ),
        frame.Figure(
            "check",
            ours["check_ms"],
            50.0,
            "ms",
            meaning="CPU of a check from stored profiles, all columns together included",
        ),
    ]


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add = parser.add_argument
    add("--rows", type=int, default=1_000_000, help="of each of the two tables")
    add("--cache", type=Path, default=others.CACHE, help="where Evidently's environment is made")
    add("--ours", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _write(home: Path, rows: int) -> None:
    """Write both tables, window by window; the rows of the past are of 26 windows."""
    made = world.make_world(0, seasons=True)
    for side, windows in (("then", range(world.PAST)), ("now", range(world.PAST, world.PAST + 1))):
        writer = None
        for window in windows:
            rng = np.random.default_rng([4, window])
            n = rows // len(windows)
            table = pa.Table.from_pandas(
                world.draw_rows(made, window, n, rng), preserve_index=False
            )
            table = table.append_column("window", pa.array(np.full(n, window)))
            writer = writer or pq.ParquetWriter(home / f"0_{side}.parquet", table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()


def _measure(command: list[str], path: dict[str, str]) -> dict[str, float]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | path
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _ours(home: Path) -> int:
    """Profile both tables and check; print CPU seconds, megabytes, and what a check takes."""
    from twinloop.binning import learn_binning
    from twinloop.digest import row_hashes
    from twinloop.drift import compare_profiles
    from twinloop.encoding import Encoding, Feature
    from twinloop.profile import Counter, Reference, combine
    from twinloop.reference import sample_windows
    from twinloop.samples import smallest
    from twinloop.scorer import Predictions, Target

    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    began = time.process_time()
    target = Target(name="y", task="regression")
    first = next(_batches(home / "0_then.parquet"))
    features = []
    for name in first.schema.names:
        if name.startswith("c"):
            common = first.column(name).value_counts().to_pylist()
            often = sorted((v for v in common if v["values"]), key=lambda v: -v["counts"])
            levels = tuple(v["values"] for v in often[: world.KEPT])
            features.append(Feature(name=name, source=name, how="category", levels=levels))
        elif name.startswith("x"):
            features.append(Feature(name=name, source=name, how="number"))
    encoding = Encoding(features=tuple(features))

    def predicted(X: np.ndarray) -> Predictions:
        return Predictions(np.nan_to_num(X).mean(axis=1))

    X = encoding.encode(first)
    binning = learn_binning(encoding, X, predicted(X), target)
    counter, added = Counter(binning), 0.0
    profiles: dict[int, Any] = {}
    for side in ("then", "now"):
        for table in _batches(home / f"0_{side}.parquet"):
            X, windows = encoding.encode(table), table.column("window").to_numpy()
            hashes, nulls = row_hashes(table, sorted(table.schema.names)), encoding.nulls(table)
            said = predicted(X)
            start = time.process_time()
            for window in np.unique(windows):
                rows = np.flatnonzero(windows == window)
                part = (X, said) if len(rows) == len(X) else (X[rows], said.take(rows))
                told_apart = nulls if len(rows) == len(X) else None
                few = rows[smallest(hashes[rows])]
                sample = counter.sample(hashes[few], counter.values(X, said, few))
                found = counter.profile(counter.count(*part, told_apart), len(rows), sample)
                before = profiles.get(int(window))
                profiles[int(window)] = found if before is None else before.merge(found)
            added += time.process_time() - start
    start = time.process_time()
    weights = (1 / len(features),) * len(features)
    past, sample, separations = sample_windows(
        [profiles[w] for w in sorted(profiles, reverse=True)[1:]], weights
    )
    known = Reference(
        binning=binning,
        whole=combine(list(past), binning),
        windows=past,
        importance=weights,
        loss="rmse",
        losses=(),
        sample=sample,
        separations=separations,
    )
    current = profiles[world.PAST]
    compare_profiles(known, current, alpha=0.01, min_effect=0.03)
    cpu, added = time.process_time() - began, added + time.process_time() - start
    peak = next(
        int(line.split()[1]) / 1000
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmHWM:")
    )
    stored, now = known.model_dump_json(), current.model_dump_json()
    checks = []
    for _ in range(CHECKS):
        start = time.process_time()
        compare_profiles(known, current, alpha=0.01, min_effect=0.03)
        checks.append(1000 * (time.process_time() - start))
    told = {"cpu": cpu, "added": added, "peak": peak, "check_ms": float(np.median(checks))}
    told |= {"profile_bytes": len(now), "reference_bytes": len(stored)}
    print(json.dumps(told))
    return 0


def _batches(path: Path) -> Any:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(BATCH, use_threads=False):
            yield pa.Table.from_batches([batch])


if __name__ == "__main__":
    sys.exit(main())
