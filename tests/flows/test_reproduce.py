"""A version can be fitted again, and comes out the same to the last bit; or an error says why."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.reproduce_model import reproduce_model
from flows.train_model import train_model
from tasks import reproducing
from tasks.fitting import fit_model
from tasks.preparing import Snapshot
from tasks.provenance import PROVENANCE
from tasks.registry import find_version, versions
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.errors import RegistryError, ReproductionError
from twinloop.reproduction import refuse_differences
from twinloop.vocabulary import CandidateName
from twinloop.workload import Overrides

NOW = datetime(2011, 7, 1, tzinfo=UTC)
COMMAND = Path(sys.executable).parent / "twinloop"
FILE = """
name: small
task: binary
source: {kind: bundled, dataset: breast_cancer}
key: [row]
target: target
training: {folds: 2, candidates: [baseline, linear]}
"""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]


def trained(name: str, candidate: CandidateName = "linear") -> str:
    """Train one candidate beside the baseline, which does not win; return the version's number."""
    quick = Overrides(candidates=("baseline", candidate), folds=2)
    result = train_model(name, as_of=NOW, overrides=quick)
    assert result.winner == candidate
    return result.version


def command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with the Prefect server of the tests."""
    from prefect.settings import PREFECT_API_URL

    address = {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "TWINLOOP_HOME": str(home)}
    root = str(Path(__file__).parents[2])
    path = {"PYTHONPATH": os.pathsep.join((f"{root}/src", root))}
    return subprocess.run(
        [COMMAND, *words],
        env=os.environ | address | path,
        capture_output=True,
        text=True,
        check=False,
    )


def everything(home: Path) -> tuple[Any, ...]:
    """Return what a reproduction must not change: versions, their tags and the aliases."""
    found = client().search_model_versions("")
    return tuple((v.name, v.version, v.description, v.tags, v.aliases) for v in found)


@pytest.mark.parametrize(
    ("name", "candidate"),
    [
        ("bikes", "xgboost"),
        ("diabetes", "forest"),
        ("breast_cancer", "boosting"),
        ("digits", "linear"),
        ("digits", "kernel"),
    ],
)
def test_another_process_fits_the_same_model(
    home: Path, name: str, candidate: CandidateName
) -> None:
    """Every file has its very bytes; registry and aliases stay as they are; the run has a bill."""
    number = trained(name, candidate)
    before = everything(home)
    out = home / "result.json"
    done = command(home, "reproduce", name, "--version", number, "--json", str(out))
    assert done.returncode == 0, done.stderr + done.stdout
    assert "same, bit by bit" in done.stdout
    result = json.loads(out.read_text())
    names = {f["name"] for f in result["files"]}
    assert {"scorer.json", "contract.json", "reference.json"} < names
    assert all(f["registered"] == f["now"] for f in result["files"])
    assert result["score_now"] == result["score_then"]
    assert everything(home) == before
    run = client().get_run(result["run_id"])
    assert run.data.tags["twinloop.kind"] == "reproduction"
    assert {"cost/money", "time/wall_s", "reproduction/same"} <= set(run.data.metrics)
    assert not list((home / "data" / "lake" / name / "work").iterdir())


@pytest.fixture
def version(home: Path) -> str:
    """Provide a small version to spoil."""
    (home / "data" / "workloads" / "small.yaml").write_text(FILE)
    return trained("small")


def snapshot_of(home: Path) -> Path:
    """Return the folder of the only snapshot."""
    (folder,) = (p for p in (home / "data/lake/small/prepared").iterdir() if len(p.name) == 64)
    return folder


def test_a_changed_snapshot_is_refused(home: Path, version: str) -> None:
    """One value in one row, written as a sound file, is another snapshot; so is none at all."""
    rows = snapshot_of(home) / "rows.parquet"
    table = pq.read_table(rows)
    name = next(n for n in table.column_names if n not in ("row", "target"))
    values = table.column(name).to_numpy().copy()
    values[0] = np.nextafter(values[0], np.inf)
    place = table.column_names.index(name)
    pq.write_table(table.set_column(place, table.schema.field(name), [values]), rows)
    done = command(home, "reproduce", "small", "--version", version)
    assert done.returncode == 1
    assert done.stderr.startswith("error [TL410] the snapshot in "), done.stderr
    assert "its rows are not those" in done.stderr
    shutil.rmtree(rows.parent)
    with pytest.raises(ReproductionError, match=r"snapshot that small v1 was trained on cannot be"):
        reproduce_model("small", version)


def test_another_outcome_is_an_error(
    home: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another model comes out, the files and what has changed since are named."""

    def other(workload: Any, *args: Any, **kwargs: Any) -> Any:
        return fit_model(workload.model_copy(update={"seed": 1}), *args, **kwargs)

    monkeypatch.setattr(reproducing, "fit_model", other)
    monkeypatch.setattr(reproducing, "software", lambda: {"numpy": "0.1"})
    found = reproduce_model("small", version)
    assert not found.same
    assert {f.name for f in found.files if not f.same} >= {"model.skops", "scorer.json"}
    with pytest.raises(ReproductionError, match=r"model\.skops.*differ; roc_auc.*numpy .* -> 0\.1"):
        refuse_differences(found)


def rewrite(home: Path, version: str, **changes: Any) -> None:
    """Change what the run stored, as somebody who may write to its artifacts could."""
    run_id = find_version(load_workload("small"), version).run_id
    (file,) = (home / "mlflow").rglob(f"{run_id}/artifacts/{PROVENANCE}")
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_provenance_names_no_code(home: Path, version: str) -> None:
    """Estimators of the workload file alone are imported: a provenance naming another is no use."""
    workload = load_workload("small").model_dump(mode="json")
    workload["training"] |= {
        "estimators": {"evil": {"path": "os:system", "params": {"command": "touch /evil"}}},
        "candidates": ["evil"],
    }
    rewrite(home, version, workload=workload)
    with pytest.raises(ReproductionError, match=r"training.estimators .*os:system.*Restore"):
        reproduce_model("small", version)


def test_a_provenance_reads_no_other_folder(home: Path, version: str) -> None:
    """The snapshot is looked up in the lake by its digest, whatever path the provenance gives."""
    run_id = find_version(load_workload("small"), version).run_id
    (file,) = (home / "mlflow").rglob(f"{run_id}/artifacts/{PROVENANCE}")
    snapshot = json.loads(file.read_text())["snapshot"]
    rewrite(home, version, snapshot=snapshot | {"path": "/nowhere"})
    assert reproduce_model("small", version).same
    rewrite(home, version, snapshot=snapshot | {"digest": "../../../etc"})
    with pytest.raises(ReproductionError, match=r"snapshot \.\./\.\."):
        reproduce_model("small", version)
    assert Snapshot.model_validate(snapshot).rows > 0


@pytest.mark.parametrize(("content", "words"), [("{}", "does not describe"), (None, "has no")])
def test_a_version_without_a_provenance(
    home: Path, version: str, content: str | None, words: str
) -> None:
    """A missing or foreign provenance is one error."""
    run_id = find_version(load_workload("small"), version).run_id
    (file,) = (home / "mlflow").rglob(f"{run_id}/artifacts/{PROVENANCE}")
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(ReproductionError, match=words):
        reproduce_model("small", version)


def test_no_such_version(home: Path, version: str) -> None:
    """The error lists the versions there are; without a number the champion is meant."""
    with pytest.raises(RegistryError, match="no version '7'; there are: 1"):
        reproduce_model("small", "7")
    assert reproduce_model("small").version == "1"
    assert len(versions(load_workload("small"))) == 1
