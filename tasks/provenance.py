"""Provenance: what it takes to fit a version again, kept with the run that trained it."""

import hashlib
import platform
import re
from functools import cache
from importlib import metadata
from pathlib import Path

from pydantic import ValidationError

import twinloop
from tasks.preparing import Snapshot
from tasks.registry import ServedVersion
from tasks.settings import settings, threads_for
from tasks.tracking import client
from twinloop.digest import content_digest
from twinloop.errors import ReproductionError, StorageError
from twinloop.refresh import History
from twinloop.results import CandidateResult, Leaderboard
from twinloop.vocabulary import Frozen
from twinloop.window import Window
from twinloop.workload import Workload

PROVENANCE = "provenance.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LIBRARIES = (
    *("numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "skops", "xgboost", "xgboost-cpu"),
    *("mlflow", "prefect", "threadpoolctl"),
)


class Provenance(Frozen):
    """What a version was made from.

    Attributes
    ----------
    workload
        As it was resolved for that training, overrides included.
    window
        Rows that were asked for.
    snapshot
        The rows there were; its path is of the machine that trained.
    winner
        What was fitted, and how its folds went.
    threads
        Cores an estimator could use.
    software
        Versions, and a digest of Twinloop's own code.
    made_by
        Which version a refresh is of, in words; empty for a search.
    history
        Which rows a refresh was fitted on; None for a search.
    """

    workload: Workload
    window: str
    snapshot: Snapshot
    winner: CandidateResult
    threads: int
    software: dict[str, str]
    made_by: str = ""
    history: History | None = None


def provenance_of(
    workload: Workload,
    snapshot: Snapshot,
    board: Leaderboard,
    window: Window | None,
    made_by: str = "",
    history: History | None = None,
) -> Provenance:
    """Write down what a training was made from."""
    return Provenance(
        workload=workload,
        window=str(window or "all rows"),
        snapshot=snapshot,
        winner=board.winner,
        threads=threads_for(snapshot.rows),
        software=software(),
        made_by=made_by,
        history=history,
    )


@cache
def software() -> dict[str, str]:
    """Return the versions of what a model is made with here; a process asks once."""
    installed = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
    digest = hashlib.sha256()
    for path in sorted(Path(twinloop.__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    own = f"{installed.get('twinloop', 'from source')}, code {digest.hexdigest()[:12]}"
    found = {"twinloop": own, "python": platform.python_version(), "machine": platform.machine()}
    return found | {name: installed[name] for name in _LIBRARIES if name in installed}


def read_provenance(version: ServedVersion, workload: Workload) -> Provenance:
    """Read how a version was made, and find its snapshot here.

    Only the worker's own workload file names code to import, and only its own lake is read: the
    provenance lies where others may write.

    Parameters
    ----------
    version
        Which.
    workload
        As the file on this machine has it.

    Raises
    ------
    ReproductionError
        If there is no provenance, it cannot be read here, the snapshot is gone or changed, or the
        workload's own estimators are others than then.
    """
    from mlflow.exceptions import MlflowException

    where = f"{version.name} {version.label}"
    try:
        text = _text(version.run_id)
        provenance = Provenance.model_validate_json(text)
    except (MlflowException, OSError) as err:
        raise ReproductionError(
            f"{where} has no {PROVENANCE} among the artifacts of its run {version.run_id!r}: {err}",
            "Versions registered before it was kept have none; train anew.",
        ) from err
    except ValidationError as err:
        raise ReproductionError(
            f"the {PROVENANCE} of {where} does not describe a training to this release: "
            f"{err.errors()[0]['msg']}.",
            "Use the release of Twinloop it was trained with; its model card names it.",
        ) from err
    if provenance.workload.id != workload.id or provenance.snapshot.digest != version.data_digest:
        raise ReproductionError(
            f"the {PROVENANCE} of {where} is of {provenance.workload.id} and snapshot "
            f"{provenance.snapshot.digest[:16]}, the version of snapshot "
            f"{version.data_digest[:16]}."
        )
    own = workload.training.estimators
    if provenance.workload.training.estimators != own:
        raise ReproductionError(
            f"{where} was trained with training.estimators "
            f"{provenance.workload.training.estimators!r}, the workload file now has {own!r}.",
            "Restore that part of the workload file.",
        )
    return provenance.model_copy(update={"snapshot": _found(provenance.snapshot, where, workload)})


def recall(version: ServedVersion) -> Provenance | None:
    """Read how a version was made, to fit the like on other rows; None where nobody can tell.

    Its own rows need not be there any more, and nothing in it is to be trusted but which candidates
    were fitted with which settings.
    """
    from mlflow.exceptions import MlflowException

    try:
        return Provenance.model_validate_json(_text(version.run_id))
    except (MlflowException, OSError, ValidationError):
        return None


def _text(run_id: str) -> str:
    import mlflow.artifacts

    client()
    return mlflow.artifacts.load_text(f"runs:/{run_id}/{PROVENANCE}")


def _found(snapshot: Snapshot, where: str, workload: Workload) -> Snapshot:
    """Find a snapshot in this lake, and read it through."""
    if not _DIGEST.fullmatch(snapshot.digest):
        raise ReproductionError(f"{where} names snapshot {snapshot.digest!r}, which is no digest.")
    place = settings().lake(workload) / "prepared" / snapshot.digest
    here = snapshot.model_copy(update={"path": place})
    try:
        digest = content_digest(here.table())
    except StorageError as err:
        raise ReproductionError(
            f"the snapshot that {where} was trained on cannot be read: {err.message}.",
            "Restore that folder, or train anew.",
        ) from err
    if digest != snapshot.digest:
        raise ReproductionError(
            f"the snapshot in {str(place)!r} has digest {digest[:16]}: its rows are not those that "
            f"{where} was trained on.",
            "Restore that folder, or train anew.",
        )
    return here
