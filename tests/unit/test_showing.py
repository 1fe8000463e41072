"""Progress is shown in a terminal, and nowhere else where there is no page."""

import io
import sys

import pytest

from tasks import showing
from twinloop.workload import Workload

WORKLOAD = Workload.model_validate(
    {"name": "w", "task": "regression", "source": {"kind": "files", "path": "x"}, "target": "y"}
)


class Screen(io.StringIO):
    """A terminal, or something else."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        """Tell which."""
        return self._terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_for_terminals(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that takes longer than a moment has a bar; into a file or a pipe goes nothing."""
    screen = Screen(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(showing, "_MOMENT", 0.0)
    with showing.progress(WORKLOAD, "tuning", "Budget of tuning used") as tell:
        tell(0.25)
    assert ("Budget of tuning used" in screen.getvalue()) == terminal


def test_a_quick_job_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done at once needs none."""
    screen = Screen(terminal=True)
    monkeypatch.setattr(sys, "stderr", screen)
    with showing.progress(WORKLOAD, "tuning", "Budget of tuning used") as tell:
        tell(0.5)
    assert screen.getvalue() == ""


def test_a_bar_goes_away_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal is given back, whatever happens."""
    screen = Screen(terminal=True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(showing, "_MOMENT", 0.0)

    def interrupted() -> None:
        with showing.progress(WORKLOAD, "tuning", "used") as tell:
            tell(0.25)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert screen.getvalue().endswith("\x1b[2K")
