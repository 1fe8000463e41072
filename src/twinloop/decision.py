"""The decision of a drift check: does it hurt, and what to do about it."""

from typing import Literal

from twinloop.drift import QUARANTINE, FeatureDrift
from twinloop.estimate import Estimate
from twinloop.evaluation import METRICS
from twinloop.guards import Circumstances, holds, probes
from twinloop.harm import Harm, assess_harm
from twinloop.profile import MATTERS, PREDICTION
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload

__all__ = ["Action", "Decision", "Expectation", "Harm", "assess_harm", "decide", "guarded"]

Action = Literal["fine", "watch", "retrain"]
NEW_LABELS = "new labels"
REACHED = "reached"
ROLLED_BACK = "rolled back"


class Expectation(Frozen):
    """What is known of the metric without the newest labels, and how far that can be trusted.

    Attributes
    ----------
    promised
        The metric on the champion's holdout; None where it was trained for another metric.
    estimate
        Of the rows scored lately; None where nothing tells.
    checked, realised
        The estimate of the newest rows with labels, and what the labels say of them.
    missed
        How many of the last estimates that labels came for lay outside of their interval.
    of
        Of how many.
    """

    promised: float | None
    estimate: Estimate | None = None
    checked: Estimate | None = None
    realised: float | None = None
    missed: int = 0
    of: int = 0

    @property
    def trusted(self) -> bool:
        """Whether estimates were right lately, as far as labels came."""
        return 2 * self.missed < max(self.of, 1)

    def worse(self, tolerance: float) -> bool:
        """Tell whether even the better end of the estimate is above what was promised."""
        if self.estimate is None or self.promised is None:
            return False
        metric = METRICS[self.estimate.metric]
        best = self.estimate.high if metric.greater_is_better else self.estimate.low
        return metric.distance(best) > metric.distance(self.promised) * (1 + tolerance)


