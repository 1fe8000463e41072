"""Archive: a skops file whose bytes hang on the model alone, not on when it was written."""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

_SCHEMA = "schema.json"


def stable_archive(content: bytes) -> bytes:
    """Write a skops file again with numbers for memory addresses and no time of day.

    skops names objects and files by their address in memory or by a random id, and the archive
    keeps the time; two equal models have different bytes. Numbered in the order in which the schema
    names them, they have the same. What the file loads to is not changed.

    Parameters
    ----------
    content
        As ``skops.io.dumps`` returns it.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as given:
        schema = json.loads(given.read(_SCHEMA))
        known = set(given.namelist())
        ids: dict[int, int] = {}
        files: dict[str, str] = {}
        for node in _nodes(schema):
            if isinstance(node.get("__id__"), int):
                node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
            name = node.get("file")
            if isinstance(name, str) and name in known:
                ending = name.rpartition(".")[2]
                node["file"] = files.setdefault(name, f"{len(files) + 1}.{ending}")
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as written:
            for old, new in files.items():
                # Without a time of its own, an entry is of 1980.
                written.writestr(zipfile.ZipInfo(new), given.read(old))
            written.writestr(zipfile.ZipInfo(_SCHEMA), json.dumps(schema, separators=(",", ":")))
    return out.getvalue()


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON document, in the order it is written."""
    open_nodes = [value]
    while open_nodes:
        found = open_nodes.pop()
        if isinstance(found, dict):
            yield found
            open_nodes.extend(reversed(found.values()))
        elif isinstance(found, list):
            open_nodes.extend(reversed(found))
