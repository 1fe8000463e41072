"""The drift check against the simulated city, whose drift is documented."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from twinloop.binning import learn_binning
from twinloop.contract import Contract, check_rows, infer_contract
from twinloop.decision import Harm, decide
from twinloop.drift import FeatureDrift, compare_profiles
from twinloop.importance import importance
from twinloop.profile import Reference, combine, window_numbers
from twinloop.reference import Counted, sample_windows
from twinloop.scorer import Scorer, learn_target
from twinloop.simulate import BATTERY, FAHRENHEIT, simulate_bikes
from twinloop.validation import fit_scorer
from twinloop.workload_file import parse_workload

FILE = Path(__file__).parents[2] / "data" / "workloads" / "bikes.yaml"
BIKES = parse_workload(FILE.read_text(encoding="utf-8"), str(FILE), {})
DAY = 24
TRAINING, END, WINDOW = 180, 540, 14  # days
SEEDS = range(6)


@dataclass(frozen=True)
class Watched:
    """One later window: its first day, and what the check said of each column."""

    day: int
    features: tuple[FeatureDrift, ...]

    def drifted(self, column: str) -> bool:
        """Tell whether this column drifted."""
        return any(f.drifted for f in self.features if f.column == column)


def reference_of(scorer: Scorer, table: pa.Table) -> Reference:
    """Profile the training rows window by window, as a training does."""
    X, predictions = scorer.encoding.encode(table), scorer.predict(table)
    binning = learn_binning(scorer.encoding, X, predictions, scorer.target)
    times = table.column("timestamp").cast(pa.int64()).to_numpy()
    span = timedelta(days=WINDOW) // timedelta(microseconds=1)
    at = window_numbers(times, table.num_rows, span)
    counted = Counted(scorer.encoding, binning, table, X, predictions)
    weights = tuple(importance(scorer.predictor, X.shape[1]).tolist())
    profiles = [counted.profile(at == i) for i in np.unique(at)]
    windows, sample, separations = sample_windows(profiles, weights)
    return Reference(
        binning=binning,
        whole=combine(list(windows), binning),
        windows=windows,
        until=int(times.max()),
        sample=sample,
        separations=separations,
        importance=weights,
        loss="rmsle",
        losses=(),
    )


def watch(table: pa.Table, day: int, scorer: Scorer, known: Reference, kept: Contract) -> Watched:
    """Check one window of a table, by the rules of the workload."""
    rows = check_rows(table.slice(DAY * day, DAY * WINDOW), kept).good
    X, everything = scorer.encoding.encode(rows), np.ones(rows.num_rows, bool)
    counted = Counted(scorer.encoding, known.binning, rows, X, scorer.predict(rows))
    rules = BIKES.monitoring
    found = compare_profiles(
        known,
        counted.profile(everything),
        alpha=rules.alpha,
        min_effect=rules.min_effect,
        ahead=(day - TRAINING) / WINDOW + 1,
    )
    return Watched(day, found)


@cache
def watched(seed: int, drift: bool) -> tuple[Watched, ...]:
    """Train on the first 180 days, and go through the days to the 540th."""
    table = simulate_bikes(seed=seed, hours=DAY * END, drift=drift)
    first = table.slice(0, DAY * TRAINING)
    contract = infer_contract(first, BIKES, "the city")
    train = check_rows(first, contract).good
    target = learn_target(train, BIKES)
    scorer = fit_scorer(train, "xgboost", target, contract, BIKES, threads=1)
    known = reference_of(scorer, train)
    days = range(TRAINING, END - WINDOW + 1, WINDOW)
    return tuple(watch(table, day, scorer, known, contract) for day in days)


every_seed = pytest.mark.parametrize("seed", SEEDS)


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Where nothing drifts but the seasons, at most one window in twenty says otherwise."""
    found = [w for seed in SEEDS for w in watched(seed, drift=False)]
    assert len(found) == 25 * len(SEEDS)
    alarms = [w.day for w in found if any(f.drifted for f in w.features)]
    assert len(alarms) <= BIKES.monitoring.alpha * len(found)


@every_seed
def test_the_new_battery_is_found_from_its_first_whole_window_on(seed: int) -> None:
    """Each window after the event says so, and none before it."""
    begin = BATTERY.offset.days
    found = watched(seed, drift=True)
    assert all(w.drifted("battery_voltage") for w in found if w.day >= begin)
    assert not any(w.drifted("battery_voltage") for w in found if w.day + WINDOW <= begin)


@every_seed
@pytest.mark.parametrize("labels", [False, True])
def test_the_new_battery_alone_retrains_nothing(seed: int, labels: bool) -> None:
    """The model hardly uses it: with harmless labels or with none, no retraining for its sake."""
    harmless = Harm(
        metric="rmsle",
        expected=0.2,
        realised=0.2,
        p_value=0.5,
        n_rows=336,
        n_blocks=14,
        harmful=False,
    )
    for window in watched(seed, drift=True):
        battery = next(f for f in window.features if f.column == "battery_voltage")
        assert battery.importance < 0.02
        alone = tuple(
            f if f.column == battery.column else f.model_copy(update={"drifted": False})
            for f in window.features
        )
        assert decide(alone, harmless if labels else None, 0.0, BIKES).action == "fine"


@every_seed
def test_fahrenheit_is_found_at_once(seed: int) -> None:
    """The first windows wholly within the event say so, and without labels they retrain.

    A winter day in Fahrenheit is a hot one in Celsius: later windows may be taken for a season.
    """
    begin = FAHRENHEIT.offset.days
    assert FAHRENHEIT.duration is not None
    end = begin + FAHRENHEIT.duration.days
    found = watched(seed, drift=True)
    inside = [w for w in found if begin <= w.day and w.day + WINDOW <= end][:2]
    assert len(inside) == 2
    assert all(w.drifted("temperature") for w in inside)
    assert all(decide(w.features, None, 0.0, BIKES).action == "retrain" for w in inside)


def test_fahrenheit_is_hardly_ever_found_before_it_begins() -> None:
    """Summer is hotter than the half year of the training; that alone is no alarm, by the level."""
    end = FAHRENHEIT.offset.days
    before = [w for seed in SEEDS for w in watched(seed, drift=True) if w.day + WINDOW <= end]
    early = [w for w in before if w.drifted("temperature")]
    assert len(early) <= BIKES.monitoring.alpha * len(before)
