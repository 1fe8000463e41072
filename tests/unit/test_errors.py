"""Errors tell what failed and what mends it, in every process alike."""

import pickle

import pytest

from twinloop import errors
from twinloop.errors import ColumnError, TwinloopError, nearest


def kinds() -> list[type[TwinloopError]]:
    """Return every error there is, the base included."""
    return [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, TwinloopError)
    ]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_an_error_survives_the_way_to_another_process(kind: type[TwinloopError]) -> None:
    """Pickling keeps the class, the message, the hint and the code."""
    sent = kind("column 'a' is missing", "Name it 'b'.")
    came = pickle.loads(pickle.dumps(sent))  # noqa: S301 - our own bytes
    assert type(came) is kind
    assert (came.message, came.hint, came.code) == (sent.message, sent.hint, sent.code)
    assert str(came) == str(sent)


def test_codes_are_unique_and_stable_in_form() -> None:
    """Each error has a code of its own: two letters and three digits."""
    codes = [kind.code for kind in kinds()]
    assert len(codes) == len(set(codes)) > 5
    assert all(code.startswith("TL") and code[2:].isdigit() and len(code) == 5 for code in codes)


def test_the_text_carries_code_message_and_hint() -> None:
    """What a person reads starts with the code and ends with the way out."""
    assert str(ColumnError("no column 'a'.", "Add it.")) == "[TL220] no column 'a'. Add it."
    assert str(ColumnError("no column 'a'.")) == "[TL220] no column 'a'."


@pytest.mark.parametrize(
    ("word", "known", "told"),
    [
        ("trget", ["target", "time"], "Did you mean 'target'?"),
        ("zzz", ["b", "a"], "Known: a, b."),
        ("zzz", [], "Known: none."),
    ],
)
def test_an_unknown_word_gets_its_nearest(word: str, known: list[str], told: str) -> None:
    """Close words are suggested; where none is close, all are listed, in order."""
    assert nearest(word, known) == told
