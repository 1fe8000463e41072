"""The frame of all benchmarks: interleaved runs, medians, a table, and a last line for machines.

A benchmark compares ways of doing the same work. All ways run in one process, one after the other
in every round and in turned order in every other round, so that a machine that slows down or
speeds up does so for all of them.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

_console = Console(highlight=False, width=100)


@dataclass(frozen=True)
class Sample:
    """One run of one way, in seconds; CPU is that of all threads of this process."""

    wall: float
    cpu: float


@dataclass
class Samples:
    """All runs of one way: the first, which warms up, and those that count."""

    cold: Sample
    warm: list[Sample] = field(default_factory=list)

    @property
    def walls(self) -> list[float]:
        """Wall seconds, one a round."""
        return [s.wall for s in self.warm]

    @property
    def cpus(self) -> list[float]:
        """CPU seconds, one a round."""
        return [s.cpu for s in self.warm]


@dataclass(frozen=True)
class Figure:
    """A measured number and what it is held to: at most the target, or at least.

    Attributes
    ----------
    meaning
        What was measured and how, in a sentence for people.
    """

    name: str
    value: float
    target: float
    unit: str = ""
    at_least: bool = False
    meaning: str = ""

    @property
    def holds(self) -> bool:
        """Whether the target is met; a value that is no number meets none."""
        return self.value >= self.target if self.at_least else self.value <= self.target


def interleave(ways: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, Samples]:
    """Run every way once to warm up, then all ways in each of a number of rounds.

    Parameters
    ----------
    ways
        What to run, by name.
    rounds
        Runs of each way that count.
    """
    samples = {name: Samples(_run(way)) for name, way in ways.items()}
    order = list(ways)
    for _ in range(rounds):
        for name in order:
            samples[name].warm.append(_run(ways[name]))
        order.reverse()
    return samples


def _run(way: Callable[[], object]) -> Sample:
    cpu, wall = time.process_time(), time.perf_counter()
    way()
    return Sample(time.perf_counter() - wall, time.process_time() - cpu)


def median_difference(more: Sequence[float], less: Sequence[float]) -> float:
    """Return the median of differences taken round by round."""
    return statistics.median(m - s for m, s in zip(more, less, strict=True))


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return an interval of the median that asks nothing of how the values are spread.

    Of n values in order, how many lie below the median is binomial; the widest of all where a few
    values allow no such confidence.
    """
    ordered, n = sorted(values), len(values)
    chances = [math.comb(n, k) / 2**n for k in range(n + 1)]
    place = 0
    while place < (n - 1) // 2 and 2 * sum(chances[: place + 1]) <= 1 - confidence:
        place += 1
    place = max(place - 1, 0)
    return ordered[place], ordered[n - 1 - place]


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of ratios taken round by round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def show(text: str) -> None:
    """Print a line or a paragraph for people."""
    _console.print(text)


def show_samples(samples: Mapping[str, Samples]) -> None:
    """Print a table of the ways: first run, then median, fastest and slowest, and CPU."""
    table = Table(title="Seconds", title_justify="left", title_style="bold")
    table.add_column("way")
    for name in ("first, cold", "median", "fastest", "slowest", "CPU, median"):
        table.add_column(name, justify="right")
    for name, way in samples.items():
        walls = way.walls
        figures = (way.cold.wall, statistics.median(walls), min(walls), max(walls))
        row = [f"{value:.3f}" for value in (*figures, statistics.median(way.cpus))]
        table.add_row(name, *row)
    _console.print(table)


def show_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is a name, the others are figures."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    _console.print(table)


def finish(benchmark: str, figures: Sequence[Figure]) -> int:
    """Print the figures against their targets, and as the last line all of it as JSON.

    Returns
    -------
    int
        The exit status: 0 if every target is met, else 1.
    """
    table = Table(title="Targets", title_justify="left", title_style="bold")
    table.add_column("figure", overflow="fold")
    table.add_column("measured", justify="right")
    table.add_column("target", justify="right")
    table.add_column("holds")
    for f in figures:
        limit = f"{'at least' if f.at_least else 'at most'} {f.target:g} {f.unit}".rstrip()
        value = f"{f.value:.3g} {f.unit}".rstrip()
        table.add_row(f.meaning or f.name, value, limit, "yes" if f.holds else "[bold red]no[/]")
    _console.print(table)
    holds = all(f.holds for f in figures)
    last = {
        "benchmark": benchmark,
        "figures": {
            f.name: {"value": f.value, "target": f.target, "holds": f.holds} for f in figures
        },
        "holds": holds,
    }
    print(json.dumps(last), flush=True)
    return 0 if holds else 1
