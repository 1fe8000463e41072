"""Scoring: a window from its source to published predictions, on all cores, exactly once."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import reduce
from typing import Any

import pyarrow as pa

from tasks import showing, sources
from tasks.budgeting import refuse_over_budget
from tasks.drafting import Draft, Part, PartBuilder, alone
from tasks.metering import leave_behind, step
from tasks.preparing import refuse_too_many_bad
from tasks.provenance import software
from tasks.published import (
    MANIFEST,
    OWN_MANIFEST,
    PREDICTIONS,
    Manifest,
    home_of,
    lake_mark,
    published,
    read_manifest,
    window_slug,
)
from tasks.registry import (
    CHALLENGER,
    Loaded,
    ServedVersion,
    find_alias,
    find_former,
    load_version,
)
from tasks.sources import Unreadable
from tasks.streaming import Stream
from tasks.tracking import TrackedRun
from twinloop.digest import ContentDigest
from twinloop.errors import RegistryError, SourceError, TwinloopError
from twinloop.inference import BatchScorer
from twinloop.logplan import Metric, Param, Tag
from twinloop.profile import Profile
from twinloop.samples import Sample
from twinloop.shadow import Agreement, Shadow
from twinloop.window import Window, scheduled_windows, window_before
from twinloop.workload import Workload

_log = logging.getLogger("twinloop.progress")
# Raise when the same rows and version would now give other files.
_FORMAT = 3
_MOST_MISSED = 100
# What a part may hold in memory before it is written.
_PART_BYTES = 64_000_000
_MATTERS = {"batch_rows", "part_rows", "explanations"}
MODEL_VERSION, MODEL_RUN = "model_version", "model_run_id"


def scoring_window(workload: Workload, as_of: datetime) -> Window | None:
    """Return the newest whole inference window before a time; None where rows have no time."""
    return None if workload.time is None else window_before(as_of, workload.inference.window)


def missed_windows(workload: Workload, as_of: datetime) -> list[Window]:
    """Return windows of earlier scheduled runs that were not published, the oldest first.

    Only those after the first window that was, not before `inference.catch_up`, with rows, and the
    newest hundred of them.
    """
    done = {manifest.window for manifest in published(workload, strict=False)}
    ends = [w.end for w in done if w is not None]
    if workload.time is None or not ends:
        return []
    inference = workload.inference
    since = max(as_of - inference.catch_up, min(ends))
    windows = scheduled_windows(inference.schedule, inference.window, since, as_of)
    missed = [w for w in windows if w not in done and w != scoring_window(workload, as_of)]
    return sources.with_rows(workload, missed[-_MOST_MISSED:])


@step
def score_rows(
    workload: Workload, champion: ServedVersion, window: Window | None, run: TrackedRun
) -> Manifest:
    """Score a window with the champion and publish predictions, quarantine and profile.

    A window that this version has scored already, from an unchanged source, is left as it is; one
    that a killed run began is gone on with. Two runs of one window come one after the other.

    Raises
    ------
    EmptyWindowError
        If the window holds no rows.
    QuarantineError
        If more rows break the contract than the workload allows; nothing is published.
    SourceError
        If the source changed while it was read.
    """
    manifest = publish(workload, champion, window, run.run_id, _challenger(workload, champion))
    run.log([*_log_plan(manifest, champion), Tag("twinloop.lake", lake_mark(workload))])
    return manifest


def _log_plan(manifest: Manifest, champion: ServedVersion) -> Iterator[Metric | Param | Tag]:
    yield Param("version", champion.version)
    yield Tag("twinloop.version", champion.version)
    yield Tag("twinloop.data_digest", manifest.input_digest)
    yield Tag("twinloop.accuracy", "expected")
    if manifest.reused:
        yield Tag("twinloop.reused", "yes")
    yield Metric(f"accuracy/{champion.metric}", champion.score)
    yield Metric("rows/read", manifest.read)
    yield Metric("rows/scored", manifest.scored)
    yield Metric("rows/quarantined", manifest.quarantined)
    agreement = manifest.agreement
    if agreement is not None and agreement.rows:
        yield Tag("twinloop.shadow", manifest.challenger)
        yield Metric("shadow/rows", agreement.rows)
        yield Metric("shadow/refused", agreement.refused)
        yield Metric("shadow/equal", agreement.share_equal)
        yield Metric("shadow/difference", agreement.mean_difference)


def _rules(workload: Workload, champion: ServedVersion, window: Window | None) -> dict[str, Any]:
    """Return all that an output hangs on but the rows."""
    return {
        "format": _FORMAT,
        "window": None if window is None else window.model_dump(mode="json"),
        "version": champion.digest,
        "number": champion.version,
        "run": champion.run_id,
        "key": workload.key,
        "inference": workload.inference.model_dump(mode="json", include=_MATTERS),
    }


def _name(*facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _already(workload: Workload, window: Window | None, plan: str) -> Manifest | None:
    manifest = read_manifest(home_of(workload.id, PREDICTIONS, window) / MANIFEST)
    if manifest is None or manifest.plan != plan:
        return None
    # It is what a window is held to when a newer output has taken over.
    own = read_manifest(manifest.place / OWN_MANIFEST)
    if own is None or own.files != manifest.files:
        return None
    if not all(stored.is_at(manifest.place_of(place)) for place, stored in manifest.files):
        return None
    return manifest.model_copy(update={"reused": True})


def _challenger(workload: Workload, champion: ServedVersion) -> ServedVersion | None:
    """Return the version that answers beside the champion, if there is one to be heard.

    The champion's predecessor, as long as the champion has not proved itself; else the challenger.
    """
    if workload.inference.shadow == 0:
        return None
    try:
        former = find_former(workload, champion)
        if former is not None or workload.sandbox:
            return former
        challenger = find_alias(workload, CHALLENGER)
    except TwinloopError as err:
        _log.warning("no challenger answers in shadow: %s", err)
        return None
    if challenger is None or challenger.version == champion.version:
        return None
    return challenger


def publish(
    workload: Workload,
    champion: ServedVersion,
    window: Window | None,
    run_id: str,
    challenger: ServedVersion | None = None,
) -> Manifest:
    """Score a window and publish what came of it: `score_rows` without a run to write it down in.

    Parameters
    ----------
    workload, champion, window
        What to score, and with which version.
    run_id
        MLflow run to name in the manifest.
    challenger
        Version that answers a share of the rows in shadow.
    """
    with alone(workload, window_slug(window)):
        fingerprint, rules = sources.fingerprint(workload), _rules(workload, champion, window)
        plan = _name(rules, fingerprint)
        # What other releases have begun is not gone on with: last bits may differ.
        draft = Draft(workload, window, plan, _name(plan, software()))
        manifest = _already(workload, window, plan)
        if manifest is not None:
            draft.discard()  # a run may have been killed between its last two steps
            return manifest
        return _score(workload, champion, window, run_id, challenger, fingerprint, rules, draft)


def _score(
    workload: Workload,
    champion: ServedVersion,
    window: Window | None,
    run_id: str,
    challenger: ServedVersion | None,
    fingerprint: str,
    rules: dict[str, Any],
    draft: Draft,
) -> Manifest:
    loaded = load_version(champion, workload.trusted)
    _refuse_other_keys(workload, champion, loaded)
    shadow = None if challenger is None else _loaded_shadow(workload, challenger)
    named = challenger.version if challenger is not None and shadow is not None else ""
    beside = _name(named, challenger.digest, shadow.share) if challenger and shadow else ""
    scorer = _batch_scorer(workload, champion, loaded, shadow)
    parts = _parts(workload, window, loaded, scorer, draft, beside)
    try:
        _refuse(parts, workload, window, fingerprint)
    except TwinloopError:
        draft.discard()
        raise
    read, quarantined = (sum(getattr(p, n) for p in parts) for n in ("read", "quarantined"))
    profile, content = _totals(parts, scorer, read, quarantined)
    profiled = draft.write_profile(profile.model_dump_json())
    made = [p.predictions.sha256 for p in parts] + [profiled.sha256]
    made += [p.quarantine.sha256 for p in parts if p.quarantine is not None]
    agreements = [p.agreement for p in parts if p.agreement is not None]
    manifest = Manifest(
        workload=workload.id,
        window=window,
        version=champion,
        folder=f"v{champion.version}-{_name(rules, content, made)[:12]}",
        fingerprint=fingerprint,
        plan=draft.plan,
        input_digest=content,
        read=read,
        scored=read - quarantined,
        quarantined=quarantined,
        predictions=tuple(p.predictions for p in parts),
        quarantine=tuple(p.quarantine for p in parts if p.quarantine is not None),
        shadow=tuple(p.shadow for p in parts if p.shadow is not None),
        profile=profiled,
        challenger=named if agreements else "",
        agreement=reduce(Agreement.merge, agreements) if agreements else None,
        run_id=run_id,
    )
    leave_behind(sum(stored.size for _, stored in manifest.files))
    return draft.publish(manifest)


def _refuse(parts: list[Part], workload: Workload, window: Window | None, fingerprint: str) -> None:
    """Refuse to publish nothing, too little, or a mixture."""
    if not parts:
        raise sources.no_rows(workload, window)
    read, bad = (sum(getattr(p, n) for p in parts) for n in ("read", "quarantined"))
    reasons: Counter[str] = Counter()
    for part in parts:
        reasons.update(part.reasons)
    examples = {r: e for part in reversed(parts) for r, e in part.examples.items()}
    origin = sources.origin(workload)
    refuse_too_many_bad(bad, read, reasons, examples, workload, origin)
    if sources.fingerprint(workload) != fingerprint:
        raise SourceError(
            f"{origin} changed while it was read; nothing was published.", "Run it again."
        )


def _totals(
    parts: list[Part], scorer: BatchScorer, read: int, quarantined: int
) -> tuple[Profile, str]:
    """Add up the profile of all parts, and the digest of all their rows."""
    digest, cells, sample = ContentDigest(), scorer.counter.none(), Sample()
    for part in parts:
        digest, cells = digest.merge(part.digest), cells + part.cells
        sample = sample.merge(part.sample)
    profile = scorer.counter.profile(cells, read - quarantined, sample)
    return (
        profile.model_copy(update={"read": read, "quarantined": quarantined}),
        digest.hexdigest(),
    )


def _loaded_shadow(workload: Workload, challenger: ServedVersion) -> Shadow | None:
    """Load a challenger; one that cannot be is no reason to publish nothing."""
    try:
        loaded = load_version(challenger, workload.trusted)
        _refuse_other_keys(workload, challenger, loaded)
        share = workload.inference.shadow
        return Shadow(loaded.compiled, loaded.contract, workload.key, share)
    except Exception as err:  # noqa: BLE001 - of another release, say, or damaged
        _log.warning("%s %s answers nothing in shadow: %s", workload.id, challenger.label, err)
        return None


def _refuse_other_keys(workload: Workload, version: ServedVersion, loaded: Loaded) -> None:
    """Refuse a version that was trained when the workload told rows apart by other columns."""
    times, keys = ({c.name for c in loaded.contract.select(r)} for r in ("time", "key"))
    if keys != {*workload.key} - times:
        raise RegistryError(
            f"{version.name} {version.label} was trained with key {sorted(keys)}; the workload now "
            f"says {sorted(workload.key)}.",
            f"Train again: `twinloop train {workload.name}`.",
        )


def _batch_scorer(
    workload: Workload, champion: ServedVersion, loaded: Loaded, shadow: Shadow | None
) -> BatchScorer:
    stamp = {
        MODEL_VERSION: pa.scalar(int(champion.version), pa.int64()),
        # As a dictionary: one text, whatever the rows.
        MODEL_RUN: pa.scalar(champion.run_id, pa.dictionary(pa.int8(), pa.string())),
    }
    top = workload.inference.explanations
    return BatchScorer(
        loaded.compiled,
        loaded.contract,
        loaded.reference,
        workload.key,
        stamp,
        top,
        shadow,
        loaded.gauge,
    )


def _parts(
    workload: Workload,
    window: Window | None,
    loaded: Loaded,
    scorer: BatchScorer,
    draft: Draft,
    challenger: str,
) -> list[Part]:
    """Score a window part by part, after those that are there already."""
    parts = draft.parts(challenger)
    most = workload.inference.part_rows
    builder = PartBuilder(len(parts), scorer.counter)
    stream = Stream(workload, window, loaded.contract, scorer)
    done = sum(part.pieces for part in parts)
    taken = [h for part in parts for h in part.taken]
    with showing.progress(workload, "scoring", "Rows of the window scored") as tell:
        for piece, took, scored in stream.scored(done, taken):
            if isinstance(piece, Unreadable):
                builder.add_unreadable(piece)
            elif scored is not None:
                builder.add(piece, scored, took)
                tell(stream.share(sum(part.read for part in parts) + builder.rows))
            if builder.rows >= most or builder.bytes >= _PART_BYTES:
                parts.append(builder.write(draft, scorer.schema, challenger))
                refuse_over_budget()
                builder = PartBuilder(len(parts), scorer.counter)
        if builder.pieces:
            parts.append(builder.write(draft, scorer.schema, challenger))
    return parts
