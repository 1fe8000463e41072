"""Ensembling: what candidates said of rows outside their fits, weighed into one more candidate."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks.measuring import measure_footprint
from tasks.metering import step
from tasks.outoffold import SEEN, OutOfFold
from tasks.preparing import Snapshot
from tasks.tracking import TrackedRun, tracked_run
from tasks.validating import (
    FITTED,
    FOOTPRINT_ROWS,
    Study,
    cross_validate,
    open_study,
    share_cores,
)
from twinloop.choice import choose
from twinloop.ensemble import (
    HeldOut,
    compose,
    gain_by,
    in_order,
    mean_of,
    mean_powers,
    members_of,
    on_scale,
    select_weights,
    tempered_each,
    weights_by_fold,
)
from twinloop.ensembleplan import left_out, plan_members
from twinloop.evaluation import METRICS
from twinloop.logplan import plan_candidate
from twinloop.results import CandidateResult, FoldScore, Footprint, Leaderboard, Member, rank
from twinloop.row_order import evenly
from twinloop.scorer import Predictions, from_files
from twinloop.serving import read_files
from twinloop.splitting import Split
from twinloop.tempering import tempers
from twinloop.validation import tempered
from twinloop.vocabulary import ENSEMBLE
from twinloop.window import Window
from twinloop.workload import Workload

# A handful of weights is as good from so many rows as from more.
_MOST_ROWS = 50_000


def add_ensemble(
    workload: Workload,
    snapshot: Snapshot,
    board: Leaderboard,
    window: Window | None,
    work: Path,
    run: TrackedRun,
) -> Leaderboard:
    """Let the ensemble compete, too, where the workload names it; else the board is as it was."""
    if ENSEMBLE not in workload.training.candidates:
        return board
    return combine_candidates(workload, snapshot, board, window, work, run)


@step
def combine_candidates(
    workload: Workload,
    snapshot: Snapshot,
    board: Leaderboard,
    window: Window | None,
    work: Path,
    run: TrackedRun,
) -> Leaderboard:
    """Make an ensemble of the candidates that ran, in a child run, and choose again.

    Nothing is fitted. One that would be a single member is not entered. Its predictions of the
    folds' validation rows, each with weights that do not know the row, are left in `work`.
    """
    results = [c for c in board.candidates if c.name != "baseline"]
    if len(results) < 2:
        return board.model_copy(update={"skipped": (*board.skipped, ENSEMBLE)})
    split = open_study(workload, snapshot).split
    made = weigh(workload, snapshot, results, split, work)
    if len(made.members) < 2:
        return board.model_copy(update={"notes": (*board.notes, left_out(made.members[0]))})
    with tracked_run(workload, "candidate", window=window, as_of=run.as_of, what=ENSEMBLE) as child:
        footprint = _footprint(workload, snapshot, made, results, work)
        made = made.model_copy(update={"footprint": footprint})
        child.rows = made.rows
        child.log([*plan_candidate(made), *plan_members(made)])
    ranked = rank([*board.candidates, made])
    choice = choose(ranked, workload.training.choice)
    return board.model_copy(update={"candidates": ranked, "choice": choice})


def weigh(
    workload: Workload,
    snapshot: Snapshot,
    results: Sequence[CandidateResult],
    split: Split,
    work: Path,
    suffix: str = "",
) -> CandidateResult:
    """Weigh candidates by what they said of the folds' validation rows, and score what comes of it.

    Parameters
    ----------
    workload, snapshot
        The rows.
    results
        Of candidates, the best first.
    split
        The folds they were fitted in.
    work
        Holds their predictions, and gets those of the ensemble.
    suffix
        Of the folders within `work`.
    """
    study, names = open_study(workload, snapshot), in_order([r.name for r in results])
    folders = [work / f"{name}{suffix}" for name in names]
    cap = max(1, _MOST_ROWS // len(split.folds))
    parts = [_held_out(folders, i, study, cap) for i in range(len(split.folds))]
    gain, ordered = gain_by(workload.metric, study.target), workload.split == "time"
    by_name = {r.name: r for r in results}
    pools = [by_name[name] for name in names]
    powers = [[r.folds[i].power for r in pools] for i in range(len(parts))]
    best = names.index(results[0].name)
    by_fold = weights_by_fold(parts, gain, ordered=ordered, best=best, powers=powers)
    wholes = [1.0] * len(parts)
    if tempers(workload):
        wholes = mean_powers(parts, by_fold, powers, ordered=ordered)
    final = [r.power for r in pools]
    weights = select_weights([part.tempered(final) for part in parts], gain)
    members = members_of(
        names,
        weights,
        {name: r.recipe for name, r in by_name.items()},
        {name: r.power for name, r in by_name.items()},
    )
    taken = [r for m in members for r in results if r.name == m.name]
    folder = work / f"{ENSEMBLE}{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    scores = [
        _score(folders, i, (w, powers[i], wholes[i]), results[0].folds[i], study, workload, folder)
        for i, w in enumerate(by_fold)
    ]
    return CandidateResult(
        name=ENSEMBLE,
        metric=METRICS[workload.metric].name,
        folds=tuple(scores),
        fit_seconds=sum(r.fit_seconds for r in taken),
        predict_seconds=sum(r.predict_seconds for r in taken),
        rows=results[0].rows,
        members=members,
        pool=tuple(Member(name=r.name, weight=0.0, recipe=r.recipe) for r in results),
        threads=results[0].threads,
    )


def _held_out(folders: Sequence[Path], number: int, study: Study, cap: int) -> HeldOut:
    """Read what members said of a fold's validation rows: of some rows, spread evenly."""
    folds = [OutOfFold.load(folder / f"{number}.npz") for folder in folders]
    at = evenly(len(folds[0].rows), cap)
    said = np.stack([on_scale(f.predictions.take(at), study.target) for f in folds])
    rows = folds[0].rows[at]
    return HeldOut(rows, study.rows.y[rows], said, folds[0].rows)


