"""The log plan of an ensemble: of whom it is made, and why there is none."""

from collections.abc import Iterator, Sequence

from twinloop.logplan import LogItem, Metric, Param, Table
from twinloop.results import CandidateResult, Member


def plan_members(result: CandidateResult) -> Iterator[LogItem]:
    """Yield the members of an ensemble and their weights; nothing for any other candidate."""
    if not result.members:
        return
    yield Param("members", members_text(result.members))
    for member in result.members:
        yield Metric(f"weight/{member.name}", member.weight)
    yield Table(
        "ensemble",
        "Members of the ensemble, and how much each counts",
        ("member", "weight"),
        tuple((m.name, f"{m.weight:.0%}") for m in result.members),
    )


def members_text(members: Sequence[Member]) -> str:
    """Spell members: ``xgboost 55 %, forest 45 %``."""
    return ", ".join(f"{m.name} {100 * m.weight:.0f} %" for m in members)


def left_out(member: Member) -> str:
    """Say why there is no ensemble on the board."""
    return f"no ensemble was entered: all of its weight would be on {member.name}"
