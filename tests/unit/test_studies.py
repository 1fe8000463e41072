"""A study goes on where it was left, and a search holds its file alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.studies import Proposal, TrialStudy, forget_old, locked
from twinloop.recipe import NATIVE_CATEGORIES, Recipe
from twinloop.search_space import Range, Value, default_values
from twinloop.tuning import Trial

SPACE = (
    Range("x", 0.001, 1.0, 0.1, log=True),
    Range("n", 1, 9, 5, whole=True),
    Range("useless", 0.0, 1.0, 0.5),
)
DEFAULT = default_values(SPACE)


def loss(values: dict[str, Value]) -> float:
    """Return what is to be made small: x near 0.02 and n near 3."""
    return (values["x"] - 0.02) ** 2 + 0.1 * (values["n"] - 3) ** 2


def end(study: TrialStudy, proposal: Proposal, losses: list[float], *, pruned: bool) -> None:
    """Tell a study what came of a proposal."""
    trial = Trial(
        number=len(study.trials),
        source=proposal.source,
        values=proposal.values,
        recipe=Recipe(candidate="xgboost"),
        scores=tuple(losses),
        state="pruned" if pruned else "complete",
        seconds=1.0,
        cpu_seconds=1.0,
        peak_bytes=1,
        money=0.0,
        started=0.0,
        ended=1.0,
        spent=1.0,
    )
    study.tell(proposal, trial, losses)


def run(path: Path, until: int) -> list[dict[str, Value]]:
    """Search until there are so many trials, four at a time, every third given up."""
    study = TrialStudy(path, SPACE, seed=3)
    study.propose([("default", DEFAULT), ("champion", DEFAULT | {"n": 2})])
    while len(study.trials) < until:
        for proposal in study.ask(4):
            pruned = len(study.trials) % 3 == 2
            end(study, proposal, [loss(proposal.values)], pruned=pruned)
    return [t.values for t in study.trials]


def test_a_study_left_after_any_round_goes_on_the_same(tmp_path: Path) -> None:
    """Proposals hang on the seed and the trials before, and not on who asks for them."""
    whole = run(tmp_path / "whole.log", 28)
    for stop in (4, 16):
        path = tmp_path / f"{stop}.log"
        run(path, stop)
        assert run(path, 28) == whole


def test_what_is_known_is_tried_first_and_once(tmp_path: Path) -> None:
    """First the shipped settings, then the champion's; the same twice is one trial."""
    found = run(tmp_path / "study.log", 8)
    assert found[:2] == [DEFAULT, DEFAULT | {"n": 2}]
    assert found.count(DEFAULT) == 1
    study = TrialStudy(tmp_path / "other.log", SPACE, seed=3)
    study.propose([("default", DEFAULT), ("champion", DEFAULT)])
    assert [p.source for p in study.ask(4)] == ["default", "search", "search", "search"]


@pytest.mark.parametrize(
    ("codes", "native", "wanted"),
    [
        ([3.0, 2.0, 2.0], [3.0, 2.1, 1.9], 1),
        ([3.0, 2.0, 2.0], [3.0, 2.1, 2.1], 0),
        # Given up early: only what both have seen is compared.
        ([3.0, 1.0, 1.0], [2.9], 1),
        ([3.0, 1.0, 1.0], [3.1], 0),
    ],
)
def test_how_categories_are_divided_is_found_out_once(
    codes: list[float], native: list[float], wanted: int, tmp_path: Path
) -> None:
    """What did better as shipped all later trials have, those of a search that goes on, too."""
    space, path = (*SPACE, Range(NATIVE_CATEGORIES, 0, 1, 0, whole=True)), tmp_path / "study.log"
    study = TrialStudy(path, space, seed=3)
    known = default_values(space)
    study.propose([("default", known)])
    losses = {"default": codes, "categories": native}
    for asked in ([0, 0, 0, 0], [1, 0, 0, 0]):
        proposals = study.ask(4)
        assert [p.values[NATIVE_CATEGORIES] for p in proposals] == asked
        for proposal in proposals:
            told = losses.get(proposal.source, [9.0])
            end(study, proposal, told, pruned=len(told) < 3)
    for goes_on in (study, TrialStudy(path, space, seed=3)):
        later = goes_on.ask(12)
        assert {p.values[NATIVE_CATEGORIES] for p in later} == {wanted}
        assert len({p.values["x"] for p in later}) == 12


def test_proposals_get_better(tmp_path: Path) -> None:
    """The search learns: its last proposals are better than its first, and chance's."""
    found = [loss(v) for v in run(tmp_path / "study.log", 40)]
    assert sum(found[-12:]) < 0.5 * sum(found[2:14])


def test_what_matters_is_told_from_what_does_not(tmp_path: Path) -> None:
    """A setting that changes nothing has next to no share; of few trials nothing is said."""
    path = tmp_path / "study.log"
    run(path, 4)
    assert TrialStudy(path, SPACE, seed=3).importance() == {}
    run(path, 40)
    shares = TrialStudy(path, SPACE, seed=3).importance()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["useless"] < shares["n"]


def test_a_file_is_held_by_one_process_and_let_go_of_when_it_dies(tmp_path: Path) -> None:
    """Another waits until it may not any more; the kernel frees what a killed process held."""
    path = tmp_path / "study.lock"
    code = f"import fcntl, time; f = open({str(path)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX)"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print('held', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "held\n"
        with locked(path, time.monotonic() + 0.3) as held:
            assert not held
        holder.kill()
        with locked(path, time.monotonic() + 30) as held:
            assert held


def test_old_searches_are_forgotten(tmp_path: Path) -> None:
    """The latest twenty are kept; their locks go with the others."""
    for i in range(23):
        path = tmp_path / f"{i}.log"
        path.touch()
        path.with_suffix(".lock").touch()
        os.utime(path, (i, i))
    forget_old(tmp_path)
    assert {p.name for p in tmp_path.glob("*.log")} == {f"{i}.log" for i in range(3, 23)}
    assert len(list(tmp_path.glob("*.lock"))) == 20
