"""A registered version loads and answers in an environment made from its own requirements."""

import io
import json
import os
import pickletools
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.train_model import train_model
from tasks import sources
from tasks.registry import find_champion, load_version
from tasks.settings import load_workload
from tasks.tracking import client
from tests.stacks import lacking
from twinloop.errors import RegistryError
from twinloop.scorer import files_digest
from twinloop.serving import read_files
from twinloop.vocabulary import CandidateName
from twinloop.workload import Overrides

UV = Path(sys.executable).parent / "uv"
ASKS = """
import sys
import mlflow, pandas
mlflow.set_tracking_uri({uri!r})
model = mlflow.pyfunc.load_model("models:/{name}@champion")
model.predict(pandas.read_parquet("rows.parquet")).to_parquet("answers.parquet")
unwanted = {{"prefect", "tasks", "flows"}} & set(sys.modules)
assert not unwanted, unwanted
"""

pytestmark = pytest.mark.usefixtures("prefect")


def trained(name: str, candidate: CandidateName) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and promote a model; return rows without their target, and the scorer's answers."""
    quick = Overrides(candidates=("baseline", candidate), folds=2)
    train_model(name, as_of=datetime(2011, 7, 1, tzinfo=UTC), overrides=quick)
    workload = load_workload(name)
    table = sources.read_window(workload, None).slice(0, 24)
    champion = find_champion(workload)
    assert champion is not None
    scorer = load_version(champion).scorer
    answers = scorer.columns(scorer.predict(table))
    frame = pd.DataFrame(table.drop_columns([workload.target]).to_pandas())
    return frame, pd.DataFrame({n: v.to_pandas() for n, v in answers.items()})


def folder_of(home: Path, name: str) -> Path:
    """Return the folder of the champion's files."""
    champion = find_champion(load_workload(name))
    assert champion is not None
    (found,) = (home / "mlflow").rglob(f"models/{champion.source.rpartition('/')[2]}/artifacts")
    return found


def run(*words: str | Path, cwd: Path) -> None:
    """Run a program that finds nothing of ours in its environment."""
    ours = ("PYTHON", "VIRTUAL_ENV", "MLFLOW_", "TWINLOOP_", "PREFECT_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    done = subprocess.run(words, cwd=cwd, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def install(requirements: Path, python: str, place: Path) -> Path:
    """Make an environment of nothing but these requirements; return its Python."""
    if not UV.exists():
        lacking("uv")
    run(UV, "venv", "--quiet", "--python", python, place, cwd=place.parent)
    program = place / "bin" / "python"
    # Without dependencies: what is not in the file is not there.
    words = ("pip", "install", "--quiet", "--no-deps", "--python", program, "-r", requirements)
    done = subprocess.run(
        [UV, *words], cwd=place.parent, capture_output=True, text=True, check=False
    )
    if done.returncode and re.search(r"dns|connect|timed out|error sending", done.stderr, re.I):
        lacking(f"package index that answers ({done.stderr.strip().splitlines()[-1]})")
    assert done.returncode == 0, done.stderr
    run(UV, "pip", "check", "--quiet", "--python", program, cwd=place.parent)
    return program


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "candidate"), [("diabetes", "forest"), ("bikes", "xgboost")])
def test_a_version_is_asked_in_its_own_environment(
    home: Path, tmp_path: Path, name: str, candidate: CandidateName
) -> None:
    """Its requirements are pinned and all there is to install; the answers are the very values."""
    frame, answers = trained(name, candidate)
    files = folder_of(home, name)
    lines = (files / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==\S+", line)] == []
    # Rows are handed over as Parquet, times without a zone, as MLflow wants them.
    aware = frame.select_dtypes("datetimetz").items()
    frame = frame.assign(**{str(c): t.dt.tz_convert(None) for c, t in aware})
    frame.to_parquet(tmp_path / "rows.parquet")
    version = re.search(r"^python: (\S+)", (files / "python_env.yaml").read_text(), re.M)
    assert version is not None
    python = install(files / "requirements.txt", version[1], tmp_path / "alone")
    uri = f"sqlite:///{home / 'mlflow' / 'store' / 'mlflow.db'}"
    run(python, "-I", "-c", ASKS.format(uri=uri, name=name), cwd=tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "answers.parquet"), answers)


