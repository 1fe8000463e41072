"""What the pages say of flows and their parameters is what the docstrings say."""

from typing import Any

import pytest
from prefect import Flow

from flows.form import describe, parameter_form
from flows.prepare_data import prepare_data
from flows.retrain_model import retrain_model
from flows.score_batch import score_batch
from flows.train_model import train_model
from flows.watch_drift import watch_drift

FLOWS = [prepare_data, train_model, score_batch, watch_drift, retrain_model]


@pytest.mark.parametrize("flow", FLOWS)
def test_every_parameter_is_described(flow: Flow[..., Any]) -> None:
    """No parameter of a deployed flow is without a description."""
    for name, field in parameter_form(flow)["properties"].items():
        assert field.get("description"), name


@pytest.mark.parametrize("flow", FLOWS)
def test_description_is_whole_paragraphs(flow: Flow[..., Any]) -> None:
    """A paragraph is one line, and the sections of the docstring are left out."""
    text = describe(flow)
    assert text
    assert all(part and "\n" not in part for part in text.split("\n\n"))
    assert "---" not in text
    assert "``" not in text


def test_words_are_those_of_the_docstring() -> None:
    """A description of several lines is joined, and marks of code are left out."""
    field = parameter_form(score_batch)["properties"]["window"]
    told = "Rows to score, UTC; default the newest whole inference window before as_of."
    assert field["description"] == told
