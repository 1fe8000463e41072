"""Registry: versions of a model in MLflow, which one serves, and how it came to."""

import getpass
import os
import socket
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.metering import step
from tasks.tracking import TrackedRun, client, experiment_id, tracked_run
from twinloop import serving
from twinloop.compiled import compiled
from twinloop.contract import Contract
from twinloop.errors import RegistryError
from twinloop.gauge import Gauge
from twinloop.logplan import Metric, Plot, Table, Tag
from twinloop.profile import Reference
from twinloop.scorer import Scorer, files_digest, from_files
from twinloop.verdict import Verdict
from twinloop.verdictplan import plan_verdict
from twinloop.vocabulary import Frozen
from twinloop.window import as_utc, format_duration, format_instant
from twinloop.workload import Workload

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
# Of a champion on trial: it answers a share of the rows beside its successor.
FORMER = "former"
# A move that has it is decided; one whose process was killed is finished by the next.
DECIDED = "twinloop.move_decided"
TAG = "twinloop."


class ServedVersion(Frozen):
    """A handle to a registered version; `recipe` is what was fitted, as JSON."""

    name: str
    version: str
    run_id: str
    source: str
    digest: str
    metric: str
    score: float
    until: int | None
    holdout: str
    data_digest: str
    trained_at: datetime
    recipe: str = ""

    @property
    def label(self) -> str:
        """Short name, like ``v3``."""
        return f"v{self.version}"


@dataclass(frozen=True)
class Loaded:
    """A version in memory."""

    scorer: Scorer
    contract: Contract
    reference: Reference
    jury: bytes
    gauge: Gauge | None = None

    @cached_property
    def compiled(self) -> Scorer:
        """The scorer in the form that answers batches."""
        return compiled(self.scorer)


class Move(Frozen):
    """One move of the champion alias.

    Attributes
    ----------
    at
        The moment it counts from, UTC.
    was, became
        Versions; `was` is empty for the first.
    recorded
        When it was written down, milliseconds since 1970.
    run_id
        The record itself, a run of its own.
    by
        A flow run, or a person at a machine; empty in records of older releases.
    page
        Address of the flow run in Prefect; empty if by hand.
    evidence
        Run id of the training or the drift check that it follows from; empty if by hand.
    gain, low, high
        Of the verdict, where one was measured: positive is better, with its interval.
    """

    at: datetime
    was: str
    became: str
    reason: str
    recorded: int
    run_id: str
    by: str = ""
    page: str = ""
    evidence: str = ""
    gain: float | None = None
    low: float | None = None
    high: float | None = None


def holdout_rule(workload: Workload) -> str:
    """Name the rows that a version without time is never fitted on; empty if there are none."""
    if workload.time is not None or workload.refits:
        return ""
    return f"{workload.training.holdout}:{workload.seed}"


@lru_cache(maxsize=8)
def load_version(version: ServedVersion, trusted: tuple[str, ...] = ()) -> Loaded:
    """Load a version's files, its digest checked before anything is read.

    Parameters
    ----------
    version
        Which.
    trusted
        Types it may name besides those always trusted: what the workload's file lists.

    Raises
    ------
    RegistryError
        If files are missing, are not those that were registered, or name other types.
    """
    files = registered_files(version)
    return Loaded(
        from_files(serving.scorer_files(files), trusted),
        Contract.model_validate_json(files[serving.CONTRACT]),
        Reference.model_validate_json(files[serving.REFERENCE]),
        files.get(serving.JURY, b""),
        _gauge(files.get(serving.GAUGE)),
    )


def _gauge(content: bytes | None) -> Gauge | None:
    # Versions of before gauges have none.
    return None if content is None else Gauge.model_validate_json(content)


def registered_files(version: ServedVersion) -> dict[str, bytes]:
    """Read a version's files by name, and see that they are those that were registered.

    Raises
    ------
    RegistryError
        If they cannot be read, or have another digest.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    client()
    with tempfile.TemporaryDirectory() as place:
        try:
            local = Path(download_artifacts(artifact_uri=version.source, dst_path=place))
            files = serving.read_files(local / "data" / "served")
        except (MlflowException, OSError) as err:
            raise RegistryError(
                f"the files of {version.name} {version.label} at {version.source!r} "
                f"cannot be read: {err}"
            ) from err
    digest = files_digest(files)
    if digest != version.digest:
        raise RegistryError(
            f"the files of {version.name} {version.label} have digest {digest[:16]}, "
            f"{version.digest[:16]} was registered: they were changed or damaged.",
            "Roll back: `twinloop champion WORKLOAD --rollback VERSION`.",
        )
    return files


def handle(found: "ModelVersion") -> ServedVersion:
    """Read what Twinloop wrote down with a version when it was registered.

    Raises
    ------
    RegistryError
        If something else registered it.
    """
    tags = {k.removeprefix(TAG): v for k, v in found.tags.items() if k.startswith(TAG)}
    if "digest" not in tags:
        raise RegistryError(
            f"version {found.version} of {found.name!r} was not registered by Twinloop: no digest."
        )
    return ServedVersion(
        name=found.name,
        version=str(found.version),
        run_id=found.run_id or "",
        source=found.source or "",
        digest=tags["digest"],
        metric=tags["metric"],
        score=float(tags["score"]),
        until=int(tags["until"]) if tags["until"] else None,
        holdout=tags["holdout"],
        data_digest=tags["data_digest"],
        trained_at=datetime.fromisoformat(tags["trained_at"]),
        # Versions of before tuning have none.
        recipe=tags.get("recipe", ""),
    )


def find_champion(workload: Workload) -> ServedVersion | None:
    """Return the version that serves, or None where there is none yet."""
    return find_alias(workload, CHAMPION)


def find_alias(workload: Workload, alias: str) -> ServedVersion | None:
    """Return the version that has an alias, or None where there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return handle(client().get_model_version_by_alias(workload.id, alias))
    except MlflowException as err:
        if err.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


