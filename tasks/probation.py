"""Probation: a new champion, held against its predecessor on rows that both have answered."""

from datetime import datetime

import numpy as np

from tasks.announcing import announce_rollback
from tasks.labelling import Labelled, find_shadow_labels
from tasks.metering import step
from tasks.registry import (
    FORMER,
    Move,
    ServedVersion,
    champion_moves,
    find_former,
    load_version,
    move_champion,
)
from tasks.tracking import TrackedRun, client
from twinloop.decision import Decision, rolled_back
from twinloop.evaluation import METRICS
from twinloop.logplan import LogItem, Metric, Tag
from twinloop.paired import Pairing
from twinloop.verdict import Verdict, compare
from twinloop.window import Window
from twinloop.workload import Workload

# After so many days with labels it is looked, and each look may be wrong with a quarter of the
# level: all together, a champion that is no worse is taken back no more often than the level says.
LOOKS = (5, 10, 20, 40)
_LOOKED = "twinloop.probation_looked"


@step
def review_promotion(
    workload: Workload,
    champion: ServedVersion,
    decision: Decision,
    as_of: datetime,
    run: TrackedRun,
) -> Decision:
    """Take a new champion back if its predecessor has clearly been better since.

    Both have answered a share of the rows since the promotion. Where truth has come, they are
    compared by the test that promotes. Found worse, the champion is replaced by its predecessor, by
    a move like any other; found better, or not worse after the last look, it has proved itself.

    Parameters
    ----------
    workload, champion
        Who serves.
    decision
        What the drift check concluded.
    as_of, run
        The moment of the check, UTC, and its run.

    Returns
    -------
    Decision
        With what was found of the champion among its reasons; after a rollback it calls for
        nothing, as it was made of a champion that serves no more.
    """
    former = find_former(workload, champion)
    moves = champion_moves(workload) if former is not None else []
    if former is None or not moves or moves[0].became != champion.version:
        return decision
    known = _labels(workload, champion, former, moves[0], as_of)
    if known is None:
        return decision
    days = len(np.unique(known[0].blocks))
    look = max((n for n in LOOKS if n <= days), default=0)
    if look <= _looked(moves[0]):
        return decision
    verdict = _compare(workload, *known)
    if not verdict.checks:
        return decision  # rows are too few yet
    words = _conclude(workload, champion, former, verdict, look, as_of, run)
    # Only now: a look that nothing came of, as something failed, is taken again.
    client().set_tag(moves[0].run_id, _LOOKED, str(look))
    run.log(_plan(verdict))
    if verdict.outcome == "promote":
        return rolled_back(decision, words)
    return decision.model_copy(update={"reasons": (*decision.reasons, words)})


def _labels(
    workload: Workload, champion: ServedVersion, former: ServedVersion, move: Move, as_of: datetime
) -> tuple[Labelled, Labelled] | None:
    """Join what both said of rows since the promotion with the truth, as far as it has come."""
    end = as_of - workload.monitoring.labels_after
    if end <= move.at:
        return None
    since = Window(start=move.at, end=end)
    found = find_shadow_labels(workload, since, (champion.version, former.version))
    # Two versions need not know the same classes.
    return found if found is not None and np.array_equal(found[0].y, found[1].y) else None


def _looked(move: Move) -> int:
    return int(client().get_run(move.run_id).data.tags.get(_LOOKED, "0"))


def _compare(workload: Workload, ours: Labelled, theirs: Labelled) -> Verdict:
    """Judge the predecessor by its gain over the champion."""
    rules = workload.retraining
    pairing = Pairing(
        ours.y,
        ours.predictions,
        theirs.predictions,
        ours.blocks,
        METRICS[workload.metric],
        confidence=1 - (1 - rules.confidence) / len(LOOKS),
    )
    return compare(pairing, min_rows=rules.min_rows)


def _conclude(
    workload: Workload,
    champion: ServedVersion,
    former: ServedVersion,
    verdict: Verdict,
    look: int,
    as_of: datetime,
    run: TrackedRun,
) -> str:
    """Do what the verdict asks for, and say so."""
    on_rows = f"on {verdict.n_rows} labelled rows that both answered, {verdict.reason}"
    if verdict.outcome == "promote":
        load_version(former, workload.trusted)
        reason = f"rolled back: {champion.label} is worse than {former.label} {on_rows}"
        why = verdict.model_copy(update={"reason": reason})
        move_champion(workload, former, champion, why, as_of, trial=False)
        announce_rollback(workload, champion.version, former.version, reason, as_of, run)
        return reason
    if verdict.outcome == "keep" or look == LOOKS[-1]:
        client().delete_registered_model_alias(workload.id, FORMER)
        how = "better" if verdict.outcome == "keep" else "not clearly worse"
        return f"{champion.label} has proved itself {how} than {former.label} {on_rows}"
    return f"{champion.label} is on probation against {former.label}: {on_rows}"


def _plan(verdict: Verdict) -> list[LogItem]:
    outcome = {"promote": "rolled back", "keep": "proved itself"}.get(verdict.outcome, "open")
    numbers = {"gain": verdict.gain, "low": verdict.low, "high": verdict.high}
    return [
        Tag("twinloop.probation", outcome),
        *(Metric(f"probation/former_{n}", v) for n, v in numbers.items() if v is not None),
        Metric("probation/labels", float(verdict.n_rows)),
    ]
