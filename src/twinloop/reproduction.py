"""Reproduction: a version fitted again, held to what was registered."""

import hashlib
from collections.abc import Mapping

from twinloop.errors import ReproductionError
from twinloop.vocabulary import AnyCandidate, Frozen

_NONE = ""


class FileCheck(Frozen):
    """SHA-256 of one file, as registered and as it came out now; empty where there is none."""

    name: str
    registered: str
    now: str

    @property
    def same(self) -> bool:
        """Whether both are there and equal."""
        return self.registered == self.now != _NONE


class Reproduction(Frozen):
    """What came of fitting a version again.

    Attributes
    ----------
    score_then, score_now
        The metric on the holdout.
    changes
        What is not as it was then: software, cores.
    same
        Whether every file is the same, bit by bit.
    """

    workload: str
    version: str
    run_id: str
    winner: AnyCandidate
    metric: str
    score_then: float
    score_now: float
    files: tuple[FileCheck, ...]
    changes: tuple[str, ...]
    same: bool


def compare_files(
    registered: Mapping[str, bytes], now: Mapping[str, bytes]
) -> tuple[FileCheck, ...]:
    """Compare files by name and content."""

    def digest(files: Mapping[str, bytes], name: str) -> str:
        return hashlib.sha256(files[name]).hexdigest() if name in files else _NONE

    return tuple(
        FileCheck(name=name, registered=digest(registered, name), now=digest(now, name))
        for name in sorted({*registered, *now})
    )


def compare_software(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Say which versions are others than they were."""
    return tuple(
        f"{name} {then.get(name, 'absent')} -> {now.get(name, 'absent')}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    )


def refuse_differences(found: Reproduction) -> None:
    """Stop where a version came out otherwise.

    Raises
    ------
    ReproductionError
        With the files that differ, and what has changed since.
    """
    if found.same:
        return
    differ = ", ".join(f.name for f in found.files if not f.same)
    why = (
        f"Changed since: {'; '.join(found.changes)}."
        if found.changes
        else (
            "Software and cores are as they were: an estimator with random numbers of its own does "
            "this, and so does another kind of processor."
        )
    )
    raise ReproductionError(
        f"{found.workload} v{found.version}, fitted again, is not what was registered: {differ} "
        f"differ; {found.metric} on the holdout {found.score_then:.10g} then, "
        f"{found.score_now:.10g} now.",
        why,
    )
