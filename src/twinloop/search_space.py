"""Search space: the settings of each candidate that tuning may change, and how far."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from twinloop.recipe import EXTRA_TREES, NATIVE_CATEGORIES, Recipe
from twinloop.vocabulary import TunableName, TunedName
from twinloop.workload import Workload

# Raise when a range changes, or what is fitted for a value: trials of before are then forgotten.
SPACE_VERSION = 4
HALVINGS, RECENT = "halvings", "recent"
_TUNED: dict[TunableName, TunedName] = {
    "linear": "linear-tuned",
    "forest": "forest-tuned",
    "boosting": "boosting-tuned",
    "xgboost": "xgboost-tuned",
}
# A weight that falls by less than 7 % over all rows, and rows left out for less than a fiftieth of
# the time, are no weights and no window.
_FEWEST_HALVINGS = 0.1
_NEARLY_ALL = 0.98
# Where the workload itself lets rows age, this is how to say that they should not.
_NO_AGEING = 0.01

Value = int | float


@dataclass(frozen=True)
class Range:
    """The values one setting may have, ends included.

    Attributes
    ----------
    name
        The library's own, or one of those about rows.
    default
        What a candidate has that is not tuned.
    log
        Whether steps are by a factor.
    whole
        Whether values are whole numbers.
    """

    name: str
    low: Value
    high: Value
    default: Value
    log: bool = False
    whole: bool = False

    def clip(self, value: Value) -> Value:
        """Return the nearest value within."""
        near = min(max(value, self.low), self.high)
        return round(near) if self.whole else float(near)


_XGBOOST = (
    Range("eta", 0.02, 0.3, 0.1, log=True),
    Range("max_depth", 2, 10, 6, whole=True),
    Range("min_child_weight", 0.5, 50.0, 2.0, log=True),
    Range("subsample", 0.5, 1.0, 0.8),
    Range("colsample_bytree", 0.3, 1.0, 0.8),
    Range("reg_lambda", 0.05, 50.0, 1.0, log=True),
    Range("num_parallel_tree", 1, 4, 1, log=True, whole=True),
    Range(NATIVE_CATEGORIES, 0, 1, 0, whole=True),
)
_BOOSTING = (
    Range("learning_rate", 0.02, 0.3, 0.1, log=True),
    Range("max_leaf_nodes", 4, 127, 31, log=True, whole=True),
    Range("min_samples_leaf", 3, 100, 20, log=True, whole=True),
    Range("l2_regularization", 0.0, 10.0, 0.0),
    Range("max_features", 0.3, 1.0, 1.0),
)
_FOREST = (
    Range("min_samples_leaf", 1, 30, 2, log=True, whole=True),
    Range("max_samples", 0.3, 1.0, 1.0),
    Range(EXTRA_TREES, 0, 1, 0, whole=True),
)
# With classes a split looks at the root of the features' number, which is no share.
_FOREST_REGRESSION = (Range("max_features", 0.2, 1.0, 0.5),)
_LINEAR_CLASSES = (Range("C", 1e-3, 100.0, 1.0, log=True),)


def tuned_name(candidate: TunableName) -> TunedName:
    """Return what a candidate is called once it was tuned."""
    return _TUNED[candidate]


def search_space(
    candidate: TunableName, workload: Workload, span: timedelta | None, *, categories: bool
) -> tuple[Range, ...]:
    """Return what may be tuned.

    Parameters
    ----------
    candidate
        Which.
    workload
        Task, and whether rows have a time that tuning may weigh them by.
    span
        Time from the oldest to the newest row that is fitted; None without time.
    categories
        Whether any feature is one.
    """
    ranges: tuple[Range, ...] = {"xgboost": _XGBOOST, "boosting": _BOOSTING}.get(candidate, ())
    if candidate == "forest":
        ranges = _FOREST + (_FOREST_REGRESSION if workload.task == "regression" else ())
    if candidate == "linear" and workload.task != "regression":
        ranges = _LINEAR_CLASSES
    if not categories:
        ranges = tuple(r for r in ranges if r.name != NATIVE_CATEGORIES)
    if span is None or not workload.tunes_recency:
        return ranges
    aged = workload.training.half_life
    halvings = Range(HALVINGS, 0.0, 6.0, 0.0)
    default = halvings.clip(span / aged) if aged else 0.0
    return (*ranges, Range(HALVINGS, 0.0, 6.0, default), Range(RECENT, 0.2, 1.0, 1.0))


def default_values(space: tuple[Range, ...]) -> dict[str, Value]:
    """Return the values of a candidate that is not tuned."""
    return {r.name: r.default for r in space}


def first_values(space: tuple[Range, ...]) -> list[tuple[str, dict[str, Value]]]:
    """Return what a search tries first, each with its source.

    It is what is shipped and, where rows have a recency, the same on the latest three tenths of the
    time, whose rows weigh less the older they are.
    """
    shipped = default_values(space)
    known = [("default", shipped)]
    if any(r.name == RECENT for r in space):
        known.append(("recent", shipped | {HALVINGS: 3.0, RECENT: 0.3}))
    return known


def native_values(space: tuple[Range, ...]) -> dict[str, Value] | None:
    """Return the values of what is shipped with its categories taken as such; None without any."""
    if all(r.name != NATIVE_CATEGORIES for r in space):
        return None
    return default_values(space) | {NATIVE_CATEGORIES: 1}


def recipe_of(
    candidate: TunableName,
    values: Mapping[str, Value],
    workload: Workload,
    span: timedelta | None,
) -> Recipe:
    """Turn values of a search space into what is fitted.

    ``halvings`` is how many half-lives the fitted rows span, and ``recent`` the share of their time
    that is fitted; both become times, which mean the same in every fold.
    """
    params = {name: value for name, value in values.items() if name not in (HALVINGS, RECENT)}
    if span is None or HALVINGS not in values:
        return Recipe(candidate=candidate, params=params)
    halvings, recent = values[HALVINGS], values[RECENT]
    ages = halvings >= _FEWEST_HALVINGS
    if not ages and workload.training.half_life is not None:
        ages, halvings = True, _NO_AGEING
    return Recipe(
        candidate=candidate,
        params=params,
        half_life=span / halvings if ages else None,
        recent=span * recent if recent < _NEARLY_ALL else None,
    )


def values_of(recipe: Recipe, space: tuple[Range, ...], span: timedelta | None) -> dict[str, Value]:
    """Return a recipe as values of a search space, the nearest where it lies outside.

    What it does not say is as shipped.
    """
    known: dict[str, Value] = dict(recipe.params)
    if span is not None and recipe.half_life is not None:
        known[HALVINGS] = span / recipe.half_life
    if span is not None and recipe.recent is not None:
        known[RECENT] = recipe.recent / span
    return {r.name: r.clip(known.get(r.name, r.default)) for r in space}
