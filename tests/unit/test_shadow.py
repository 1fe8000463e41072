"""A challenger answers the same share of rows whoever asks; agreement is what one would count."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.scorers import PROBLEMS, fitted, learned
from twinloop.contract import Contract
from twinloop.scorer import Predictions, Scorer
from twinloop.shadow import Agreement, Shadow

KEY = ("t",)
every_problem = pytest.mark.parametrize("problem", list(PROBLEMS))


def shadow_of(problem: str, share: float = 1.0, kind: str = "linear") -> Shadow:
    """Return a challenger that knows rows by their time."""
    return Shadow(fitted(kind, problem), learned(problem)[1], KEY, share)


def ask(shadow: Shadow, champion: Scorer, rows: pa.Table) -> tuple[pa.Table, Agreement]:
    """Let a challenger answer what a champion has answered."""
    return shadow.answer(rows, rows, champion.predict(rows), champion.target)


def told(scorer: Scorer, rows: pa.Table) -> tuple[list[object], list[dict[object, float]]]:
    """Return the answers one by one, and for classes the probability of each."""
    said = scorer.predict(rows)
    values = scorer.columns(said)["prediction"]
    if said.probability is None:
        return values.to_pylist(), []
    labels = scorer.target.decode(np.arange(len(scorer.target.classes))).to_pylist()
    return values.to_pylist(), [dict(zip(labels, p, strict=True)) for p in said.probability]


@every_problem
def test_agreement_is_what_one_would_count(problem: str) -> None:
    """Row by row: equal answers, and how far numbers or probabilities of one class are apart."""
    rows, champion = learned(problem)[0], fitted("forest", problem)
    shadow = shadow_of(problem)
    table, found = ask(shadow, champion, rows)
    ours, our_shares = told(champion, rows)
    theirs, their_shares = told(shadow.scorer, rows)
    if our_shares:
        pairs = zip(ours, our_shares, their_shares, strict=True)
        apart = [abs(mine[label] - other[label]) for label, mine, other in pairs]
    else:
        apart = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]  # type: ignore[operator]
    assert found.rows == rows.num_rows
    assert found.refused == 0
    assert found.equal == sum(a == b for a, b in zip(ours, theirs, strict=True))
    assert found.absolute == pytest.approx(sum(apart))
    assert found.mean_difference == pytest.approx(sum(apart) / len(apart))
    assert table.column("prediction").to_pylist() == theirs


def test_classes_are_compared_by_name_not_by_place() -> None:
    """A challenger may count its classes otherwise, and lack one."""
    rows, champion = learned("five")[0], fitted("linear", "five")
    shadow = shadow_of("five")
    _, alike = ask(shadow, champion, rows)
    assert (alike.equal, alike.absolute) == (rows.num_rows, 0.0)
    known = champion.target.classes
    renamed = replace(
        shadow.scorer,
        target=shadow.scorer.target.model_copy(update={"classes": (*known[1:], "99")}),
    )
    said = champion.predict(rows)
    _, found = ask(replace(shadow, scorer=renamed), champion, rows)
    # Its first class is now called as the champion's second one is.
    assert said.probability is not None
    names = [known[v] for v in said.value]
    equal = [name == (*known[1:], "99")[v] for name, v in zip(names, said.value, strict=True)]
    assert found.equal == sum(equal) == 0
    at = np.arange(rows.num_rows)
    before = np.column_stack([np.zeros(rows.num_rows), said.probability[:, :-1]])
    apart = abs(said.probability[at, said.value] - before[at, said.value])
    assert found.absolute == pytest.approx(apart.sum())


def test_infinite_answers_are_left_out_of_differences() -> None:
    """Equal ones are equal, and sums stay numbers that can be written down."""
    rows, champion = learned("number")[0].slice(0, 4), fitted("linear", "number")
    shadow = shadow_of("number")
    said = shadow.scorer.predict(rows).value
    ours = Predictions(np.array([np.inf, -np.inf, said[2] + 2.0, said[3]]))
    found = shadow.answer(rows, rows, ours, champion.target)[1]
    assert (found.rows, found.equal) == (4, 1)
    assert found.absolute == pytest.approx(2.0)
    assert Agreement.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_share_is_about_right_and_the_same_however_rows_are_cut(share: float) -> None:
    """Rows are chosen by their key, not by where they stand."""
    n_rows = 20_000
    rows = pa.table({"t": pa.array(np.arange(n_rows) * 7919, pa.timestamp("us", "UTC"))})
    shadow = Shadow(fitted("linear", "number"), Contract(columns=()), KEY, share)
    chosen = shadow._chosen(rows)
    # Five standard errors of a share.
    assert abs(chosen.mean() - share) <= 5 * np.sqrt(share * (1 - share) / n_rows)
    cut = [shadow._chosen(rows.slice(i, 777)) for i in range(0, n_rows, 777)]
    assert np.concatenate(cut).tolist() == chosen.tolist()
    assert shadow._chosen(rows.take(np.arange(n_rows)[::-1])).tolist() == chosen[::-1].tolist()


def test_a_larger_share_has_the_rows_of_a_smaller_one() -> None:
    """So that more can be asked without asking others."""
    rows = learned("number")[0]
    few, many = (shadow_of("number", share)._chosen(rows) for share in (0.2, 0.6))
    assert 0 < few.sum() < many.sum()
    assert (many | ~few).all()


def test_rows_that_the_challenger_does_not_take_are_counted() -> None:
    """Its contract refuses them; the others are answered as if these were not there."""
    rows, champion = learned("two")[0], fitted("linear", "two")
    shadow = shadow_of("two")
    columns = tuple(
        c.model_copy(update={"maximum": 0.0}) if c.name == "n" else c
        for c in shadow.contract.columns
    )
    narrow = replace(shadow, contract=Contract(columns=columns))
    large = [v is not None and v > 0 for v in rows.column("n").to_pylist()]
    assert any(large)
    table, found = ask(narrow, champion, rows)
    assert (found.rows, found.refused) == (large.count(False), large.count(True))
    kept = rows.filter(pa.array([not v for v in large]))
    assert table.equals(ask(shadow, champion, kept)[0])


def test_a_challenger_that_asks_for_other_columns_refuses_all() -> None:
    """That is no reason for the champion not to answer."""
    rows, champion = learned("two")[0], fitted("linear", "two")
    table, found = ask(shadow_of("two"), champion, rows)
    lacking = rows.drop_columns(["flag"])
    said = champion.predict(rows)
    none, refused = shadow_of("two").answer(rows, lacking, said, champion.target)
    assert refused == Agreement(refused=found.rows)
    assert none.num_rows == 0
    assert none.schema == table.schema


def test_agreements_add_up() -> None:
    """Those of parts are that of the whole; of no rows there is none to speak of."""
    rows, champion, shadow = learned("two")[0], fitted("forest", "two"), shadow_of("two", 0.5)
    _, whole = ask(shadow, champion, rows)
    parts = [ask(shadow, champion, rows.slice(i, 70))[1] for i in range(0, rows.num_rows, 70)]
    summed = Agreement()
    for part in parts:
        summed = summed.merge(part)
    assert (summed.rows, summed.equal) == (whole.rows, whole.equal)
    assert summed.absolute == pytest.approx(whole.absolute)
    assert 0 < whole.share_equal < 1
    assert np.isnan(Agreement().share_equal)
    assert np.isnan(Agreement().mean_difference)
