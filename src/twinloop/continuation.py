"""Continuation: a boosted model grown on with a few trees of the newest rows, in place of a refit.

A refit starts over and forgets what lies before its rows. A continuation keeps every tree of its
ancestor and lets a few more, small ones, mend what they get wrong now: it adapts without
forgetting, for less work. It hangs on the ancestor's files, encoding and target; so it is one
generation deep, and its heirs are fitted anew.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import ValidationError

from twinloop.boosting import boosting_params, feature_types
from twinloop.candidates import Predictor
from twinloop.encoding import Feature
from twinloop.histories import Compared
from twinloop.problem import Problem
from twinloop.recipe import Continues, Recipe
from twinloop.refresh import boosted_rounds, main_recipe
from twinloop.results import CandidateResult
from twinloop.scorer import Scorer, Target
from twinloop.vocabulary import Frozen
from twinloop.window import format_duration

# Of 25 trees at 0.05 and 50 at 0.03, on 28, 56 or 180 days, these were the best after each break
# that was tried, and within 0.003 of the best where the world moved slowly
# (docs/adr/0011-retraining.md).
_TREES = 50
_RATE = 0.03
# Of the workload's window: 30 of 180 days, as near to the 28 tried as a share is.
_SHARE = 1 / 6
# Of what is new: one to learn from, the others to be asked.
_PARTS = 3
# Thirds of a stretch, and days: a standard error of fewer is mostly luck.
_FEWEST_GROUPS = 4
_DAY = 86_400_000_000


def newest_span(window: timedelta) -> timedelta:
    """Return how far back the rows reach that a continuation learns from: a sixth of the window."""
    span, day = window * _SHARE, timedelta(days=1)
    return max(round(span / day), 1) * day if span >= day else span


def recipe_of(result: CandidateResult) -> Recipe:
    """Return what was fitted: the candidate as it is shipped where no recipe says otherwise."""
    return result.recipe or Recipe(candidate=result.name)


def can_grow(result: CandidateResult) -> bool:
    """Tell whether a candidate is one booster of XGBoost's: no ensemble, no other kind."""
    return not result.members and recipe_of(result).candidate == "xgboost"


def is_continued(recipe_json: str) -> bool:
    """Tell whether a version is a continuation, by its recipe as JSON; empty for none."""
    try:
        return Recipe.model_validate_json(recipe_json).continues is not None
    except ValidationError:
        return False  # none, or of a later release


def continued_result(
    winner: CandidateResult, version: str, digest: str, recent: timedelta
) -> CandidateResult:
    """Return a candidate that continues a version in place of a fit of its own.

    Parameters
    ----------
    winner
        What the version was made by.
    version, digest
        Number of the ancestor, and SHA-256 over its files.
    recent
        How far back the rows reach that the new trees learn from.
    """
    made = Continues(version=version, digest=digest, trees=_TREES, rate=_RATE, recent=recent)
    recipe = recipe_of(winner).model_copy(update={"continues": made})
    return winner.model_copy(update={"recipe": recipe})


def refitted_result(winner: CandidateResult) -> CandidateResult:
    """Return a candidate as its heirs are made: fitted, not continued."""
    recipe = refitted(winner.recipe)
    return winner if recipe is winner.recipe else winner.model_copy(update={"recipe": recipe})


def refitted(recipe: Recipe | None) -> Recipe | None:
    """Return a recipe as a fit takes it: what it would continue is left out."""
    if recipe is None or recipe.continues is None:
        return recipe
    return recipe.model_copy(update={"continues": None})


def plain_recipe(winner: CandidateResult, predictor: Predictor) -> Recipe:
    """Return the recipe that stands for a candidate: `main_recipe` without what it continues.

    It grows as many trees as the predictor has, but for those that were added to its ancestor's.
    """
    recipe = main_recipe(winner, predictor)
    if recipe.continues is None or recipe.rounds is None:
        return recipe
    rounds = max(recipe.rounds - recipe.continues.trees, 1)
    return recipe.model_copy(update={"continues": None, "rounds": rounds})


def unlike(ancestor: Scorer, features: Sequence[Feature], target: Target) -> str:
    """Say why rows cannot be learned by an ancestor; empty where they can.

    Levels of categories may differ: those the ancestor does not know are missing to it.

    Parameters
    ----------
    ancestor
        What would be continued.
    features, target
        Of the rows.
    """
    if ancestor.predictor.library != "xgboost" or not boosted_rounds(ancestor.predictor):
        return "it is no booster of XGBoost's"
    if ancestor.target != target:
        return "it has learned another target, or other classes"
    if _columns(ancestor.encoding.features) != _columns(features):
        return "it reads other columns"
    return ""


