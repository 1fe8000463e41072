"""Moments: mean and variance as whole numbers, which add up exactly in any order.

Sums of floats hang on their order. Here each value is a whole number of steps of a grid fixed at
training time; their sum and the sum of their squares are integers.
"""

import numpy as np

from twinloop.vocabulary import Frozen

# Steps in a standard deviation of the training rows, and how many there are to either side.
_FINE, _FAR = 256.0, 65_536.0
# So many squares of the largest step are below 2**53: a sum of them is exact as floats.
_CHUNK = 131_072


class Grid(Frozen):
    """Where values are counted in steps: (value - centre) / unit, at most 256 deviations off."""

    centre: float
    unit: float

    def sums(self, values: np.ndarray, missing: int) -> tuple[int, int]:
        """Add up steps and their squares.

        Parameters
        ----------
        values : np.ndarray of float32 or float64, shape (n_rows,)
            NaN where missing.
        missing
            How many are NaN.
        """
        total = squares = 0.0
        kind = values.dtype.type
        centre, scale = kind(self.centre), kind(1 / self.unit)
        for start in range(0, len(values), _CHUNK):
            with np.errstate(over="ignore", invalid="ignore"):
                steps = (values[start : start + _CHUNK] - centre) * scale
            # Of NaN and a number, fmax takes the number: missing values are at the lower end.
            np.fmax(steps, -_FAR, out=steps)
            np.minimum(steps, _FAR, out=steps)
            whole = np.rint(steps, out=steps).astype(np.float64)
            total += whole.sum()
            # No matrix product: its threads would wait for so little work longer than it takes.
            squares += np.square(whole, out=whole).sum()
        far = int(_FAR)
        return int(total) + missing * far, int(squares) - missing * far * far

    def mean(self, total: int, n: int) -> float:
        """Return the mean of values from their sum; NaN of none."""
        return self.centre + self.unit * total / n if n else float("nan")

    def variance(self, total: int, squares: int, n: int) -> float:
        """Return the variance of values from their sums, over n; NaN of none."""
        # Integers: no digit is lost where the mean is far off.
        return self.unit**2 * (n * squares - total * total) / n**2 if n else float("nan")


def learn_grid(values: np.ndarray) -> Grid:
    """Fix the grid by training rows: finite values, shape (n_rows,)."""
    centre = float(np.median(values))
    spread = float(np.std(values.astype(np.float64) / max(1.0, (top := np.abs(values).max()))))
    spread *= max(1.0, float(top))
    # A constant has no spread: then a step is a share of its size.
    unit = (spread or abs(centre) or 1.0) / _FINE
    tiny = float(np.finfo(np.float32).tiny)
    return Grid(centre=centre, unit=max(unit, tiny))
