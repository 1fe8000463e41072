"""Validating: candidates compared by cross-validation, their folds side by side."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks import storage
from tasks.ancestors import with_ancestors
from tasks.budgeting import is_spent
from tasks.calibrating import temper_folds
from tasks.engines import threads as task_threads
from tasks.estimators import own_estimators
from tasks.measuring import measure_footprint
from tasks.metering import step
from tasks.outoffold import SEEN, OutOfFold
from tasks.preparing import Snapshot
from tasks.settings import settings
from tasks.showing import progress
from tasks.tracking import TrackedRun, tracked_run
from twinloop.choice import choose
from twinloop.continuation import refitted
from twinloop.costs import bill
from twinloop.digest import row_hashes
from twinloop.evaluation import METRICS
from twinloop.learning_curve import part_of_folds
from twinloop.logplan import plan_candidate
from twinloop.recipe import Recipe
from twinloop.results import CandidateResult, FoldScore, Footprint, Leaderboard, rank
from twinloop.scorer import Target, learn_target, to_files
from twinloop.splitting import Split, split_rows
from twinloop.tempering import tempers
from twinloop.tuneplan import plan_recipe
from twinloop.validation import LabelledRows, label_rows, times_of, validate
from twinloop.vocabulary import ENSEMBLE, AnyCandidate, Frozen
from twinloop.window import Window
from twinloop.workload import Workload

# A fold holds its rows as floats, once more in the order of trees, and in bins, and its library
# some more of them.
_COPIES = 4.0
FOOTPRINT_ROWS = 1000
# Within the folder of a candidate, for an ensemble to be made of it: the model of the last fold.
FITTED = "fitted"


@dataclass(frozen=True)
class Study:
    """The rows of a snapshot as training sees them: read, divided and encoded once."""

    table: pa.Table
    target: Target
    split: Split
    rows: LabelledRows


def open_study(workload: Workload, snapshot: Snapshot) -> Study:
    """Return the study of a snapshot; the last one is kept in memory for the tasks to come."""
    return _study(snapshot.model_dump_json(), workload.model_dump_json())


@lru_cache(maxsize=1)
def _study(snapshot_json: str, workload_json: str) -> Study:
    snapshot = Snapshot.model_validate_json(snapshot_json)
    workload = Workload.model_validate_json(workload_json)
    table = storage.read_parquet(snapshot.path / "rows.parquet")
    target = learn_target(table, workload)
    split = split_table(table, target, workload)
    rows = label_rows(table, snapshot.contract, target, workload, split, own_estimators(workload))
    return Study(table, target, split, with_ancestors(rows, workload))


def folds_of(workload: Workload, snapshot: Snapshot, share: float) -> Split:
    """Return the split of a snapshot with only a share of the rows that each fold fits."""
    study = open_study(workload, snapshot)
    if share == 1:
        return study.split
    by_group = workload.split == "group"
    groups = study.table.column(workload.group).to_numpy() if by_group else None
    times = times_of(study.table, workload)
    return part_of_folds(study.split, share, times=times, groups=groups, seed=workload.seed)


def search_folds(
    workload: Workload, snapshot: Snapshot
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return the folds that tuning searches by: one draw.

    By chance it is one more than candidates are compared by: what suits this draw by luck has to
    show itself on another, and the score of what was tuned is less flattered. By time there is one
    way only to draw them.
    """
    study, training = open_study(workload, snapshot), workload.training
    if workload.split == "time":
        return study.split.folds
    more = training.model_copy(update={"repeats": training.repeats + 1})
    drawn = split_table(study.table, study.target, workload.model_copy(update={"training": more}))
    return drawn.folds[-training.folds :]


def split_table(table: pa.Table, target: Target, workload: Workload) -> Split:
    """Divide the rows of a snapshot as the workload says."""
    codes = None if target.task == "regression" else target.encode(table.column(target.name))
    groups = None if workload.group is None else table.column(workload.group).to_numpy()
    times = times_of(table, workload)
    identity = None if times is not None else row_hashes(table, sorted(table.schema.names))
    return split_rows(
        workload, table.num_rows, times=times, classes=codes, groups=groups, identity=identity
    )


