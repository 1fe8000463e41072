"""Choice: which candidate is to serve, and which are not beaten in everything at once."""

import math
import statistics
from collections.abc import Sequence

from twinloop.candidates import CHEAP_FIRST
from twinloop.evaluation import METRICS
from twinloop.front import pareto_front
from twinloop.intervals import corrected_error
from twinloop.results import CandidateResult, Choice
from twinloop.vocabulary import ENSEMBLE, AnyCandidate, ChoiceRule

# How much further from a perfect score a cheaper candidate may be. With five folds one standard
# error alone is wide: over 107 small tables it chose models up to half as far again from it on new
# rows (1.4 % on average), with this bound 0.03 % on average.
TOLERANCE = 0.01


def choose(ranked: Sequence[CandidateResult], rule: ChoiceRule) -> Choice:
    """Choose the candidate to serve.

    ``best`` is the one with the best mean over the folds. ``cheapest`` is the cheapest of those
    within one standard error of it (Breiman, Friedman, Olshen and Stone 1984, "Classification and
    Regression Trees", section 3.4.3), and no more than 1 % further from a perfect score: what the
    folds cannot tell apart is not worth paying for at every prediction.

    Breiman's error is that of the best mean. Here all candidates are judged on the same folds, and
    what makes a fold hard is hard for all of them; it moves every mean and no difference. So the
    error is that of the differences, fold by fold, corrected for the rows that folds share (see
    `twinloop.intervals.corrected_error`). It is the narrower one where candidates rise and fall
    together, and the wider one where they do not. Folds by time tell: Breiman's error, wide by the
    seasons, let a linear model win in the simulated city that was twice as wrong as the best one
    in the weeks that followed. The best was picked for being best, so its lead flatters a little,
    and the rule errs on its side.

    Cheap is what serves fast, since inference runs for ever, and of two alike what is fitted fast.
    The order is that of `twinloop.candidates.CHEAP_FIRST`, not the time just measured: any line
    drawn through a measured time is one day crossed by chance, and two runs on the same rows are
    to choose alike.

    An ensemble is several models at every prediction and at every fit. With ``cheapest`` it wins
    only where its lead over the best single candidate is more than one standard error, and more
    than 1 % of the way to a perfect score; else it is as if it were not there.

    With ``best`` it wins unless it is behind by more than one standard error, or by more than 1 %
    of the way to a perfect score: where folds are noisy the error alone excuses any distance. The
    best single candidate was picked for its mean, which flatters it; the ensemble's mean is by
    weights that know less than those it is served with, which does not. Where nothing learned
    beats the baseline it wins only if it leads: a mean of what learned nothing is no gain.

    Parameters
    ----------
    ranked
        Candidates in the order of `twinloop.results.rank`, at least one.
    rule
        ``training.choice`` of the workload.
    """
    best = ranked[0]
    if math.isnan(best.valid):
        return Choice(winner=best.name, reason=f"no fold has a {best.metric} to choose by")
    idle, ranked = _split_idle(ranked, rule)
    winner = best = ranked[0]
    nothing_learned = any(c.name == "baseline" and _within(c, best) for c in ranked)
    blended = _not_behind(ranked) if rule == "best" and not nothing_learned else None
    if rule == "cheapest":
        near = [c for c in ranked if _within(c, best) and _tolerable(c, best)]
        winner = min([best, *near], key=lambda c: _rank(c.name))
    if blended is not None:
        winner = blended
    reason = _reason(winner, best, rule, "" if idle is None else " of a single model")
    if idle is not None:
        reason += _idle_reason(idle, best)
    if nothing_learned:
        reason += "; nothing learned beats the baseline by more than one standard error"
    return Choice(winner=winner.name, reason=reason, nothing_learned=nothing_learned)


def _rank(name: AnyCandidate) -> int:
    """Return the place of a candidate.

    Of an estimator of the user's own nobody knows: it comes last but for the ensemble, which may
    have it for a member.
    """
    if name == ENSEMBLE:
        return len(CHEAP_FIRST) + 1
    return CHEAP_FIRST.index(name) if name in CHEAP_FIRST else len(CHEAP_FIRST)


