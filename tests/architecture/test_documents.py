"""Reference pages keep up with the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import typer.main
from pydantic import BaseModel

from flows.cli import app
from tasks.settings import read_workload
from twinloop import errors
from twinloop.errors import TwinloopError
from twinloop.workload import Workload
from twinloop.workload_file import parse_workload

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WORKLOADS = sorted((ROOT / "data" / "workloads").glob("*.yaml"))
# The command of a group that need not be named is known by the name of the group.
UNNAMED = "show"


def commands() -> dict[str, Any]:
    """List all commands by the words that call them."""
    found = {}
    for name, one in typer.main.get_group(app).commands.items():
        for inner, command in getattr(one, "commands", {UNNAMED: one}).items():
            found[name if inner == UNNAMED else f"{name} {inner}"] = command
    return found


COMMANDS = commands()
ERRORS = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, TwinloopError)
]


def page(name: str) -> str:
    """Read a page of the documentation."""
    return (DOCS / name).read_text(encoding="utf-8")


def test_error_codes_are_unique() -> None:
    """A code stands for one class."""
    codes = [e.code for e in ERRORS]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.code)
def test_every_error_is_documented(error: type[TwinloopError]) -> None:
    """The page of errors has a row with the code and the name of each."""
    assert f"| {error.code} | `{error.__name__}` |" in page("errors.md")


def test_documented_errors_exist() -> None:
    """The page of errors holds no code that was given up."""
    assert set(re.findall(r"TL\d{3}", page("errors.md"))) == {e.code for e in ERRORS}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_is_documented(name: str) -> None:
    """A command has a section with an example, which names each of its options."""
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", page("command.md"), re.M | re.S)
    assert section is not None
    assert re.search(rf"^twinloop {name}\b", section[1], re.M)
    options = {o for p in COMMANDS[name].params for o in p.opts if o.startswith("--")}
    described = set(re.findall(r"`(--[a-z-]+)", section[1])) | {"--help"}
    assert options | {"--help"} == described


def keys(model: type[BaseModel], path: str) -> Iterator[str]:
    """Yield the dotted keys of a model and of the models within it."""
    for name, field in model.model_fields.items():
        yield path + name
        for inner, part in models_in(field.annotation):
            yield from keys(inner, f"{path}{name}.{part}")


def models_in(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the models an annotation is made of, and what stands before their keys."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
    elif origin in (Union, UnionType, Annotated):
        for arm in get_args(annotation):
            yield from models_in(arm)
    elif origin is dict:
        for model, part in models_in(get_args(annotation)[1]):
            yield model, f"<name>.{part}"


def test_every_key_of_a_workload_is_documented() -> None:
    """The page of the workload file has a row for each key, and for no other."""
    rows = set(re.findall(r"^\| `([a-z][\w.<>]*)` \|", page("workload.md"), re.M))
    assert rows == set(keys(Workload, ""))


def test_example_of_a_workload_is_one() -> None:
    """The example on the page reads as it stands."""
    text = re.search(r"```yaml\n(.*?)```", page("workload.md"), re.S)
    assert text is not None
    assert parse_workload(text[1], "workload.md", {"TABLES": "tables"}).name == "churn"


@pytest.mark.parametrize("path", WORKLOADS, ids=lambda p: p.stem)
def test_shipped_workloads_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipped workload reads, and carries the name of its file."""
    monkeypatch.setenv("TWINLOOP_BIKES_CSV", "hour.csv")
    assert read_workload(path).name == path.stem


@pytest.mark.parametrize("folder", ["src/twinloop", "tasks", "flows"])
def test_the_tour_of_the_code_names_every_module(folder: str) -> None:
    """And none that is not there."""
    modules = {f.stem for f in (ROOT / folder).glob("*.py")} - {"__init__"}
    everywhere = {
        f.stem for d in ("src/twinloop", "tasks", "flows") for f in (ROOT / d).glob("*.py")
    }
    named = re.findall(r"`(?:\w+/)*(\w+)(?:\.py)?`", page("code.md"))
    assert modules <= set(named)
    assert set(named) - everywhere <= {"flows", "tasks"}
