"""The verdict: champion against challenger on the same fresh rows, and all that may veto."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from twinloop.evaluation import Metric
from twinloop.paired import FEWEST_BLOCKS, Gain, Pairing, holm, measure_gain
from twinloop.slices import MIN_ROWS, Slicing
from twinloop.vocabulary import Frozen

Outcome = Literal["promote", "keep", "insufficient evidence"]
CheckName = Literal["gain", "baseline", "slices", "jury", "latency", "size"]
CheckOutcome = Literal["pass", "fail", "open"]


class Check(Frozen):
    """One reason for a verdict, with its number.

    Attributes
    ----------
    outcome
        ``pass``; ``fail``: the champion stays, whatever the others say; ``open``: the rows do not
        tell, or nobody asked.
    words
        What was found, for people.
    number, low, high
        What was measured, and the ends of its interval, each one-sided.
    limit
        What the number, or an end of its interval, is held against.
    """

    name: CheckName
    outcome: CheckOutcome
    words: str
    number: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None


class SliceGain(Frozen):
    """The challenger's gain on the rows with one level of a column.

    Attributes
    ----------
    low, high
        Its interval, at the confidence of the verdict and not corrected.
    p_worse
        One-sided, corrected for the number of slices (Holm).
    worse
        Whether it got clearly worse, corrected.
    """

    column: str
    level: str
    rows: int
    champion: float
    challenger: float
    gain: float
    low: float
    high: float
    p_worse: float
    worse: bool

    @property
    def name(self) -> str:
        """Short name: ``plan = basic``."""
        return f"{self.column} = {self.level}"


class Verdict(Frozen):
    """What was decided, and the numbers behind it.

    Attributes
    ----------
    outcome
        ``promote``: every check passed. ``keep``: one failed. Else ``insufficient evidence``, and
        the champion stays.
    gain, low, high
        Estimate and interval of the challenger's gain in the metric; positive is better.
    checks
        Every reason.
    slices
        Gains by slice, the worst first.
    """

    outcome: Outcome
    reason: str
    metric: str
    champion: float | None = None
    challenger: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    n_rows: int = 0
    n_blocks: int = 0
    checks: tuple[Check, ...] = ()
    slices: tuple[SliceGain, ...] = ()


def first_version(metric: str, score: float, checks: Sequence[Check] = ()) -> Verdict:
    """Return the verdict on a model that has no predecessor: only limits can refuse it."""
    failed = [c for c in checks if c.outcome == "fail"]
    return Verdict(
        outcome="keep" if failed else "promote",
        reason="; ".join(c.words for c in failed) or "first version",
        metric=metric,
        challenger=score,
        checks=tuple(checks),
    )


def no_evidence(metric: str, reason: str, n_rows: int = 0, n_blocks: int = 0) -> Verdict:
    """Return the verdict where nothing can be compared."""
    return Verdict(
        outcome="insufficient evidence",
        reason=reason,
        metric=metric,
        n_rows=n_rows,
        n_blocks=n_blocks,
    )


def compare(pairing: Pairing, *, min_rows: int, margin: float = 0.0) -> Verdict:
    """Judge a challenger by its gain on fresh rows; see `twinloop.paired.measure_gain`.

    Parameters
    ----------
    pairing
        Champion (old) and challenger (new) on rows that neither has seen.
    min_rows
        Fewer rows are no evidence.
    margin
        The gain must exceed this share of the champion's distance from a perfect score.
    """
    found, name = measure_gain(pairing), pairing.metric.name
    if found.rows < min_rows or found.blocks < FEWEST_BLOCKS:
        needed = f"{min_rows} in {FEWEST_BLOCKS} needed"
        reason = f"{found.rows} fresh rows in {found.blocks} blocks; {needed}"
        return no_evidence(name, reason, found.rows, found.blocks)
    if np.isnan(found.low):
        reason = f"{name} cannot be computed on these {found.rows} rows"
        return no_evidence(name, reason, found.rows, found.blocks)
    check = _gain_check(found, pairing.metric, margin)
    return Verdict(
        outcome=_outcome([check]),
        reason=check.words,
        metric=name,
        champion=found.old,
        challenger=found.new,
        gain=found.gain,
        low=found.low,
        high=found.high,
        n_rows=found.rows,
        n_blocks=found.blocks,
        checks=(check,),
    )


def _gain_check(found: Gain, metric: Metric, margin: float) -> Check:
    limit = margin * metric.distance(found.old)
    outcome: CheckOutcome = "open"
    if found.low > limit:
        outcome = "pass"
    elif found.high < limit:
        outcome = "fail"
    wanted = f", more than {limit:.4g} wanted" if margin else ""
    return Check(
        name="gain",
        outcome=outcome,
        words=f"{gain_words(metric.name, found)}{wanted}",
        number=found.gain,
        low=found.low,
        high=found.high,
        limit=limit,
    )


def gain_words(metric: str, found: Gain | SliceGain) -> str:
    """Spell a gain: ``rmse 0.5 -> 0.4: gain +0.1 in [+0.05, +0.15]``."""
    ends = (found.old, found.new) if isinstance(found, Gain) else (found.champion, found.challenger)
    return (
        f"{metric} {ends[0]:.4g} -> {ends[1]:.4g}: "
        f"gain {found.gain:+.4g} in [{found.low:+.4g}, {found.high:+.4g}]"
    )


def with_checks(
    verdict: Verdict, checks: Sequence[Check], slices: tuple[SliceGain, ...] = ()
) -> Verdict:
    """Return the verdict with further checks: one that fails keeps the champion."""
    every = (*verdict.checks, *checks)
    failed = [c.words for c in every if c.outcome == "fail" and c.name != "gain"]
    return verdict.model_copy(
        update={
            "outcome": _outcome(every),
            "reason": "; ".join((*failed, verdict.reason)),
            "checks": every,
            "slices": slices or verdict.slices,
        }
    )


def checks_json(verdict: Verdict, longest: int) -> str:
    """Write a verdict's checks as JSON of bounded length: words are cut where they must be."""
    room = longest
    while True:
        short = [c.model_copy(update={"words": c.words[:room]}) for c in verdict.checks]
        text = f"[{','.join(c.model_dump_json(exclude_none=True) for c in short)}]"
        if len(text) <= longest:
            return text
        room = room * 3 // 4


