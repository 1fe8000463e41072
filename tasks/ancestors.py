"""Ancestors: the registered versions that continued ones were grown from."""

from dataclasses import replace
from functools import partial

from tasks.registry import find_version, load_version
from tasks.tracking import client
from twinloop.errors import RegistryError, ReproductionError
from twinloop.recipe import Continues, Recipe
from twinloop.scorer import Scorer
from twinloop.validation import LabelledRows
from twinloop.workload import Workload

# Of an ancestor: the versions that continue it.
CONTINUED_BY = "twinloop.continued_by"
# MLflow refuses longer values of a version's tags.
LONGEST_TAG = 5000


def with_ancestors(rows: LabelledRows, workload: Workload) -> LabelledRows:
    """Return rows that know where to find the model a recipe continues."""
    return replace(rows, ancestor=partial(load_ancestor, workload))


def load_ancestor(workload: Workload, made: Continues) -> Scorer:
    """Load the version that is continued, and see that it is the one it was then.

    Parameters
    ----------
    workload
        Whose version.
    made
        Names it, and the digest of its files.

    Raises
    ------
    ReproductionError
        If it is gone, its files are, or they are others than those that were continued.
    """
    what = f"what continues version {made.version} of {workload.id} cannot be fitted without it"
    try:
        version = find_version(workload, made.version)
        if version.digest != made.digest:
            raise ReproductionError(
                f"{what}: that version now has digest {version.digest[:16]}, it was "
                f"{made.digest[:16]} then.",
                "Restore the registry it was trained with, or train anew.",
            )
        return load_version(version, workload.trusted).scorer
    except RegistryError as err:
        raise ReproductionError(
            f"{what}: {err.message}", "Restore that version, or train anew."
        ) from err


def tell_ancestor(workload: Workload, recipe: Recipe | None, heir: str) -> None:
    """Tag an ancestor with what continues it: deleted, it takes away how to fit that again.

    Parameters
    ----------
    workload
        Whose versions.
    recipe
        What the heir was made by; it names the ancestor, if there is one.
    heir
        Number of the version that may continue it.
    """
    made = recipe.continues if recipe else None
    if made is None:
        return
    known = client().get_model_version(workload.id, made.version).tags.get(CONTINUED_BY)
    heirs = f"{known}, {heir}" if known else heir
    client().set_model_version_tag(workload.id, made.version, CONTINUED_BY, heirs[-LONGEST_TAG:])
