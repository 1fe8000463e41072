"""Ensemble: a weighted mean of other candidates, and how good it is on rows it knows nothing of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from twinloop.blend import Blend
from twinloop.candidates import CHEAP_FIRST, Predictor
from twinloop.evaluation import METRICS
from twinloop.recipe import Recipe
from twinloop.results import Member
from twinloop.scorer import Predictions, Scorer, Target
from twinloop.tempering import best_power, raised
from twinloop.validation import LabelledRows, fit_rows
from twinloop.vocabulary import ENSEMBLE, AnyCandidate

# A member's weight is a multiple of one twentieth: a finer one is beyond what folds can tell.
MOST_PICKS = 20
# A pick must bring more than what sums in another order bring.
_ROUNDING = 1e-9

# How good predictions are against the truth: more is better, NaN where nothing can be said.
Gain = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class HeldOut:
    """Rows of one fold that no member was fitted on.

    Attributes
    ----------
    rows : np.ndarray of int64, shape (n_rows,)
        Their places.
    y : np.ndarray, shape (n_rows,)
        The truth.
    said : np.ndarray of float64, shape (n_members, n_rows) or (n_members, n_rows, n_classes)
        What each member says of them, on the scale of `on_scale`.
    fold : np.ndarray of int64, or None
        Places of all rows of the fold, where `rows` are only some of them.
    """

    rows: np.ndarray
    y: np.ndarray
    said: np.ndarray
    fold: np.ndarray | None = None

    def without(self, other: "HeldOut") -> "HeldOut":
        """Return what is left without any row of another fold."""
        kept = ~np.isin(self.rows, other.rows if other.fold is None else other.fold)
        return self if kept.all() else HeldOut(self.rows[kept], self.y[kept], self.said[:, kept])

    def tempered(self, powers: Sequence[float]) -> "HeldOut":
        """Return it with the probabilities of each member raised to a power of its own."""
        if all(power == 1.0 for power in powers):
            return self
        return replace(self, said=tempered_each(self.said, powers))


def in_order(names: Sequence[AnyCandidate]) -> tuple[AnyCandidate, ...]:
    """Order members by what they cost, the user's own last: of equals the first is picked."""
    cost: dict[str, int] = {name: i for i, name in enumerate(CHEAP_FIRST)}
    return tuple(sorted(names, key=lambda name: (cost.get(name, len(cost)), name)))


def on_scale(predictions: Predictions, target: Target) -> np.ndarray:
    """Return predictions on the scale that they are averaged on: the one models learn.

    A target learned as its logarithm is averaged as such, a geometric mean: errors there are
    relative ones. Of classes it is the probability.

    Returns
    -------
    np.ndarray of float64, shape (n_rows,) or (n_rows, n_classes)
    """
    if predictions.probability is not None:
        return predictions.probability
    return target.learned(predictions.value)


