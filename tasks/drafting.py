"""Drafting: the output of a window, part by part aside, then all of it at once under its name.

Parts are written into a hidden folder, each with a receipt that holds whatever is needed to go on
after it; a run that is killed leaves both, and the next one goes on from there.
"""

import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from pydantic import ValidationError

from tasks import storage
from tasks.preparing import count_reasons
from tasks.published import (
    MANIFEST,
    OWN_MANIFEST,
    PLACES,
    PREDICTIONS,
    PROFILE,
    QUARANTINE,
    SHADOW,
    Manifest,
    home_of,
    read_manifest,
)
from tasks.settings import settings
from tasks.sources import SourceBatch, Unreadable
from tasks.storage import Stored
from twinloop.contract import REASON
from twinloop.digest import ContentDigest
from twinloop.inference import Scored
from twinloop.profile import Counter as RowCounter
from twinloop.samples import Sample
from twinloop.shadow import Agreement
from twinloop.vocabulary import Frozen
from twinloop.window import Window
from twinloop.workload import Workload

_log = logging.getLogger("twinloop.progress")
# Of a row that could not be read, beside its text.
_PLACE_BYTES = 100
_RECEIPTS = "_part-*.json"
_PLACE = ("quarantine_file", "quarantine_row", "quarantine_rows", "quarantine_text")


class Part(Frozen):
    """What a part holds, and what it takes to go on after it.

    Attributes
    ----------
    predictions, quarantine, shadow
        Its files; None where there is nothing to write.
    pieces
        How many pieces of the source went into it.
    read, quarantined
        Rows; of what could not be read, an estimate.
    reasons, examples
        Quarantined rows by reason, and one value of each.
    cells, sample
        Of its profile.
    taken
        Hashes of keys that occur again, and whose row is in this part.
    challenger
        Who answered in shadow, and how many rows; empty without one.
    """

    number: int
    predictions: Stored
    quarantine: Stored | None
    shadow: Stored | None
    pieces: int
    read: int
    quarantined: int
    reasons: dict[str, int]
    examples: dict[str, str]
    digest: ContentDigest
    cells: tuple[int, ...]
    sample: Sample
    taken: tuple[int, ...]
    challenger: str
    agreement: Agreement | None

    @property
    def files(self) -> list[tuple[str, Stored]]:
        """Its files, each with the place it lies in."""
        found = zip(PLACES, (self.predictions, self.quarantine, self.shadow), strict=True)
        return [(place, stored) for place, stored in found if stored is not None]


