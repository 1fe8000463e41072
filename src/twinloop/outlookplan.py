"""The log plan of a retraining's course: which way it takes, and the numbers that decided."""

from collections.abc import Iterator

from pydantic import ValidationError

from twinloop.logplan import LogItem, Metric, Table, Tag, Text
from twinloop.outlook import Course, Outlook, lead_over
from twinloop.recipe import Recipe
from twinloop.results import Leaderboard

# Whether the call that led to it has had its answer, for later drift checks to know.
ANSWERED = "twinloop.answered"
_LONGEST_TAG = 4000


def plan_course(course: Course, outlook: Outlook | None) -> Iterator[LogItem]:
    """Yield the log of the decision between refresh, search and neither."""
    yield Tag("twinloop.course", course.way)
    yield Tag("twinloop.course_reason", course.reason[:_LONGEST_TAG])
    yield Tag(ANSWERED, "no" if course.put_off else "yes")
    if outlook is None:
        return
    yield Text("outlook.json", outlook.model_dump_json(indent=1))
    numbers = {
        "champion_harm": outlook.harm,
        "refresh_harm": outlook.left,
        "refresh_saves": outlook.saved,
        "search_saves": outlook.lead,
        "search_money": outlook.search_money,
        "refresh_money": outlook.refresh_money,
    }
    known = {name: value for name, value in numbers.items() if value is not None}
    for name, value in known.items():
        yield Metric(f"outlook/{name}", value)
    rows = tuple((name.replace("_", " "), f"{value:.4g}") for name, value in known.items())
    yield Table("course", f"{course.way}: {course.reason}", ("what", "value"), rows)


def plan_lead(board: Leaderboard, recipe: str) -> Iterator[LogItem]:
    """Yield what a search found beyond the champion's recipe: what later ones may find is in it.

    Parameters
    ----------
    board
        Of the search.
    recipe
        The champion's, as JSON; empty for none.
    """
    try:
        name = Recipe.model_validate_json(recipe).candidate
    except ValidationError:
        return  # none, or of a later release
    lead = lead_over(board, name)
    if lead is not None:
        yield Metric("search/lead", lead)
