"""Tuning: better settings are searched for, and what is found competes with what is shipped."""

import hashlib
import json
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from tasks.budgeting import purse
from tasks.metering import step
from tasks.preparing import Snapshot
from tasks.registry import ServedVersion
from tasks.searching import Job, Searcher
from tasks.settings import settings
from tasks.showing import progress
from tasks.studies import TrialStudy, forget_old, locked
from tasks.tracking import TrackedRun, tracked_run
from tasks.trials import writing_trials
from tasks.validating import Study, open_study, search_folds, share_cores, try_candidate
from twinloop.choice import choose
from twinloop.continuation import refitted
from twinloop.recipe import Recipe
from twinloop.results import Leaderboard, rank
from twinloop.search_space import (
    SPACE_VERSION,
    first_values,
    search_space,
    tuned_name,
    values_of,
)
from twinloop.tuneplan import plan_search, told
from twinloop.tuning import Limits, Search
from twinloop.validation import times_of
from twinloop.vocabulary import TunableName
from twinloop.window import Window
from twinloop.workload import Workload

# What the trials of a study hang on; the rest of a workload may change, and its trials be kept.
_PARTS = {"task", "target", "time", "key", "group", "metric", "ignore", "calendar", "columns"}
_TRAINING = {"folds", "split", "rolling", "repeats", "gap", "holdout", "class_weight", "half_life"}
# Trials are judged by calibrated probabilities.
_TRAINING |= {"calibration"}


@step
def tune_candidates(
    workload: Workload,
    snapshot: Snapshot,
    board: Leaderboard,
    champion: ServedVersion | None,
    window: Window | None,
    work: Path,
    run: TrackedRun,
) -> Leaderboard:
    """Search for better settings of the candidates to be tuned, and let them compete as well.

    Each search is a child run, and each of its trials a child of that. What is found is
    cross-validated as all candidates are, and has a place of its own on the board.

    Parameters
    ----------
    workload, snapshot
        The rows, and what to search.
    board
        The candidates as they are shipped.
    champion
        The version that serves: what it was made by is tried early.
    window, work, run
        As in `tasks.validating.compare_candidates`.
    """
    names, began = workload.tuned, time.monotonic()
    until = time.monotonic() + 60 * workload.training.budget.minutes - board.seconds
    results, said = list(board.candidates), []
    for left, name in zip(range(len(names), 0, -1), names, strict=True):
        share = (until - time.monotonic()) / left
        kept = _kept_back(name, board, workload, snapshot)
        with tracked_run(workload, "tuning", window=window, as_of=run.as_of, what=name) as child:
            search = search_settings(
                workload, snapshot, name, champion, window, share, child, kept_back=kept
            )
        said.append(told(search, workload.prices.currency))
        found = _found(search, board)
        if found is not None:
            tuned = tuned_name(name)
            results.append(
                try_candidate(workload, snapshot, window, tuned, work, run, recipe=found)
            )
    if not names:
        return board
    ranked = rank(results)
    changes = {
        "candidates": ranked,
        "choice": choose(ranked, workload.training.choice),
        "notes": (*board.notes, *said),
        "seconds": board.seconds + time.monotonic() - began,
    }
    return board.model_copy(update=changes)


def _kept_back(
    name: TunableName, board: Leaderboard, workload: Workload, snapshot: Snapshot
) -> float:
    """Return the seconds that cross-validating what is found is likely to take."""
    shipped = next((c for c in board.candidates if c.name == name), None)
    if shipped is None:
        return 0.0
    n_bytes = open_study(workload, snapshot).rows.matrix.X.nbytes
    workers, _ = share_cores(len(shipped.folds), n_bytes)
    return (shipped.fit_seconds + shipped.predict_seconds) / workers


def _found(search: Search, board: Leaderboard) -> Recipe | None:
    """Return what was found, if it is anything but what is on the board already."""
    best = search.best
    shipped = any(c.name == search.candidate for c in board.candidates)
    if best is None or (shipped and best.source == "default"):
        return None
    return best.recipe


def search_settings(
    workload: Workload,
    snapshot: Snapshot,
    candidate: TunableName,
    champion: ServedVersion | None,
    window: Window | None,
    seconds: float,
    run: TrackedRun,
    *,
    kept_back: float = 0.0,
) -> Search:
    """Search for better settings of one candidate, for so many seconds at most.

    Of these some are kept back (see `tasks.searching.Job`).

    Trials that a search of the same rows has left are taken over: where it was killed this one goes
    on, where it had its budget there is nothing left to do.
    """
    opened, folds = open_study(workload, snapshot), search_folds(workload, snapshot)
    run.rows = sum(len(valid) for _, valid in folds)
    span = fitted_span(opened, workload)
    categories = any(f.levels for f in opened.rows.matrix.features)
    space = search_space(candidate, workload, span, categories=categories)
    key = _key(workload, snapshot, candidate)
    folder, until = settings().lake(workload) / "tuning", time.monotonic() + seconds
    job = Job(
        workload,
        candidate,
        opened.rows,
        folds,
        span,
        Limits.of(workload.training.tuning, len(workload.tuned)),
        until,
        run.run_id,
        here.is_spent if (here := purse()) else lambda: False,
        kept_back,
    )
    with (
        # Another process that searches here finds what this one would: it is waited for.
        locked(folder / f"{key}.lock", until) as held,
        writing_trials(workload, candidate, len(folds), window, run.as_of, key) as writer,
        progress(workload, "tuning", f"Budget of tuning {candidate} used") as tell,
    ):
        if not held:
            return Search(
                candidate=candidate, metric=workload.metric, folds=len(folds), ending="budget"
            )
        study = TrialStudy(folder / f"{key}.log", space, workload.seed)
        writer.write_missing(study.trials)
        resumed = len(study.trials)
        known = first_values(space)
        if (old := _champions(champion, candidate)) is not None:
            known.insert(1, ("champion", values_of(old, space, span)))
        study.propose(known)
        ending = Searcher(job, study, run.meter, writer.write).run(tell)
        importance = study.importance()
        forget_old(folder)
    search = Search(
        candidate=candidate,
        metric=workload.metric,
        folds=len(folds),
        trials=tuple(study.trials),
        ending=ending,
        resumed=resumed,
    )
    run.log(plan_search(search, importance, workload.prices.currency))
    return search


def fitted_span(opened: Study, workload: Workload) -> timedelta | None:
    """Return the time that the rows fitted in the end span."""
    times = times_of(opened.table, workload)
    if times is None:
        return None
    fitted = times[opened.split.train]
    return timedelta(microseconds=int(np.ptp(fitted))) or None


def _key(workload: Workload, snapshot: Snapshot, candidate: TunableName) -> str:
    """Name a study by everything that its trials hang on."""
    parts = {
        "workload": workload.model_dump(mode="json", include=_PARTS) | {"id": workload.id},
        "training": workload.training.model_dump(mode="json", include=_TRAINING),
        "recency": workload.tunes_recency,
        "seed": workload.seed,
        "rows": snapshot.digest,
        "space": SPACE_VERSION,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{candidate}-{digest[:16]}"


def _champions(champion: ServedVersion | None, candidate: TunableName) -> Recipe | None:
    """Return what the champion was made by, if it is of this candidate."""
    if champion is None or not champion.recipe:
        return None
    try:
        recipe = Recipe.model_validate_json(champion.recipe)
    except ValidationError:
        return None  # of a later release, which knows more
    return refitted(recipe) if recipe.candidate == candidate else None
