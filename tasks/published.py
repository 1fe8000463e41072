"""Published: what a reader of predictions should follow, and how to tell that it is whole."""

import hashlib
import json
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from tasks import storage
from tasks.registry import ServedVersion
from tasks.settings import settings
from tasks.storage import Stored
from twinloop.errors import StorageError
from twinloop.profile import Profile
from twinloop.shadow import Agreement
from twinloop.vocabulary import Frozen
from twinloop.window import Window
from twinloop.workload import Workload

MANIFEST, PROFILE = "manifest.json", "_profile.json"
# What readers of whole folders pass over begins so.
OWN_MANIFEST = "_manifest.json"
# The places of a workload's lake that a window has a folder in.
PREDICTIONS, QUARANTINE, SHADOW = PLACES = ("predictions", "quarantine", "shadow")


class Manifest(Frozen):
    """What was published for a window; written last, and all that a reader should follow.

    Attributes
    ----------
    folder
        Where the predictions are, relative to the manifest.
    fingerprint
        Of the source when it was read.
    plan
        Names all that the output hangs on but the rows.
    input_digest
        SHA-256 of the content of all rows read.
    predictions, quarantine, shadow
        Files of each, in the order of the rows; a folder of the same name in each place.
    profile
        The file that a watch reads.
    challenger
        Version that answered in shadow; empty without one.
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
    plan: str
    input_digest: str
    read: int
    scored: int
    quarantined: int
    predictions: tuple[Stored, ...]
    quarantine: tuple[Stored, ...] = ()
    shadow: tuple[Stored, ...] = ()
    profile: Stored
    challenger: str = ""
    agreement: Agreement | None = None
    run_id: str
    reused: bool = False

    @property
    def place(self) -> Path:
        """Folder of the predictions, absolute."""
        return self.place_of(PREDICTIONS)

    @property
    def quarantine_place(self) -> Path:
        """Folder of the quarantined rows, absolute; there only if there are any."""
        return self.place_of(QUARANTINE)

    def place_of(self, name: str) -> Path:
        """Folder in one of the lake's places, absolute."""
        return home_of(self.workload, name, self.window) / self.folder

    @property
    def files(self) -> list[tuple[str, Stored]]:
        """All files but itself, each with the place it lies in."""
        parts = zip(PLACES, (self.predictions, self.quarantine, self.shadow), strict=True)
        found = [(place, stored) for place, files in parts for stored in files]
        return [*found, (PREDICTIONS, self.profile)]

    def text(self) -> str:
        """Write it down as JSON, with a digest of what it says at its end."""
        said = self.model_dump(mode="json", exclude={"reused"})
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        return json.dumps(said | {"digest": digest}, indent=1)


def lake_mark(workload: Workload) -> str:
    """Tell the folder of a workload's data from those of other homes; empty where there is none.

    By its path and its number on the disk: a container that starts anew keeps both, and of two
    machines with the same paths each has its own. Neither can be read from it.
    """
    lake = settings().lake(workload)
    try:
        number = lake.stat().st_ino
    except OSError:
        return ""
    return hashlib.sha256(f"{lake}:{number}".encode()).hexdigest()[:16]


def window_slug(window: Window | None) -> str:
    """Name the folder of a window."""
    if window is None:
        return "all"
    return "_".join(_compact(end) for end in (window.start, window.end))


def _compact(moment: datetime) -> str:
    fraction = f".{moment.microsecond:06d}" if moment.microsecond else ""
    return f"{moment:%Y%m%dT%H%M%S}{fraction}"


def home_of(workload_id: str, place: str, window: Window | None) -> Path:
    """Return the folder of a window in one of the lake's places."""
    return settings().lakes / workload_id / place / window_slug(window)


def read_manifest(path: Path) -> Manifest | None:
    """Read a manifest; None if it is not there, damaged, or of an older release."""
    try:
        text = path.read_text(encoding="utf-8")
        said = json.loads(text)
        said.pop("digest")
        manifest = Manifest.model_validate_json(json.dumps(said))
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None
    return manifest if manifest.text() == text else None


def published(workload: Workload, *, strict: bool = True) -> list[Manifest]:
    """Return what is published, the oldest window first.

    Parameters
    ----------
    workload
        Whose.
    strict
        Whether a manifest that cannot be read is refused, not left out.

    Raises
    ------
    StorageError
        If a manifest cannot be read.
    """
    found = []
    for path in sorted((settings().lake(workload) / PREDICTIONS).glob(f"*/{MANIFEST}")):
        manifest = read_manifest(path)
        if manifest is None and not strict:
            continue
        if manifest is None:
            raise StorageError(
                f"{str(path)!r} is damaged, or of an older release.",
                f"Score its window again: `twinloop score {workload.name} --window ...`.",
            )
        found.append(manifest)
    return found


def overlapping(workload: Workload, window: Window | None) -> list[Manifest]:
    """Return what is published of windows that share time with one; None: of all windows."""
    return [
        m
        for m in published(workload)
        if window is None
        or m.window is None
        or (m.window.start < window.end and m.window.end > window.start)
    ]


def read_published(manifest: Manifest) -> pa.Table:
    """Read all predictions of a window, each file held to its digest.

    Raises
    ------
    StorageError
        If a file is missing or damaged.
    """
    return _read(manifest, PREDICTIONS, manifest.predictions)


def read_profile(manifest: Manifest) -> Profile:
    """Read the profile of a window, held to its digest.

    Raises
    ------
    StorageError
        If it is missing or damaged.
    """
    _refuse_fault(manifest, PREDICTIONS, manifest.profile)
    return Profile.model_validate_json((manifest.place / PROFILE).read_bytes())


def read_shadow(manifest: Manifest) -> pa.Table:
    """Read all that a challenger said of a window, each file held to its digest.

    Raises
    ------
    StorageError
        If a file is missing or damaged.
    """
    return _read(manifest, SHADOW, manifest.shadow)


def _read(manifest: Manifest, place: str, files: tuple[Stored, ...]) -> pa.Table:
    folder, tables = manifest.place_of(place), []
    for stored in files:
        _refuse_fault(manifest, place, stored)
        tables.append(storage.read_parquet(folder / stored.name))
    return pa.concat_tables(tables)


def _refuse_fault(manifest: Manifest, place: str, stored: Stored) -> None:
    folder = manifest.place_of(place)
    if fault := stored.fault(folder):
        raise StorageError(
            f"{str(folder / stored.name)!r} {fault}.",
            f"Score its window again: `twinloop score {manifest.workload} --window ...`.",
        )
