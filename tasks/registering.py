"""Registering: a fitted model becomes a version in MLflow, verified before it may serve."""

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from tasks import storage
from tasks.ancestors import LONGEST_TAG, tell_ancestor
from tasks.bundling import bundle_core
from tasks.metering import leave_behind, step
from tasks.preparing import Snapshot
from tasks.provenance import PROVENANCE, Provenance
from tasks.registry import TAG, ServedVersion, handle, holdout_rule, load_version
from tasks.requirements import distributions_of, is_installed, pinned, spare_pins
from tasks.settings import settings
from tasks.tracking import TrackedRun, client, experiment_id
from twinloop import serving
from twinloop.agreement import refuse_disagreement, with_dirty_copies
from twinloop.compiled import compiled
from twinloop.contract import Contract
from twinloop.errors import RegistryError
from twinloop.evidence import Evidence
from twinloop.gauge import Gauge
from twinloop.logplan import Param, Tag, Text
from twinloop.profile import Reference
from twinloop.recipe import Recipe
from twinloop.scorer import Scorer, files_digest, from_files, to_files
from twinloop.verdict import Verdict, checks_json
from twinloop.vocabulary import ENSEMBLE, Frozen
from twinloop.workload import Workload

_PROBE_ROWS = 200


class ModelFiles(Frozen):
    """A handle to a fitted model that is not registered yet.

    Attributes
    ----------
    folder
        Holds ``served/`` (what is registered), ``judged/`` and ``probe.parquet``.
    digest
        SHA-256 over the files of ``served/``.
    score
        The metric on the holdout.
    until
        Time of the newest row it was fitted on, microseconds since 1970; None without time.
    recipe
        What was fitted.
    evidence
        What the holdout showed of it, for its card.
    """

    folder: Path
    digest: str
    score: float
    until: int | None
    rows: int
    evidence: Evidence
    recipe: Recipe | None = None

    def judged(self, trusted: tuple[str, ...] = ()) -> Scorer:
        """Return the model that the holdout has judged: it never saw its rows."""
        return from_files(serving.read_files(self.folder / "judged"), trusted)

    def served(self, trusted: tuple[str, ...] = ()) -> Scorer:
        """Return the model that is to serve."""
        files = serving.read_files(self.folder / "served")
        return from_files(serving.scorer_files(files), trusted)

    def reference(self) -> Reference:
        """Return the profile it is registered with."""
        return Reference.model_validate_json(
            (self.folder / "served" / serving.REFERENCE).read_bytes()
        )

    def with_file(self, name: str, content: bytes) -> Self:
        """Add a file to what is registered; the digest covers it."""
        folder = self.folder / "served"
        with storage.writing(folder):
            (folder / name).write_bytes(content)
        return self.model_copy(update={"digest": files_digest(serving.read_files(folder))})


@contextmanager
def work_folder(workload: Workload, run: TrackedRun) -> Iterator[Path]:
    """Provide a folder for the files of one training, gone at its end."""
    folder = settings().lake(workload) / "work" / run.run_id
    with storage.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def save_model(
    folder: Path,
    served: Scorer,
    judged: Scorer,
    snapshot: Snapshot,
    evidence: Evidence,
    reference: Reference,
    until: int | None,
    probe: pa.Table,
    gauge: Gauge,
) -> ModelFiles:
    """Write a fitted model's files, with contract, reference profile, gauge and a probe."""
    files = version_files(served, snapshot.contract, reference, gauge)
    rows = probe.slice(0, _PROBE_ROWS)
    answers = served.columns(served.predict(rows))
    for column, values in answers.items():
        rows = rows.append_column(f"answer.{column}", values)
    with storage.writing(folder):
        for name, parts in (("served", files), ("judged", to_files(judged))):
            (folder / name).mkdir()
            for path, content in parts.items():
                (folder / name / path).write_bytes(content)
        storage.write_parquet(rows, folder / "probe.parquet")
    return ModelFiles(
        folder=folder,
        digest=files_digest(files),
        score=evidence.score,
        until=until,
        rows=snapshot.rows,
        evidence=evidence,
    )


def version_files(
    served: Scorer, contract: Contract, reference: Reference, gauge: Gauge | None = None
) -> dict[str, bytes]:
    """Write what a version is made of as files, by name; equal versions have equal bytes."""
    files = to_files(served) | {
        serving.CONTRACT: contract.model_dump_json(indent=1).encode(),
        serving.REFERENCE: reference.model_dump_json().encode(),
    }
    return files | ({serving.GAUGE: gauge.model_dump_json().encode()} if gauge else {})


