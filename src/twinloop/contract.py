"""The contract: what a table must look like, learned at training and enforced at inference."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.data_keys import ColumnRule
from twinloop.errors import ColumnError
from twinloop.tables import (
    ARROW_TYPES,
    Typed,
    convert,
    floats_of,
    infer_kind,
    is_null,
    require_columns,
)
from twinloop.vocabulary import Frozen, Kind
from twinloop.workload import Workload

REASON = "quarantine_reason"
_LARGEST = float(np.finfo(np.float32).max)
_ROLES = ("key", "time", "group", "target", "feature")
# Of the columns that a row needs to be scored.
SCORED_ROLES = ("key", "time", "group", "feature")
_INDEX = re.compile(r"__index_level_\d+__")


class ColumnContract(Frozen):
    """What one column must be."""

    name: str
    role: str
    kind: Kind
    exact: bool = False  # integers that name things: kept as they are, never as floats
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    levels: tuple[str, ...] | None = None
    null_rate: float = 0.0

    @property
    def arrow_type(self) -> pa.DataType:
        """Arrow type of the conforming column."""
        return pa.int64() if self.exact else ARROW_TYPES[self.kind]


class Contract(Frozen):
    """Columns, their kinds, ranges and domains."""

    columns: tuple[ColumnContract, ...]

    def select(self, *roles: str) -> tuple[ColumnContract, ...]:
        """Return the columns that play one of these roles."""
        return tuple(c for c in self.columns if c.role in roles)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns a model may see."""
        return tuple(c.name for c in self.select("feature"))

    def arrow_schema(self, *roles: str) -> pa.Schema:
        """Arrow schema of the conforming columns that play one of these roles."""
        return pa.schema([(c.name, c.arrow_type) for c in self.select(*roles)])


@dataclass(frozen=True)
class Checked:
    """A table divided by its contract.

    Attributes
    ----------
    good : pa.Table
        Conforming rows, typed, in their order.
    bad : pa.Table
        The other rows as they came, and in ``quarantine_reason`` the codes and columns, joined by
        ``;``.
    kept : np.ndarray of bool, shape (n_rows,)
        True for the good rows.
    """

    good: pa.Table
    bad: pa.Table
    kept: np.ndarray


def roles_of(workload: Workload, names: list[str]) -> dict[str, str]:
    """Map every column that counts to its role; ignored columns are left out.

    So is an index without a name, as pandas writes it, unless the workload describes it: it tells
    where a row stood, not what is in it.
    """
    roles = dict.fromkeys(workload.key, "key")
    if workload.time:
        roles[workload.time] = "time"
    if workload.group:
        roles.setdefault(workload.group, "group")
    roles[workload.target] = "target"
    indices = {n for n in names if _INDEX.fullmatch(n)} - workload.columns.keys()
    left_out = workload.not_features | indices
    roles |= {n: "feature" for n in names if n not in left_out}
    return roles


def infer_contract(table: pa.Table, workload: Workload, origin: str) -> Contract:
    """Learn a contract from a table.

    Ranges learned are twice as wide as what was seen: a contract is there to stop the impossible;
    the unusual is the business of the drift check. Rules in the workload come first.

    Parameters
    ----------
    table
        Rows as they came from the source, shape (n_rows, n_columns).
    workload
        Says which column plays which role, and what is known beforehand.
    origin
        Where the table comes from, for errors.

    Raises
    ------
    ColumnError
        If a named column is missing, a column holds nothing but nulls, or no feature is left.
    """
    sliced = [name for name in workload.slices or () if workload.time_part(name) is None]
    named = {
        **dict.fromkeys(sliced, "named under 'slices'"),
        **dict.fromkeys(workload.key, "the key"),
        workload.target: "the target",
        **({workload.time: "the time"} if workload.time else {}),
        **({workload.group: "the group"} if workload.group else {}),
        **dict.fromkeys(workload.columns, "named under 'columns'"),
        **dict.fromkeys(workload.ignore, "named under 'ignore'"),
    }
    require_columns(table, named, origin)
    roles = roles_of(workload, table.schema.names)
    columns = tuple(
        _learn(table.column(name), name, role, workload, origin) for name, role in roles.items()
    )
    if "feature" not in roles.values():
        raise ColumnError(
            f"{origin}: no feature is left; columns are {table.schema.names}, and key, time, "
            f"target and ignored columns are {sorted(workload.not_features)}."
        )
    return Contract(columns=columns)


