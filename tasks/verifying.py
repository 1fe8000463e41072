"""Verifying: what is published, read again byte for byte and held to what was written."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from tasks import showing
from tasks.drafting import alone
from tasks.ledger import read_ledger
from tasks.published import (
    MANIFEST,
    OWN_MANIFEST,
    PLACES,
    PREDICTIONS,
    Manifest,
    lake_mark,
    read_manifest,
    window_slug,
)
from tasks.settings import settings
from twinloop.errors import ServiceError, StorageError
from twinloop.ledger import Entry, to_entry
from twinloop.vocabulary import Frozen
from twinloop.window import Window
from twinloop.workload import Workload

_NO_MANIFEST = "is missing, damaged, or of an older release"
_STRAY = "is in no manifest"
_GONE = "is gone with all that was published of the window: run {} scored {:,} rows of it"
_SCORE, _REMOVE = "score its window again", "remove it"
_REMOVE_OUTPUT = "remove its folder: a newer output has taken over"


class Fault(Frozen):
    """A file that is not as it was written.

    Attributes
    ----------
    mend
        What to do about it.
    """

    path: Path
    fault: str
    mend: str


class Verification(Frozen):
    """What was read again, and what was wrong with it.

    Attributes
    ----------
    outputs, files, size, rows
        Published folders, files and bytes in them, and rows of predictions.
    unasked
        Why the ledger could not say which windows there should be; empty if it did.
    """

    workload: str
    outputs: int
    files: int
    size: int
    rows: int
    faults: tuple[Fault, ...]
    unasked: str = ""


def verify_published(workload: Workload) -> Verification:
    """Read again all that is published of a workload, also what newer output has taken over from.

    A manifest is held to the digest in itself, every other file to its manifest; what lies beside
    them and is in no manifest is a fault too. A window that is being scored is waited for. One that
    was scored by the ledger, and of which there is no file any more, is a fault as well, unless it
    is older than all that lie here: old windows are removed on purpose.
    """
    lake = settings().lake(workload)
    homes = [path for place in PLACES for path in sorted((lake / place).glob("*"))]
    faults = [Fault(path=p, fault=_STRAY, mend=_REMOVE) for p in homes if not p.is_dir()]
    windows = sorted({path.name for path in homes if path.is_dir()})
    manifests: list[Manifest] = []
    with showing.progress(workload, "verifying", "Published windows verified") as tell:
        for i, slug in enumerate(windows):
            tell(i / len(windows))
            with _undisturbed(workload, slug):
                found, wrong = _verify_window(lake, slug)
            manifests += found
            faults += wrong
    known = {window_slug(m.window) for m in manifests}
    known.update(part for f in faults for part in f.path.relative_to(lake).parts)
    unasked = ""
    try:
        faults += _gone(workload, known, manifests)
    except ServiceError as err:
        unasked = err.message
    stored = [file for m in manifests for _, file in m.files]
    return Verification(
        workload=workload.id,
        outputs=len(manifests),
        files=len(stored),
        size=sum(file.size for file in stored),
        rows=sum(m.scored for m in manifests),
        faults=tuple(faults),
        unasked=unasked,
    )


def _gone(workload: Workload, known: set[str], manifests: Sequence[Manifest]) -> Iterator[Fault]:
    """Find windows that runs have scored here and that have no file, each by its last run.

    Another home may share the ledger, and has its files elsewhere. Of runs of a release that did
    not say where they publish, only windows between those that lie here are looked for. A replay
    clears what the one before has scored.
    """
    here, lake = lake_mark(workload), settings().lake(workload)
    if workload.sandbox or not here:
        return
    starts = [m.window.start for m in manifests if m.window is not None]
    scored: dict[str, Entry] = {}
    for record in read_ledger([workload.experiment], metrics=("rows/scored",), kind="inference"):
        run, place = to_entry(record), record.words.get("twinloop.lake", "")
        if run.workload != workload.id or run.status != "FINISHED" or place not in ("", here):
            continue
        with suppress(ValidationError):  # of another release
            window = None if run.window == "all" else Window.model_validate(run.window)
            if _is_due(window, starts, sure=place == here):
                scored.setdefault(window_slug(window), run)
    for slug, run in sorted(scored.items()):
        # It may have been published since the folders were listed.
        path = lake / PREDICTIONS / slug / MANIFEST
        if slug not in known and not path.exists():
            fault = _GONE.format(run.run_id[:8], int(run.metric("rows/scored")))
            yield Fault(path=path, fault=fault, mend=_SCORE)


def _is_due(window: Window | None, starts: Sequence[datetime], *, sure: bool) -> bool:
    """Tell whether a window that was scored should be here; `sure`: its run says it was here."""
    if window is None:
        return sure
    return bool(starts) and min(starts) <= window.start and (sure or window.start <= max(starts))


@contextmanager
def _undisturbed(workload: Workload, slug: str) -> Iterator[None]:
    """Keep runs off a window, where they could be: a disk that is read-only takes no lock."""
    with ExitStack() as stack:
        with suppress(StorageError):
            stack.enter_context(alone(workload, slug))
        yield


def _verify_window(lake: Path, slug: str) -> tuple[list[Manifest], list[Fault]]:
    """Verify all outputs of a window; drafts, which are hidden folders, are none."""
    home = lake / PREDICTIONS / slug
    pointer = read_manifest(home / MANIFEST)
    manifests: list[Manifest] = []
    faults: list[Fault] = []
    for folder in sorted(p for p in home.glob("[!.]*") if p.is_dir()):
        manifest = read_manifest(folder / OWN_MANIFEST)
        newest = pointer is None or pointer.place == folder
        mend = _SCORE if newest else _REMOVE_OUTPUT
        if manifest is None or manifest.place != folder:
            faults.append(Fault(path=folder / OWN_MANIFEST, fault=_NO_MANIFEST, mend=mend))
        else:
            manifests.append(manifest)
            faults += _faults_of(manifest, mend)
    faults += _faults_of_pointer(home, pointer, manifests)
    faults += _strays(lake, slug)
    return manifests, faults


def _faults_of_pointer(
    home: Path, pointer: Manifest | None, manifests: list[Manifest]
) -> Iterator[Fault]:
    """Look at what a reader of a window begins with."""
    path = home / MANIFEST
    if pointer is None:
        # A run may have been killed here before anything was published.
        if manifests or path.exists():
            yield Fault(path=path, fault=_NO_MANIFEST, mend=_SCORE)
        return
    own = next((m for m in manifests if m.place == pointer.place), None)
    if own is None or own.files != pointer.files or pointer.place.parent != home:
        fault = f"does not tell what {pointer.folder!r} holds"
        yield Fault(path=path, fault=fault, mend=_SCORE)


def _faults_of(manifest: Manifest, mend: str) -> Iterator[Fault]:
    """Hold the files of an output to its manifest."""
    for place in PLACES:
        folder, known = manifest.place_of(place), set()
        if place == PREDICTIONS:
            known.add(OWN_MANIFEST)
        for stored in [file for p, file in manifest.files if p == place]:
            known.add(stored.name)
            if fault := stored.fault(folder):
                yield Fault(path=folder / stored.name, fault=fault, mend=mend)
        for stray in sorted(p for p in folder.glob("*") if p.name not in known):
            yield Fault(path=stray, fault=_STRAY, mend=_REMOVE)


def _strays(lake: Path, slug: str) -> Iterator[Fault]:
    """Find what lies beside the folders, and folders without predictions."""
    for place in PLACES:
        for path in sorted((lake / place / slug).glob("*")):
            if (place, path.name) == (PREDICTIONS, MANIFEST):
                continue
            hidden = path.name.startswith(".")
            orphan = not hidden and not (lake / PREDICTIONS / slug / path.name).exists()
            if orphan or not path.is_dir():
                yield Fault(path=path, fault=_STRAY, mend=_REMOVE)
