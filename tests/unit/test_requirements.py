"""Requirements: pins are read once, and MLflow looks up nothing but what is none of them."""

import logging
import sys
from typing import Any

import pytest
from mlflow.utils import environment

from tasks.requirements import distributions_of, is_installed, pinned, spare_pins

# Where a model's requirements are looked at on their way to MLflow; it has no types.
process: Any = environment._process_pip_requirements


def test_mlflow_is_spared_pins_and_warns_of_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often it is told: what was read off this machine is not looked up there again."""
    looked: list[list[str]] = []
    name = "warn_dependency_requirement_mismatches"
    monkeypatch.setattr(environment, name, looked.append)
    pins = pinned(["numpy", "mlflow"])
    for _ in range(2):
        spare_pins(pins)
    assert process([], pins)[1] == pins
    assert looked == []
    process([], [*pins, "nothing-like-it==1.0"])
    assert looked == [["nothing-like-it==1.0"]]


def test_a_release_that_asks_otherwise_is_answered_by_its_own_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By whatever names, with whatever beside it: what was patched is not known to stay."""
    looked: list[Any] = []

    def look(*args: Any, **kwargs: Any) -> str:
        looked.append((args, kwargs))
        return "seen"

    name = "warn_dependency_requirement_mismatches"
    monkeypatch.setattr(environment, name, look)
    pins = pinned(["numpy"])
    spare_pins(pins)
    patched: Any = getattr(environment, name)
    calls: list[Any] = [
        ((), {}),
        ((None,), {}),
        ((tuple(pins),), {}),
        ((pins, "conda"), {}),
        ((pins,), {"quiet": True}),
        ((), {"model_requirements": pins}),
        (([["unhashable"]],), {}),
    ]
    assert [patched(*args, **kwargs) for args, kwargs in calls] == ["seen"] * len(calls)
    assert looked == calls
    assert patched(pins) is None


def test_a_release_that_has_no_such_look_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is put where nothing was, and nothing fails."""
    name = "warn_dependency_requirement_mismatches"
    monkeypatch.delattr(environment, name)
    spare_pins(["numpy==1"])
    assert not hasattr(environment, name)
    monkeypatch.setitem(sys.modules, "mlflow.utils", None)
    spare_pins(["numpy==1"])


def test_what_is_not_met_here_is_still_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """By MLflow itself, as it has been."""
    pins = pinned(["numpy"])
    spare_pins(pins)
    logger = logging.getLogger("mlflow")
    propagates, logger.propagate = logger.propagate, True
    try:
        with caplog.at_level(logging.WARNING, "mlflow"):
            process([], [*pins, "packaging==0.1"])
    finally:
        logger.propagate = propagates
    assert "packaging" in caplog.text


def test_a_distribution_is_there_or_not() -> None:
    """As installed."""
    assert is_installed("mlflow")
    assert not is_installed("nothing-like-it")


def test_types_are_in_the_distributions_that_brought_them() -> None:
    """However the module is called; what is only on a path is in none."""
    assert distributions_of(["sklearn.tree.DecisionTreeRegressor", "yaml.Loader"]) == [
        "PyYAML",
        "scikit-learn",
    ]
    assert distributions_of(["nowhere_at_all.Thing"]) == []
    assert distributions_of([]) == []
