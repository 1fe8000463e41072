"""Form: what Prefect's pages say of a flow, its parameters and its runs."""

import inspect
import re
from collections.abc import Callable
from typing import Any

from prefect import Flow
from prefect.runtime import flow_run
from prefect.utilities.callables import parameter_schema

from tasks.settings import moment_of
from twinloop.window import format_instant

_SECTION = re.compile(r"\n\n(\w+)\n-{3,}\n")


def run_name(verb: str) -> Callable[[], str]:
    """Return what names the runs of a flow, as MLflow's are: the workload, and the moment meant."""

    def name() -> str:
        given = flow_run.parameters
        return f"{verb} {given['workload']} {format_instant(moment_of(given.get('as_of')))}"

    return name


def describe(flow: Flow[..., Any]) -> str:
    """Write what a flow does, in Markdown: a paragraph a line, for pages break where lines do."""
    text = _SECTION.split(inspect.getdoc(flow.fn) or "")[0]
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n")).replace("``", "`")


def parameter_form(flow: Flow[..., Any]) -> dict[str, Any]:
    """Return the schema of a flow's parameters, each with its description.

    Prefect itself takes descriptions from docstrings of another style.
    """
    schema = parameter_schema(flow).model_dump_for_openapi()
    for name, text in _parameters(flow).items():
        schema["properties"][name]["description"] = text
    return schema


def _parameters(flow: Flow[..., Any]) -> dict[str, str]:
    """Read the numpydoc section on parameters."""
    parts = _SECTION.split(inspect.getdoc(flow.fn) or "")
    section = dict(zip(parts[1::2], parts[2::2], strict=True)).get("Parameters", "")
    found = re.findall(r"^([\w, ]+)\n((?:    .*\n?)+)", section, re.MULTILINE)
    return {
        name: " ".join(text.replace("`", "").split())
        for names, text in found
        for name in names.split(", ")
    }