@step
def register_version(
    workload: Workload,
    snapshot: Snapshot,
    model: ModelFiles,
    verdict: Verdict,
    provenance: Provenance,
    run: TrackedRun,
) -> ServedVersion:
    """Register a model as a new version, and verify it; no alias is touched.

    How to fit it again is written down first: there is no version without.

    Raises
    ------
    RegistryError
        If what was registered does not load, has another digest, or answers a probe otherwise than
        the model in memory did, or its compiled form disagrees with it.
    """
    from mlflow.exceptions import MlflowException

    mlflow_client = client()
    try:
        mlflow_client.create_registered_model(workload.id)
    except MlflowException as err:
        if "RESOURCE_ALREADY_EXISTS" not in str(err.error_code):
            raise
    tags = {
        "digest": model.digest,
        "metric": workload.metric,
        "score": repr(model.score),
        "until": "" if model.until is None else str(model.until),
        "holdout": holdout_rule(workload),
        "data_digest": snapshot.digest,
        "trained_at": run.as_of.isoformat(),
        "verdict": verdict.outcome,
        "verdict_reason": verdict.reason[:LONGEST_TAG],
        "verdict_checks": checks_json(verdict, LONGEST_TAG),
        "recipe": model.recipe.model_dump_json() if model.recipe else "",
    }
    run.log(
        [
            Param("data_digest", snapshot.digest),
            Tag("twinloop.data_digest", snapshot.digest),
            Text(PROVENANCE, provenance.model_dump_json(indent=1)),
        ]
    )
    info = _log_model(workload, snapshot, model, run)
    created = mlflow_client.create_model_version(
        workload.id,
        info.model_uri,
        run_id=run.run_id,
        tags={TAG + name: value for name, value in tags.items()},
        model_id=info.model_id,
    )
    version = handle(created)
    leave_behind(sum(len(c) for c in serving.read_files(model.folder / "served").values()))
    _verify(version, model.folder / "probe.parquet", workload)
    tell_ancestor(workload, model.recipe, version.version)
    run.log([Tag("twinloop.version", version.version)])
    return version


def _log_model(workload: Workload, snapshot: Snapshot, model: ModelFiles, run: TrackedRun) -> Any:
    import mlflow.pyfunc
    from mlflow.models import Model

    # The signature comes from the contract; an example would cost a call and say nothing more.
    warnings.filterwarnings("ignore", ".*An input example was not provided", UserWarning)
    mlflow_client = client()
    # Model.log alone puts the model into the default experiment, whatever run it is given.
    requirements = _requirements(model, workload)
    spare_pins(requirements)
    logged = mlflow_client.create_logged_model(
        experiment_id(mlflow_client, workload.experiment), name="model", source_run_id=run.run_id
    )
    return Model.log(
        artifact_path=None,
        name="model",
        model_id=logged.model_id,
        flavor=mlflow.pyfunc,
        run_id=run.run_id,
        loader_module="twinloop.serving",
        data_path=str(model.folder / "served"),
        code_paths=[str(bundle_core("serving", model.folder / "code"))],
        signature=_signature(snapshot.contract, model.folder / "probe.parquet"),
        pip_requirements=requirements,
    )


def _signature(contract: Contract, probe: Path) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    kinds = {
        "number": DataType.double,
        "boolean": DataType.boolean,
        "category": DataType.string,
        "timestamp": DataType.datetime,
    }
    inputs: list[Any] = [
        ColSpec(kinds[c.kind], c.name, required=c.required)
        for c in contract.select("time", "feature")
    ]
    answers = storage.read_parquet(probe)
    outputs: list[Any] = [
        ColSpec(_output_type(field.type), field.name.removeprefix("answer."))
        for field in answers.schema
        if field.name.startswith("answer.")
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def _output_type(kind: pa.DataType) -> Any:
    from mlflow.types import DataType

    if pa.types.is_floating(kind):
        return DataType.double
    if pa.types.is_integer(kind):
        return DataType.long
    return DataType.boolean if pa.types.is_boolean(kind) else DataType.string


def _requirements(model: ModelFiles, workload: Workload) -> list[str]:
    """Pin what loading this model takes, and all that this takes in turn, as installed here."""
    served, recipe = model.folder / "served", model.recipe
    needed = ["cronsim", "mlflow", "numpy", "pandas", "pyarrow", "pydantic"]
    needed += ["scikit-learn", "scipy"]
    if any(served.glob("*.skops")):
        needed.append("skops")
        if recipe is None or recipe.candidate in (ENSEMBLE, *workload.training.estimators):
            needed += distributions_of(workload.trusted)
    if any(served.glob("*.ubj")):
        needed.append(_booster())
    return pinned(needed)


def _booster() -> str:
    """Name the distribution that XGBoost comes from here."""
    return "xgboost-cpu" if is_installed("xgboost-cpu") else "xgboost"


def _verify(version: ServedVersion, probe: Path, workload: Workload) -> None:
    """Ask what was registered, in both its forms, what the model in memory was asked."""
    loaded = load_version(version, workload.trusted)
    rows = storage.read_parquet(probe)
    answers = loaded.scorer.columns(loaded.scorer.predict(rows))
    for name, values in answers.items():
        expected = rows.column(f"answer.{name}").combine_chunks()
        if not values.equals(expected):
            raise RegistryError(
                f"{version.name} {version.label} was registered but answers {name!r} of the probe "
                f"otherwise than the model in memory; no alias was moved."
            )
    # Windows are scored by its compiled form.
    dirty = with_dirty_copies(rows, loaded.contract)
    refuse_disagreement(loaded.scorer, compiled(loaded.scorer), dirty)
