"""The model card: all that is to be known of a version, gathered as plain values."""

from datetime import timedelta

from twinloop.amounts import brackets
from twinloop.cardfacts import CardFacts, interval_words, when
from twinloop.cardscores import about_candidates, about_holdout, about_shares, about_slices
from twinloop.contract import ColumnContract
from twinloop.evaluation import METRICS
from twinloop.evidence import Evidence
from twinloop.page import Command, Facts, Grid, Page, Section, Words, brief, plain
from twinloop.slices import MIN_ROWS
from twinloop.verdict import Verdict
from twinloop.window import format_duration

_MOST_LEVELS = 10


def write_card(facts: CardFacts) -> Page:
    """Write the model card of a version."""
    sections = (
        ("Verdict", _verdict(facts)),
        ("What it is for", _purpose(facts)),
        ("Data and contract", _data(facts)),
        ("Split and folds", _split(facts)),
        ("Candidates", about_candidates(facts)),
        ("Holdout", about_holdout(facts)),
        ("Slices", about_slices(facts)),
        ("What it leans on", about_shares(facts)),
        ("Signs of leakage", _leakage(facts)),
        ("Known limits", _limits(facts)),
        ("Bill", _bill(facts)),
        ("Software", _software(facts)),
        ("Reproduce", _reproduce(facts)),
    )
    workload = facts.workload
    return Page(
        title=f"{workload.id} version {facts.version}",
        lead=workload.description,
        tiles=_tiles(facts),
        sections=tuple(Section(title, blocks) for title, blocks in sections),
    )


def short_card(facts: CardFacts) -> str:
    """Write the description of a version, in Markdown: what a registry shows at first sight."""
    holdout, workload = facts.evidence.holdout, facts.workload
    lines = (
        f"{facts.board.winner.name}, {workload.metric} {brief(facts.evidence.score)} "
        f"{interval_words(facts)} on {holdout.rows:,} rows it had not seen",
        f"Verdict: {facts.verdict.outcome}. {'. '.join(_reasons(facts.verdict))}",
        f"Data: {facts.evidence.served.rows:,} rows, {facts.window}, digest {facts.digest[:16]}",
        "The whole card: model_card.html among the artifacts of the run it comes from",
    )
    text = "\n".join(f"- {plain(line)}" for line in lines)
    return f"{text}\n- Fit it again: `{_command(facts)}`\n"


def _reasons(verdict: Verdict) -> tuple[str, ...]:
    """Return why a verdict is what it is, a sentence each."""
    return tuple(check.words for check in verdict.checks) or (verdict.reason,)


def _command(facts: CardFacts) -> str:
    return f"twinloop reproduce {facts.workload.id} --version {facts.version}"


def _tiles(facts: CardFacts) -> tuple[tuple[str, str, str], ...]:
    evidence, winner = facts.evidence, facts.board.winner
    served = evidence.served
    return (
        ("Verdict", facts.verdict.outcome, _against(facts)),
        (
            f"{facts.workload.metric} on the holdout",
            brief(evidence.score),
            f"95 % interval {interval_words(facts)}",
        ),
        ("Model", winner.name, f"of {len(facts.board.candidates)} candidates"),
        ("Fitted on", f"{served.rows:,} rows", when(served)),
        ("Trained", f"{facts.trained_at:%Y-%m-%d}", f"as of {facts.trained_at:%H:%M} UTC"),
    )


def _against(facts: CardFacts) -> str:
    return f"against version {facts.champion}" if facts.champion else "no version served before"


def _verdict(facts: CardFacts) -> tuple[Words | Facts, ...]:
    verdict = facts.verdict
    said = Words(_reasons(verdict), points=len(_reasons(verdict)) > 1)
    pairs = [("Outcome", verdict.outcome), ("Compared", _against(facts))]
    if verdict.gain is not None and verdict.low is not None and verdict.high is not None:
        level = 100 * facts.workload.retraining.confidence
        pairs += [
            ("Gain", f"{brief(verdict.gain)}, positive is better"),
            ("Interval", f"{brackets(verdict.low, verdict.high)}, {level:g} % at each end"),
            ("Evidence", f"{verdict.n_rows:,} fresh rows in {verdict.n_blocks} blocks"),
        ]
    return said, Facts(tuple(pairs))


