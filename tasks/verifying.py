"""Verifying: what is published, read again byte for byte and held to what was written."""

from collections.abc import Iterator
from pathlib import Path

from tasks import showing
from tasks.published import (
    MANIFEST,
    OWN_MANIFEST,
    PLACES,
    PREDICTIONS,
    Manifest,
    read_manifest,
)
from tasks.settings import settings
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload

_NO_MANIFEST = "is missing, damaged, or of an older release"
_STRAY = "is in no manifest"


class Fault(Frozen):
    """A file that is not as it was written."""

    path: Path
    fault: str


class Verification(Frozen):
    """What was read again, and what was wrong with it.

    Attributes
    ----------
    outputs, files, size, rows
        Published folders, files and bytes in them, and rows of predictions.
    """

    workload: str
    outputs: int
    files: int
    size: int
    rows: int
    faults: tuple[Fault, ...]


def verify_published(workload: Workload) -> Verification:
    """Read again all that is published of a workload, also what newer output has taken over from.

    A manifest is held to the digest in itself, every other file to its manifest; what lies beside
    them and is in no manifest is a fault too.
    """
    homes = sorted((settings().lake(workload) / PREDICTIONS).glob("*"))
    manifests: list[Manifest] = []
    faults: list[Fault] = []
    with showing.progress(workload, "verifying", "Published windows verified") as tell:
        for i, home in enumerate(homes):
            tell(i / len(homes))
            for folder in sorted(p for p in home.glob("[!.]*") if p.is_dir()):
                manifest = read_manifest(folder / OWN_MANIFEST)
                if manifest is None or manifest.place != folder:
                    faults.append(Fault(path=folder / OWN_MANIFEST, fault=_NO_MANIFEST))
                else:
                    manifests.append(manifest)
                    faults += _faults_of(manifest)
            faults += _faults_of_window(home)
            faults += _strays(workload, home.name)
    stored = [file for m in manifests for _, file in m.files]
    return Verification(
        workload=workload.id,
        outputs=len(manifests),
        files=len(stored),
        size=sum(file.size for file in stored),
        rows=sum(m.scored for m in manifests),
        faults=tuple(faults),
    )


def _faults_of_window(home: Path) -> Iterator[Fault]:
    """Look at what a reader of a window begins with."""
    if not any(home.glob("[!.]*")):
        return  # a run was killed here before anything was published
    path = home / MANIFEST
    manifest = read_manifest(path)
    if manifest is None:
        yield Fault(path=path, fault=_NO_MANIFEST)
        return
    own = read_manifest(manifest.place / OWN_MANIFEST)
    if own is None or own.files != manifest.files or manifest.place.parent != home:
        yield Fault(path=path, fault=f"does not tell what {manifest.folder!r} holds")


def _strays(workload: Workload, window: str) -> Iterator[Fault]:
    """Find files beside the folders; a folder there may be of a run that was killed."""
    for place in PLACES:
        for path in sorted((settings().lake(workload) / place / window).glob("[!.]*")):
            if path.is_file() and (place, path.name) != (PREDICTIONS, MANIFEST):
                yield Fault(path=path, fault=_STRAY)


def _faults_of(manifest: Manifest) -> Iterator[Fault]:
    for place in PLACES:
        folder, known = manifest.place_of(place), set()
        if place == PREDICTIONS:
            known.add(OWN_MANIFEST)
        for stored in [file for p, file in manifest.files if p == place]:
            known.add(stored.name)
            if fault := stored.fault(folder):
                yield Fault(path=folder / stored.name, fault=fault)
        for stray in sorted(p for p in folder.glob("*") if p.name not in known):
            yield Fault(path=stray, fault=_STRAY)