def _score(
    folders: Sequence[Path],
    number: int,
    counts: tuple[np.ndarray, Sequence[float], float],
    like: FoldScore,
    study: Study,
    workload: Workload,
    folder: Path,
) -> FoldScore:
    """Score the ensemble in one fold, and leave its predictions of the validation rows.

    `counts` are the members' weights and powers, and the power of their mean. The mean is left as
    it is: that is what the winner's calibration is learned from.
    """
    metric, y = METRICS[workload.metric], study.rows.y
    weights, powers, whole = counts
    rows, predictions = _mean(folders, f"{number}.npz", weights, powers, study)
    OutOfFold(rows, predictions).save(folder / f"{number}.npz")
    seen, again = _mean([f / SEEN for f in folders], f"{number}.npz", weights, powers, study)
    return like.model_copy(
        update={
            "train": metric.score(y[seen], tempered(again, whole)),
            "valid": metric.score(y[rows], tempered(predictions, whole)),
            "power": whole,
        }
    )


def _mean(
    folders: Sequence[Path],
    name: str,
    weights: np.ndarray,
    powers: Sequence[float],
    study: Study,
) -> tuple[np.ndarray, Predictions]:
    """Return rows, and the weighted mean of what members said of them, each raised to its power."""
    used = np.flatnonzero(weights).tolist()
    parts = [OutOfFold.load(folders[i] / name) for i in used]
    said = np.stack([on_scale(p.predictions, study.target) for p in parts])
    said = tempered_each(said, [powers[i] for i in used])
    return parts[0].rows, study.target.answers(mean_of(said, weights[used]))


def _footprint(
    workload: Workload,
    snapshot: Snapshot,
    made: CandidateResult,
    results: Sequence[CandidateResult],
    work: Path,
) -> Footprint:
    """Measure the members of the last fold as one model; its fits cost what theirs did."""
    study = open_study(workload, snapshot)
    fitted = [
        from_files(read_files(work / m.name / FITTED), workload.trusted) for m in made.members
    ]
    held = study.table.take(pa.array(study.split.folds[-1][1][:FOOTPRINT_ROWS]))
    names = {m.name for m in made.members}
    cpu = sum(r.footprint.fit_cpu_seconds for r in results if r.footprint and r.name in names)
    _, threads = share_cores(len(study.split.folds), study.rows.matrix.X.nbytes)
    # With as many threads as the others were measured with; a booster that was read takes all.
    for scorer in fitted:
        if scorer.predictor.library == "xgboost":
            scorer.predictor.model.set_param({"nthread": threads})
    with threadpool_limits(threads):
        return measure_footprint(compose(fitted, made.members), held, cpu, workload.prices)


def cross_validate_again(
    workload: Workload,
    snapshot: Snapshot,
    like: CandidateResult,
    work: Path,
    share: float = 1.0,
    threads: int | None = None,
) -> CandidateResult:
    """Cross-validate a candidate again, with all or with a share of each fold's fitted rows.

    An ensemble is made again, by the same rule: of all that it was chosen from; with a share of the
    rows, where a trend is to be shown, of its members.

    Parameters
    ----------
    workload, snapshot
        The rows and how they are divided.
    like
        How it went the first time.
    work
        Folder of this training; gets the folds' predictions.
    share
        Of the rows that each fold fits.
    threads
        Cores of each fit; None: its share of those there are.
    """
    suffix = "" if share == 1 else f"-{share:g}"

    def once(one: CandidateResult | Member) -> CandidateResult:
        folder = work / f"{one.name}{suffix}"
        return cross_validate(
            workload,
            snapshot,
            one.name,
            folder,
            share=share,
            recipe=one.recipe,
            threads=threads,
        )

    if not like.members:
        return once(like)
    split = open_study(workload, snapshot).split
    results = rank([once(m) for m in (like.pool if share == 1 else like.members)])
    return weigh(workload, snapshot, results, split, work, suffix)
