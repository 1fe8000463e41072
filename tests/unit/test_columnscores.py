"""Scores of columns: what each kind of change moves, and by how much."""

import numpy as np
import pytest

from twinloop.columnscores import angles, learn_scores


def test_scores_have_the_variance_of_independent_rows() -> None:
    """Whatever the column, n times the variance of each score is one."""
    draw = np.random.default_rng(0)
    shares = draw.dirichlet(np.full(22, 3.0))
    rows, n = 400, 4000
    for is_coded in (False, True):
        scores = learn_scores(np.append(shares[:20], [0.05, 0.02]) * 1e6, is_coded, rows)
        drawn = draw.multinomial(
            rows, np.append(shares[:20], [0.05, 0.02]) / (shares[:20].sum() + 0.07), n
        )
        spread = scores.of(drawn.astype(float)).std(axis=0) * np.sqrt(rows)
        assert np.all(spread < 1.15)
        assert np.median(spread) == pytest.approx(1.0, abs=0.1)


def test_curves_are_orthogonal() -> None:
    """In the training rows each has mean 0 and variance 1, and none goes along with another."""
    whole = np.append(np.random.default_rng(1).integers(1, 100, 24), [7, 0]).astype(float)
    curves = learn_scores(whole, False, 1000.0).curves
    weights = whole[:-2] / whole[:-2].sum()
    np.testing.assert_allclose(curves.T @ (curves * weights[:, None]), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(weights @ curves, 0.0, atol=1e-9)


@pytest.mark.parametrize("counts", [[0, 5, 0], [0], [0, 0, 0]])
def test_a_column_of_one_value_has_no_curves(counts: list[int]) -> None:
    """Nothing can be said of where values lie; missing ones are looked at all the same."""
    whole = np.array([*counts, 3, 0], float)
    scores = learn_scores(whole, False, 8.0)
    assert scores.curves.shape[1] == 0
    assert np.isfinite(scores.of(whole[None])).all()
    assert scores.sets[-2].any()


def test_rare_levels_are_put_together() -> None:
    """Levels of less than five expected rows share a score; missing and new have their own."""
    whole = np.array([900.0, 80, 10, 6, 4, 0, 0])
    assert learn_scores(whole, True, 100.0).sets.shape[1] == 5
    assert learn_scores(whole, True, 10_000.0).sets.shape[1] == 7


def test_angles_are_of_shares() -> None:
    """From near 0 for none to near pi for all."""
    found = angles(np.array([0.0, 50, 100]), np.array([100.0, 100, 100]))
    assert found == pytest.approx([0.0, np.pi / 2, np.pi], abs=0.13)
