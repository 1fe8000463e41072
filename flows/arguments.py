"""Arguments: what a person typed, read before anything starts."""

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from twinloop.vocabulary import RunKind
    from twinloop.window import Window
    from twinloop.workload import Overrides, Workload

Var = Annotated[
    list[str] | None,
    typer.Option(help="Value for ${NAME} in the workload file.", metavar="NAME=VALUE"),
]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write the result to this file as JSON.", metavar="FILE"),
]


def read_workload_name(ref: str, var: list[str] | None) -> str:
    """Turn a name or a path into a name; a path's file is made known to this process.

    Raises
    ------
    WorkloadError
        If there is no such workload, or the name is that of the copy a replay works in.
    """
    from tasks.settings import load_workload, read_workload, settings
    from twinloop.errors import WorkloadError, nearest

    for pair in var or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise WorkloadError(f"--var {pair!r}: expected NAME=VALUE.")
        os.environ[key] = value
    if ref.endswith((".yaml", ".yml")) or "/" in ref:
        path = Path(ref).expanduser().resolve()
        os.environ["TWINLOOP_WORKLOAD_FILE"] = str(path)
        return read_workload(path).name
    found = load_workload(ref)
    if ref != found.name and not found.sandbox.startswith("replay"):
        known = [path.stem for path in settings().workloads.glob("*.yaml")]
        raise WorkloadError(
            f"no workload {ref!r}. {nearest(ref, {found.name, *known})}",
            "The name of a workload has no hyphen.",
        )
    if ref != found.name:
        # A replay works beside its workload; no command but those with --replays is about it.
        raise WorkloadError(
            f"{ref!r} is no workload but the copy of {found.name!r} that a replay works in.",
            f"Name the workload, {found.name!r}; `runs`, `costs` and `costs reprice` show what its "
            f"replays did: `twinloop costs {found.name} --replays`.",
        )
    return found.name


def read_experiment(ref: str, var: list[str] | None, *, replays: bool) -> "Workload":
    """Find the workload whose runs are asked for: itself, or the copy its replays work in."""
    from tasks.settings import load_workload

    name = read_workload_name(ref, var)
    return load_workload(f"{name}-replay" if replays else name)


def read_kind(text: str | None) -> "RunKind | None":
    """Read a kind of run; a word that is none is refused, naming the nearest."""
    from twinloop.errors import WorkloadError, nearest
    from twinloop.vocabulary import RUN_KINDS

    if text is None:
        return None
    for kind in RUN_KINDS:
        if text == kind:
            return kind
    raise WorkloadError(f"--kind {text!r} is no kind of run. {nearest(text, RUN_KINDS)}")


def read_window(text: str | None) -> "Window | None":
    """Read START/END; nothing given is no window."""
    from pydantic import ValidationError

    from twinloop.errors import WorkloadError
    from twinloop.window import Window

    if text is None:
        return None
    try:
        return Window.model_validate(text)
    except ValidationError as err:
        reason = err.errors()[0]["msg"].removeprefix("Value error, ")
        raise WorkloadError(f"--window {text!r}: {reason}.") from err


def read_policies(texts: list[str]) -> tuple[str, ...]:
    """Read the policies before anything starts."""
    from twinloop.replay import Policy

    return tuple(str(Policy.parse(text)) for text in texts)


def read_duration(text: str) -> timedelta:
    """Read a duration above zero, like 7d."""
    from twinloop.errors import WorkloadError
    from twinloop.window import parse_duration

    try:
        span = parse_duration(text)
    except ValueError as err:
        raise WorkloadError(f"{err}.") from err
    if not isinstance(span, timedelta) or span <= timedelta(0):
        raise WorkloadError(f"{text!r} is no duration above zero, like 7d.")
    return span


def read_overrides(
    workload: str,
    history: str | None,
    candidates: str | None,
    folds: int | None,
    minutes: float | None,
    trials: int | None = None,
) -> "Overrides":
    """Read what one training does otherwise than the workload says, and see that it can."""
    from pydantic import ValidationError

    from tasks.settings import load_workload
    from twinloop.errors import WorkloadError
    from twinloop.workload import Overrides

    try:
        overrides = Overrides.model_validate(
            {
                "window": read_duration(history) if history else None,
                "candidates": tuple(candidates.split(",")) if candidates else None,
                "folds": folds,
                "budget_minutes": minutes,
                "trials": trials,
            }
        )
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise WorkloadError(f"{where}: {first['msg']} (got {first['input']!r}).") from err
    overrides.apply(load_workload(workload))
    return overrides