class FoldResult(Frozen):
    """What one fold showed of a candidate; its predictions are in a file of the work folder."""

    score: FoldScore
    fit_seconds: float
    predict_seconds: float
    fit_cpu_seconds: float
    footprint: Footprint | None


@step
def compare_candidates(
    workload: Workload, snapshot: Snapshot, window: Window | None, work: Path, run: TrackedRun
) -> Leaderboard:
    """Cross-validate every candidate, each in a child run, as long as the budget lasts.

    Predictions of the folds' validation rows are left in `work`.
    """
    split, began = open_study(workload, snapshot).split, time.monotonic()
    deadline = time.monotonic() + 60 * workload.training.budget.minutes
    results: list[CandidateResult] = []
    skipped: list[AnyCandidate] = []
    names = [name for name in workload.training.candidates if name != ENSEMBLE]
    steps = len(names) * len(split.folds)
    done = itertools.count(1)
    with progress(workload, "candidates", "Folds of candidates fitted") as tell:
        for name in names:
            if len(results) > 1 and (time.monotonic() > deadline or is_spent()):
                skipped.append(name)
                continue
            results.append(
                try_candidate(
                    workload,
                    snapshot,
                    window,
                    name,
                    work,
                    run,
                    advance=lambda: tell(next(done) / steps),
                )
            )
    ranked = rank(results)
    return Leaderboard(
        candidates=ranked,
        skipped=tuple(skipped),
        split=split.description,
        choice=choose(ranked, workload.training.choice),
        currency=workload.prices.currency,
        seconds=time.monotonic() - began,
    )


def try_candidate(
    workload: Workload,
    snapshot: Snapshot,
    window: Window | None,
    name: AnyCandidate,
    work: Path,
    run: TrackedRun,
    *,
    recipe: Recipe | None = None,
    advance: Callable[[], None] = lambda: None,
) -> CandidateResult:
    """Cross-validate a candidate in a child run, into a folder of its name under `work`."""
    with tracked_run(workload, "candidate", window=window, as_of=run.as_of, what=name) as child:
        result = cross_validate(
            workload, snapshot, name, work / name, recipe=recipe, advance=advance
        )
        child.rows = result.rows
        child.log([*plan_candidate(result), *plan_recipe(recipe)])
    return result


