"""Scoring: a window from source to published predictions, in batches, whole or not at all."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import showing, sources, storage
from tasks.metering import step
from tasks.preparing import refuse_too_many_bad
from tasks.registry import Loaded, ServedVersion, load_version
from tasks.settings import settings
from tasks.tracking import TrackedRun
from twinloop.contract import Checked, check_rows, with_reason
from twinloop.errors import StorageError
from twinloop.logplan import Metric, Param, Tag
from twinloop.profile import Profile
from twinloop.tables import ContentDigest, require_columns, row_hashes
from twinloop.vocabulary import Frozen
from twinloop.window import Window, as_utc, scheduled_windows, window_before
from twinloop.workload import Workload

PART = "part-00000.parquet"
_MOST_MISSED = 100
_ROLES = ("key", "time", "group", "feature")
MODEL_VERSION, MODEL_RUN = "model_version", "model_run_id"


class Manifest(Frozen):
    """What was published for a window; written last, and all that a reader should follow.

    Attributes
    ----------
    folder
        Where the predictions are, relative to the manifest.
    fingerprint
        Of the source when it was read.
    input_digest
        SHA-256 of the content of all rows read.
    run_id
        MLflow run that scored.
    reused
        Whether it was there already, so that nothing was done.
    """

    workload: str
    window: Window | None
    version: ServedVersion
    folder: str
    fingerprint: str
    input_digest: str
    read: int
    scored: int
    quarantined: int
    run_id: str
    reused: bool = False

    @property
    def place(self) -> Path:
        """Folder of the predictions, absolute."""
        return _home(self.workload, "predictions", self.window) / self.folder

    @property
    def quarantine_place(self) -> Path:
        """Folder of the quarantined rows, absolute; there only if there are any."""
        return _home(self.workload, "quarantine", self.window) / self.folder


def _home(workload_id: str, part: str, window: Window | None) -> Path:
    return settings().root / "data" / "lake" / workload_id / part / window_slug(window)


@dataclass
class _Progress:
    """What is known of a window while its batches go by."""

    profile: Profile
    digest: ContentDigest = field(default_factory=ContentDigest)
    seen: set[int] = field(default_factory=set)
    bad: list[pa.Table] = field(default_factory=list)
    read: int = 0
    scored: int = 0


def scoring_window(workload: Workload, as_of: datetime) -> Window | None:
    """Return the newest whole inference window before a time; None where rows have no time."""
    return None if workload.time is None else window_before(as_of, workload.inference.window)


def missed_windows(workload: Workload, as_of: datetime) -> list[Window]:
    """Return windows of earlier scheduled runs that were not published, the oldest first.

    Only those after the first window that was, not before `inference.catch_up`, with rows, and the
    newest hundred of them.
    """
    done = {manifest.window for _, manifest in published(workload)}
    ends = [w.end for w in done if w is not None]
    if workload.time is None or not ends:
        return []
    inference = workload.inference
    since = max(as_of - inference.catch_up, min(ends))
    windows = scheduled_windows(inference.schedule, inference.window, since, as_of)
    missed = [w for w in windows if w not in done and w != scoring_window(workload, as_of)]
    return [w for w in missed[-_MOST_MISSED:] if sources.has_rows(workload, w)]


def window_slug(window: Window | None) -> str:
    """Name the folder of a window."""
    if window is None:
        return "all"
    return f"{window.start:%Y%m%dT%H%M%S}_{window.end:%Y%m%dT%H%M%S}"


def published(workload: Workload) -> list[tuple[Path, Manifest]]:
    """List the folders of predictions and their manifests, the oldest window first."""
    found = sorted((settings().lake(workload) / "predictions").glob("*/manifest.json"))
    return [(p.parent, Manifest.model_validate_json(p.read_text(encoding="utf-8"))) for p in found]


@step
def score_rows(
    workload: Workload, champion: ServedVersion, window: Window | None, run: TrackedRun
) -> Manifest:
    """Score a window with the champion and publish predictions, quarantine and profile.

    A window that this version has scored already, from an unchanged source, is left as it is.

    Raises
    ------
    EmptyWindowError
        If the window holds no rows.
    QuarantineError
        If more rows break the contract than the workload allows; nothing is published.
    """
    home = _home(workload.id, "predictions", window)
    fingerprint = sources.fingerprint(workload)
    manifest = _already(home, champion, fingerprint)
    if manifest is None:
        manifest = _publish(workload, champion, window, home, fingerprint, run)
    run.log(_plan(manifest, champion))
    return manifest


def _plan(manifest: Manifest, champion: ServedVersion) -> Iterator[Metric | Param | Tag]:
    yield Param("version", champion.version)
    yield Tag("twinloop.version", champion.version)
    yield Tag("twinloop.data_digest", manifest.input_digest)
    yield Tag("twinloop.accuracy", "expected")
    yield Metric(f"accuracy/{champion.metric}", champion.score)
    yield Metric("rows/read", manifest.read)
    yield Metric("rows/scored", manifest.scored)
    yield Metric("rows/quarantined", manifest.quarantined)


def _already(home: Path, champion: ServedVersion, fingerprint: str) -> Manifest | None:
    path = home / "manifest.json"
    if not path.is_file():
        return None
    manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    same = manifest.version == champion and manifest.fingerprint == fingerprint
    if not same or not (home / manifest.folder / PART).is_file():
        return None
    return manifest.model_copy(update={"reused": True})


def _publish(
    workload: Workload,
    champion: ServedVersion,
    window: Window | None,
    home: Path,
    fingerprint: str,
    run: TrackedRun,
) -> Manifest:
    loaded = load_version(champion, workload.trusted)
    aside = home / f".{run.run_id}"
    progress = _Progress(profile=loaded.reference.binning.empty())
    try:
        aside.mkdir(parents=True)
        _write_part(aside / PART, workload, champion, loaded, window, progress)
        if progress.read == 0:
            sources.read_window(workload, window)  # raises, and tells which rows there are
        bad = _all_bad(progress)
        if bad is not None:
            checked = Checked(bad.slice(0, 0), bad, np.zeros(0, bool))
            refuse_too_many_bad(checked, progress.read, workload, sources.origin(workload))
        profile = progress.profile.model_copy(
            update={"read": progress.read, "quarantined": progress.read - progress.scored}
        )
        storage.write_text(aside / "profile.json", profile.model_dump_json())
        digest = progress.digest.hexdigest()
        folder = f"v{champion.version}-{digest[:12]}"
        _keep_bad(bad, _home(workload.id, "quarantine", window) / folder)
        storage.put_in_place(aside, home / folder)
    except OSError as err:
        raise StorageError(f"cannot write predictions to {str(home)!r}: {err}") from err
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    manifest = Manifest(
        workload=workload.id,
        window=window,
        version=champion,
        folder=folder,
        fingerprint=fingerprint,
        input_digest=digest,
        read=progress.read,
        scored=progress.scored,
        quarantined=progress.read - progress.scored,
        run_id=run.run_id,
    )
    storage.write_text(home / "manifest.json", manifest.model_dump_json(indent=1))
    return manifest


def _write_part(
    path: Path,
    workload: Workload,
    champion: ServedVersion,
    loaded: Loaded,
    window: Window | None,
    progress: _Progress,
) -> None:
    schema, origin = _schema(loaded), sources.origin(workload)
    needed = {c.name: f"a {c.role} of {champion.label}" for c in loaded.contract.select(*_ROLES)}
    with (
        pq.ParquetWriter(path, schema, write_page_checksum=True) as writer,
        showing.progress(workload, "scoring", "Rows of the window scored") as tell,
    ):
        for batch in sources.read_batches(workload, window, workload.inference.batch_rows):
            tell(_share_of(batch, window, workload))
            progress.read += batch.num_rows
            progress.digest.update(batch)
            require_columns(batch, needed, origin)
            checked = check_rows(batch, loaded.contract, roles=_ROLES)
            good, repeated = _without_repeats(batch, checked, workload, progress)
            progress.bad += [t for t in (checked.bad, repeated) if t.num_rows]
            if good.num_rows:
                writer.write_table(_score(good, champion, loaded, schema, progress))
    storage.sync(path)


def _share_of(batch: pa.Table, window: Window | None, workload: Workload) -> float:
    """Tell how far into its window a batch begins; rows without time have no end in sight."""
    if window is None or workload.time is None:
        return 0.0
    first = pc.min(batch.column(workload.time)).as_py()
    if not isinstance(first, datetime):
        return 0.0
    return (as_utc(first) - window.start) / (window.end - window.start)


def _without_repeats(
    batch: pa.Table, checked: Checked, workload: Workload, progress: _Progress
) -> tuple[pa.Table, pa.Table]:
    """Take out rows whose key went by before, in this batch or an earlier one."""
    good = checked.good
    broken = np.zeros(batch.num_rows, bool)
    if not workload.key:
        return good, with_reason(batch, broken, [])
    fresh = np.ones(good.num_rows, bool)
    for i, key in enumerate(row_hashes(good, list(workload.key)).tolist()):
        fresh[i] = key not in progress.seen
        progress.seen.add(key)
    broken[np.flatnonzero(checked.kept)[~fresh]] = True
    reasons = [f"duplicate_key:{'+'.join(workload.key)}"] * int(broken.sum())
    return good.filter(pa.array(fresh)), with_reason(batch, broken, reasons)


def _schema(loaded: Loaded) -> pa.Schema:
    """Return the schema of what is published: key and time, answers, and who gave them."""
    answers = [pa.field(name, values.type) for name, values in loaded.scorer.no_answers().items()]
    made_by = [pa.field(MODEL_VERSION, pa.int64()), pa.field(MODEL_RUN, pa.string())]
    return pa.schema([*loaded.contract.arrow_schema("key", "time"), *answers, *made_by])


def _score(
    good: pa.Table,
    champion: ServedVersion,
    loaded: Loaded,
    schema: pa.Schema,
    progress: _Progress,
) -> pa.Table:
    X = loaded.scorer.encoding.encode(good)
    predictions = loaded.scorer.predict_matrix(X)
    progress.profile = progress.profile.merge(loaded.reference.binning.count(X, predictions))
    progress.scored += good.num_rows
    columns = {n: good.column(n) for n in schema.names if n in good.schema.names}
    columns |= loaded.scorer.columns(predictions)
    columns[MODEL_VERSION] = pa.array(np.full(good.num_rows, int(champion.version)))
    columns[MODEL_RUN] = pa.array([champion.run_id] * good.num_rows, pa.string())
    return pa.table(columns).select(schema.names).cast(schema)


def _all_bad(progress: _Progress) -> pa.Table | None:
    if not progress.bad:
        return None
    return pa.concat_tables(progress.bad, promote_options="permissive")


def _keep_bad(bad: pa.Table | None, folder: Path) -> None:
    if bad is not None:
        with storage.new_folder(folder) as aside:
            storage.write_parquet(bad, aside / "rows.parquet")
