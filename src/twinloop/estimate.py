"""Estimates: a metric without its labels, its interval, and how past ones did."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from twinloop.evaluation import METRICS
from twinloop.vocabulary import Frozen

_TINY = 1e-12
_LEVEL = 0.95
# Errors of these have no upper bound and differ by factors: they are compared as logarithms.
BY_FACTORS = ("rmse", "rmsle", "mae", "log_loss")
_MIN_CHECKS = 3
# How far estimates are off, where too few were checked to tell: a factor, or points of a score.
_UNCHECKED = {True: 0.25, False: 0.05}


class Check(Frozen):
    """An estimate of a past window, and what its labels said.

    Attributes
    ----------
    variance
        By chance alone, of the realised around the estimated, on the scale errors are compared on.
    """

    estimated: float
    realised: float
    variance: float
    rows: int


class Estimate(Frozen):
    """What the metric of some rows is to be expected to be.

    Attributes
    ----------
    low, high
        95 % interval: of the sample's size, and of how far such estimates were off before.
    rows
        Rows it is about.
    checks
        How many past estimates it was widened by.
    variance
        By chance alone, on the scale errors are compared on.
    """

    metric: str
    value: float
    low: float
    high: float
    rows: int
    checks: int
    variance: float

    def holds(self, realised: float) -> bool:
        """Tell whether a realised value lies within the interval."""
        return self.low <= realised <= self.high

    def check(self, realised: float) -> Check:
        """Return this estimate with what came of it."""
        return Check(
            estimated=self.value, realised=realised, variance=self.variance, rows=self.rows
        )


def with_interval(
    metric: str, value: float, variance: float, rows: int, checks: Sequence[Check]
) -> Estimate:
    """Return an estimate with the interval that chance and past estimates give it.

    Parameters
    ----------
    metric, value, rows
        Of what, how much, on how many rows.
    variance
        By chance alone, on the scale errors are compared on.
    checks
        How such estimates did before.
    """
    by_factors = metric in BY_FACTORS
    extra, reach = _beyond_chance(checks, by_factors=by_factors)
    half = reach * math.sqrt(variance + extra)
    if by_factors:
        low, high = value * math.exp(-half), value * math.exp(half)
    else:
        low, high = value - half, value + half
    least, most = METRICS[metric].bounds
    return Estimate(
        metric=metric,
        value=value,
        low=max(low, least),
        high=min(high, most),
        rows=rows,
        checks=len(checks),
        variance=variance,
    )


def error_of(check: Check, *, by_factors: bool) -> float:
    """Return how far the realised value was above the estimated one, as errors are compared."""
    if not by_factors:
        return check.realised - check.estimated
    return math.log(max(check.realised, _TINY)) - math.log(max(check.estimated, _TINY))


def _beyond_chance(checks: Sequence[Check], *, by_factors: bool) -> tuple[float, float]:
    """Return the variance of errors beyond chance, and how many deviations an interval reaches.

    A prediction interval for one more window (Higgins, Thompson and Spiegelhalter 2009, section
    4.2), the variance between windows by moments and around 0: a lasting bias counts as error.
    """
    if len(checks) < _MIN_CHECKS:
        known = [error_of(c, by_factors=by_factors) ** 2 - c.variance for c in checks]
        return max([_UNCHECKED[by_factors] ** 2, *known]), float(stats.norm.ppf((1 + _LEVEL) / 2))
    squares = np.array([error_of(c, by_factors=by_factors) ** 2 for c in checks])
    chance = np.array([c.variance for c in checks])
    extra = max(float(np.mean(squares - chance)), 0.0)
    return extra, float(stats.t.ppf((1 + _LEVEL) / 2, len(checks)))
