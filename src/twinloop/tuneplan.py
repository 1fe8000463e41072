"""The log plan of tuning: what a search and each of its trials log."""

import csv
import io
import math
from collections.abc import Iterator
from functools import partial
from typing import get_args

from twinloop.continuation import continuation_words
from twinloop.costs import Quantities, Usage
from twinloop.logplan import LogItem, Metric, Param, Plot, Table, Tag, Text, plan_costs
from twinloop.loop_keys import Prices
from twinloop.recipe import Recipe
from twinloop.search_plots import history_plot, settings_plot
from twinloop.tuning import Search, State, Trial
from twinloop.window import format_duration

_SHOWN = 10


def plan_trial(
    trial: Trial, candidate: str, metric: str, folds: int, prices: Prices
) -> Iterator[LogItem]:
    """Yield the log of one trial, once it has ended; it has all families of metrics."""
    yield Param("candidate", candidate)
    yield Param("source", trial.source)
    yield from plan_recipe(trial.recipe)
    if not math.isnan(trial.score):
        yield Metric(f"accuracy/{metric}", trial.score)
    for i, score in enumerate(trial.scores):
        yield Metric(f"accuracy/fold_{metric}", score, i)
    yield Tag("twinloop.trial", str(trial.number))
    yield Tag("twinloop.trial_state", trial.state)
    seen = "" if len(trial.scores) == folds else f", {len(trial.scores)} of {folds} folds"
    if not math.isnan(trial.score):
        yield Tag("twinloop.accuracy", f"cross-validation{seen}")
    else:
        yield Tag("twinloop.accuracy", f"none: {trial.state}")
    if trial.error:
        yield Tag("twinloop.error", trial.error)
    yield from plan_costs(_usage_of(trial), prices, None, known=not math.isnan(trial.score))


def _usage_of(trial: Trial) -> Usage:
    """Return what a trial used: it contains no other runs."""
    held = trial.peak_bytes / 1e9 * trial.seconds
    used = trial.used or Quantities(cpu_seconds=trial.cpu_seconds, gb_seconds=held)
    return Usage(
        wall_seconds=trial.seconds,
        total_wall_seconds=trial.seconds,
        peak_bytes=trial.peak_bytes,
        own=used,
        total=used,
        cpu_energy=trial.energy,
    )


def recipe_words(recipe: Recipe | None) -> dict[str, str]:
    """Spell the settings of a recipe, by name; none where nothing was tuned."""
    if recipe is None:
        return {}
    spans = {"half_life": recipe.half_life, "recent": recipe.recent}
    words = {name: f"{value:.6g}" for name, value in recipe.params.items()}
    words |= {} if recipe.rounds is None else {"rounds": str(recipe.rounds)}
    words |= {name: format_duration(s) for name, s in spans.items() if s is not None}
    if recipe.continues is not None:
        made = f"version {recipe.continues.version} by {continuation_words(recipe.continues)}"
        words["continues"] = made
    return words


def plan_recipe(recipe: Recipe | None) -> Iterator[LogItem]:
    """Yield the settings of a recipe, each as a parameter; none where nothing was tuned."""
    for name, words in recipe_words(recipe).items():
        yield Param(f"tuned.{name}", words)


def plan_search(search: Search, importance: dict[str, float], currency: str) -> Iterator[LogItem]:
    """Yield the log of a search: what it found, how it got there, and every trial in a table."""
    yield Param("candidate", search.candidate)
    yield Param("ended_by", search.ending)
    yield Metric("tuning/trials", len(search.trials))
    yield Metric("tuning/resumed", search.resumed)
    for state in get_args(State):
        yield Metric(f"tuning/{state}", search.count(state))
    yield Metric("tuning/search_s", search.seconds)
    yield Metric("tuning/search_money", search.money)
    best, default = search.best, search.default
    if best is not None:
        yield Metric(f"accuracy/{search.metric}", best.score)
        yield from plan_recipe(best.recipe)
    if default is not None:
        yield Metric(f"tuning/as_shipped_{search.metric}", default.score)
    yield Tag("twinloop.accuracy", "best of the trials: flattered by the choice")
    yield Text("tuning/trials.csv", trials_csv(search))
    if any(t.state == "complete" for t in search.trials):
        yield Plot("plots/tuning_history.png", partial(history_plot, search))
    for name, share in importance.items():
        yield Metric(f"tuning/importance/{name}", share)
    if importance:
        yield Plot(
            "plots/tuning_importance.png", partial(settings_plot, search.candidate, importance)
        )
    yield _best_table(search, currency)


def _best_table(search: Search, currency: str) -> Table:
    names = list(search.trials[0].values) if search.trials else []
    return Table(
        f"tuning-{search.candidate}",
        told(search, currency),
        ("trial", "source", search.metric, *names),
        tuple(
            (
                str(t.number),
                t.source,
                f"{t.score:.5g}",
                *(f"{t.values[n]:.4g}" for n in names),
            )
            for t in search.ranked[:_SHOWN]
        ),
    )


def trials_csv(search: Search) -> str:
    """Write all trials as a table, in the order they ended."""
    names = list(search.trials[0].values) if search.trials else []
    heads = ["trial", "source", "state", search.metric, "folds", "seconds", "cpu_s", "money"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*heads, *names, "error"])
    for t in search.trials:
        took = (f"{t.seconds:.4g}", f"{t.cpu_seconds:.4g}", f"{t.money:.4g}")
        said = (t.number, t.source, t.state, f"{t.score:.6g}", len(t.scores), *took)
        writer.writerow([*said, *(f"{t.values[n]:.6g}" for n in names), t.error])
    return text.getvalue()


def told(search: Search, currency: str) -> str:
    """Say in a sentence what a search did and what it found."""
    parts = [f"{search.count('pruned')} given up early"]
    parts += [f"{n} {s}" for s in ("failed", "stopped") if (n := search.count(s))]
    parts += [f"{search.resumed} of a run before"] if search.resumed else []
    said = (
        f"{search.candidate} was tuned: {len(search.trials)} trials ({', '.join(parts)}) in "
        f"{search.seconds:.0f} s for {currency} {search.money:.2g}, ended by {search.ending}"
    )
    best, default = search.best, search.default
    if best is None:
        return f"{said}; none saw all folds"
    if best is default:
        return f"{said}; nothing is better than as shipped, {search.metric} {best.score:.4g}"
    against = "" if default is None else f", as shipped {default.score:.4g}"
    return f"{said}; best {search.metric} {best.score:.4g}{against}, on the folds it searched by"
