"""The decision of a drift check: does it hurt, and what to do about it."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy import stats

from twinloop.drift import QUARANTINE, FeatureDrift
from twinloop.profile import MATTERS, PREDICTION, Reference
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload

Action = Literal["fine", "watch", "retrain"]
_MIN_BLOCKS = 3


class Harm(Frozen):
    """What labels say: the error of recent rows against that of the holdout.

    Attributes
    ----------
    expected, realised
        The metric, or its stand-in with a loss by the row, on the holdout and on recent rows.
    p_value
        One-sided, of the mean loss of blocks being larger now (Welch 1947).
    """

    metric: str
    expected: float
    realised: float
    p_value: float
    n_rows: int
    n_blocks: int
    harmful: bool


class Decision(Frozen):
    """What a drift check concluded, and why."""

    action: Action
    reasons: tuple[str, ...]
    features: tuple[FeatureDrift, ...]
    harm: Harm | None = None

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the columns that drifted."""
        return tuple(f.column for f in self.features if f.drifted)


def assess_harm(
    reference: Reference,
    losses: np.ndarray,
    n_rows: int,
    *,
    alpha: float,
    tolerance: float,
    of_mean: Callable[[float], float],
) -> Harm | None:
    """Tell whether the error of recent labelled rows is above what the holdout promised.

    Parameters
    ----------
    reference
        Holds the holdout's mean loss block by block.
    losses : np.ndarray, shape (n_blocks,)
        Mean loss of recent rows block by block.
    n_rows
        How many recent rows have a label.
    alpha
        Level of the test.
    tolerance
        Relative rise of the metric that may pass.
    of_mean
        From a mean loss to the metric.

    Returns
    -------
    Harm or None
        None with too few blocks to tell.
    """
    then = np.array(reference.losses)
    if len(losses) < _MIN_BLOCKS or len(then) < _MIN_BLOCKS:
        return None
    # From means and deviations: days of one and the same loss are no reason for a warning.
    now_and_then = [(a.mean(), a.std(ddof=1), len(a)) for a in (losses, then)]
    test = stats.ttest_ind_from_stats(
        *now_and_then[0], *now_and_then[1], equal_var=False, alternative="greater"
    )
    p_value = float(test.pvalue) if np.isfinite(test.pvalue) else 1.0
    expected, realised = float(of_mean(float(then.mean()))), float(of_mean(float(losses.mean())))
    return Harm(
        metric=reference.loss,
        expected=expected,
        realised=realised,
        p_value=p_value,
        n_rows=n_rows,
        n_blocks=len(losses),
        harmful=p_value < alpha and realised > expected * (1 + tolerance),
    )


def decide(
    features: tuple[FeatureDrift, ...],
    harm: Harm | None,
    quarantine_share: float,
    workload: Workload,
) -> Decision:
    """Conclude: retrain where it hurts, watch where it may, else fine.

    Labels outrank everything. Without them, drift of what the model leans on is reason enough.
    """
    drifted = [f for f in features if f.drifted]
    telling = [f for f in drifted if f.importance >= MATTERS]
    # Where the past of it is not known, half of what fails a run is too much.
    tested = [f for f in features if f.column == QUARANTINE]
    crowded = quarantine_share > workload.inference.quarantine_limit / 2
    if tested:
        crowded, drifted = tested[0].drifted, [f for f in drifted if f not in tested]
    action: Action = "watch" if telling or crowded else "fine"
    if harm.harmful if harm is not None else telling:
        action = "retrain"
    reasons = [_say_harm(harm)] if harm is not None else []
    reasons += [_say_drift(f) for f in drifted]
    if crowded:
        reasons.append(f"{quarantine_share:.1%} of the rows are quarantined")
    if not features:
        reasons.append("too few rows yet to compare with windows of the past")
    elif not drifted:
        reasons.append("no column drifted")
    elif harm is None:
        reasons.append("no labels yet to tell whether it hurts")
    return Decision(action=action, reasons=tuple(reasons), features=features, harm=harm)


def _say_harm(harm: Harm) -> str:
    return (
        f"{harm.metric} {harm.realised:.4g} on {harm.n_rows} labelled rows, "
        f"{harm.expected:.4g} expected, p {harm.p_value:.2g}"
    )


def _say_drift(feature: FeatureDrift) -> str:
    what = "predictions" if feature.column == PREDICTION else feature.column
    note = "" if feature.importance >= MATTERS else ", which the model hardly uses"
    return f"{what} drifted: distance {feature.distance:.2f}, p {feature.p_value:.2g}{note}"