def _purpose(facts: CardFacts) -> tuple[Facts, ...]:
    workload, classes = facts.workload, facts.evidence.classes
    better = "greater" if METRICS[workload.metric].greater_is_better else "smaller"
    what = f"a number, {workload.target}"
    if classes:
        shown = ", ".join(classes[:_MOST_LEVELS])
        more = f" and {len(classes) - _MOST_LEVELS} more" if len(classes) > _MOST_LEVELS else ""
        what = f"{workload.target}, one of {len(classes)} classes: {shown}{more}"
    pairs = [
        ("Task", workload.task),
        ("Predicts", what),
        ("Judged by", f"{workload.metric}, {better} is better"),
        ("A row is known by", ", ".join(workload.key) or "no key"),
        ("Time", workload.time or "rows have none"),
    ]
    if workload.group:
        pairs.append(("Groups", f"{workload.group}: its rows stay together in every split"))
    every, cron = format_duration(workload.inference.window), workload.inference.schedule
    pairs.append(("Scores", f"windows of {every}, on the schedule {cron} (UTC)"))
    return (Facts(tuple(pairs)),)


def _data(facts: CardFacts) -> tuple[Facts | Words | Grid, ...]:
    dropped = ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in facts.dropped.items() if n)
    left = facts.read - facts.quarantined - sum(facts.dropped.values())
    pairs = (
        ("Source", facts.origin),
        ("Window", facts.window),
        ("Rows read", f"{facts.read:,}"),
        ("Quarantined", f"{facts.quarantined:,} that broke the contract"),
        ("Left out", dropped or "none"),
        ("Rows left", f"{left:,}"),
        ("Snapshot", facts.digest),
    )
    rows = tuple(_column(c, facts.evidence) for c in facts.contract.columns)
    heads = ("column", "role", "kind", "let through", "missing in training")
    return (
        Facts(pairs),
        Words(("The contract: what a row must be to be scored. Other rows are quarantined.",)),
        Grid(heads, rows, numbers=(4,)),
    )


def _column(column: ColumnContract, evidence: Evidence) -> tuple[str, ...]:
    allowed = "any"
    if column.levels is not None:
        allowed = _some(column.levels)
    elif column.minimum is not None or column.maximum is not None:
        low = "-inf" if column.minimum is None else f"{column.minimum:.6g}"
        high = "inf" if column.maximum is None else f"{column.maximum:.6g}"
        allowed = f"{low} to {high}"
    elif column.name in evidence.levels:
        allowed = f"any; the model knows {_some(evidence.levels[column.name])}"
    needed = ", required" if column.required else ""
    return column.name, column.role, column.kind, allowed + needed, f"{column.null_rate:.1%}"


def _some(levels: tuple[str, ...]) -> str:
    more = f" and {len(levels) - _MOST_LEVELS} more" if len(levels) > _MOST_LEVELS else ""
    return ", ".join(levels[:_MOST_LEVELS]) + more


def _split(facts: CardFacts) -> tuple[Words, ...]:
    workload, evidence = facts.workload, facts.evidence
    ordered = workload.split == "time"
    seen = (
        "Every fold validates on rows later than all it was fitted on, and the holdout is later "
        "than all of them."
        if ordered
        else "Folds are drawn by chance, from the seed; a row's place in the holdout hangs on its "
        "own content, so it stays there when the table grows."
    )
    fitted = (
        "The model that serves was fitted again on all rows, the holdout included, once that had "
        "judged it."
        if workload.refits
        else "The model that serves is the one the holdout judged: it never saw these rows."
    )
    if workload.group:
        seen += f" Rows of one {workload.group} never straddle a split."
    held = f"The holdout: {evidence.holdout.rows:,} rows, {when(evidence.holdout)}."
    how = f"How: {facts.board.split}."
    return (Words((how, seen, held, fitted), points=True),)


