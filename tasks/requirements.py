"""Requirements: what is installed here, pinned so that another machine gets the same."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Read off what is installed, by this process.
_spared: set[str] = set()


def is_installed(name: str) -> bool:
    """Tell whether a distribution is there."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def distributions_of(names: Iterable[str]) -> list[str]:
    """Name the installed distributions that types like ``my_models.trees.Fancy`` are in.

    One that is only on ``PYTHONPATH`` is of none.
    """
    modules = {name.partition(".")[0] for name in names}
    if not modules:
        return []
    known = metadata.packages_distributions()
    return sorted({found for module in modules for found in known.get(module, ())})


def spare_pins(pins: Sequence[str]) -> None:
    """Patch MLflow, for this process, not to look pins up again among what is installed.

    It warns of requirements that are not met here; these were read off what is installed, and the
    second look takes as long as a fit of a few thousand rows. A function of MLflow's own that is
    no part of its interface is replaced by one that leaves these pins out. Anything else it looks
    at as before; where a release calls it otherwise, at everything, and where it has none such
    nothing is replaced.

    Parameters
    ----------
    pins
        As `pinned` returned them.
    """
    try:
        from mlflow.utils import environment
    except ImportError:
        return  # a release that does otherwise

    name = "warn_dependency_requirement_mismatches"
    look = getattr(environment, name, None)
    _spared.update(pins)
    if not callable(look) or getattr(look, "__module__", "") == __name__:
        return  # as above, or it was told already

    def warn_of_others(*args: Any, **kwargs: Any) -> Any:
        if len(args) != 1 or kwargs or not isinstance(args[0], list):
            return look(*args, **kwargs)
        others = [x for x in args[0] if not (isinstance(x, str) and x in _spared)]
        return look(others) if others else None

    setattr(environment, name, warn_of_others)


def pinned(names: Iterable[str]) -> list[str]:
    """Pin distributions and everything they need in turn, as installed here.

    Pinning the first alone would leave the others to the day of the installation: a later release
    of what a library stands on has broken that library before.

    Parameters
    ----------
    names
        Of distributions that are installed.

    Returns
    -------
    list of str
        ``name==version``, by name.
    """
    return list(_pinned(tuple(names)))


@cache
def _pinned(names: tuple[str, ...]) -> tuple[str, ...]:
    # What is installed does not change under a process; to read it takes a fifth of a second.
    found: dict[str, str] = {}
    wanted = [(canonicalize_name(name), frozenset[str]()) for name in names]
    seen = set(wanted)
    while wanted:
        name, extras = wanted.pop()
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an extra's requirement, or one that this machine does without
        found[name] = installed.version
        for line in installed.requires or ():
            need = Requirement(line)
            if not _holds(need, extras):
                continue
            part = canonicalize_name(need.name), frozenset(need.extras)
            if part not in seen:
                seen.add(part)
                wanted.append(part)
    return tuple(f"{name}=={version}" for name, version in sorted(found.items()))


def _holds(need: Requirement, extras: frozenset[str]) -> bool:
    """Tell whether a requirement is one on this machine, with the extras asked for."""
    if need.marker is None:
        return True
    return any(need.marker.evaluate({"extra": extra}) for extra in (extras or {""}))
