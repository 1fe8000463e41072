"""How often a drift check raises a false alarm, and how often it finds what does harm.

The world is made up, so the truth is known (`benchmarks/drift/world.py`): 30 mixed features, which
are 16 numbers, a count, a number that is mostly zero, 12 categories of 2 to 1,000 levels, and
missing values in two columns of five; a model that was trained on 26 windows, of a week each, say.

- False alarms: nothing changes. The check reads the profile of one window, at most eight weeks
  after the training rows. "Seasons" gives half of the columns a cycle, a wave of a month or a
  sawtooth of three to nine weeks, a quarter of them a slow trend, and all of them a push of chance
  from week to week. A check is everything that is asked of one window: all columns, predictions,
  all columns together, rows in quarantine. Several checks are of one world (``--of-one``). An alarm
  names a column that the model uses; those of columns that it ignores are counted beside it.
- Drift: one feature that the model uses changes so that its error rises by 5 %: it is shifted, its
  spread grows, values go missing, a sensor is stuck, levels are new. What is counted is an alarm
  within three windows of 10,000 rows. The same is done to features that the model ignores, where it
  is to be reported and no alarm to be raised.
- A feature whose values go to other rows keeps its distribution, and so do the predictions: where
  features do not depend on each other, no look at the input finds it, and labels have to.

Beside it, on the same worlds: Kolmogorov and Smirnov's test at 0.05 on each number, and with
``--peers`` Evidently's and NannyML's defaults in an environment of their own. These see rows, so
there are few repeats.

    python benchmarks/drift_alarms.py --repeats 50
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinloop.drift import FeatureDrift, compare_profiles
from twinloop.loop_keys import Monitoring

if TYPE_CHECKING:
    from benchmarks import frame
    from benchmarks.drift import others, world
else:
    import frame
    from drift import others, world

COST = 0.05
MATTERS = 0.02  # share of the model, as `twinloop.decision` has it
WATCHED, SIZE = 3, 10_000
KINDS = ("shift", "scale", "missing", "stuck", "new")
HIDDEN = "shuffled"
LATEST = 8
SEED = (
    20_000_000  # draws of the same kind of world as those the method was made by, and none of these
)
RULES = Monitoring()


def main() -> int:
    """Measure all of it."""
    asked = _arguments()
    figures = []
    for seasons in (False, True):
        for rows in asked.rows:
            figures += _false_alarms(asked.repeats, rows, seasons, asked.of_one)
        figures += _drift(asked.drifts, seasons)
    if asked.peers:
        others.show(asked.peers, 10_000, asked.cache)
    return frame.finish("drift_alarms", figures)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add = parser.add_argument
    add("--repeats", type=int, default=500, help="of each setting without drift")
    add("--of-one", type=int, default=4, help="of these, windows of one world", metavar="N")
    add("--drifts", type=int, default=100, help="worlds with drift")
    add("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="of a window")
    add("--peers", type=int, default=0, help="repeats of KS, Evidently and NannyML", metavar="N")
    add("--cache", type=Path, default=others.CACHE, help="where their environment is made")
    return parser.parse_args()


def _check(
    made: world.World,
    known: Any,
    window: int,
    rows: int,
    rng: np.random.Generator,
    change: world.Change | None = None,
) -> tuple[FeatureDrift, ...]:
    current = world.draw_profile(made, known.binning, window, rows, rng, change)
    return compare_profiles(
        known,
        current,
        alpha=RULES.alpha,
        min_effect=RULES.min_effect,
        ahead=window - world.PAST + 1.0,
        span=world.WINDOW,
    )


def _alarm(found: tuple[FeatureDrift, ...]) -> bool:
    return any(f.drifted and f.importance >= MATTERS for f in found)


def _false_alarms(
    repeats: int, rows: int, seasons: bool, asked_of_one: int = 1
) -> list[frame.Figure]:
    if not repeats:
        return []
    alarms = named = said = 0
    for repeat in range(repeats):
        if repeat % asked_of_one == 0:
            made = world.make_world(SEED + repeat, seasons=seasons)
            rng = np.random.default_rng([1, SEED, repeat, rows])
            known = world.reference_of(made, world.binning_of(made), rows, rng)
        found = _check(made, known, world.PAST + repeat % LATEST, rows, rng)
        alarms += _alarm(found)
        named += any(f.drifted for f in found)
        said += any(f.p_value < RULES.alpha for f in found)
    where = "seasons" if seasons else "all windows alike"
    frame.show(
        f"{rows:,} rows, {where}: {alarms} of {repeats} checks alarm; {named} name a column, used "
        f"by the model or not; {said} would if any effect, however small, counted"
    )
    name = f"{rows}_{'seasons' if seasons else 'alike'}"
    return [
        frame.Figure(
            f"false_alarms_{name}",
            100 * alarms / repeats,
            1.0,
            "%",
            meaning=f"checks that alarm, no drift, {rows:,} rows, {where}",
        ),
        frame.Figure(
            f"named_{name}",
            100 * named / repeats,
            1.0,
            "%",
            meaning=f"checks that name any column, {rows:,} rows, {where}",
        ),
    ]


def _drift(repeats: int, seasons: bool) -> list[frame.Figure]:
    """Measure what is found of changes that cost 5 %, and of the same in ignored features."""
    if not repeats:
        return []
    delays: dict[str, list[float]] = defaultdict(list)
    ignored = reported = 0
    for repeat in range(repeats):
        made = world.make_world(SEED + 100_000 + repeat, seasons=seasons)
        rng = np.random.default_rng([2, SEED, repeat])
        known = world.reference_of(made, world.binning_of(made), SIZE, rng)
        for kind in (*KINDS, HIDDEN):
            columns = _columns(made, kind)
            if not columns:
                continue
            size = world.size_of(made, column := int(rng.choice(columns)), kind, COST)
            assert size is not None
            change = world.Change(column, kind, size)
            seen = (
                w
                for w in range(WATCHED)
                if _alarm(_check(made, known, world.PAST + w, SIZE, rng, change))
            )
            delays[kind].append(next(seen, np.inf) + 1)
            if kind == "shift":
                found = _harmless(made, known, size, rng)
                ignored += _alarm(found)
                reported += any(f.drifted for f in found)
    where = "seasons" if seasons else "all windows alike"
    for kind, found in delays.items():
        shares = ", ".join(f"{np.mean(np.array(found) <= w):.0%}" for w in range(1, WATCHED + 1))
        frame.show(f"{kind}, {where}: found within 1, 2, 3 windows: {shares} of {len(found)}")
    frame.show(
        f"an ignored feature shifted, {where}: reported {reported}, alarms {ignored} of {repeats}"
    )
    every = np.concatenate([delays[kind] for kind in KINDS])
    name = "seasons" if seasons else "alike"
    return [
        frame.Figure(
            f"found_{name}",
            100 * float(np.mean(every <= WATCHED)),
            95.0,
            "%",
            at_least=True,
            meaning=f"changes that cost 5 % found within three windows, {where}",
        ),
        frame.Figure(
            f"ignored_{name}",
            100 * ignored / repeats,
            1.0,
            "%",
            meaning=f"alarms for a shift of an ignored feature, {where}",
        ),
    ]


def _harmless(made: world.World, known: Any, size: float, rng: np.random.Generator) -> Any:
    """Shift by as much the number that the model uses least."""
    column = int(np.argmin(made.weights[: world.N_NUMBERS] ** 2))
    return _check(made, known, world.PAST, SIZE, rng, world.Change(column, "shift", size))


def _columns(made: world.World, kind: str) -> list[int]:
    """Return the features that the model uses and to which so much can be done this way."""
    numbers, codes = range(world.N_NUMBERS), range(world.N_NUMBERS, world.N_FEATURES)
    fit = {"new": codes, "shift": numbers, "scale": numbers}.get(kind, [*numbers, *codes])
    return [
        i
        for i in fit
        if made.weights[i] ** 2 >= MATTERS and world.size_of(made, i, kind, COST) is not None
    ]


if __name__ == "__main__":
    sys.exit(main())
