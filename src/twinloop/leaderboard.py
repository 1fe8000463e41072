"""Leaderboard: one table of what candidates give and take, the same wherever it is shown."""

from twinloop.amounts import brackets
from twinloop.choice import front_names
from twinloop.results import CandidateResult, Leaderboard, gap_text

_UNKNOWN = "unknown"


def columns(board: Leaderboard) -> tuple[str, ...]:
    """Return the heads of the table's columns."""
    return (
        "candidate",
        "validation",
        "95 % interval",
        "train",
        "gap",
        "ms per 1000 rows",
        "ms a row",
        "kB",
        "fit s",
        f"fit {board.currency}",
        "standing",
    )


def lines(board: Leaderboard) -> tuple[tuple[str, ...], ...]:
    """Return a line for each candidate, the best first."""
    front = front_names(board.candidates)
    return tuple(
        (
            c.name,
            f"{c.valid:.4g}",
            brackets(*c.interval),
            f"{c.train:.4g}",
            gap_text(c),
            *_takes(c),
            standing(c, board, on_front=c.name in front),
        )
        for c in board.candidates
    )


def _takes(result: CandidateResult) -> tuple[str, str, str, str, str]:
    fit = f"{result.fit_seconds:.2f}"
    found = result.footprint
    if found is None:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN, fit, _UNKNOWN
    return (
        _milliseconds(found.batch_seconds),
        _milliseconds(found.row_seconds),
        f"{found.size_bytes / 1e3:,.0f}",
        fit,
        f"{found.fit_money:.1e}",
    )


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}" if seconds < 0.01 else f"{1e3 * seconds:,.0f}"


def standing(result: CandidateResult, board: Leaderboard, *, on_front: bool) -> str:
    """Say whether a candidate is chosen, and whether it is beaten in everything at once."""
    chosen = "chosen" if result is board.winner else ""
    return ", ".join(filter(None, (chosen, "front" if on_front else "")))


def remarks(board: Leaderboard) -> tuple[str, ...]:
    """Return what is to be said of a board in words: the choice, its reason, overfitting, notes."""
    winner = board.winner
    said = [f"{winner.name} was chosen: {board.reason}"]
    if winner.overfits:
        said.append(
            f"{winner.name} overfits: {winner.metric} {winner.train:.4g} on the rows it was fitted "
            f"on, {winner.valid:.4g} on new ones; only the latter is to be expected"
        )
    return (*said, *board.notes)


LEGEND = (
    "front: no other is as good in accuracy, time for 1,000 rows, size and cost of the fits at "
    "once, and better in one"
)
