"""The scorer: a fitted model that turns conforming tables into predictions, and its files."""

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from twinloop.candidates import Predictor
from twinloop.encoding import Encoding
from twinloop.errors import RegistryError, TargetError, WorkloadError
from twinloop.modelfiles import TRUSTED_TYPES, read_model, write_model
from twinloop.rule import PLAIN, Rule
from twinloop.vocabulary import Frozen, Task
from twinloop.workload import Workload

_INTEGER = re.compile(r"-?[0-9]{1,30}")


class Target(Frozen):
    """What is predicted, and how it is written."""

    name: str
    task: Task
    log: bool = False
    whole: bool = False
    classes: tuple[str, ...] = ()
    boolean: bool = False

    def encode(self, column: pa.ChunkedArray) -> np.ndarray:
        """Return numbers, or codes of classes; unknown classes are -1.

        Returns
        -------
        np.ndarray, shape (n_rows,)
            float64 for regression, int64 otherwise.
        """
        if self.task == "regression":
            values: np.ndarray = column.cast(pa.float64()).to_numpy()
            return values
        at: dict[str | None, int] = {label: i for i, label in enumerate(self.classes)}
        labels = class_labels(column)
        return np.fromiter((at.get(v, -1) for v in labels), np.int64, len(labels))

    def learned(self, y: np.ndarray) -> np.ndarray:
        """Return what models learn of a numeric target: its values, or ``log(1 + target)``."""
        return np.log1p(y) if self.log else y

    def answers(self, said: np.ndarray) -> "Predictions":
        """Turn what a model says into predictions; classes are the likeliest ones.

        Parameters
        ----------
        said : np.ndarray of float64
            On the scale of `learned`, shape (n_rows,), or probabilities, (n_rows, n_classes).
        """
        if self.task == "regression":
            return Predictions(np.maximum(np.expm1(said), 0.0) if self.log else said)
        return Predictions(PLAIN.decide(said), said)

    def decode(self, codes: np.ndarray) -> pa.Array:
        """Return classes as they were in the source."""
        labels = pa.array(self.classes, pa.string()).take(pa.array(codes))
        if self.boolean:
            return pa.array([v == "true" for v in labels.to_pylist()], pa.bool_())
        return labels.cast(pa.int64()) if self.whole else labels


def class_labels(column: pa.ChunkedArray) -> list[str | None]:
    """Spell class labels as text: ``true``, ``3``, ``spam``."""
    return [
        None if v is None else str(v).lower() if isinstance(v, bool) else str(v)
        for v in column.to_pylist()
    ]


def learn_target(table: pa.Table, workload: Workload) -> Target:
    """Learn what the target can be from labelled rows.

    Raises
    ------
    TargetError
        If there is one class only, more than two in a binary problem, no number where a number is
        wanted, or a value the metric cannot take.
    """
    name = workload.target
    column = table.column(name)
    if workload.task == "regression":
        return _numeric_target(column, workload)
    classes = tuple(sorted({v for v in class_labels(column) if v is not None}, key=_natural))
    if len(classes) < 2:
        raise TargetError(f"target {name!r} has one class only, {classes}; nothing can be learned.")
    if workload.task == "binary" and len(classes) != 2:
        raise TargetError(
            f"target {name!r} has {len(classes)} classes, {classes[:5]}...; binary means two.",
            "Set task: multiclass.",
        )
    if len(classes) > 1000:
        raise TargetError(f"target {name!r} has {len(classes)} classes.", "Set task: regression?")
    return Target(
        name=name,
        task=workload.task,
        classes=classes,
        whole=pa.types.is_integer(column.type),
        boolean=pa.types.is_boolean(column.type),
    )


def _natural(label: str) -> tuple[int, int, str]:
    # The label itself last: "3" and "03" must not change places from one process to the next.
    return (0, int(label), label) if _INTEGER.fullmatch(label) else (1, 0, label)


def _numeric_target(column: pa.ChunkedArray, workload: Workload) -> Target:
    name = workload.target
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise TargetError(f"target {name!r} is {column.type}; regression needs numbers.")
    values = column.cast(pa.float64()).to_numpy()
    if workload.log_target and (low := float(values.min())) < 0:
        raise TargetError(
            f"target {name!r} goes down to {low:g}; metric 'rmsle' needs values of 0 and above.",
            "Set metric: rmse.",
        )
    if float(values.min()) == float(values.max()):
        raise TargetError(f"target {name!r} is {values[0]:g} in every row; nothing can be learned.")
    return Target(name=name, task="regression", log=workload.log_target)


@dataclass(frozen=True)
class Predictions:
    """Predictions of some rows.

    Attributes
    ----------
    value : np.ndarray, shape (n_rows,)
        Numbers (float64), or codes of classes (int64).
    probability : np.ndarray of float64, shape (n_rows, n_classes), or None
    """

    value: np.ndarray
    probability: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "Predictions":
        """Return the predictions of some rows."""
        chosen = None if self.probability is None else self.probability[rows]
        return Predictions(self.value[rows], chosen)