@step
def resolve_champion(workload: Workload, at: datetime | None = None) -> ServedVersion:
    """Return the version that serves, or that served at a time.

    Raises
    ------
    RegistryError
        If no version has been promoted yet, or none had been by then.
    """
    champion = find_champion(workload) if at is None else champion_at(workload, at)
    if champion is None:
        when = "" if at is None else f" at {format_instant(at)}"
        raise RegistryError(
            f"{workload.id!r} has no champion to score with{when}.",
            f"Train one: `twinloop train {workload.name}`.",
        )
    return champion


def champion_at(workload: Workload, at: datetime) -> ServedVersion | None:
    """Return the version that was champion at a time, by the record of its moves; None before all.

    Moves count from the moment their run was meant for.
    """
    moves = [m for m in champion_moves(workload) if m.at <= at]
    if not moves:
        return None
    last = max(moves, key=lambda m: (m.at, m.recorded))
    return handle(client().get_model_version(workload.id, last.became))


def champion_moves(workload: Workload) -> list[Move]:
    """Read every move of the champion alias, the newest record first."""
    mlflow_client = client()
    where = f"tags.`twinloop.kind` = 'promotion' and tags.`twinloop.workload` = '{workload.id}'"
    found = mlflow_client.search_runs(
        [experiment_id(mlflow_client, workload.experiment)],
        f"{where} and attributes.status = 'FINISHED'",
        max_results=1000,
        order_by=["attributes.start_time DESC"],
    )
    return [_move(run) for run in found]


def _move(run: "Run") -> Move:
    tags, metrics = run.data.tags, run.data.metrics
    return Move(
        at=as_utc(datetime.fromisoformat(tags["twinloop.moved_at"])),
        was=tags.get("twinloop.from", ""),
        became=tags["twinloop.to"],
        reason=tags.get("twinloop.verdict_reason", ""),
        recorded=run.info.start_time,
        run_id=run.info.run_id,
        by=tags.get("twinloop.by", ""),
        page=tags.get("twinloop.prefect_url", ""),
        evidence=tags.get("mlflow.parentRunId", ""),
        gain=metrics.get("verdict/gain"),
        low=metrics.get("verdict/low"),
        high=metrics.get("verdict/high"),
    )


@step
def current_champion(workload: Workload) -> ServedVersion | None:
    """Return the version that serves, or None where there is none yet."""
    return find_champion(workload)


@step
def apply_verdict(
    workload: Workload,
    version: ServedVersion,
    champion: ServedVersion | None,
    verdict: Verdict,
    as_of: datetime,
) -> str:
    """Name the version champion or challenger, by the verdict; return the champion's number."""
    if verdict.outcome == "promote":
        move_champion(workload, version, champion, verdict, as_of)
        return version.version
    client().set_registered_model_alias(workload.id, CHALLENGER, version.version)
    return champion.version if champion else ""


def move_champion(
    workload: Workload,
    version: ServedVersion,
    previous: ServedVersion | None,
    verdict: Verdict,
    as_of: datetime,
    *,
    trial: bool = True,
) -> None:
    """Write down who, when, from, to and why, and then point the champion alias to a version.

    The record is the truth, the alias its cache: a process that is killed in between leaves a
    record that the next one follows.

    Parameters
    ----------
    workload, version, previous
        Whose alias, to which version, and which it had.
    verdict
        Why, with its numbers.
    as_of
        The moment the move counts from, UTC.
    trial
        Whether the previous champion is to answer beside the new one for a while, if the workload
        wants that.
    """
    was = previous.version if previous else ""
    former = was if trial and tries_out(workload) else ""
    with tracked_run(workload, "promotion", window=None, as_of=as_of, what=version.label) as run:
        # Table and plot are with the judgement already.
        run.log(item for item in plan_verdict(verdict) if not isinstance(item, Table | Plot))
        run.log(
            [
                Tag("twinloop.from", was),
                Tag("twinloop.to", version.version),
                Tag("twinloop.moved_at", format_instant(as_of)),
                Metric(f"accuracy/{workload.metric}", verdict.challenger or version.score),
                Tag("twinloop.accuracy", "fresh rows" if previous else "holdout"),
                Tag("twinloop.by", _who()),
                Tag("twinloop.former", former),
            ]
        )
        run.log([Tag(DECIDED, "yes")])
        point_aliases(workload.id, version.version, former)