def _columns(features: Sequence[Feature]) -> list[tuple[str, str, str]]:
    return [(f.name, f.source, f.how) for f in features]


def grow(
    ancestor: Scorer,
    made: Continues,
    X: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
    problem: Problem,
) -> Predictor:
    """Grow an ancestor's booster on; the ancestor stays as it is.

    Parameters
    ----------
    ancestor
        Whose trees come first, to the last bit.
    made
        How many trees are added, at which rate.
    X : np.ndarray of float32, shape (n_rows, n_features)
        Newest rows, by the ancestor's encoding.
    y, weight : np.ndarray, shape (n_rows,)
        Targets as they are learned, and how much each row counts or None.
    problem
        Task, seed, threads and the settings of the trees.

    Returns
    -------
    Predictor
        With the ancestor's trees and the new ones.
    """
    import xgboost as xgb

    names = [f"f{i}" for i in range(X.shape[1])]
    # Rows as they are: of rows in bins the ancestor's answers, which the new trees are to mend,
    # would be those of the bins' edges.
    types = feature_types(ancestor.encoding, problem)
    rows = xgb.DMatrix(
        pd.DataFrame(X, columns=names, copy=False),
        y,
        weight=weight,
        nthread=problem.threads,
        feature_types=types,
        enable_categorical=types is not None,
    )
    params = boosting_params(problem) | {"eta": made.rate}
    # As it is read from its file: one that was fitted here would bring its random numbers along.
    content = ancestor.predictor.model.save_raw("ubj")
    grown = xgb.train(params, rows, made.trees, xgb_model=xgb.Booster(model_file=content))
    return replace(ancestor.predictor, model=grown)


def continuation_words(made: Continues) -> str:
    """Say what is added: ``50 rounds at 0.03 on the newest 30d``."""
    return f"{made.trees} rounds at {made.rate:g} on the newest {format_duration(made.recent)}"


class Contest(Frozen):
    """Refit and continuation on rows that neither has seen.

    Attributes
    ----------
    refit, grown
        What each showed; of `grown` the gain is beside the refit.
    made
        How the continuation was made.
    """

    refit: Compared
    grown: Compared
    made: Continues

    @property
    def better(self) -> Literal["continuation", "refit"]:
        """Which goes on: the continuation where it clearly does better.

        Clear is more than one standard error of the paired differences, as of histories.
        """
        return "continuation" if self.grown.clear else "refit"

    @property
    def words(self) -> str:
        """Say which goes on and why."""
        share = self.grown.gain / self.refit.error if self.refit.error else 0.0
        error = self.grown.standard_error / self.refit.error if self.refit.error else 0.0
        what = f"{continuation_words(self.made)} after version {self.made.version}"
        cpu = f"{self.grown.cpu_seconds:.3g} and {self.refit.cpu_seconds:.3g}"
        verb = "save" if share > 0 else "lose"
        return (
            f"{self.better}: {what} {verb} {abs(share):.1%} of the loss of a refit, standard error "
            f"{error:.1%}; CPU seconds {cpu}"
        )


def contest_bounds(times: np.ndarray, until: int) -> list[int]:
    """Divide what is new to an ancestor: a third to learn from, and two stretches to be asked.

    Parameters
    ----------
    times : np.ndarray of int64, shape (n_rows,)
        Microseconds since 1970, of rows before the holdout.
    until
        Time of the newest row that the ancestor was fitted on.

    Returns
    -------
    list of int
        Where stretches begin, and where the last one ends; empty where too little is new.
    """
    new = times[times > until]
    if len(new) == 0:
        return []
    first, end = int(new.min()), int(new.max()) + 1
    bounds = [first + (end - first) * i // _PARTS for i in range(1, _PARTS)] + [end]
    return bounds if len(set(bounds)) == len(bounds) and bounds[0] > first else []


def tell_enough(times: np.ndarray, groups: np.ndarray, least: int) -> bool:
    """Tell whether rows are enough to see by them which of two ways does better.

    Parameters
    ----------
    times : np.ndarray of int64, shape (n_rows,)
        Microseconds since 1970, of the rows to be asked about.
    groups : np.ndarray of int64, shape (n_rows,)
        Neighbours that hang together; see `twinloop.histories.stretch_groups`.
    least
        How many rows there must be.
    """
    fewest = min(len(np.unique(groups)), len(np.unique(times // _DAY)))
    return len(times) >= least and fewest >= _FEWEST_GROUPS
