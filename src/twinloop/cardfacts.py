"""What a model card is written from, and words that several of its sections share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from twinloop.amounts import brackets
from twinloop.contract import Contract
from twinloop.evidence import Evidence, Span
from twinloop.leakage import Finding
from twinloop.results import Leaderboard
from twinloop.verdict import Verdict
from twinloop.workload import Workload

_NO_INTERVAL = "too few blocks of rows for an interval"


@dataclass(frozen=True)
class CardFacts:
    """What a model card is written from.

    Attributes
    ----------
    version
        Number of the version.
    origin
        Where its rows came from, in words.
    window
        Rows that were asked for.
    trained_at
        The moment the training was meant for, UTC.
    read, quarantined, dropped
        Rows read, those that broke the contract, and those left out in cleaning, by reason.
    digest
        Of the snapshot.
    champion
        Number of the version that served before; empty for none.
    bill
        ``time/`` and ``cost/`` metrics of the training until now.
    energy
        How its energy was got.
    software
        Versions by name of what it was made with.
    threads
        Cores an estimator could use.
    """

    workload: Workload
    version: str
    origin: str
    window: str
    trained_at: datetime
    read: int
    quarantined: int
    dropped: Mapping[str, int]
    digest: str
    contract: Contract
    board: Leaderboard
    evidence: Evidence
    findings: tuple[Finding, ...]
    verdict: Verdict
    champion: str
    bill: Mapping[str, float]
    energy: str
    software: Mapping[str, str]
    threads: int


def interval_words(facts: CardFacts) -> str:
    """Spell the interval of the score on the holdout, or why there is none."""
    whole = facts.evidence.slices.whole
    return _NO_INTERVAL if math.isnan(whole.low) else brackets(whole.low, whole.high)


def when(span: Span) -> str:
    """Spell from when to when rows are."""
    if span.first is None or span.last is None:
        return "rows have no time"
    return f"{span.first:%Y-%m-%d} to {span.last:%Y-%m-%d}"
