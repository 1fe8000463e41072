"""Sections of the model card on scores: candidates, holdout, slices and features."""

from twinloop.cardfacts import CardFacts, interval_words
from twinloop.ensembleplan import members_text
from twinloop.leaderboard import LEGEND, columns, lines, remarks
from twinloop.page import Facts, Grid, Shares, Spans, Words, brief
from twinloop.slices import MIN_ROWS
from twinloop.tuneplan import recipe_words

_MOST_SHARES = 12
_MOST_SLICES = 12


def about_candidates(facts: CardFacts) -> tuple[Words | Spans | Grid, ...]:
    """Tell how the candidates did, and why the winner is one."""
    board = facts.board
    chosen = tuple(i for i, c in enumerate(board.candidates) if c is board.winner)
    spans = Spans(
        f"{facts.workload.metric} over the folds",
        tuple((c.name, c.valid, *c.interval) for c in board.candidates),
        marked=chosen,
    )
    said = [f"{remark}." for remark in remarks(board)]
    winner = board.winner
    if winner.members:
        said.append(f"Members: {members_text(winner.members)}.")
    made_by = {winner.name: winner.recipe} | {m.name: m.recipe for m in winner.members}
    for name, recipe in made_by.items():
        if words := recipe_words(recipe):
            settings = ", ".join(f"{key} {value}" for key, value in words.items())
            said.append(f"Settings of {name}: {settings}.")
    if board.skipped:
        said.append(f"Not run, for lack of budget: {', '.join(board.skipped)}.")
    notes = (
        "Intervals are of the mean over folds, corrected for the rows that folds share (Nadeau "
        "and Bengio 2003). A gap is wide where the training score lies beyond that interval.",
        f"On the {LEGEND}.",
    )
    heads = columns(board)
    numbers = tuple(i for i in range(1, len(heads) - 1))
    grid = Grid(heads, lines(board), numbers=numbers, marked=chosen)
    return Words(tuple(said)), spans, grid, Words(notes)


def about_holdout(facts: CardFacts) -> tuple[Facts | Words, ...]:
    """Tell the score on the holdout, with its interval; calibration and threshold."""
    workload, evidence = facts.workload, facts.evidence
    days = evidence.holdout.days
    blocks = f"blocks of days: {days}" if days else "single rows"
    if not days and workload.group:
        blocks = f"groups of {workload.group}"
    pairs = [
        (workload.metric, brief(evidence.score)),
        ("95 % interval", f"{interval_words(facts)} (jackknife over {blocks})"),
        ("Rows", f"{evidence.holdout.rows:,}"),
    ]
    found, rule = evidence.reliability, evidence.rule
    if found is not None:
        method = rule.calibration.method
        how = "as the estimator gives them" if method == "none" else f"calibrated ({method})"
        pairs.append(("Probabilities", how))
        for name, after, before in (
            ("Brier score", found.brier, found.brier_before),
            ("Log loss", found.log_loss, found.log_loss_before),
            ("Calibration error", found.error, found.error_before),
        ):
            was = "" if method == "none" else f", {brief(before)} before calibration"
            pairs.append((name, brief(after) + was))
    if workload.task == "binary":
        pairs.append(("Threshold", _threshold(facts)))
    if evidence.target_range is not None:
        low, high = evidence.target_range
        pairs.append(("Targets seen", f"{low:.6g} to {high:.6g}"))
    return (
        Words(("Scored once, on rows the scored model had not seen.",)),
        Facts(tuple(pairs)),
        Words(("Its figures are among the plots of the run: truth and prediction, errors.",)),
    )


def _threshold(facts: CardFacts) -> str:
    rule, training = facts.evidence.rule, facts.workload.training
    how = "as the workload says"
    if training.threshold == "auto":
        how = f"tuned for {facts.workload.metric}" if rule.threshold != 0.5 else "not tuned"
    second = facts.evidence.classes[-1]
    return f"{rule.threshold:.4g}, {how}: above it, {second} is predicted"


def about_slices(facts: CardFacts) -> tuple[Words | Spans, ...]:
    """Tell the worst parts of the holdout."""
    report, metric = facts.evidence.slices, facts.workload.metric
    if not report.slices:
        return (Words(("The holdout was not divided: no column has few enough levels.",)),)
    shown = report.slices[:_MOST_SLICES]
    worse = tuple(i for i, s in enumerate(shown) if s.worse)
    rows = tuple((f"{s.column} = {s.level}", s.score, s.low, s.high) for s in shown)
    said = (
        f"The worst {len(shown)} of {len(report.slices)} slices of at least {MIN_ROWS} rows "
        f"({report.hidden} others had too few). The dashed line is the whole holdout.",
        f"Clearly worse than the whole: {len(report.worse)}, marked where they are shown. A slice "
        "is called so where its interval, widened for the number of slices, ends short of the "
        "whole.",
    )
    notes = tuple(f"{s.rows:,} rows{', clearly worse' if s.worse else ''}" for s in shown)
    line = report.whole.score
    return Words(said), Spans(metric, rows, notes, line=line, marked=worse)


def about_shares(facts: CardFacts) -> tuple[Shares | Words, ...]:
    """Tell what the model leans on."""
    shares = facts.evidence.shares[:_MOST_SHARES]
    if not shares:
        return (Words(("This kind of model does not say.",)),)
    how = (
        "Gain for boosted trees, impurity for forests, standardised coefficients for linear "
        "models, the mean slope for kernel models; of an ensemble its members' by weight. It tells "
        "what the model uses, not what causes what."
    )
    return Shares("feature", shares), Words((how,))