def pickles(content: bytes) -> bool:
    """Tell whether bytes are a pickle: opcodes from the first byte to a STOP, of any protocol."""
    try:
        codes = [code.name for code, _, _ in pickletools.genops(io.BytesIO(content))]
    except Exception:  # noqa: BLE001 - whatever bytes that are no pickle do to its reader
        return False
    return len(codes) > 1 and codes[-1] == "STOP"


def parts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file of a folder, and every file in an archive among them."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        yield str(path.relative_to(folder)), path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for inner in archive.namelist():
                    yield f"{path.name}/{inner}", archive.read(inner)


@pytest.mark.parametrize("candidate", ["xgboost", "boosting", "forest", "linear"])
def test_no_file_of_a_version_is_a_pickle(home: Path, candidate: CandidateName) -> None:
    """Neither a file nor a part of one; arrays hold no objects; MLflow keeps no Python model."""
    trained("bikes", candidate)
    folder = folder_of(home, "bikes")
    found = dict(parts(folder))
    assert len(found) > 10
    assert [name for name, content in found.items() if pickles(content)] == []
    assert [n for n, c in found.items() if n.endswith(".npy") and b"'|O'" in c[:200]] == []
    assert not {n for n in found if n.endswith((".pkl", ".pickle", ".joblib"))}
    assert "python_model" not in (folder / "MLmodel").read_text()
    assert "cloudpickle" not in (folder / "MLmodel").read_text()


def test_what_a_pickle_is() -> None:
    """The check finds pickles of every protocol, and takes no text, array or archive for one."""
    import pickle

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickles(pickle.dumps({"a": [1.5, print]}, protocol))
    for other in (b"", b"{}", b"\x93NUMPY\x01\x00v\x00{}", b"PK\x03\x04", b"a,b\n1,2\n"):
        assert not pickles(other)


class Fires:
    """An object whose unpickling leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        """Ask pickle to run a command."""
        return os.system, (f"touch {self.mark}",)


def calls_system(mark: Path) -> bytes:
    """Return a skops file, made by hand, whose loading would call ``os.system``."""
    text = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode"}
    command = text | {"content": json.dumps(f"touch {mark}"), "is_json": True}
    schema = {
        "__class__": "system",
        "__module__": "os",
        "__loader__": "ReduceNode",
        "__reduce__": {
            "args": {
                "__class__": "tuple",
                "__module__": "builtins",
                "__loader__": "TupleNode",
                "content": [command],
                "__id__": 2,
            }
        },
        "content": {},
        "__id__": 1,
        "protocol": 2,
        "_skops_version": "0.16.0",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    return out.getvalue()


def put(home: Path, content: bytes) -> None:
    """Put another model file in place, with every digest made to fit, as an insider could."""
    import hashlib

    served = folder_of(home, "diabetes") / "data" / "served"
    (served / "model.skops").write_bytes(content)
    about = json.loads((served / "scorer.json").read_text())
    about["model_sha256"] = hashlib.sha256(content).hexdigest()
    (served / "scorer.json").write_text(json.dumps(about))
    version = client().get_model_version_by_alias("diabetes", "champion").version
    digest = files_digest(read_files(served))
    client().set_model_version_tag("diabetes", version, "twinloop.digest", digest)
    load_version.cache_clear()


@pytest.mark.parametrize("kind", ["pickle", "os.system", "class"])
def test_a_foreign_file_is_refused_and_nothing_runs(home: Path, tmp_path: Path, kind: str) -> None:
    """By plain MLflow and by the command's own way, even where all digests were made to fit."""
    import pickle

    import mlflow
    from sklearn.preprocessing import FunctionTransformer
    from skops import io as skops_io

    trained("diabetes", "linear")
    mark = tmp_path / "mark"
    content = {
        "pickle": pickle.dumps(Fires(mark)),
        "os.system": calls_system(mark),
        "class": skops_io.dumps(FunctionTransformer(shutil.rmtree)),
    }[kind]
    put(home, content)
    champion = find_champion(load_workload("diabetes"))
    assert champion is not None
    with pytest.raises(RegistryError):
        load_version(champion)
    with pytest.raises(RegistryError):
        mlflow.pyfunc.load_model("models:/diabetes@champion")
    assert not mark.exists()
    # The trap is a real one: without a list, what it names runs.
    if kind == "pickle":
        pickle.loads(content)  # noqa: S301 - our own bytes
        assert mark.exists()