def _learn(
    column: pa.ChunkedArray, name: str, role: str, workload: Workload, origin: str
) -> ColumnContract:
    rule = workload.columns.get(name)
    if column.null_count == len(column):
        raise ColumnError(
            f"{origin}: column {name!r} ({role}) holds nothing but nulls in {len(column)} rows.",
            "Mend the source, or list the column under 'ignore'.",
        )
    kind: Kind = "timestamp" if role == "time" else _kind(column, rule)
    # What names rows must be kept exactly: floats are not, and int64 does not hold all of uint64.
    exact = pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type)
    if role in ("key", "group") and kind == "number" and not exact:
        kind = "category"
    typed = convert(column, kind)
    if typed.values.null_count == len(typed.values):
        raise ColumnError(f"{origin}: column {name!r} ({role}) has no value of kind {kind!r}.")
    low, high = _range(typed.values) if kind == "number" and role == "feature" else (None, None)
    if rule is not None:
        low = rule.minimum if rule.minimum is not None else low
        high = rule.maximum if rule.maximum is not None else high
    return ColumnContract(
        name=name,
        role=role,
        kind=kind,
        exact=kind == "number" and pa.types.is_integer(column.type) and role != "feature",
        required=role in ("key", "time", "group") or bool(rule and rule.required),
        minimum=low,
        maximum=high,
        levels=rule.levels if rule else None,
        null_rate=typed.values.null_count / len(typed.values),
    )


def _kind(column: pa.ChunkedArray, rule: ColumnRule | None) -> Kind:
    if rule is not None and rule.kind is not None:
        return rule.kind
    return "category" if rule is not None and rule.levels is not None else infer_kind(column)


def _range(values: pa.Array) -> tuple[float, float]:
    finite = values.filter(pc.fill_null(pc.is_finite(values), False))
    if len(finite) == 0:
        return -np.inf, np.inf
    seen = pc.min_max(finite)
    low, high = seen["min"].as_py(), seen["max"].as_py()
    slack = max(high - low, abs(high), 1.0)
    return low - slack, high + slack


Hit = tuple[str, str, np.ndarray]


def key_rows(table: pa.Table, contract: Contract, key: tuple[str, ...]) -> Checked:
    """Return the keys of rows, typed; rows without one are bad.

    Parameters
    ----------
    table
        Rows as they came, shape (n_rows, n_columns).
    contract
        Says what each column of the key must be.
    key
        Names of its columns.
    """
    columns = tuple(c for c in contract.columns if c.name in key)
    return check_rows(table.select([c.name for c in columns]), Contract(columns=columns))


def check_rows(
    table: pa.Table,
    contract: Contract,
    *,
    roles: tuple[str, ...] = _ROLES,
    lean: bool = False,
) -> Checked:
    """Divide rows into those that keep the contract and those that break it.

    Parameters
    ----------
    table
        Rows as they came, shape (n_rows, n_columns); columns the contract does not know are dropped
        from the good rows.
    contract
        What to hold them to.
    roles
        Roles whose columns are checked and kept: without ``target``, a table of unknown labels.
    lean
        Whether good rows are typed as far as an encoding needs it only, which is many times faster:
        categories that come as dictionaries of strings stay so, and missing numbers may be NaN.

    Returns
    -------
    Checked
        Good and bad rows; together they are all rows.

    Raises
    ------
    ColumnError
        If a whole column is missing: that is no fault of a row.
    """
    columns = contract.select(*roles)
    require_columns(table, {c.name: f"part of the contract ({c.role})" for c in columns}, "input")
    typed = {c.name: _typed(table.column(c.name), c, lean) for c in columns}
    hits: list[Hit] = []
    for column in columns:
        hits += _violations(column, typed[column.name])
    broken = np.zeros(table.num_rows, bool)
    for _, _, mask in hits:
        broken |= mask
    good = pa.table({c.name: typed[c.name].values for c in columns})
    if hits:
        good = good.filter(pa.array(~broken))
    bad = with_reason(table, broken, _reasons(hits, broken))
    return Checked(good, bad, ~broken)