def cross_validate(
    workload: Workload,
    snapshot: Snapshot,
    name: AnyCandidate,
    folder: Path,
    *,
    share: float = 1.0,
    recipe: Recipe | None = None,
    threads: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> CandidateResult:
    """Fit a candidate in every fold, as many folds at a time as there are cores.

    Each fold gets its share of the cores: together they never ask for more than there are. Where
    the metric reads probabilities, folds are scored by calibrated ones; in `folder` they are as the
    estimator gives them.

    Parameters
    ----------
    workload, snapshot
        The rows and how they are divided.
    name
        Of the candidate.
    folder
        Made, for the predictions of the folds' validation rows.
    share
        Of the rows that each fold fits.
    recipe
        What is fitted; None: the candidate as it is shipped.
    threads
        Cores of each fit; None: its share of those there are.
    advance
        Called after each fold.
    """
    rows, folds = open_study(workload, snapshot).rows, folds_of(workload, snapshot, share).folds
    workers, shared = share_cores(len(folds), rows.matrix.X.nbytes)
    threads = threads or shared
    folder.mkdir(parents=True, exist_ok=True)
    busy = time.process_time()
    with threadpool_limits(threads), task_threads(workers) as runner:
        given: dict[str, Any] = {"workload": workload, "snapshot": snapshot, "name": name}
        # The rows of most folds are known to what a recipe continues: they are those of a refit.
        fitted = refitted(recipe)
        given |= {"share": share, "threads": threads, "folder": folder, "recipe": fitted}
        futures = [runner.submit(validate_fold, given | {"number": i}) for i in range(len(folds))]
        done: list[FoldResult] = []
        for future in futures:
            done.append(future.result())
            advance()
    # Of a fit with several threads beside others, only the process as a whole can tell CPU time.
    shared_cpu = time.process_time() - busy if min(workers, threads) > 1 else None
    scores, power = temper_folds(workload, rows.y, [d.score for d in done], folder)
    return CandidateResult(
        name=name,
        metric=METRICS[workload.metric].name,
        folds=scores,
        fit_seconds=sum(d.fit_seconds for d in done),
        predict_seconds=sum(d.predict_seconds for d in done),
        rows=sum(len(valid) for _, valid in folds),
        footprint=_footprint(done, shared_cpu, workload),
        recipe=recipe,
        threads=threads,
        power=power,
    )


def _footprint(
    folds: list[FoldResult], shared_cpu: float | None, workload: Workload
) -> Footprint | None:
    """Take what the last fold's model needs to serve, and what all fits together cost.

    CPU time that the folds used together is shared out by wall time: to fits and predictions.
    """
    last, cpu = folds[-1].footprint, sum(f.fit_cpu_seconds for f in folds)
    if last is None:
        return None
    if shared_cpu is not None:
        fits, asked = sum(f.fit_seconds for f in folds), sum(f.predict_seconds for f in folds)
        cpu = shared_cpu * fits / (fits + asked)
    money = bill(0.0, cpu, 0, workload.prices).money
    return last.model_copy(update={"fit_cpu_seconds": cpu, "fit_money": money})


def share_cores(n_folds: int, n_bytes: int) -> tuple[int, int]:
    """Return how many fits to run at a time, and the cores of each: bounded by memory, too.

    Parameters
    ----------
    n_folds
        How many there are to run.
    n_bytes
        Of the rows.
    """
    cores = settings().threads
    room = psutil.virtual_memory().available / 2 / (_COPIES * max(n_bytes, 1))
    workers = max(1, min(cores, n_folds, int(room)))
    return workers, max(1, cores // workers)


@step(task_run_name="fit {name}, fold {number}")
def validate_fold(
    workload: Workload,
    snapshot: Snapshot,
    name: AnyCandidate,
    number: int,
    share: float,
    threads: int,
    folder: Path,
    recipe: Recipe | None = None,
) -> FoldResult:
    """Fit a candidate on the rows of one fold and predict its validation rows, into `folder`."""
    study, folds = open_study(workload, snapshot), folds_of(workload, snapshot, share).folds
    train, valid = folds[number]
    # Predictions as well as fits; OpenMP's limit is each thread's own.
    with threadpool_limits(threads, "openmp"):
        fold = validate(study.rows, name, train, valid, threads=threads, recipe=recipe)
    OutOfFold(valid, fold.predictions).save(folder / f"{number}.npz")
    footprint, last = None, share == 1 and number == len(folds) - 1
    joins = ENSEMBLE in workload.training.candidates
    if joins or tempers(workload):
        (folder / SEEN).mkdir(exist_ok=True)
        OutOfFold(fold.seen, fold.again).save(folder / SEEN / f"{number}.npz")
    if joins and last:
        (folder / FITTED).mkdir()
        for file, content in to_files(fold.scorer).items():
            (folder / FITTED / file).write_bytes(content)
    if last:
        held = study.table.take(pa.array(valid[:FOOTPRINT_ROWS]))
        cpu = fold.fit_cpu_seconds
        footprint = measure_footprint(fold.scorer, held, cpu, workload.prices)
    return FoldResult(
        score=fold.score,
        fit_seconds=fold.fit_seconds,
        predict_seconds=fold.predict_seconds,
        fit_cpu_seconds=fold.fit_cpu_seconds,
        footprint=footprint,
    )
