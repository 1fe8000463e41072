"""Signs of life: what a run had used when last seen alive, for the bill of one that is killed."""

import threading
import time
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tasks.settings import settings
from twinloop.costs import Usage
from twinloop.vocabulary import Frozen

_FOLDER = "meters"


class Sign(Frozen):
    """What was used until a moment, in seconds since 1970."""

    at: float
    usage: Usage


_SIGN = TypeAdapter(Sign)


class LastSign:
    """Keeps one file up to date while a run lasts; from more than one thread.

    A run that is over before the first beat leaves none.
    """

    def __init__(self, workload: str, run_id: str) -> None:
        self._place = place_of(workload, run_id)
        self._lock = threading.Lock()
        self._over = False

    def write(self, usage: Usage) -> None:
        """Replace what was written before; a disk that is full costs the note, not the run."""
        with self._lock, suppress(OSError):
            if self._over:
                return
            aside = self._place.with_suffix(".part")
            aside.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(Sign(at=time.time(), usage=usage).model_dump_json(), encoding="utf-8")
            aside.replace(self._place)

    def drop(self) -> None:
        """Remove the note: the bill is written down."""
        with self._lock:
            self._over = True
            drop_note(self._place)


def place_of(workload: str, run_id: str) -> Path:
    """Return where the note of a run is."""
    return settings().root / "data" / "lake" / workload / _FOLDER / f"{run_id}.json"


def read_note(workload: str, run_id: str) -> Sign | None:
    """Return the last sign of life of a run; None if it left none that can be read."""
    try:
        return _SIGN.validate_json(place_of(workload, run_id).read_bytes())
    except (OSError, ValidationError):
        return None


def drop_note(place: Path) -> None:
    """Remove a note, and the folder after the last one."""
    with suppress(OSError):
        for name in (place, place.with_suffix(".part")):
            name.unlink(missing_ok=True)
        place.parent.rmdir()