def _split_idle(
    ranked: Sequence[CandidateResult], rule: ChoiceRule
) -> tuple[CandidateResult | None, Sequence[CandidateResult]]:
    """Return the ensemble where it leads and its gain does not outlast its cost, and the others."""
    first = ranked[0]
    if first.name != ENSEMBLE or len(ranked) == 1:
        return None, ranked
    single = ranked[1]
    mean, error = lead(first, single)
    # Of one fold nobody knows the error: no gain is shown then.
    outlasts = mean > error and not _tolerable(single, first)
    if rule == "best":
        outlasts = mean > 0 and not math.isnan(error)
    return (None, ranked) if outlasts else (first, ranked[1:])


def _not_behind(ranked: Sequence[CandidateResult]) -> CandidateResult | None:
    """Return the ensemble, where a single candidate is ahead by little, and by luck perhaps."""
    made = next((c for c in ranked[1:] if c.name == ENSEMBLE), None)
    if made is None:
        return None
    mean, error = lead(ranked[0], made)
    # Where the two are alike in every fold it brings nothing.
    return made if mean < error and _tolerable(made, ranked[0]) else None


def _idle_reason(ensemble: CandidateResult, best: CandidateResult) -> str:
    mean, error = lead(ensemble, best)
    why = "is no more than luck explains"
    if mean > error:
        why = f"is no more than {TOLERANCE:.0%} of the way to a perfect score"
    return (
        f"; the ensemble's lead over {best.name}, {mean:.2g} with standard error {error:.2g}, "
        f"{why}: its gain does not outlast its cost"
    )


def lead(best: CandidateResult, other: CandidateResult) -> tuple[float, float]:
    """Return by how much one candidate leads another over the folds they share, and the error.

    Returns
    -------
    tuple of float
        Mean of the differences, positive where `best` is better, and their corrected standard
        error; NaN for what too few folds leave unknown.
    """
    gains = [
        METRICS[best.metric].gain(one.valid, two.valid)
        for one, two in zip(best.folds, other.folds, strict=False)
        if not math.isnan(one.valid) and not math.isnan(two.valid)
    ]
    return (statistics.fmean(gains) if gains else math.nan), corrected_error(gains, best.overlap)


def _within(other: CandidateResult, best: CandidateResult) -> bool:
    """Tell whether the folds cannot tell the two apart; of one fold nobody knows."""
    mean, error = lead(best, other)
    return other is best or mean <= error


def _tolerable(other: CandidateResult, best: CandidateResult) -> bool:
    metric = METRICS[best.metric]
    return lead(best, other)[0] <= TOLERANCE * metric.distance(best.valid)


def _reason(winner: CandidateResult, best: CandidateResult, rule: ChoiceRule, among: str) -> str:
    if winner is not best:
        mean, error = lead(best, winner)
        if winner.name == ENSEMBLE:
            return (
                f"a mean of several; {best.name} was picked for its mean {best.metric}, which is "
                f"better by no more than luck explains: {mean:.2g}, standard error {error:.2g}"
            )
        return (
            f"cheaper than {best.name}, whose mean {best.metric} is better by no more than luck "
            f"explains: {mean:.2g}, standard error {error:.2g}"
        )
    if rule == "best" or _rank(winner.name) == 0:
        return f"the best mean {best.metric} over folds{among}"
    return (
        f"the best mean {best.metric} over folds{among}; nothing cheaper is within one standard "
        f"error and {TOLERANCE:.0%} of it"
    )


def front_names(candidates: Sequence[CandidateResult]) -> frozenset[AnyCandidate]:
    """Return the candidates not beaten in accuracy, latency, size and training cost at once.

    Times were measured and vary from run to run, and the front with them; nothing hangs on it.
    """
    places = pareto_front([_takes(c) for c in candidates])
    return frozenset(candidates[i].name for i in places)


def _takes(result: CandidateResult) -> tuple[float, ...]:
    loss = METRICS[result.metric].gain(0.0, result.valid)
    f = result.footprint
    if f is None:
        return loss, math.nan, math.nan, math.nan
    return loss, f.batch_seconds, float(f.size_bytes), f.fit_money