def _typed(column: pa.ChunkedArray, contract: ColumnContract, lean: bool) -> Typed:
    if lean and contract.kind == "category" and _is_plain_dictionary(column):
        return Typed(column.combine_chunks(), np.zeros(len(column), bool))
    numbers = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    if lean and numbers and contract.kind == "number" and not (contract.required or contract.exact):
        return Typed(pa.array(floats_of(column)), np.zeros(len(column), bool))
    if not contract.exact:
        return convert(column, contract.kind)
    if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
        return Typed(column.combine_chunks().cast(pa.int64()), np.zeros(len(column), bool))
    typed = convert(column, "number")
    floats = typed.values
    # Beyond 2**53 a float no longer tells one integer from the next; digits do.
    sure = pc.and_(pc.equal(pc.floor(floats), floats), pc.less(pc.abs(floats), 2.0**53))
    values = pc.coalesce(_digits(column), pc.if_else(sure, floats, None).cast(pa.int64()))
    missing = is_null(floats) & ~typed.wrong
    return Typed(values, is_null(values) & ~missing)


def _is_plain_dictionary(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if not (pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type)):
        return False
    return len(column) > 0 and all(c.dictionary.null_count == 0 for c in column.chunks)


def _digits(column: pa.ChunkedArray) -> pa.Array:
    """Read integers written as digits, exactly; null for anything else."""
    text = convert(column, "category").values
    written = pc.if_else(pc.match_substring_regex(text, r"^-?\d{1,19}$"), text, None)
    wide = written.cast(pa.decimal128(19, 0))
    limits = pa.array([-(2**63), 2**63 - 1], pa.int64()).cast(wide.type)
    fits = pc.and_(pc.greater_equal(wide, limits[0]), pc.less_equal(wide, limits[1]))
    return pc.if_else(fits, wide, None).cast(pa.int64())


def _violations(column: ColumnContract, typed: Typed) -> list[Hit]:
    """List what this column breaks: code, column and mask, only where something is broken."""
    values = typed.values
    missing = is_null(values)
    tests: list[tuple[str, Callable[[], np.ndarray]]] = [("wrong_type", lambda: typed.wrong)]
    if column.required and values.null_count:
        tests.append(("missing_required", lambda: missing & ~typed.wrong))
    if column.kind == "number":
        tests.append(("out_of_range", lambda: _outside(values, column)))
    if column.levels is not None:
        known = pa.array(column.levels, pa.string())
        tests.append(
            (
                "unknown_level",
                lambda: ~_is_in(values, known) & ~missing,
            )
        )
    found = ((code, column.name, mask()) for code, mask in tests)
    return [hit for hit in found if hit[2].any()]


def _is_in(values: pa.Array, known: pa.Array) -> np.ndarray:
    if not pa.types.is_dictionary(values.type):
        return np.asarray(pc.is_in(values, known))
    levels = np.append(np.asarray(pc.is_in(values.dictionary, known)), False)
    return levels.take(values.indices.fill_null(len(levels) - 1).to_numpy())


def _outside(values: pa.Array, column: ColumnContract) -> np.ndarray:
    # Nulls arrive as NaN and are nobody's fault here. What float32 cannot hold, infinities
    # included, would reach the model as infinite.
    low = -_LARGEST if column.minimum is None else max(column.minimum, -_LARGEST)
    high = _LARGEST if column.maximum is None else min(column.maximum, _LARGEST)
    floats = floats_of(values)
    if len(floats) and np.fmin.reduce(floats) >= low and np.fmax.reduce(floats) <= high:
        return np.zeros(len(floats), bool)
    return (floats < low) | (floats > high)


def _reasons(hits: list[Hit], broken: np.ndarray) -> list[str]:
    rows = np.flatnonzero(broken)
    reasons: list[list[str]] = [[] for _ in rows]
    for code, name, mask in hits:
        for i in np.flatnonzero(mask[rows]):
            reasons[i].append(f"{code}:{name}")
    return [";".join(r) for r in reasons]


def with_reason(table: pa.Table, broken: np.ndarray, reasons: list[str]) -> pa.Table:
    """Return the broken rows as they came, with why; what was said of them before makes room."""
    bad = table.filter(pa.array(broken)) if broken.any() else table.slice(0, 0)
    bad = bad.drop_columns([n for n in (REASON,) if n in bad.schema.names])
    return bad.append_column(REASON, pa.array(reasons, pa.string()))


def duplicated(table: pa.Table, key: tuple[str, ...]) -> np.ndarray:
    """Mark each row whose key stands in an earlier row.

    Returns
    -------
    np.ndarray of bool, shape (n_rows,)
        All False where there is no key.
    """
    if not key:
        return np.zeros(table.num_rows, bool)
    return pd.DataFrame(table.select(list(key)).to_pandas()).duplicated().to_numpy(bool)