def point_aliases(name: str, champion: str, former: str) -> None:
    """Let the aliases of a model say what the ledger says; without a former champion there is none.

    Parameters
    ----------
    name
        Of the registered model.
    champion, former
        Numbers of versions.
    """
    mlflow_client = client()
    if former:
        mlflow_client.set_registered_model_alias(name, FORMER, former)
    else:
        mlflow_client.delete_registered_model_alias(name, FORMER)
    # Last: a failure before it leaves the champion that the ledger knows of.
    mlflow_client.set_registered_model_alias(name, CHAMPION, champion)


def _who() -> str:
    """Name the flow run, or the person, that does this."""
    from prefect.runtime import flow_run

    if flow_run.id:
        return f"flow run {flow_run.id}"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def tries_out(workload: Workload) -> bool:
    """Tell whether a former champion goes on answering after a promotion.

    Without a time every row may have been trained on, without a key truth joins nothing.
    """
    possible = workload.time is not None and workload.key and workload.inference.shadow > 0
    return bool(possible) and workload.retraining.rollback == "auto"


def find_former(workload: Workload, champion: ServedVersion) -> ServedVersion | None:
    """Return the version that champion has to prove itself against; None where it has done so."""
    former = find_alias(workload, FORMER) if tries_out(workload) else None
    return None if former is None or former.version == champion.version else former


def roll_back(workload: Workload, number: str, as_of: datetime) -> ServedVersion:
    """Make an earlier version champion again.

    Raises
    ------
    RegistryError
        If there is no such version, it does not load, or it serves already.
    """
    champion = find_champion(workload)
    version = find_version(workload, number)
    if champion is not None and champion.version == version.version:
        raise RegistryError(f"version {number} of {workload.id!r} is champion already.")
    load_version(version, workload.trusted)
    verdict = Verdict(outcome="promote", reason="rolled back by hand", metric=workload.metric)
    move_champion(workload, version, champion, verdict, as_of, trial=False)
    return version


def find_version(workload: Workload, number: str) -> ServedVersion:
    """Return a version by its number.

    Raises
    ------
    RegistryError
        If there is none, naming those there are.
    """
    from mlflow.exceptions import MlflowException

    try:
        return handle(client().get_model_version(workload.id, number))
    except MlflowException as err:
        known = ", ".join(v.version for v in versions(workload)) or "none"
        raise RegistryError(
            f"{workload.id!r} has no version {number!r}; there are: {known}."
        ) from err


def versions(workload: Workload) -> list[ServedVersion]:
    """Return all versions, the newest first."""
    found = client().search_model_versions(f"name = '{workload.id}'")
    return sorted((handle(v) for v in found), key=lambda v: -int(v.version))


def clear_champion(workload: Workload) -> None:
    """Take the champion alias away, so that the next version is a first one: replays start so."""
    if find_champion(workload) is not None:
        client().delete_registered_model_alias(workload.id, CHAMPION)
        client().delete_registered_model_alias(workload.id, FORMER)


@step
def refuse_retraining(workload: Workload, as_of: datetime, cause: str, run: TrackedRun) -> str:
    """Return why no retraining should follow now; empty if one should.

    Parameters
    ----------
    workload
        Says how long the cooldown is.
    as_of
        The moment the retraining is meant for, UTC.
    cause
        What called for it; empty for a person.
    run
        The run that asks, which does not count.
    """
    if cause and _had_retraining(workload, cause, run):
        return f"cause {cause} has had its retraining"
    found = versions(workload)
    if not found:
        return ""
    left = workload.retraining.cooldown - (as_of - found[0].trained_at)
    if left <= timedelta(0):
        return ""
    unit = timedelta(hours=1) if left > timedelta(days=1) else timedelta(minutes=1)
    return f"cooling down for another {format_duration(-(-left // unit) * unit)}"


def _had_retraining(workload: Workload, cause: str, run: TrackedRun) -> bool:
    mlflow_client = client()
    where = f"tags.`twinloop.cause` = '{cause}' and tags.`twinloop.kind` = 'retraining'"
    experiments = [experiment_id(mlflow_client, workload.experiment)]
    return any(r.info.run_id != run.run_id for r in mlflow_client.search_runs(experiments, where))
