"""Requirements: what is installed here, pinned so that another machine gets the same."""

from collections.abc import Iterable
from functools import cache
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


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
