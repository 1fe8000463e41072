"""How good the models are that a budget buys, beside FLAML's and AutoGluon's.

Every system gets the same training rows, the same columns and the time, the same cores, the same
metric to aim at and the same seconds, and predicts the same held-out rows, which none has seen: by
time where rows have time, else by chance. What is compared is the metric on these rows. The
intervals are of paired differences on the same rows, days or else groups of them together
(`twinloop.verdict.compare`). They say how far other rows might have moved the difference, not how
far another draw of the training rows might have; ``--draws`` tells that.

Twinloop runs as its users run it: `train_model` from the source to a registered version, its
budget the one of ``training.budget``. The others run in an environment of their own, made once in
the cache folder, without PyTorch: AutoGluon's neural networks take no part. Results are kept there
too, one folder a table, system and budget; ``--fresh`` measures anew. A system that fails on a
table is named and the others go on. A table on which Twinloop fails counts as below. One counts for
nobody if all others fail, if it cannot be divided, or if fewer than five days are held out. After
any of these the command ends with status 1.

When an ensemble wins, and which settings a search tries first, was chosen with a look at rows of
tables that ship with this: the real bikes, the simulated ones and their city, `diabetes` and
`breast_cancer`. On these the figures confirm nothing anew; `digits` and tables of your own judge
it.

    python benchmarks/accuracy.py --budget 60 --sets diabetes,digits
    python benchmarks/accuracy.py rentals.csv --target cnt --ignore casual,registered
    python benchmarks/accuracy.py mine.yaml --training '{"choice": "best"}'
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.markup import escape

from twinloop.evaluation import METRICS
from twinloop.paired import Pairing
from twinloop.scorer import Predictions
from twinloop.verdict import Verdict, compare
from twinloop.workload import Workload

if TYPE_CHECKING:
    from benchmarks import frame
    from benchmarks.automl import sets
else:
    import frame
    from automl import sets

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent / "automl"
PINS = "requirements.txt"
OURS = "Twinloop"
OTHERS = {"FLAML": "flaml", "AutoGluon": "autogluon"}
# What Twinloop's training does otherwise than a workload says: all compete, and the best wins.
# `refit` is held at `train`, so that the version registered has not seen the held-out rows.
TRAINING: dict[str, Any] = {
    # The last are left out where the budget ends early.
    "candidates": ["linear", "kernel", "boosting", "xgboost", "forest", "ensemble"],
    "choice": "best",
}
# The share of the budget that tuning may take, and of what.
TUNING_SHARE, TUNED = 0.5, ["xgboost", "boosting"]
CONFIDENCE = 0.975  # one-sided: intervals of 95 %
# A system that takes so many times its budget, and starting up besides, is stopped.
_PATIENCE, _START_SECONDS = 10, 120


class FailedError(Exception):
    """A system made nothing of a table."""


@dataclass(frozen=True)
class Result:
    """What a system made of a table.

    Attributes
    ----------
    fit_seconds
        Wall time of its training call.
    seconds, cpu_seconds
        Of the whole process: imports, a server, predicting and all.
    note
        Its best model.
    """

    predictions: Predictions
    fit_seconds: float
    seconds: float
    cpu_seconds: float
    note: str


@dataclass(frozen=True)
class Measured:
    """What a table says of Twinloop.

    Attributes
    ----------
    verdict
        On it and the best of the others; None without either.
    without
        Systems that made nothing of the table.
    """

    verdict: Verdict | None = None
    without: tuple[str, ...] = ()

    @property
    def judged(self) -> bool:
        """Whether there was enough to compare."""
        return self.verdict is not None and self.verdict.gain is not None

    @property
    def lost(self) -> bool:
        """Whether Twinloop made nothing of it."""
        return OURS in self.without


def main() -> int:
    """Measure every table and budget asked for."""
    asked = _arguments()
    known = sets.known_sets()
    names = asked.sets.split(",") if asked.sets else [] if asked.tables else list(known)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"no set {unknown[0]!r}; there are {', '.join(known)}")
    ignore = tuple(c for c in asked.ignore.split(",") if c)
    given = [sets.given_set(p, asked.target, asked.time, asked.task, ignore) for p in asked.tables]
    workloads = [*(known[name] for name in names), *given]
    figures, failed = [], 0
    if asked.systems:
        _environment(asked.cache)
    for budget in asked.budget:
        tuning = {"candidates": TUNED, "minutes": TUNING_SHARE * budget / 60}
        training = TRAINING | {"tuning": tuning} | json.loads(asked.training)
        frame.show(f"[bold]{budget} s, {asked.cores} cores[/]")
        found = [
            _try_to_measure(w, seed, budget, training, asked)
            for w in workloads
            for seed in (range(asked.draws) if w.time is None else [0])
        ]
        figures += _figures(budget, found)
        failed += sum(m.lost or (not m.judged and bool(asked.systems)) for m in found)
    return frame.finish("accuracy", figures) or min(failed, 1)


def _try_to_measure(
    workload: Workload, seed: int, budget: int, training: dict[str, Any], asked: Any
) -> Measured:
    """Measure one table; say what went wrong."""
    try:
        return _measure(workload, seed, budget, training, asked)
    # Hours of measuring are not to be lost by one table.
    except Exception as err:  # noqa: BLE001
        frame.show(f"[bold red]{workload.name}_{seed}:[/] {type(err).__name__}: {escape(str(err))}")
        return Measured()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    base = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    add = parser.add_argument
    add("tables", nargs="*", type=Path, metavar="TABLE", help="CSV, Parquet or workload files")
    add("--target", help="column to predict in the CSV and Parquet files")
    add("--time", help="their time column, if they have one")
    add("--task", choices=("regression", "binary", "multiclass"), help="default: by the target")
    add("--ignore", default="", help="columns to leave out, by comma", metavar="A,B")
    add("--sets", default="", help="shipped tables, by comma; default all", metavar="A,B")
    add("--budget", type=int, nargs="+", default=[60], help="seconds; several are measured apart")
    add("--draws", type=int, default=1, help="how often tables without time are divided anew")
    add("--cores", type=int, default=cores, help="that every system may use")
    add("--training", default="{}", metavar="JSON", help="keys of Twinloop's `training`")
    add("--systems", default=",".join(OTHERS), metavar="A,B", help="to compare Twinloop with")
    add("--fresh", action="store_true", help="forget what was measured before")
    add("--cache", type=Path, default=base / "twinloop" / "accuracy", metavar="DIR")
    return parser.parse_args()


def _measure(
    workload: Workload, seed: int, budget: int, training: dict[str, Any], asked: Any
) -> Measured:
    """Have every system fit and predict one table; show it; judge Twinloop and the best other."""
    workload = workload.model_copy(
        update={
            "seed": workload.seed + seed,
            "training": workload.training.model_copy(update={"refit": "train"}),
        }
    )
    with tempfile.TemporaryDirectory() as home:
        table = sets.divide(
            workload, asked.cache / "tables" / f"{workload.name}_{seed}", Path(home)
        )
    runs = {OURS: training} | {name: {} for name in asked.systems.split(",") if name}
    results, without = {}, []
    for name, settings in runs.items():
        try:
            results[name] = _cached(name, table, budget, settings, asked)
        except FailedError as err:
            frame.show(f"[bold red]{escape(str(err))}[/]")
            without.append(name)
            if name == OURS:
                return Measured(without=(OURS,))
    return Measured(_show(table, results), tuple(without))


def _cached(
    system: str, table: sets.Table, budget: int, settings: dict[str, Any], asked: Any
) -> Result:
    """Return what was measured before on the same rows with the same settings, or measure."""
    about = (table.folder / "about.json").read_text()
    theirs = [(HERE / name).read_text() for name in ("others.py", PINS)]
    code = _digest_of_code() if system == OURS else theirs
    recipe = json.dumps([about, budget, asked.cores, settings, code], sort_keys=True)
    key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    out = asked.cache / "results" / f"{table.folder.name}-{system}-{budget}-{key}"
    if asked.fresh or not (out / "result.json").is_file():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        _run(system, table, budget, settings, asked, out)
    used = json.loads((out / "result.json").read_text())
    used = {name: used[name] for name in ("fit_seconds", "seconds", "cpu_seconds", "note")}
    return Result(_predictions(pd.read_parquet(out / "predictions.parquet"), table), **used)


def _digest_of_code() -> str:
    """Name Twinloop as it is now: what another version measured is not its figure."""
    digest = hashlib.sha256()
    for path in sorted(
        p for part in ("src", "tasks", "flows") for p in (ROOT / part).rglob("*.py")
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _run(
    system: str, table: sets.Table, budget: int, settings: dict[str, Any], asked: Any, out: Path
) -> None:
    environment = os.environ | {
        name: str(asked.cores) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    rest = [str(table.folder), str(out), str(budget), str(asked.cores)]
    with tempfile.TemporaryDirectory() as home:
        if system == OURS:
            python, script = [sys.executable], [str(HERE / "ours.py")]
            environment |= {"TWINLOOP_HOME": home, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
            _write_workload(table.workload, budget, settings, out)
        else:
            python = [str(_environment(asked.cache))]
            script = [str(HERE / "others.py"), OTHERS[system]]
            environment.pop("PYTHONPATH", None)
        start = time.perf_counter()
        with (out / "log.txt").open("w") as log:
            child = subprocess.Popen(
                [*python, *script, *rest],
                cwd=home,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            status, usage = _end_of(child, _PATIENCE * budget + _START_SECONDS)
        seconds = time.perf_counter() - start
    if status:
        tail = (out / "log.txt").read_text()[-2000:]
        raise FailedError(f"{system} failed on {table.name} (status {status}):\n{tail}")
    used = json.loads((out / "used.json").read_text())
    used |= {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    shutil.rmtree(out / "autogluon", ignore_errors=True)
    (out / "result.json").write_text(json.dumps(used, indent=1))


def _end_of(child: subprocess.Popen[bytes], patience: float) -> tuple[int, Any]:
    """Wait for a system that leads a session of its own; nothing of it outlives it, or patience."""

    def end() -> None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    stop = threading.Timer(patience, end)
    stop.start()
    try:
        _, status, usage = os.wait4(child.pid, 0)
    finally:
        stop.cancel()
        end()  # a Ctrl-C here does not reach it; what it has started may go on without it
    return status, usage


def _write_workload(workload: Workload, budget: int, settings: dict[str, Any], out: Path) -> None:
    described = workload.model_dump(mode="json", exclude_unset=True)
    described["training"] = described.get("training", {}) | {"budget": {"minutes": budget / 60}}
    described["training"] |= settings | {"refit": "train"}
    described["seed"] = workload.seed
    # JSON is YAML.
    (out / "workload.yaml").write_text(json.dumps(described, indent=1))


def _environment(cache: Path) -> Path:
    """Make the environment of the other systems, unless it is there, and return its Python."""
    pins = HERE / PINS
    folder = cache / f"venv-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.is_file():
        return python
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        raise SystemExit(
            "uv is needed to make the environment of FLAML and AutoGluon: make install"
        )
    frame.show(f"making the environment of {' and '.join(OTHERS)}, 830 MB, in {folder}")
    subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True)
    install = [uv, "pip", "install", "-q", "--no-deps", "--compile-bytecode"]
    subprocess.run([*install, "--python", str(python), "-r", str(pins)], check=True)
    ready.touch()
    return python


def _predictions(found: pd.DataFrame, table: sets.Table) -> Predictions:
    if len(found) != len(table.y):
        raise FailedError(f"{table.name}: {len(found)} predictions of {len(table.y)} rows")
    if not table.classes:
        value = found["value"].to_numpy(float)
        # The others have learned log(1 + target) as a number; Twinloop answers with the target.
        ours = "chosen" in found
        if table.log and not ours:
            value = np.maximum(np.expm1(value), 0.0)
        return Predictions(value)
    shares = found[[f"p{i}" for i in range(table.classes)]].to_numpy(float)
    value = found["chosen"].to_numpy(int) if "chosen" in found else shares.argmax(axis=1)
    return Predictions(value, shares)


def _show(table: sets.Table, results: dict[str, Result]) -> Verdict | None:
    """Print what the systems made of a table, and return the verdict on Twinloop."""
    metric = METRICS[table.workload.metric]
    scores = {n: metric.score(table.y, r.predictions) for n, r in results.items()}
    others = [n for n in results if n != OURS]
    best = max(others, key=lambda n: metric.gain(scores[n], 0.0), default=None)
    also = METRICS["accuracy" if table.classes else "r2"]
    rows = []
    verdicts = {n: _judge(table, results[n], results[OURS]) for n in others}
    for name, result in results.items():
        verdict = verdicts.get(name)
        lead = (
            ""
            if verdict is None
            else f"{len(np.unique(table.blocks))} days are too few to tell"
            if verdict.gain is None
            else (f"{verdict.gain:+.4f} [{verdict.low:+.4f}, {verdict.high:+.4f}]")
        )
        extra = f"{also.score(table.y, result.predictions):.4f}"
        times = [f"{v:.1f}" for v in (result.fit_seconds, result.seconds, result.cpu_seconds)]
        rows.append([name, f"{scores[name]:.4f}", lead, extra, *times, result.note])
    title = (
        f"{table.folder.name}: {metric.name}, {'more' if metric.greater_is_better else 'less'} is "
        f"better; {table.rows:,} rows to train on, {len(table.y):,} held out"
    )
    names = [metric.name, "Twinloop's lead, 95 %", also.name, "fit, s", "all, s", "CPU, s", "model"]
    frame.show_rows(title, ["system", *names], rows)
    return verdicts.get(best) if best else None


def _judge(table: sets.Table, other: Result, ours: Result) -> Verdict:
    pairing = Pairing(
        table.y,
        other.predictions,
        ours.predictions,
        table.blocks,
        METRICS[table.workload.metric],
        CONFIDENCE,
        ordered=table.workload.time is not None,
    )
    return compare(pairing, min_rows=1)


def _figures(budget: int, found: list[Measured]) -> list[frame.Figure]:
    """Count the tables on which Twinloop is at or above the better of the others, and far below.

    One that it made nothing of is below.
    """
    verdicts = [m.verdict for m in found if m.verdict is not None]
    known = [(v.gain, v.high) for v in verdicts if v.gain is not None and v.high is not None]
    lost = sum(m.lost for m in found)
    tables = len(known) + lost
    if not tables:
        return []
    above = float(sum(gain >= 0 for gain, _ in known))
    below = float(sum(high < 0 for _, high in known) + lost)
    failures = Counter(name for m in found for name in m.without)
    missing = "".join(f", {n} without {name}" for name, n in failures.items())
    frame.show(
        f"[bold]{budget} s: at or above the better of the others on {above:.0f} of {tables}, "
        f"below it by more than the interval on {below:.0f}{missing}[/]"
    )
    return [
        frame.Figure(
            f"at_or_above_{budget}s",
            above,
            tables // 2 + 1,
            at_least=True,
            meaning=f"Tables of {tables}{missing}, at or above the better other, {budget} s",
        ),
        frame.Figure(
            f"below_by_more_than_interval_{budget}s",
            below,
            0,
            meaning=f"Tables below it by more than the difference's interval, {budget} s",
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