class PartBuilder:
    """What was made of pieces of the source, until it is written as a part."""

    def __init__(self, number: int, counter: RowCounter) -> None:
        self._number = number
        self._counter = counter
        self._cells, nothing = counter.nothing()
        self._picked = [nothing]
        self._tables: list[pa.Table] = []
        self._bad: list[pa.Table] = []
        self._unreadable: list[Unreadable] = []
        self._shadow: list[pa.Table] = []
        self._taken: list[int] = []
        self._digest = ContentDigest()
        self._agreement: Agreement | None = None
        self.pieces = 0
        self.rows = 0
        self.bytes = 0

    def add(self, batch: SourceBatch, scored: Scored, taken: list[int]) -> None:
        """Add a batch and what became of it."""
        self.pieces += 1
        self.rows += batch.table.num_rows
        self.bytes += scored.table.nbytes + scored.bad.nbytes
        self._tables.append(scored.table)
        self._taken += taken
        self._cells = self._cells + scored.cells
        self._picked.append(scored.picked)
        self._digest = self._digest.merge(scored.digest)
        if scored.bad.num_rows:
            self._bad.append(_placed(scored.bad, batch.file, batch.numbers[scored.at]))
        if scored.shadow is not None and scored.agreement is not None:
            self.bytes += scored.shadow.nbytes
            self._shadow.append(scored.shadow)
            before = self._agreement or Agreement()
            self._agreement = before.merge(scored.agreement)

    def add_unreadable(self, found: Unreadable) -> None:
        """Add a piece of the source that could not be read."""
        self.pieces += 1
        self.rows += found.rows
        self.bytes += len(found.text) + _PLACE_BYTES
        self._unreadable.append(found)

    def write(self, draft: "Draft", schema: pa.Schema, challenger: str) -> Part:
        """Write the part's files and its receipt."""
        published = pa.concat_tables([schema.empty_table(), *self._tables])
        unreadable = [_listed(self._unreadable)] if self._unreadable else []
        broken = [*self._bad, *unreadable]
        bad = pa.concat_tables(broken, promote_options="permissive") if broken else None
        shadow = pa.concat_tables(self._shadow) if self._shadow else None
        reasons, examples = (Counter[str](), {}) if bad is None else count_reasons(bad)
        hashes, values = (np.concatenate(p) for p in zip(*self._picked, strict=True))
        part = Part(
            number=self._number,
            predictions=draft.write(PREDICTIONS, self._number, published),
            quarantine=None if bad is None else draft.write(QUARANTINE, self._number, bad),
            shadow=None if shadow is None else draft.write(SHADOW, self._number, shadow),
            pieces=self.pieces,
            read=self.rows,
            quarantined=self.rows - published.num_rows,
            reasons=dict(reasons),
            examples=examples,
            digest=self._digest,
            cells=tuple(self._cells.tolist()),
            sample=self._counter.sample(hashes, values),
            taken=tuple(self._taken),
            challenger=challenger,
            agreement=self._agreement,
        )
        draft.finish(part)
        return part


def _listed(found: list[Unreadable]) -> pa.Table:
    """List what could not be read, as rows in quarantine."""
    return pa.table(
        {
            REASON: pa.array([u.code for u in found], pa.string()),
            "quarantine_file": pa.array([u.file for u in found], pa.string()),
            "quarantine_row": pa.array([u.number for u in found], pa.int64()),
            "quarantine_rows": pa.array([u.rows for u in found], pa.int64()),
            "quarantine_text": pa.array([u.text for u in found], pa.string()),
        }
    )


def _placed(bad: pa.Table, file: str, numbers: np.ndarray) -> pa.Table:
    """Add the place of each row in the source; levels are spelled out again.

    Columns of a source that are called so come from rows that were in quarantine before.
    """
    bad = bad.drop_columns([n for n in _PLACE if n in bad.schema.names])
    for i, field in enumerate(bad.schema):
        kind = field.type
        if pa.types.is_dictionary(kind):
            bad = bad.set_column(i, field.name, bad.column(i).cast(kind.value_type))
        elif pa.types.is_fixed_size_list(kind):
            # Where one is null, Arrow writes them to a file that it cannot read.
            bad = bad.set_column(i, field.name, bad.column(i).cast(pa.list_(kind.value_type)))
    n = bad.num_rows
    bad = bad.append_column("quarantine_file", pa.repeat(file, n))
    bad = bad.append_column("quarantine_row", pa.array(numbers, pa.int64()))
    bad = bad.append_column("quarantine_rows", pa.repeat(pa.scalar(1, pa.int64()), n))
    return bad.append_column("quarantine_text", pa.nulls(n, pa.string()))


@contextmanager
def alone(workload: Workload, slug: str) -> Iterator[None]:
    """Keep all other runs off a window, in whichever process, until the block ends.

    The system lets go of the lock when a process ends, however it ends.

    Parameters
    ----------
    workload
        Whose window.
    slug
        Name of its folder.
    """
    path = settings().lake(workload) / "locks" / f"score-{slug}.lock"
    with storage.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.warning("another run is at %s; waiting for its end", slug)
            lock.acquire(poll_interval=0.5)
    try:
        yield
    finally:
        lock.release()


