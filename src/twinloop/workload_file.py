"""Workload files: from YAML to a workload, or to an error that names key, value and way out."""

import io
import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from twinloop.data_keys import BundledSource, FilesSource, SimulatedSource
from twinloop.errors import WorkloadError, nearest
from twinloop.loop_keys import Prices
from twinloop.workload import Workload

# Keys of prices that are amounts of money.
_MONEY = ("core_hour", "gb_hour", "gpu_hour", "kwh", "storage_gb_month")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def parse_workload(
    text: str,
    origin: str,
    variables: Mapping[str, str],
    prices: Mapping[str, Any] | None = None,
) -> Workload:
    """Read a workload from YAML.

    Parameters
    ----------
    text
        The YAML document.
    origin
        What to call it in errors: its path.
    variables
        Values for ``${NAME}`` in the text.
    prices
        Shared by all workloads, as `parse_prices` read them; the text's own come before them.

    Raises
    ------
    WorkloadError
        If the YAML is broken, gives a key twice, names an unknown key or an unset variable, or
        describes a problem that makes no sense.
    """
    raw = _expand(_read_yaml(text, origin), origin, variables)
    own = raw.get("prices", {})
    if prices and isinstance(own, dict):
        _refuse_mixed_money(own, prices, origin)
        raw["prices"] = {**prices, **own}
    try:
        return Workload.model_validate(raw)
    except ValidationError as err:
        raise _refusal(err, origin, Workload, "`twinloop check FILE` reads it again.") from err


def parse_prices(text: str, origin: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """Read prices from YAML: those it gives, under the keys of a workload's ``prices``.

    Parameters
    ----------
    text
        The YAML document.
    origin
        What to call it in errors: its path.
    variables
        Values for ``${NAME}`` in the text.

    Raises
    ------
    WorkloadError
        If the YAML is broken, gives a key twice, names an unknown key or an unset variable, or
        holds what is no price.
    """
    raw = _expand(_read_yaml(text, origin, "'core_hour:' and 'kwh:'"), origin, variables)
    try:
        return Prices.model_validate(raw).model_dump(exclude_unset=True)
    except ValidationError as err:
        raise _refusal(err, origin, Prices) from err


def _refuse_mixed_money(own: dict[str, Any], shared: Mapping[str, Any], origin: str) -> None:
    """Refuse a bill in one currency by prices in another: nothing is converted."""
    theirs = shared.get("currency", Prices().currency)
    mine = own.get("currency", theirs)
    taken = [k for k in shared if k in _MONEY and k not in own]
    if mine != theirs and taken:
        raise WorkloadError(
            f"{origin}: prices.currency is {mine!r}, and {', '.join(taken)} would come from the "
            f"shared prices, which are in {theirs!r}.",
            "Give them under 'prices' as well, or leave the currency out.",
        )


def _refusal(
    err: ValidationError, origin: str, model: type[BaseModel], hint: str = ""
) -> WorkloadError:
    problems = "; ".join(_explain(e, model) for e in err.errors())
    stop = "" if problems.endswith((".", "?")) else "."
    return WorkloadError(f"{origin}: {problems}{stop}", hint)


def _read_yaml(text: str, origin: str, expected: str = "'name:' and 'source:'") -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        raw = YAML(typ="safe").load(io.StringIO(text))
    except YAMLError as err:
        reason = " ".join(str(err).split("To suppress this check")[0].split())
        raise WorkloadError(f"{origin}: not valid YAML: {reason}") from err
    if not isinstance(raw, dict):
        raise WorkloadError(f"{origin}: expected keys like {expected}, found {raw!r}.")
    return raw


def _expand(value: Any, origin: str, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, origin, variables) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, origin, variables) for v in value]
    if not isinstance(value, str):
        return value

    def put(found: re.Match[str]) -> str:
        name = found[1]
        if name not in variables:
            raise WorkloadError(
                f"{origin}: {value!r} needs the variable {name}, which is not set.",
                f"Set it: `export {name}=...`, or give `--var {name}=...`.",
            )
        return variables[name]

    return _VARIABLE.sub(put, value)


def _explain(error: Any, model: type[BaseModel]) -> str:
    """Turn one pydantic error into a sentence that names the key, the value and the way out."""
    path = [str(p) for p in error["loc"]]
    # pydantic adds the arm of a union it tried; no such key stands in the file.
    if path[:1] == ["source"]:
        del path[1:2]
    if path[:2] == ["training", "holdout"]:
        del path[2:]
    where = ".".join(path) or "the file"
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}. {nearest(path[-1], _keys_at(error['loc'][:-1], model))}"
    if error["type"] == "missing":
        return f"key {where!r} is missing"
    got = f" (got {error['input']!r:.80})" if path else ""
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{got}"


def _keys_at(path: tuple[Any, ...], model: type[BaseModel]) -> list[str]:
    """List the keys that the model at a path within another knows."""
    by_kind: dict[str, type[BaseModel]] = {
        "files": FilesSource,
        "bundled": BundledSource,
        "simulated": SimulatedSource,
    }
    for at, part in enumerate(path):
        if at == 1 and path[0] == "source":
            model = by_kind[str(part)]
        elif (field := model.model_fields.get(str(part))) is not None:
            arms = (field.annotation, *get_args(field.annotation))
            inner = (a for a in arms if isinstance(a, type) and issubclass(a, BaseModel))
            model = next(inner, model)
    return list(model.model_fields)
