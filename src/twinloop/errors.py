"""Everything Twinloop refuses, each with a stable code, a reason and a way out."""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class TwinloopError(Exception):
    """Base of all errors a user can mend.

    Parameters
    ----------
    message
        What failed, the offending value, and what was expected.
    hint
        The setting or command that mends it.
    """

    code: ClassVar[str] = "TL000"

    def __init__(self, message: str, hint: str = "") -> None:
        # Both go to Exception.args: that is what pickle hands to the other process.
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        tail = f" {self.hint}" if self.hint else ""
        return f"[{self.code}] {self.message}{tail}"


class WorkloadError(TwinloopError):
    """A workload file or an override does not describe a learning problem."""

    code = "TL100"


class SourceError(TwinloopError):
    """A source cannot be read: missing, corrupt, or of changing type."""

    code = "TL200"


class EmptyWindowError(TwinloopError):
    """A window holds no rows, or too few for what was asked."""

    code = "TL210"


class ColumnError(TwinloopError):
    """A column the workload or the contract needs is missing or unusable."""

    code = "TL220"


class DuplicateKeyError(TwinloopError):
    """Rows share a key and differ otherwise."""

    code = "TL230"


class TargetError(TwinloopError):
    """The target cannot be learned: one class, nulls, or impossible for the metric."""

    code = "TL300"


class QuarantineError(TwinloopError):
    """More rows break the contract than the workload allows."""

    code = "TL310"


class LeakageError(TwinloopError):
    """A model would see what it is to predict."""

    code = "TL320"


class RegistryError(TwinloopError):
    """A model version is missing, or is not what it claims to be."""

    code = "TL400"


class ReproductionError(TwinloopError):
    """A version cannot be fitted again, or comes out otherwise."""

    code = "TL410"


class ServiceError(TwinloopError):
    """MLflow or Prefect does not answer."""

    code = "TL500"


class StorageError(TwinloopError):
    """The lake cannot be written."""

    code = "TL510"


class BudgetError(TwinloopError):
    """A budget is spent."""

    code = "TL600"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a "did you mean" sentence for an unknown word.

    Parameters
    ----------
    word
        What was given.
    known
        What would have been accepted.

    Returns
    -------
    str
        The closest known words, or all of them where none is close.
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    return f"Known: {', '.join(names) or 'none'}."
