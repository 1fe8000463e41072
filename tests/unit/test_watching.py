"""What a watch puts together: each row once, each version and each metric for itself."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks import watching
from tasks.registry import Loaded
from tasks.settings import load_workload
from tests.windows import loaded, make_home, orders, version
from twinloop.decision import Expectation
from twinloop.errors import EmptyWindowError
from twinloop.estimate import Check
from twinloop.profile import Profile
from twinloop.watches import Watch
from twinloop.window import Window
from twinloop.workload import Workload

NOW, DAY = datetime(2026, 5, 31, tzinfo=UTC), timedelta(days=1)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workload:
    """Return the workload of a home with a few orders."""
    monkeypatch.setenv("TWINLOOP_HOME", str(make_home(tmp_path, orders(100))))
    return load_workload("shop")


def publish(
    monkeypatch: pytest.MonkeyPatch, profiles: dict[Window | None, Profile], number: int = 1
) -> None:
    """Let profiles of windows be all that is published."""
    found = [
        SimpleNamespace(window=w, version=version(number), profile=profiles[w]) for w in profiles
    ]
    monkeypatch.setattr(watching, "overlapping", lambda *_: found)
    monkeypatch.setattr(watching, "read_profile", lambda manifest: manifest.profile)


def counted(known: Loaded, rows: int, bins: str = "") -> Profile:
    """Return a profile of so many rows, by the version's bins or others."""
    empty = known.reference.binning.empty()
    return empty.model_copy(update={"rows": rows, "bins": bins or empty.bins})


def week(last: int) -> Window:
    """Return the week that ends so many days before now."""
    return Window(start=NOW - (last + 7) * DAY, end=NOW - last * DAY)


def test_weeks_scored_every_day_count_each_row_once(
    shop: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of weeks a day apart the newest counts, and the one that ends where it begins."""
    known = loaded()
    publish(monkeypatch, {week(n): counted(known, 700 + n) for n in range(8)})
    assert watching._recent_profile(shop, version(), None, known).rows == 700 + 707
    publish(monkeypatch, {None: counted(known, 5)})
    assert watching._recent_profile(shop, version(), None, known).rows == 5


def test_profiles_of_other_bins_are_left_out(
    shop: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an older release counted is no part of it; where nothing is left, it is to be scored."""
    known = loaded()
    publish(monkeypatch, {week(7): counted(known, 3, "older"), week(0): counted(known, 4)})
    assert watching._recent_profile(shop, version(), None, known).rows == 4
    publish(monkeypatch, {week(7): counted(known, 3, "older")})
    with pytest.raises(EmptyWindowError, match="as this release counts") as raised:
        watching._recent_profile(shop, version(), None, known)
    assert "twinloop score shop" in str(raised.value)


class GaugeStub:
    """Keeps what past checks it is told of."""

    metric = "log_loss"

    def __init__(self) -> None:
        self.told: list[tuple[Check, ...]] = []

    def estimate(self, _: object, checks: tuple[Check, ...]) -> None:
        """Note the checks, and estimate nothing."""
        self.told.append(checks)


def expect(shop: Workload, known: Loaded, past: tuple[Watch, ...] = ()) -> Expectation:
    """Return what is expected without labels, of a champion by log loss."""
    profile = known.reference.binning.empty()
    return watching._expectation(shop, version(), known, profile, None, past, NOW)


def test_estimates_are_held_to_those_of_the_same_version(shop: Workload) -> None:
    """A gauge that is gone, however wrong it was, says nothing of the champion's."""
    numbers: dict[str, Any] = dict.fromkeys(("checked_low", "checked_high", "checked"), 1.0)
    past = tuple(
        Watch(
            as_of=NOW - 7 * n * DAY,
            version="1" if n == 3 else "0",
            realised=2.0,
            checked_variance=0.1,
            **numbers,
        )
        for n in range(1, 6)
    )
    gauge: Any = GaugeStub()
    found = expect(shop, replace(loaded(), gauge=gauge), past)
    assert (found.missed, found.of) == (1, 1)
    assert [len(checks) for checks in gauge.told] == [1]


@pytest.mark.parametrize(
    ("metric", "knows"), [("log_loss", True), ("roc_auc", True), ("brier", False)]
)
def test_another_metric_was_never_promised(shop: Workload, metric: str, knows: bool) -> None:
    """Where the file's metric was changed since, errors are not held to those of the one before."""
    edited = shop.model_copy(update={"metric": metric})
    losses = np.full(7, 5.0)
    reference = loaded().reference.model_copy(update={"losses": (0.4, 0.5, 0.6)})
    known = replace(loaded(), reference=reference)
    harm = watching._harm(edited, known, losses, 70, (), NOW)
    assert (harm is not None) is knows
    assert expect(edited, loaded()).promised == (0.5 if metric == "log_loss" else None)
    (item, _) = watching._accuracy(edited, version(), None)
    assert item.name == "accuracy/log_loss"
