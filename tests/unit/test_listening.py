"""An automation of an older release hears of new events, and stays as a person left it."""

from typing import Any
from uuid import uuid4

import pytest
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import (
    Automation,
    AutomationCore,
    CompoundTrigger,
    EventTrigger,
    Posture,
)

from flows import deploy
from flows.deploy import listening
from tasks.announcing import DRIFT_EVENT, LABELS_EVENT, drift_resource
from twinloop.workload import Workload

SHOP = Workload.model_validate(
    {"name": "shop", "task": "binary", "source": {"kind": "files", "path": "x"}, "target": "y"}
)
BOTH = {DRIFT_EVENT, LABELS_EVENT}


def automation(*events: str) -> Automation:
    """Return one that somebody has paused, given a threshold and another parameter."""
    return Automation(
        id=uuid4(),
        name="drift detected: retrain shop",
        enabled=False,
        trigger=EventTrigger(
            expect=set(events),
            match={"prefect.resource.id": drift_resource(SHOP)},
            posture=Posture.Reactive,
            threshold=2,
        ),
        actions=[
            RunDeployment(source="selected", deployment_id=uuid4(), parameters={"reason": "mine"})
        ],
    )


def test_what_an_older_release_made_hears_new_events() -> None:
    """The trigger gets the event that is missing; pause, threshold and action stay."""
    known = automation(DRIFT_EVENT, "shop.closed")
    found = listening(known, BOTH)
    assert found is not None
    assert isinstance(found.trigger, EventTrigger)
    assert found.trigger.expect == {*BOTH, "shop.closed"}
    assert (found.enabled, found.trigger.threshold) == (False, 2)
    assert isinstance(known.trigger, EventTrigger)
    assert found.trigger.match == known.trigger.match
    assert found.actions == known.actions
    # It is what a server takes.
    sent = found.model_dump(mode="json", exclude_unset=True)
    assert AutomationCore.model_validate(sent).enabled is False


def test_who_hears_all_is_left_alone() -> None:
    """Nothing to change is no update; a trigger of another kind is a person's own."""
    assert listening(automation(*BOTH, "more"), BOTH) is None
    several: Any = CompoundTrigger(require="any", within=None, triggers=[])
    other = automation().model_copy(update={"trigger": several})
    assert listening(other, BOTH) is None


@pytest.mark.parametrize("events", [(DRIFT_EVENT,), (DRIFT_EVENT, LABELS_EVENT)])
def test_deploying_again_updates_what_is_there(events: tuple[str, ...]) -> None:
    """Who has deployed before hears of new labels after the next deploy; once."""
    known, updated = automation(*events), []

    class Client:
        def read_automations_by_name(self, name: str) -> list[Automation]:
            assert name == known.name
            return [known]

        def update_automation(self, number: object, wanted: AutomationCore) -> None:
            updated.append((number, wanted))

    client: Any = Client()
    deploy._automate(client, SHOP, uuid4())
    assert [number for number, _ in updated] == [known.id] * (2 - len(events))
