"""Estimators: the user's own, imported from where the workload file says."""

import importlib
import inspect
from typing import Any

from twinloop.encoding import Encoding
from twinloop.errors import WorkloadError, nearest
from twinloop.problem import Make, Problem
from twinloop.scorer import refuse_unloadable
from twinloop.training_keys import OwnEstimator
from twinloop.workload import Workload


def own_estimators(workload: Workload) -> dict[str, Make]:
    """Import the workload's own estimators, as far as they are candidates.

    Paths come from the workload file alone, which lies on this machine: no parameter of a flow
    names one.

    Raises
    ------
    WorkloadError
        If a module or what is named in it is missing, or cannot be called.
    """
    named = workload.training.estimators.items()
    return {name: _maker(name, own) for name, own in named if name in workload.training.candidates}


def check_estimators(workload: Workload) -> None:
    """Make each of the workload's own estimators once, before anything is read or fitted.

    Raises
    ------
    WorkloadError
        If one cannot be imported or made, lacks a method, or is of a type that could be saved but
        not loaded.
    """
    problem = Problem(workload.task, 0, workload.metric, workload.seed, threads=1)
    for name, make in own_estimators(workload).items():
        estimator = make(Encoding(features=()), problem)
        _refuse_unfit(name, estimator, workload)


def _maker(name: str, own: OwnEstimator) -> Make:
    factory = _find(name, own.path)

    def make(encoding: Encoding, problem: Problem) -> Any:
        try:
            return factory(**(_offered(factory, encoding, problem) | own.params))
        except Exception as err:  # whatever the user's code raises
            raise WorkloadError(
                f"training.estimators.{name}: {own.path!r} with {own.params!r} failed: {err!r}."
            ) from err

    return make


def _find(name: str, path: str) -> Any:
    where = f"training.estimators.{name}.path {path!r}"
    module_name, _, attribute = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as err:  # a module may raise anything when it is imported
        raise WorkloadError(
            f"{where}: {module_name!r} cannot be imported: {err!r}.",
            "Install it where workers run, or put its folder on PYTHONPATH.",
        ) from err
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [n for n in dir(found) if not n.startswith("_")]
            raise WorkloadError(f"{where}: there is no {part!r} in it. {nearest(part, known)}")
        found = getattr(found, part)
    if not callable(found):
        raise WorkloadError(f"{where}: {found!r:.60} is neither a function nor a class.")
    return found


def _offered(factory: Any, encoding: Encoding, problem: Problem) -> dict[str, Any]:
    """Return what a factory is given beside its params: those of these that it asks for by name."""
    known = {
        "random_state": problem.seed,
        "n_jobs": problem.threads,
        "features": encoding.names,
        "coded": encoding.coded,
    }
    try:
        asked = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some classes written in C have no signature
        return {}
    return {name: value for name, value in known.items() if name in asked}


def _refuse_unfit(name: str, estimator: Any, workload: Workload) -> None:
    needed = ("fit", "predict") if workload.task == "regression" else ("fit", "predict_proba")
    missing = [method for method in needed if not callable(getattr(estimator, method, None))]
    where = f"training.estimators.{name}: {type(estimator).__name__}"
    if isinstance(estimator, type) or missing:
        raise WorkloadError(
            f"{where} has no {' and no '.join(missing) or 'instance'}; {workload.task} needs an "
            f"estimator with {' and '.join(needed)}.",
        )
    refuse_unloadable(name, estimator, workload)
