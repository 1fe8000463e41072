"""Reports: what the command prints, as tables a person wants to read."""

import re
import sys
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.printing import make_table as _table
from tasks.checking import CheckResult
from tasks.history import ChampionHistory
from tasks.published import Manifest
from tasks.registry import Move
from tasks.verifying import Verification
from twinloop import leaderboard
from twinloop.decision import Decision
from twinloop.leakage import Finding
from twinloop.replay import PolicyResult, ReplayResult, by_month, overall
from twinloop.reproduction import Reproduction
from twinloop.results import Leaderboard, TrainingResult
from twinloop.standings import compare_policies
from twinloop.window import Window

# Into a file or a pipe nothing is cut: there is no window to fit.
_console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
_BOARD_WIDTH = 145
_FLOW_RUN_ID = re.compile(r"(?<=flow run )[0-9a-f-]{36}")


def say(text: str) -> None:
    """Print a line."""
    _console.print(text)


def training(result: TrainingResult) -> None:
    """Print leaderboard and verdict."""
    _board(f"{result.workload}: {result.window}", result.board)
    say(
        f"{result.board.split}; {result.metric} on the holdout: "
        f"{result.holdout:.4g} ({result.winner})"
    )
    for remark in leaderboard.remarks(result.board):
        say(escape(remark))
    if result.board.skipped:
        say(f"not run, for lack of budget: {', '.join(result.board.skipped)}")
    _leakage(result.findings)
    verdict = result.verdict
    if verdict.checks:
        table = _table("Verdict", "check", "outcome", "what was found")
        for c in verdict.checks:
            table.add_row(c.name, c.outcome, escape(c.words))
        _console.print(table)
    say(f"version {result.version}: [bold]{verdict.outcome}[/] ({escape(verdict.reason)})")
    say(f"champion: version {result.champion or 'none'}")


def _board(title: str, board: Leaderboard) -> None:
    """Print the leaderboard; where it is too wide, what candidates give, then what they take."""
    heads, lines = leaderboard.columns(board), leaderboard.lines(board)
    *give, standing = (0, 1, 2, 3, 4, len(heads) - 1)
    take = range(len(give), standing)
    wide = _console.width >= _BOARD_WIDTH
    for part in [(*give, *take, standing)] if wide else [(*give, standing), (0, *take)]:
        names = [heads[i] for i in part]
        words = ("candidate", "95 % interval", "standing")
        numbers = ",".join(name for name in names if name not in words)
        table = _table(title, *names, right=numbers)
        for cells in lines:
            table.add_row(*(cells[i] for i in part))
        _console.print(table)


def _leakage(findings: Iterable[Finding]) -> None:
    """Print signs of leakage, if there are any."""
    for f in findings:
        say(f"[bold]{f.level}[/], {f.code}: {escape(f.explanation)} {escape(f.advice)}")


def scoring(manifest: Manifest) -> None:
    """Print what was published."""
    done = "was scored already; nothing done" if manifest.reused else "scored"
    say(f"{manifest.workload} {manifest.window or 'all rows'}: {done}")
    say(
        f"read {manifest.read}, scored {manifest.scored}, quarantined {manifest.quarantined}, "
        f"with version {manifest.version.version}"
    )
    seen = manifest.agreement
    if seen is not None and seen.rows:
        say(
            f"in shadow version {manifest.challenger} answered {seen.rows} rows, "
            f"{seen.share_equal:.1%} alike, {seen.mean_difference:.3g} apart on average"
        )
    say(f"predictions: {manifest.place}")
    if manifest.quarantined:
        say(f"quarantine:  {manifest.quarantine_place}")


def verification(found: Verification) -> None:
    """Print what was read again, and each file that is not as it was written."""
    for fault in found.faults:
        say(f"[bold]{escape(str(fault.path))}[/] {escape(fault.fault)}: {escape(fault.mend)}")
    if found.unasked:
        say(f"Windows that are wholly gone could not be told: {escape(found.unasked)}")
    say(
        f"{found.workload}: {found.rows} predictions in {found.outputs} outputs, {found.files} "
        f"files, {found.size / 1e6:.1f} MB; {len(found.faults) or 'no'} faults"
    )


def backfilled(window: Window, manifest: Manifest | None) -> None:
    """Print what became of one window of a backfill."""
    if manifest is None:
        say(f"{window}  no rows")
        return
    done = "complete already" if manifest.reused else f"scored {manifest.scored}"
    bad = f", {manifest.quarantined} quarantined" if manifest.quarantined else ""
    say(f"{window}  {manifest.version.label}  {done}{bad}")


def decision(found: Decision) -> None:
    """Print a drift check."""
    if found.features:
        table = _table(
            "Columns by distance from the reference",
            "column",
            "distance",
            "p",
            "share of model",
            "drifted",
            right="distance,p,share of model",
        )
        for f in found.features[:15]:
            mark = "yes" if f.drifted else ""
            table.add_row(
                f.column, f"{f.distance:.3f}", f"{f.p_value:.2g}", f"{f.importance:.1%}", mark
            )
        _console.print(table)
    say(f"decision: [bold]{found.action}[/]")
    for reason in found.reasons:
        say(f"  - {reason}")