def mean_of(said: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of members: shape of one of them."""
    used = np.flatnonzero(weights)
    mean: np.ndarray = np.tensordot(weights[used], said[used], axes=1)
    return mean


def tempered_each(said: np.ndarray, powers: Sequence[float]) -> np.ndarray:
    """Return what members say, the probabilities of each raised to its power: shape as `said`."""
    return np.stack([raised(one, power) for one, power in zip(said, powers, strict=True)])


def gain_by(metric: str, target: Target) -> Gain:
    """Return how good means of members are by a metric: more is better."""
    measure = METRICS[metric]

    def gain(y: np.ndarray, said: np.ndarray) -> float:
        return measure.gain(measure.score(y, target.answers(said)), 0.0)

    return gain


def select_weights(parts: Sequence[HeldOut], gain: Gain) -> np.ndarray:
    """Pick members one by one, each as often as it does good, and weigh them by their picks.

    Forward selection with replacement (Caruana, Niculescu-Mizil, Crew and Ksikes 2004, "Ensemble
    Selection from Libraries of Models", sections 2 and 2.1). It starts with the best member; each
    pick is the member that makes the mean of all picks best. After twenty picks, as many of the
    first ones are kept as were best, the fewest of equals. Nothing is drawn.

    Parameters
    ----------
    parts
        At least one. The gain is the mean over them, as candidates are ranked by; those without one
        do not count.
    gain
        See `gain_by`.

    Returns
    -------
    np.ndarray of float64, shape (n_members,)
        Multiples of one over the number of picks; they sum to 1.
    """
    n_members = len(parts[0].said)
    sums = [np.zeros(part.said.shape[1:]) for part in parts]
    counts = np.zeros(n_members, np.int64)
    kept, best = np.eye(n_members, dtype=np.int64)[0], -np.inf
    for size in range(1, MOST_PICKS + 1):
        gains = [
            _mean_gain(
                [gain(p.y, (s + p.said[i]) / size) for p, s in zip(parts, sums, strict=True)]
            )
            for i in range(n_members)
        ]
        pick = _first_best(gains)
        counts[pick] += 1
        sums = [s + p.said[pick] for p, s in zip(parts, sums, strict=True)]
        if _more(gains[pick], best):
            kept, best = counts.copy(), gains[pick]
    weights: np.ndarray = kept / kept.sum()
    return weights


def _mean_gain(gains: list[float]) -> float:
    known = [g for g in gains if not np.isnan(g)]
    return float(np.mean(known)) if known else -np.inf


def _first_best(gains: list[float]) -> int:
    best = 0
    for i, value in enumerate(gains):
        if _more(value, gains[best]):
            best = i
    return best


def _more(one: float, other: float) -> bool:
    if np.isinf(other):
        return one > other
    return one > other + _ROUNDING * abs(other)


def weights_by_fold(
    folds: Sequence[HeldOut],
    gain: Gain,
    *,
    ordered: bool,
    best: int,
    powers: Sequence[Sequence[float]] | None = None,
) -> list[np.ndarray]:
    """Select weights for each fold that know nothing of the fold's own rows.

    Weights chosen on the rows they are scored on flatter: of enough members of pure noise some mean
    fits any rows. So those of a fold are selected on the rows of the others; where folds follow
    each other in time, on those of earlier ones. Before the first there is none: no ensemble could
    have been made then, so it is the best single candidate there, and its lead over that one is
    nil. A uniform mean instead would charge the ensemble with a choice that nobody makes again.

    One thing is left: by chance, not by time, members whose predictions weights are selected on
    were fitted on rows that the fold holds. Fits within fits would mend that at five times the
    cost; with a handful of weights it is not worth it.

    Parameters
    ----------
    folds
        In the order of the split; repeated folds may share rows.
    gain
        See `gain_by`.
    ordered
        Whether folds follow each other in time.
    best
        Place of the best single member over all folds.
    powers
        For each fold, what each member's probabilities are raised to, fitted without the fold's
        rows; None: they are left as they are.

    Returns
    -------
    list of np.ndarray of float64, shape (n_members,)
        One for each fold.
    """
    alone = np.eye(len(folds[0].said))[best]
    found = []
    for i in range(len(folds)):
        parts = _without(folds, i, ordered, powers)
        found.append(select_weights(parts, gain) if parts else alone)
    return found


def _without(
    folds: Sequence[HeldOut],
    number: int,
    ordered: bool,
    powers: Sequence[Sequence[float]] | None,
) -> list[HeldOut]:
    """Return what may be known before a fold, members tempered as it is known then."""
    others = folds[:number] if ordered else chain(folds[:number], folds[number + 1 :])
    parts = [part for part in (o.without(folds[number]) for o in others) if len(part.y)]
    return parts if powers is None else [part.tempered(powers[number]) for part in parts]


def mean_powers(
    folds: Sequence[HeldOut],
    weights: Sequence[np.ndarray],
    powers: Sequence[Sequence[float]],
    *,
    ordered: bool,
) -> list[float]:
    """Return for each fold what the mean of members is raised to, by what is known without it.

    Parameters
    ----------
    folds, powers, ordered
        As in `weights_by_fold`.
    weights
        What that returned.
    """
    found = []
    for i, own in enumerate(weights):
        parts = _without(folds, i, ordered, powers)
        said = [mean_of(part.said, own) for part in parts]
        truth = [part.y for part in parts]
        found.append(best_power(np.concatenate(said), np.concatenate(truth)) if parts else 1.0)
    return found


def members_of(
    names: Sequence[AnyCandidate],
    weights: np.ndarray,
    recipes: Mapping[AnyCandidate, Recipe | None] | None = None,
    powers: Mapping[AnyCandidate, float] | None = None,
) -> tuple[Member, ...]:
    """Name the members that have a weight, the heaviest first, with what each was made by.

    `powers` is what their probabilities are raised to; None: all are left as they are.
    """
    made_by, raised_to = recipes or {}, powers or {}
    heavy = np.argsort(-weights, kind="stable")
    return tuple(
        Member(
            name=names[i],
            weight=float(weights[i]),
            recipe=made_by.get(names[i]),
            power=raised_to.get(names[i], 1.0),
        )
        for i in heavy
        if weights[i] > 0
    )


def compose(scorers: Sequence[Scorer], members: Sequence[Member]) -> Scorer:
    """Make one scorer of its members'.

    Parameters
    ----------
    scorers
        Fitted on the same rows, so on one encoding and target.
    members
        Their names, weights and powers, in the same order.
    """
    first = scorers[0]
    if any(s.encoding != first.encoding for s in scorers):
        raise ValueError(f"members {[m.name for m in members]} were not fitted on the same rows")
    powers = tuple(m.power for m in members)
    blend = Blend(
        tuple(m.name for m in members),
        tuple(s.predictor for s in scorers),
        tuple(m.weight for m in members),
        0.0 if first.target.log else None,
        powers if any(power != 1.0 for power in powers) else (),
    )
    n_classes = first.predictor.n_classes
    return Scorer(first.encoding, Predictor(ENSEMBLE, blend, n_classes), first.target)


def fit_members(
    rows: LabelledRows,
    name: AnyCandidate,
    members: Sequence[Member],
    train: np.ndarray | None = None,
    *,
    threads: int,
    recipe: Recipe | None = None,
) -> Scorer:
    """Fit a candidate on some rows, an ensemble by fitting each of its members.

    Parameters
    ----------
    rows, name, train, threads, recipe
        As in `twinloop.validation.fit_rows`.
    members
        Of the ensemble; none for any other candidate.
    """
    if not members:
        return fit_rows(rows, name, train, threads=threads, recipe=recipe)
    fitted = [fit_rows(rows, m.name, train, threads=threads, recipe=m.recipe) for m in members]
    return compose(fitted, members)
