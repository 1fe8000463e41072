"""Words on costs: the same on the page and in the shell."""

import math
from datetime import datetime

from twinloop.accounts import Account, Payback, Unit, VersionAccount
from twinloop.amounts import count, money
from twinloop.budget import Amounts, Limit

_PERIODS: dict[Unit, str] = {
    "hour": "%d %b %H:00",
    "day": "%d %b",
    "week": "%d %b %Y",
    "month": "%b %Y",
}
# From here on a share is no longer read as per cent.
_MANY = 10

# Below so much of a currency an axis counts in parts of it.
_LEAST_PLAIN = 0.01
_SMALL = ((1e3, "thousandths"), (1e6, "millionths"), (1e9, "billionths"))


def many(number: int, thing: str) -> str:
    """Spell how many there are of a thing: ``1 run``, ``1,200 runs``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def small_unit(most: float, currency: str) -> tuple[float, str]:
    """Choose in what an axis counts money, so that its numbers are short.

    Parameters
    ----------
    most
        The largest amount on it.
    currency
        Of all of them.

    Returns
    -------
    tuple of float and str
        What to multiply amounts by, and the unit's name.
    """
    if most >= _LEAST_PLAIN or most <= 0:
        return 1.0, currency
    fitting = (u for u in _SMALL if most * u[0] >= 1)
    factor, name = next(fitting, _SMALL[-1])
    return factor, f"{name} of {currency}"


def period_name(start: datetime, unit: Unit) -> str:
    """Name a period by its start."""
    return f"{start:{_PERIODS[unit]}}"


def share_words(part: float, whole: float) -> str:
    """Spell a share of a whole; empty where there is none."""
    return f"{part / whole:.1%}" if whole else ""


def number(value: float) -> str:
    """Spell a number; empty where it is unknown."""
    return "" if math.isnan(value) else f"{value:.4g}"


def signed(value: float) -> str:
    """Spell a difference; empty where it is unknown."""
    return "" if math.isnan(value) else f"{value:+.2f}"


def price_words(value: float) -> str:
    """Spell a price; empty where there is none."""
    return "" if math.isnan(value) else money(value)


def standing_words(version: VersionAccount) -> str:
    """Say where a version stands among all."""
    served = "" if version.served_from else "never served"
    words = ("champion" if version.is_champion else served, "front" if version.on_front else "")
    return ", ".join(filter(None, words))


def payback_words(payback: Payback | None, currency: str) -> str:
    """Say after how many predictions a version has paid for its training."""
    if payback is None:
        return ""
    against = f"v{payback.against}"
    how = "" if payback.measured else ", by its timings"
    if payback.predictions is None:
        if payback.saving == 0:
            return f"never: as dear to score with as {against}{how}"
        more = money(-1000 * payback.saving)
        return f"never: {more} {currency} dearer per 1,000 than {against}{how}"
    share = payback.share
    done = f"it has made {share:.0%} of them" if share < 1 else "paid"
    return f"after {count(payback.predictions)} predictions against {against}{how}; {done}"


def bound_words(limit: Limit, currency: str) -> str:
    """Say how much of a month's budget is used."""
    share = share_used(limit)
    over = ", spent" if share >= 1 else ""
    many_times = _MANY <= share < math.inf
    used = f"{count(share)} times that used" if many_times else f"{used_words(limit)} used"
    return f"This month {limit.words(Amounts(), currency)}: {used}{over}"


def share_used(limit: Limit) -> float:
    """Return which share of a budget is used: 1 is all of it."""
    return limit.used(Amounts()) / limit.bound if limit.bound > 0 else math.inf


def used_words(limit: Limit) -> str:
    """Spell which share of a budget is used; one that is passed by far, by how many times."""
    share = share_used(limit)
    if math.isinf(share):
        return "more than all"
    # What is nearly spent is not called all of it.
    return (
        f"{min(share, 0.99) if share < 1 else share:.0%}"
        if share < _MANY
        else (f"{count(share)} times the budget")
    )


def account_words(found: Account) -> tuple[str, ...]:
    """Say what the tables do not."""
    said = []
    if found.unversioned:
        part = money(found.unversioned)
        said.append(
            f"{part} {found.currency} is on no version's bill: runs that made none, or whose "
            "version has no training in the ledger."
        )
    said += [
        f"Estimates before runs of kind {e.kind} were off by {e.money:.0%} of the money and "
        f"{e.time:.0%} of the time (median of {e.runs})."
        for e in found.estimates
    ]
    if found.left_out:
        runs = many(found.left_out, "run")
        said.append(f"Money of {runs} is left out: it is in another currency.")
    if found.without_bill:
        runs = many(found.without_bill, "run")
        said.append(
            f"{runs} ended without a whole bill of accuracy, time and cost: what they used is not "
            "known, or not all of it."
        )
    return tuple(said)