class Decision(Frozen):
    """What a drift check concluded, and why.

    Attributes
    ----------
    cause
        What speaks for a retraining: ``labels``, ``reached``, ``drift: ...`` or ``estimate``; where
        nothing does, ``new labels`` if it is time to ask whether a refresh would help.
    held
        The guard that holds it back, or that the champion was rolled back; empty where none does.
    """

    action: Action
    reasons: tuple[str, ...]
    features: tuple[FeatureDrift, ...]
    harm: Harm | None = None
    expectation: Expectation | None = None
    cause: str = ""
    held: str = ""

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the columns that drifted."""
        return tuple(f.column for f in self.features if f.drifted)

    @property
    def reason(self) -> str:
        """What counts most: the first of the reasons."""
        return self.reasons[0]

    @property
    def calls(self) -> bool:
        """Whether a retraining is to follow, be it that it only probes what it would bring."""
        return self.action == "retrain" or self.cause == NEW_LABELS


def decide(
    features: tuple[FeatureDrift, ...],
    harm: Harm | None,
    quarantine_share: float,
    workload: Workload,
    expectation: Expectation | None = None,
) -> Decision:
    """Conclude: retrain where it hurts, watch where it may, else fine.

    Labels outrank everything. Without them, drift of what the model leans on is reason enough, and
    so is an estimate that is clearly above what was promised, as long as such estimates have been
    right lately. An estimate calms nobody: it does not see a changed concept.
    """
    drifted = [f for f in features if f.drifted]
    telling = [f for f in drifted if f.importance >= MATTERS]
    # Where the past of it is not known, half of what fails a run is too much.
    tested = [f for f in features if f.column == QUARANTINE]
    crowded = quarantine_share > workload.inference.quarantine_limit / 2
    if tested:
        crowded, drifted = tested[0].drifted, [f for f in drifted if f not in tested]
    worse = expectation is not None and expectation.worse(workload.monitoring.tolerance)
    cause = _cause(harm, telling, worse=worse and expectation is not None and expectation.trusted)
    reasons = _say_harm(harm) if harm is not None else []
    if expectation is not None and expectation.estimate is not None:
        reasons += _say_estimate(expectation, worse=worse)
    reasons += [_say_drift(f) for f in drifted]
    if crowded:
        reasons.append(f"{quarantine_share:.1%} of the rows are quarantined")
    if not features:
        reasons.append("too few rows yet to compare with windows of the past")
    elif not drifted:
        reasons.append("no column drifted")
    elif harm is None:
        reasons.append("no labels yet to tell whether it hurts")
    watching = bool(telling or crowded or worse)
    return Decision(
        action="retrain" if cause else "watch" if watching else "fine",
        reasons=tuple(reasons),
        features=features,
        harm=harm,
        expectation=expectation,
        cause=cause,
    )


def _cause(harm: Harm | None, telling: list[FeatureDrift], *, worse: bool) -> str:
    if harm is not None:
        return "labels" if harm.harmful else REACHED if harm.lost else ""
    if telling:
        return f"drift: {', '.join(sorted(f.column for f in telling))}"
    return "estimate" if worse else ""


def guarded(decision: Decision, found: Circumstances, workload: Workload) -> Decision:
    """Return the decision as circumstances leave it.

    A guard that holds a retraining back makes it a watch. Where none is called for, labels that
    have come since the last are reason enough to ask, for the price of a fit, what one would bring.
    """
    if decision.action != "retrain":
        why = probes(found, workload) if decision.harm is not None else ""
        if not why:
            return decision
        # Nothing else calls: it is what counts most.
        reasons = (why, *decision.reasons)
        return decision.model_copy(update={"cause": NEW_LABELS, "reasons": reasons})
    held = holds(decision.cause, found, workload)
    if not held:
        return decision
    reasons = (*decision.reasons, f"no retraining now, {held}")
    return decision.model_copy(update={"action": "watch", "held": held, "reasons": reasons})


def rolled_back(decision: Decision, reason: str) -> Decision:
    """Return the decision once its champion was replaced: what was found is of one that is gone."""
    cause = "" if decision.cause == NEW_LABELS else decision.cause
    reasons = (reason, *decision.reasons)
    return decision.model_copy(
        update={"action": "watch", "cause": cause, "held": ROLLED_BACK, "reasons": reasons}
    )


def _say_harm(harm: Harm) -> list[str]:
    said = (
        f"{harm.metric} {harm.realised:.4g} on {harm.n_rows} labelled rows, "
        f"{harm.expected:.4g} expected, p {harm.p_value:.2g}"
    )
    if harm.harmful and harm.newest:
        said += f"; {harm.newest_realised:.4g} in the newest {harm.newest} blocks"
    if not harm.lost or harm.reached is None:
        return [said]
    # The first reason goes on the retraining.
    return [
        f"{harm.metric} {harm.realised:.4g} on {harm.n_rows} labelled rows, {harm.reached:.4g} was "
        f"once reached, p {harm.reached_p:.2g}",
        f"the champion promised no better: {harm.expected:.4g}",
    ]


def _say_estimate(known: Expectation, *, worse: bool) -> list[str]:
    found = known.estimate
    assert found is not None  # noqa: S101 - asked for by the caller
    assert known.promised is not None  # noqa: S101 - what has a gauge of the metric promised it
    how = "clearly worse than" if worse else "in line with"
    said = [
        f"{found.metric} estimated at {found.value:.4g} [{found.low:.4g}, {found.high:.4g}] on "
        f"{found.rows} rows, {how} the {known.promised:.4g} promised; a changed concept would not "
        "show in it"
    ]
    if known.checked is not None and known.realised is not None:
        right = "within" if known.checked.holds(known.realised) else "outside"
        said.append(
            f"labels say {known.realised:.4g}, {right} the estimate "
            f"[{known.checked.low:.4g}, {known.checked.high:.4g}] of the same rows"
        )
    if not known.trusted:
        said.append(
            f"{known.missed} of the last {known.of} estimates were wrong beyond their interval: "
            "estimates do not count now"
        )
    return said


def _say_drift(feature: FeatureDrift) -> str:
    what = "predictions" if feature.column == PREDICTION else feature.column
    note = "" if feature.importance >= MATTERS else ", which the model hardly uses"
    return f"{what} drifted: distance {feature.distance:.2f}, p {feature.p_value:.2g}{note}"