def replay(result: ReplayResult, *, flows: bool = False) -> None:
    """Print one policy month by month, several side by side, and what to type next.

    Parameters
    ----------
    result
        Of either way to replay.
    flows
        Whether every step was a flow run, with a run of its own in MLflow.
    """
    for policy in result.policies:
        _console.print(_months(result, policy))
    if len(result.policies) > 1:
        _console.print(_side_by_side(result))
    name = result.workload
    say("")
    what = "Every run of this replay:         " if flows else "This replay, one run in MLflow:   "
    say(f"{what} twinloop runs {name} --replays")
    if not flows:
        say(f"Every step of it in both pages:    twinloop replay {name} --flows")
    say("Both pages, Prefect and MLflow:    twinloop up")


def _months(result: ReplayResult, policy: PolicyResult) -> Table:
    table = _table(
        f"{result.workload}, policy {policy.policy}: "
        f"{result.start:%Y-%m-%d} to {result.end:%Y-%m-%d}",
        "month",
        "scored",
        "quarantined",
        policy.metric,
        "drift",
        "decisions",
        "trainings",
        "champion",
        policy.currency,
        right=f"scored,quarantined,{policy.metric},{policy.currency}",
    )
    for month, ticks in by_month(policy.ticks):
        drifted = Counter(c for t in ticks for c in t.drifted)
        decisions = Counter(t.decision for t in ticks if t.decision)
        table.add_row(
            month,
            f"{sum(t.scored for t in ticks):,}",
            f"{sum(t.quarantined for t in ticks):,}",
            f"{overall(policy.metric, ticks):.4f}",
            ", ".join(name for name, _ in drifted.most_common(2)),
            ", ".join(f"{n} {name}" for name, n in sorted(decisions.items())),
            ", ".join(t.verdict for t in ticks if t.trained),
            f"v{ticks[-1].champion}",
            f"{sum(t.money for t in ticks):.6f}",
        )
    table.add_section()
    table.add_row(
        "all",
        f"{policy.scored:,}",
        f"{policy.quarantined:,}",
        f"{policy.error:.4f}",
        "",
        "",
        f"{policy.trainings}, {policy.promotions} promoted",
        "",
        f"{policy.money:.6f}",
    )
    return table


def _side_by_side(result: ReplayResult) -> Table:
    metric, currency = result.policies[0].metric, result.policies[0].currency
    heads = (
        *(metric, "gain", "of best schedule", "trainings", "promoted", f"training {currency}"),
        *("of dearest", f"all {currency}", "kWh", "seconds"),
    )
    table = _table("Policies side by side", "policy", *heads, right=",".join(heads))
    for p, standing in zip(result.policies, compare_policies(result.policies), strict=True):
        table.add_row(
            p.policy,
            f"{p.error:.4f}",
            "" if standing.gain is None else f"{standing.gain:+.4f}",
            "" if standing.share is None else f"{standing.share:.0%}",
            str(p.trainings),
            str(p.promotions),
            f"{p.training_money:.6f}",
            "" if standing.cost is None else f"{standing.cost:.0%}",
            f"{p.money:.6f}",
            f"{p.energy_kwh:.2g}",
            f"{p.seconds:.0f}",
        )
    return table


def champion(history: ChampionHistory) -> None:
    """Print the versions, which one serves, and every move of the alias."""
    if not history.versions:
        say(f"{history.workload} has no version yet: twinloop train {history.workload}")
        return
    table = _table(
        f"{history.workload}: versions",
        "version",
        "trained at",
        "holdout",
        "alias",
        right="holdout",
    )
    for v in history.versions:
        alias = "champion" if v.version == history.champion else ""
        table.add_row(
            v.version, f"{v.trained_at:%Y-%m-%d %H:%M}", f"{v.metric} {v.score:.4g}", alias
        )
    _console.print(table)
    moves = _table("Moves of the champion", "at", "from", "to", "evidence", "its run", "by")
    for m in history.moves:
        told = (escape(m.reason), m.evidence[:8], _mover(m))
        moves.add_row(f"{m.at:%Y-%m-%d %H:%M}", m.was or "-", m.became, *told)
    _console.print(moves)


def _mover(move: Move) -> Text:
    """Name who moved the champion: a flow run by the start of its id, a link to its page."""
    name = _FLOW_RUN_ID.sub(lambda found: found[0][:8], move.by)
    return Text(name, style=f"link {move.page}" if move.page else "")


def reproduction(found: Reproduction) -> None:
    """Print which files of a version came out the same."""
    table = _table(
        f"{found.workload} v{found.version}, fitted again", "file", "registered", "now", "same"
    )
    for f in found.files:
        table.add_row(f.name, f.registered[:16], f.now[:16], "yes" if f.same else "no")
    _console.print(table)
    say(f"{found.metric} on the holdout: {found.score_then:.10g} then, {found.score_now:.10g} now")
    for change in found.changes:
        say(f"changed since: {escape(change)}")
    if found.same:
        say("same, bit by bit")


def check(found: CheckResult) -> None:
    """Print what was understood of a workload and its data."""
    say(f"[bold]{found.workload}[/]: {found.task} of {found.target!r}, judged by {found.metric}")
    say(
        f"rows: {found.read} read ({found.window}), {found.quarantined} break the contract, "
        f"{found.rows} left"
    )
    table = _table("Columns", "column", "role", "kind", "nulls", "range or levels", right="nulls")
    for c in found.columns:
        table.add_row(c.name, c.role, c.kind, f"{c.null_rate:.1%}", c.domain)
    _console.print(table)
    say(f"split: {found.split}")
    _leakage(found.findings)
    say(f"candidates: {', '.join(found.candidates)}")
    say(f"a training takes about {found.expected_seconds:.0f} s ({found.estimate})")
