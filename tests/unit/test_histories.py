"""How far back to reach: what is compared, and when another than the window is taken."""

from datetime import timedelta

import numpy as np

from twinloop.histories import Compared, choice_words, choose, histories, stretch_groups
from twinloop.refresh import History

DAY = timedelta(days=1)
OWN, HALF = History(span=180 * DAY), History(span=90 * DAY)
GROUPS = np.repeat(np.arange(9), 10)


def compared(own: np.ndarray, other: np.ndarray) -> list[Compared]:
    """Compare half the window with the window."""
    return [
        Compared.of(h, losses, own, GROUPS, 100, 0.1) for h, losses in ((OWN, own), (HALF, other))
    ]


def test_nothing_longer_is_tried_than_there_is() -> None:
    """Parts of the window always, more of the past as far as it goes, the longest by age too."""
    spans = [(h.span, h.half_life) for h in histories(180 * DAY, 1000 * DAY)]
    assert spans == [
        (180 * DAY, None),
        (45 * DAY, None),
        (90 * DAY, None),
        (360 * DAY, None),
        (360 * DAY, 60 * DAY),
    ]
    assert histories(180 * DAY, 300.5 * DAY)[-2:] == (
        History(span=300 * DAY),
        History(span=300 * DAY, half_life=50 * DAY),
    )
    assert [h.span for h in histories(180 * DAY, 190 * DAY)] == [180 * DAY, 45 * DAY, 90 * DAY]


def test_the_window_stays_unless_another_is_clearly_better() -> None:
    """A lead that luck explains moves nothing; the same lead, steady, does."""
    draw = np.random.default_rng(1)
    own = draw.uniform(1, 2, 90)
    noisy = own - 0.02 + np.repeat(draw.choice([-0.5, 0.5], 9), 10)
    noisy += own.mean() - 0.02 - noisy.mean()
    assert choose(compared(own, noisy)) == OWN
    assert choose(compared(own, own - 0.02)) == HALF
    assert choose(compared(own, own + 0.02)) == OWN


def test_the_choice_is_told_with_its_numbers() -> None:
    """What was saved as a share, and whether it was enough."""
    own = np.full(90, 2.0)
    words = choice_words(compared(own, own * np.where(GROUPS % 2, 0.9, 0.7)))
    assert words.startswith("90d: 90d saves 2")
    assert words.endswith("chosen")
    assert choice_words(compared(own, own + 1)) == "180d: none of 1 others did better"


def test_neighbours_of_a_stretch_hang_together() -> None:
    """Three groups to a stretch, none across two."""
    groups = stretch_groups(np.arange(60), [0, 30, 60])
    assert len(np.unique(groups)) == 6
    assert (np.diff(groups) >= 0).all()
    assert set(groups[:30]).isdisjoint(groups[30:])