def _outcome(checks: Sequence[Check]) -> Outcome:
    """Promote what gained and failed nowhere: a veto that was not heard is none."""
    if any(c.outcome == "fail" for c in checks):
        return "keep"
    gained = any(c.name == "gain" and c.outcome == "pass" for c in checks)
    return "promote" if gained else "insufficient evidence"


def slice_gains(slicings: Sequence[Slicing], pairing: Pairing) -> tuple[SliceGain, ...]:
    """Test the gain on every slice of at least twenty rows, the worst first.

    Each is tested for having got worse; all together are wrong about any no more often than the
    confidence allows (Holm 1979). Slices whose rows lie in too few blocks are left out.

    Parameters
    ----------
    slicings
        How to cut the rows of the pairing.
    pairing
        Champion (old) and challenger (new).
    """
    cuts = [
        (cut.column, cut.levels[code], np.flatnonzero(cut.codes == code))
        for cut in slicings
        for code in np.unique(cut.codes)
    ]
    # A column with one level in these rows cuts nothing off.
    fit = [c for c in cuts if MIN_ROWS <= len(c[2]) < len(pairing.y)]
    found = [(column, level, measure_gain(pairing.take(rows))) for column, level, rows in fit]
    found = [f for f in found if not np.isnan(f[2].low)]
    corrected = holm([gain.p_worse for _, _, gain in found])
    gains = (
        SliceGain(
            column=column,
            level=level,
            rows=g.rows,
            champion=g.old,
            challenger=g.new,
            gain=g.gain,
            low=g.low,
            high=g.high,
            p_worse=p,
            worse=p <= 1 - pairing.confidence,
        )
        for (column, level, g), p in zip(found, corrected, strict=True)
    )
    return tuple(sorted(gains, key=lambda s: (s.p_worse, s.gain, s.name)))


def slices_check(slices: Sequence[SliceGain], metric: str, confidence: float) -> Check:
    """Fail where a slice got clearly worse, and name it."""
    if not slices:
        return Check(name="slices", outcome="open", words="no slice has rows enough to be judged")
    worst = slices[0]
    worse = [s for s in slices if s.worse]
    told = "; ".join(
        f"slice {s.name} got worse: {gain_words(metric, s)}, p {s.p_worse:.2g} of {len(slices)}"
        for s in worse
    )
    return Check(
        name="slices",
        outcome="fail" if worse else "pass",
        words=told or f"none of {len(slices)} slices got clearly worse",
        number=worst.p_worse,
        limit=1 - confidence,
    )


def limit_check(name: Literal["latency", "size"], number: float, limit: float) -> Check:
    """Hold what a model takes against a limit: milliseconds for 1,000 rows, or megabytes."""
    unit = {"latency": "ms for 1,000 rows", "size": "MB"}[name]
    beyond = number > limit
    return Check(
        name=name,
        outcome="fail" if beyond else "pass",
        words=f"{name} {number:.4g} {unit}, {'beyond' if beyond else 'within'} {limit:g}",
        number=number,
        limit=limit,
    )


def baseline_check(found: Gain, metric: str) -> Check:
    """Fail where fresh rows are predicted clearly worse than by no model at all.

    Truth that has come loose from the features, or from its own past, is such: to be a little less
    wrong there is no merit.
    """
    if np.isnan(found.high):
        return Check(name="baseline", outcome="open", words="the baseline cannot be compared")
    fails = found.high < 0
    words = "worse on fresh rows than the baseline" if fails else "no worse than the baseline"
    return Check(
        name="baseline",
        outcome="fail" if fails else "pass",
        words=f"{words}: {gain_words(metric, found)}",
        number=found.gain,
        low=found.low,
        high=found.high,
        limit=0.0,
    )
