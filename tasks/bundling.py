"""Bundling: the part of the core that a version needs to be loaded elsewhere."""

import ast
import shutil
from functools import cache
from pathlib import Path

import twinloop

_CORE = Path(twinloop.__file__).parent


def bundle_core(entry: str, folder: Path) -> Path:
    """Copy a module of the core, and all of the core that it imports, into a folder.

    A version keeps its own code, file by file, and a server takes a request for each: what is never
    imported, like pages and plots, is left out.

    Parameters
    ----------
    entry
        Name of a module in ``twinloop``.
    folder
        Where the package is to lie.

    Returns
    -------
    Path
        Of the package.
    """
    package = folder / _CORE.name
    package.mkdir(parents=True)
    for name in sorted({"__init__", *_closure(entry)}):
        shutil.copy2(_CORE / f"{name}.py", package)
    return package


@cache
def _closure(entry: str) -> frozenset[str]:
    """Name the modules that one imports, itself included, be it inside of functions."""
    found, left = set(), [entry]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += _imports(name)
    return frozenset(found)


def _imports(name: str) -> list[str]:
    tree = ast.parse((_CORE / f"{name}.py").read_text(encoding="utf-8"))
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            top, _, rest = node.module.partition(".")
            if top == _CORE.name:
                found += [rest] if rest else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = (alias.name.partition(".") for alias in node.names)
            found += [rest for top, _, rest in names if top == _CORE.name and rest]
    return [n for n in found if (_CORE / f"{n}.py").is_file()]