@dataclass(frozen=True)
class Scorer:
    """A fitted model: encoding, estimator, target, and the rule for classes, in one."""

    encoding: Encoding
    predictor: Predictor
    target: Target
    rule: Rule = PLAIN

    def predict(self, table: pa.Table) -> Predictions:
        """Predict rows that keep the contract.

        Parameters
        ----------
        table
            Shape (n_rows, n_columns); columns the model does not use are not looked at.
        """
        return self.predict_matrix(self.encoding.encode(table))

    def predict_matrix(self, X: np.ndarray) -> Predictions:
        """Predict encoded rows: float32, shape (n_rows, n_features)."""
        return self.decided(self.target.answers(self.predictor.predict(X)))

    def decided(self, plain: Predictions) -> Predictions:
        """Return predictions with their probabilities calibrated and their classes chosen.

        Numbers are left as they are.

        Parameters
        ----------
        plain
            With probabilities as an estimator gives them.
        """
        if plain.probability is None:
            return plain
        calibrated = self.rule.calibration.apply(plain.probability)
        return Predictions(self.rule.decide(calibrated), calibrated)

    def columns(self, predictions: Predictions) -> dict[str, pa.Array]:
        """Return what is published of predictions, by column.

        ``prediction``, and for classes their probabilities: ``probability`` of the second class of
        two, else ``probability_<class>``.
        """
        probability = predictions.probability
        if probability is None:
            return {"prediction": pa.array(predictions.value, pa.float64())}
        published = {"prediction": self.target.decode(predictions.value)}
        if len(self.target.classes) == 2:
            return published | {"probability": pa.array(probability[:, 1])}
        return published | {
            f"probability_{label}": pa.array(probability[:, i])
            for i, label in enumerate(self.target.classes)
        }

    def no_answers(self) -> dict[str, pa.Array]:
        """Return what is published of no rows: the names and types of the answers."""
        n = len(self.target.classes)
        if n == 0:
            return self.columns(Predictions(np.empty(0)))
        return self.columns(Predictions(np.empty(0, np.int64), np.empty((0, n))))


def to_files(scorer: Scorer) -> dict[str, bytes]:
    """Write a scorer as files of data: no pickle, nothing that runs when read.

    Equal scorers have equal files, whatever process wrote them.

    Returns
    -------
    dict of str to bytes
        ``scorer.json`` and the model's own, see `twinloop.modelfiles.write_model`.
    """
    model, files = write_model(scorer.predictor)
    about = {
        "encoding": scorer.encoding.model_dump(mode="json"),
        "target": scorer.target.model_dump(mode="json"),
        "rule": scorer.rule.model_dump(mode="json"),
    }
    return {"scorer.json": json.dumps(about | model, indent=1, sort_keys=True).encode()} | files


def from_files(files: Mapping[str, bytes], trusted: tuple[str, ...] = ()) -> Scorer:
    """Read a scorer back.

    Parameters
    ----------
    files
        As `to_files` wrote them.
    trusted
        Types a scikit-learn file may name besides `TRUSTED_TYPES`: those the workload file lists
        for estimators of the user's own. A list in the model's own files would be worth nothing.

    Raises
    ------
    RegistryError
        If a file is missing or broken, or a scikit-learn file names a type that is not trusted, or
        one that cannot be imported.
    """
    try:
        about = json.loads(files["scorer.json"])
        return Scorer(
            Encoding.model_validate(about["encoding"]),
            read_model(about, files, trusted),
            Target.model_validate(about["target"]),
            # Versions of before calibration have none.
            Rule.model_validate(about.get("rule", {})),
        )
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as err:
        raise RegistryError(
            f"the model's files {sorted(files)} do not make a scorer: {err!r}"
        ) from err


def refuse_unloadable(name: str, model: Any, workload: Workload) -> None:
    """Refuse an estimator of the user's own, fitted or not, that could not be loaded again.

    Raises
    ------
    WorkloadError
        If it cannot be saved as data, or names types that the workload does not trust.
    """
    from skops import io as skops_io

    where = f"training.estimators.{name}: {type(model).__name__}"
    try:
        named = set(skops_io.get_untrusted_types(data=skops_io.dumps(model)))
    except Exception as err:  # whatever saving a foreign object may raise
        raise WorkloadError(
            f"{where} cannot be saved without pickle: {err!r}.",
            "Keep functions defined on the spot, open files and the like out of its attributes.",
        ) from err
    unlisted = sorted(named - {*TRUSTED_TYPES, *workload.trusted})
    if unlisted:
        raise WorkloadError(
            f"{where} could be saved but not loaded: {', '.join(unlisted)} is not trusted.",
            f"What you trust, list under training.estimators.{name}.trusted.",
        )


def files_digest(files: Mapping[str, bytes]) -> str:
    """Return SHA-256 over names and contents of files: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()
