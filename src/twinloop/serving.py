"""Serving: how plain MLflow loads a registered version, without Prefect and without pickle."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa

from twinloop.contract import REASON, Contract, check_rows
from twinloop.errors import ColumnError
from twinloop.scorer import Scorer, from_files

CONTRACT = "contract.json"
REFERENCE = "reference.json"
JURY = "jury.parquet"
GAUGE = "gauge.json"


class PandasModel:
    """What ``mlflow.pyfunc`` asks for predictions.

    Rows that break the contract are not quarantined here but refused: whoever calls this way wants
    one prediction a row.
    """

    def __init__(self, scorer: Scorer, contract: Contract) -> None:
        self.scorer = scorer
        self.contract = contract

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predict rows.

        Parameters
        ----------
        frame
            The contract's features (and time, where the model uses it), shape (n_rows, n_columns).

        Returns
        -------
        pandas.DataFrame, shape (n_rows, n_outputs)
            ``prediction``, and probabilities for classes.

        Raises
        ------
        ColumnError
            If rows break the contract.
        """
        # Arrow reads times with a zone in a way that pandas 3.1 deprecates; naive ones are UTC.
        aware = frame.select_dtypes("datetimetz").items()
        naive = {str(name): times.dt.tz_convert(None) for name, times in aware}
        table = pa.Table.from_pandas(frame.assign(**naive), preserve_index=False)
        checked = check_rows(table, self.contract, roles=("time", "feature"))
        if checked.bad.num_rows:
            reasons = sorted(set(checked.bad.column(REASON).to_pylist()))
            raise ColumnError(f"{checked.bad.num_rows} rows break the contract: {reasons[:5]}.")
        if checked.good.num_rows == 0:
            return pa.table(self.scorer.no_answers()).to_pandas()
        return pa.table(self.scorer.columns(self.scorer.predict(checked.good))).to_pandas()


def read_files(folder: Path) -> dict[str, bytes]:
    """Read the files of a model's folder, by name."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def scorer_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return those of a version's files that make its scorer."""
    return {n: content for n, content in files.items() if n not in (CONTRACT, REFERENCE)}


def _load_pyfunc(path: str) -> PandasModel:
    """Load a version: MLflow calls this by name."""
    files = read_files(Path(path))
    scorer = from_files(scorer_files(files))
    return PandasModel(scorer, Contract.model_validate_json(files[CONTRACT]))
