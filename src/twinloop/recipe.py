"""Recipe: what is fitted beyond a candidate's name: settings, and which rows count."""

from datetime import timedelta

import numpy as np
from pydantic import Field

from twinloop.vocabulary import AnyCandidate, Frozen

# A forest's setting of our own: 1 for trees that split where chance has it (Geurts, Ernst and
# Wehenkel 2006, "Extremely randomized trees"), each on all rows unless it is given a share of them.
EXTRA_TREES = "extra_trees"
# XGBoost's: 1 where trees send any levels of a category to a side, not those before some place.
NATIVE_CATEGORIES = "enable_categorical"


class Continues(Frozen):
    """What a boosted model was grown on from, and how (see `twinloop.continuation`).

    Attributes
    ----------
    version, digest
        Number of the ancestor, and SHA-256 over its files.
    trees, rate
        How many trees were added to it, and by how much each counts.
    recent
        How far back from the newest row those reach that the new trees have learned from.
    """

    version: str
    digest: str
    trees: int = Field(ge=1)
    rate: float = Field(gt=0)
    recent: timedelta


class Recipe(Frozen):
    """Settings of an estimator, and how much older rows are worth to it.

    Attributes
    ----------
    candidate
        Whose settings: a shipped candidate, or an estimator of the user's own.
    params
        By the library's names, and `EXTRA_TREES`; what is not here is as shipped.
    half_life
        Age at which a row weighs half as much as the newest; None: as the workload says.
    recent
        Rows further back than this from the newest are not fitted; None: all that there are.
    rounds
        How many trees a booster grows; None: as many as do good, which takes a second fit to know.
    continues
        What was grown on in place of a fit, by these settings; None: nothing, it is fitted.
    """

    candidate: AnyCandidate
    params: dict[str, int | float] = Field(default_factory=dict)
    half_life: timedelta | None = None
    recent: timedelta | None = None
    rounds: int | None = Field(None, ge=1)
    continues: Continues | None = None

    def newest(self, chosen: np.ndarray, times: np.ndarray | None) -> np.ndarray:
        """Return the rows that are recent enough.

        Parameters
        ----------
        chosen : np.ndarray of int64, shape (n,)
            Places of the rows to choose from.
        times : np.ndarray of int64, shape (n_rows,), or None
            Of all rows, microseconds since 1970; None: all of them are kept.
        """
        recent = self.recent if self.continues is None else self.continues.recent
        if recent is None or times is None or len(chosen) == 0:
            return chosen
        first = times[chosen].max() - recent // timedelta(microseconds=1)
        return chosen[times[chosen] >= first]
