"""Leakage: signs, before anything is fitted, that a model would see what it is to predict.

Each check has a code, which is its key under ``training.checks``. What is certain fails a training
unless the workload says otherwise; what is a suspicion warns.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import pyarrow as pa

from twinloop.contract import Contract
from twinloop.errors import LeakageError
from twinloop.leakage_case import Case, Leak
from twinloop.leakage_columns import id_like, near_target, target_copy
from twinloop.leakage_rows import duplicate_rows, group_overlap, time_overlap
from twinloop.scorer import Target
from twinloop.splitting import Split
from twinloop.vocabulary import CheckCode, Frozen
from twinloop.workload import Workload


class Finding(Frozen):
    """One sign of a leak.

    Attributes
    ----------
    code
        Which check found it.
    level
        What the workload wants to happen: ``warn`` or ``fail``.
    columns
        Which columns it is about; none where it is about rows.
    numbers
        What was measured, by name.
    explanation
        One sentence on what was found and why it is a leak.
    advice
        What to do about it.
    """

    code: CheckCode
    level: Literal["warn", "fail"]
    columns: tuple[str, ...]
    numbers: dict[str, float]
    explanation: str
    advice: str


def find_leaks(
    table: pa.Table, contract: Contract, target: Target, split: Split, workload: Workload
) -> tuple[Finding, ...]:
    """Look for leaks in rows that are about to be learned from.

    Parameters
    ----------
    table
        A snapshot's rows, shape (n_rows, n_columns).
    contract
        Says which columns are features.
    target
        What is predicted.
    split
        How the rows are divided.
    workload
        Its ``training.checks`` say which checks run, and what follows from a finding.

    Returns
    -------
    tuple of Finding
        In the order of the checks.
    """
    case = Case(table, contract, target, split, workload)
    levels = workload.training.checks.model_dump()
    return tuple(
        Finding(code=code, level=levels[code], **vars(leak))
        for code, check in _CHECKS.items()
        if levels[code] != "disabled"
        for leak in check(case)
    )


def refuse_leaks(findings: Iterable[Finding]) -> None:
    """Stop where a finding is meant to.

    Raises
    ------
    LeakageError
        With every finding of level ``fail``.
    """
    failed = [f for f in findings if f.level == "fail"]
    if failed:
        codes = ", ".join(sorted({f"training.checks.{f.code}" for f in failed}))
        raise LeakageError(
            " ".join(f"{f.code}: {f.explanation} {f.advice}" for f in failed),
            f"Where it is no leak, set {codes} to warn.",
        )


_CHECKS: dict[CheckCode, Callable[[Case], Iterator[Leak]]] = {
    "group_overlap": group_overlap,
    "time_overlap": time_overlap,
    "target_copy": target_copy,
    "near_target": near_target,
    "id_like": id_like,
    "duplicate_rows": duplicate_rows,
}