def _leakage(facts: CardFacts) -> tuple[Words | Grid, ...]:
    checks = facts.workload.training.checks.model_dump()
    off = [name for name, level in checks.items() if level == "disabled"]
    run = [name for name in checks if name not in off]
    said = [f"Looked for before anything was fitted: {', '.join(run) or 'nothing'}."]
    if off:
        said.append(f"Not looked for, as the workload says: {', '.join(off)}.")
    if not facts.findings:
        return (Words((*said, "Nothing was found.")),)
    rows = tuple(
        (f.level, f.code, ", ".join(f.columns), f.explanation, f.advice) for f in facts.findings
    )
    heads = ("level", "check", "columns", "what was found", "what to do")
    return Words(tuple(said)), Grid(heads, rows)


def _limits(facts: CardFacts) -> tuple[Words | Facts, ...]:
    workload, evidence = facts.workload, facts.evidence
    limit, monitoring = workload.inference.quarantine_limit, workload.monitoring
    points = [
        "Rows that break the contract above are refused: quarantined with their reason in batch, "
        "an error through MLflow's own interface.",
        f"A window of which more than {limit:.1%} is refused is not published at all.",
        "Levels of a category that it does not know are treated as missing.",
    ]
    if evidence.target_range is not None:
        points.append("Nothing is known of it where the truth lies outside of the targets seen.")
    points += [f"Not tested: {what}." for what in evidence.untested]
    if evidence.slices.hidden:
        points.append(
            f"Not tested: {evidence.slices.hidden} slices with fewer than {MIN_ROWS} rows in the "
            "holdout."
        )
    on = workload.retraining.on
    then = f"at most every {format_duration(workload.retraining.cooldown)}" if on != "never" else ""
    pairs = (
        ("Watched", f"windows of {format_duration(monitoring.window)}, {monitoring.schedule} UTC"),
        (
            "Drift is reported",
            f"from distance {monitoring.min_effect:g}, level {monitoring.alpha:g}",
        ),
        ("Error may rise by", f"{monitoring.tolerance:.0%} before it is called harm"),
        ("Truth is known after", format_duration(monitoring.labels_after)),
        ("Retraining", f"on {on} {then}".strip()),
    )
    return Words(tuple(points), points=True), Facts(pairs)


def _bill(facts: CardFacts) -> tuple[Facts | Words, ...]:
    bill, prices = facts.bill, facts.workload.prices
    money = f"{prices.currency} {bill['cost/money_total']:.6f}"
    pairs = (
        ("Wall time", _spell(bill["time/wall_total_s"])),
        ("CPU time of the training itself", _spell(bill["time/cpu_s"])),
        ("Peak memory", f"{bill['cost/peak_memory_mb']:,.0f} MB"),
        ("Money", f"{money}, candidates included"),
        ("Energy", f"{1000 * bill['cost/energy_kwh']:.4g} Wh, {facts.energy}"),
        ("CO2", f"{bill['cost/co2_g']:.4g} g at {prices.grams_co2_per_kwh:g} g a kWh"),
    )
    note = (
        f"Until this card was written; the run holds the whole bill. Prices: {prices.core_hour:g} "
        f"{prices.currency} a core-hour, {prices.gb_hour:g} a GB-hour, {prices.kwh:g} a kWh. "
        "Energy is that of the training without its candidates."
    )
    return Facts(pairs), Words((note,))


def _spell(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))


def _software(facts: CardFacts) -> tuple[Facts, ...]:
    return (Facts(tuple(facts.software.items())),)


def _reproduce(facts: CardFacts) -> tuple[Command | Words, ...]:
    lines = (
        "Fits the same model from the same snapshot, with the settings of then, and compares it "
        "with the registered files byte by byte. It registers nothing and moves no alias.",
        f"Seed {facts.workload.seed}; fitted with {facts.threads} cores. The result is the same to "
        "the last bit where the library versions above are the same; some estimators add up in "
        "another order on another number of cores.",
    )
    return Command(_command(facts)), Words(lines)