class Draft:
    """The output of a window while it is made.

    Parameters
    ----------
    workload, window
        Whose output.
    plan
        Names all it hangs on.
    name
        Names that, and what makes it: what was left behind under other names is cleared away.
    """

    def __init__(self, workload: Workload, window: Window | None, plan: str, name: str) -> None:
        self.plan = plan
        self._homes = {place: home_of(workload.id, place, window) for place in PLACES}
        self._aside = self._homes[PREDICTIONS] / f".{name[:16]}"

    def parts(self, challenger: str) -> list[Part]:
        """Return the parts that an earlier run finished, and clear away what else is left of it.

        Parameters
        ----------
        challenger
            Version that answers in shadow: parts that another one answered are made again.
        """
        self._tidy(self._aside)
        found: list[Part] = []
        for receipt in sorted(self._aside.glob(_RECEIPTS)):
            part = _read_part(receipt)
            if part is None or part.number != len(found) or part.challenger != challenger:
                break
            if not all(stored.is_at(self._aside / place) for place, stored in part.files):
                break
            found.append(part)
        kept = {self._receipt(p.number) for p in found}
        kept |= {self._aside / place / s.name for p in found for place, s in p.files}
        for path in [p for p in self._aside.rglob("*") if p.is_file() and p not in kept]:
            _remove(path)
        return found

    def write(self, place: str, number: int, table: pa.Table) -> Stored:
        """Write the file of a part."""
        return storage.put_parquet(table, self._aside / place / f"part-{number:05d}.parquet")

    def finish(self, part: Part) -> None:
        """Write a part's receipt: from now on a killed run goes on after it."""
        storage.write_text(self._receipt(part.number), part.model_dump_json())

    def write_profile(self, text: str) -> Stored:
        """Write the profile beside the predictions."""
        path = self._aside / PREDICTIONS / PROFILE
        storage.write_text(path, text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return Stored(name=PROFILE, rows=0, size=len(text.encode()), sha256=digest)

    def publish(self, manifest: Manifest) -> Manifest:
        """Give all of it its names; the manifest comes last.

        What lies under these names already is kept if it is whole: names tell the bytes, but for
        those of the shadow.
        """
        final = self._homes[PREDICTIONS] / manifest.folder
        own = self._aside / PREDICTIONS / OWN_MANIFEST
        storage.write_text(own, manifest.text())
        there = read_manifest(final / OWN_MANIFEST)
        if there is not None and all(s.is_at(there.place_of(place)) for place, s in there.files):
            kept = {n: getattr(there, n) for n in ("shadow", "challenger", "agreement")}
            manifest = manifest.model_copy(update=kept)
        else:
            for place in (QUARANTINE, SHADOW, PREDICTIONS):
                _put_in_place(self._aside / place, self._homes[place] / manifest.folder)
        storage.write_text(self._homes[PREDICTIONS] / MANIFEST, manifest.text())
        self.discard()
        return manifest

    def discard(self) -> None:
        """Remove what was written, here and by runs that were killed; what is published stays."""
        self._tidy(None)
        for home in self._homes.values():
            with suppress(OSError):
                home.rmdir()  # if nothing else is there

    def _tidy(self, kept: Path | None) -> None:
        for left in [p for home in self._homes.values() for p in home.glob(".*")]:
            if left != kept:
                _remove(left)
        # Of a run that was killed while it gave names.
        for left in [p for place in (QUARANTINE, SHADOW) for p in self._homes[place].glob("*")]:
            if not (self._homes[PREDICTIONS] / left.name / OWN_MANIFEST).is_file():
                _remove(left)

    def _receipt(self, number: int) -> Path:
        return self._aside / f"_part-{number:05d}.json"


def _put_in_place(aside: Path, final: Path) -> None:
    """Rename a folder; what has its name was left half done, or is damaged."""
    with storage.writing(final):
        if final.exists():
            _remove(final)
        if not aside.is_dir():
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        storage.sync(aside)
        aside.rename(final)
        storage.sync(final.parent)


def _remove(path: Path) -> None:
    with storage.writing(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _read_part(path: Path) -> Part | None:
    try:
        return Part.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
