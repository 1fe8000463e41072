"""Harm: whether the error of labelled rows is above what was promised, or once reached."""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from scipy import stats

from twinloop.profile import Reference
from twinloop.vocabulary import Frozen

_MIN_BLOCKS = 3
# What a quarter of past periods did not exceed was reached; the very best was luck as well.
_QUARTER = 0.25
_MIN_PERIODS = 4
# Seasons move the error by up to a third; less above what was once reached is no reason.
_CLEARLY = 0.35


class Period(Frozen):
    """Mean losses of a period's blocks, in short: what a test needs of them."""

    mean: float
    deviation: float
    blocks: int

    @classmethod
    def of(cls, losses: np.ndarray) -> Self:
        """Sum up the mean loss of each block: shape (n_blocks,)."""
        deviation = float(losses.std(ddof=1)) if len(losses) > 1 else 0.0
        return cls(mean=float(losses.mean()), deviation=deviation, blocks=len(losses))


class Harm(Frozen):
    """What labels say: the error of recent rows against that of the holdout, and of better times.

    Attributes
    ----------
    expected, realised
        The metric, or its stand-in with a loss by the row, on the holdout and on recent rows.
    p_value
        One-sided, of the mean loss of blocks being larger now (Welch 1947).
    newest, newest_realised
        How many of the newest blocks by themselves tell most of harm, and the metric on them; 0:
        all blocks do.
    reached
        What a quarter of the past periods did not exceed; None where there were too few.
    lost
        Whether the error is clearly above what was reached, though not above the promise.
    """

    metric: str
    expected: float
    realised: float
    p_value: float
    n_rows: int
    n_blocks: int
    harmful: bool
    newest: int = 0
    newest_realised: float = 0.0
    reached: float | None = None
    reached_p: float = 1.0
    lost: bool = False


def assess_harm(
    reference: Reference,
    losses: np.ndarray,
    n_rows: int,
    *,
    alpha: float,
    tolerance: float,
    of_mean: Callable[[float], float],
    looks: Sequence[int] = (),
    past: Sequence[Period] = (),
) -> Harm | None:
    """Tell whether the error of recent labelled rows is above what the holdout promised.

    Parameters
    ----------
    reference
        Holds the holdout's mean loss block by block.
    losses : np.ndarray, shape (n_blocks,)
        Mean loss of recent rows block by block, the oldest first.
    n_rows
        How many recent rows have a label.
    alpha
        Level of the test.
    tolerance
        Relative rise of the metric that may pass.
    of_mean
        From a mean loss to the metric.
    looks
        Numbers of newest blocks to look at by themselves as well, so that a change shows before it
        fills the window; p-values are multiplied by the number of looks (Bonferroni).
    past
        Earlier periods, whichever model served: a champion that was fitted in a bad time promises
        little, and would be held to that.

    Returns
    -------
    Harm or None
        None with too few blocks to tell.
    """
    then = np.array(reference.losses)
    if len(losses) < _MIN_BLOCKS or len(then) < _MIN_BLOCKS:
        return None
    promised, whole = Period.of(then), Period.of(losses)
    expected, realised = float(of_mean(promised.mean)), float(of_mean(whole.mean))
    sizes = sorted({n for n in looks if _MIN_BLOCKS <= n < len(losses)}, reverse=True)
    spans = [whole, *(Period.of(losses[-n:]) for n in sizes)]

    def above(span: Period, other: Period, rise: float) -> tuple[bool, float]:
        p = min(1.0, len(spans) * p_of_more(span, other))
        limit = float(of_mean(other.mean)) * (1 + rise)
        return p < alpha and float(of_mean(span.mean)) > limit, p

    tests = [above(span, promised, tolerance) for span in spans]
    at = min(
        (i for i, (found, _) in enumerate(tests) if found), key=lambda i: tests[i][1], default=0
    )
    reached = _reached([promised, *past])
    lost, reached_p = above(whole, reached, max(tolerance, _CLEARLY)) if reached else (False, 1.0)
    harmful = any(found for found, _ in tests)
    return Harm(
        metric=reference.loss,
        expected=expected,
        realised=realised,
        p_value=tests[at][1],
        n_rows=n_rows,
        n_blocks=len(losses),
        harmful=harmful,
        newest=sizes[at - 1] if at else 0,
        newest_realised=float(of_mean(spans[at].mean)),
        reached=float(of_mean(reached.mean)) if reached else None,
        reached_p=reached_p,
        lost=lost and not harmful,
    )


def p_of_more(now: Period, then: Period) -> float:
    """Return the one-sided p-value of the mean loss being larger now than then (Welch 1947)."""
    # From means and deviations: days of one and the same loss are no reason for a warning.
    test = stats.ttest_ind_from_stats(
        now.mean,
        now.deviation,
        now.blocks,
        then.mean,
        then.deviation,
        then.blocks,
        equal_var=False,
        alternative="greater",
    )
    return float(test.pvalue) if np.isfinite(test.pvalue) else 1.0


def _reached(periods: Sequence[Period]) -> Period | None:
    """Return the period at the lower quarter by mean loss; None of too few."""
    known = sorted((p for p in periods if p.blocks >= _MIN_BLOCKS), key=lambda p: p.mean)
    if len(known) < _MIN_PERIODS:
        return None
    return known[int(_QUARTER * len(known))]
