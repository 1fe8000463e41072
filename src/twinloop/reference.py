"""Reference: what a model is to remember of its training rows, for windows to be compared with."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from twinloop.digest import row_hashes
from twinloop.encoding import Encoding
from twinloop.profile import Binning, Counter, Profile, used_columns
from twinloop.samples import SIZE, Sample, smallest
from twinloop.scorer import Predictions
from twinloop.separation import separation

# Rows of all windows together that the rows of a new one are to be told from.
_ROWS = 4 * SIZE
_DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Counted:
    """The training rows, encoded, with predictions of models that had not seen them.

    Attributes
    ----------
    encoding, binning
        Of the model.
    table
        Rows, typed, shape (n_rows, n_columns).
    X : np.ndarray of float32, shape (n_rows, n_features)
        The same rows.
    predictions
        Of them.
    """

    encoding: Encoding
    binning: Binning
    table: pa.Table
    X: np.ndarray
    predictions: Predictions

    def profile(self, rows: np.ndarray) -> Profile:
        """Profile some of the rows, with a sample: bool, shape (n_rows,)."""
        table, X, said = (
            self.table.filter(pa.array(rows)),
            self.X[rows],
            self.predictions.take(rows),
        )
        counter = Counter(self.binning)
        hashes = row_hashes(table, sorted(table.schema.names))
        few = smallest(hashes)
        sample = counter.sample(hashes[few], counter.values(X, said, few))
        cells = counter.count(X, said, self.encoding.nulls(table))
        return counter.profile(cells, len(X), sample)


def sample_windows(
    windows: Sequence[Profile], importance: tuple[float, ...]
) -> tuple[tuple[Profile, ...], Sample, tuple[float, ...]]:
    """Take rows of all windows, and tell those of each window from those of the others.

    Parameters
    ----------
    windows
        Profiles of the training rows, window by window, each with a sample.
    importance
        Share of each feature in the model: what it hardly uses is no help to tell rows apart.

    Returns
    -------
    tuple of (tuple of Profile, Sample, tuple of float)
        The same profiles without samples; rows of all, as many of each window; and the area under
        the curve of each window against the others, see `twinloop.separation`.
    """
    codes = [window.sample.codes() for window in windows]
    few = [rows[: max(_ROWS // max(len(windows), 1), 1)] for rows in codes]
    used = [used_columns(importance, rows.shape[1]) for rows in codes]
    areas = tuple(
        separation(np.concatenate([*few[:i], *few[i + 1 :]])[:, used[i]], rows[:, used[i]])
        for i, rows in enumerate(codes)
        if len(codes) > 1
    )
    kept = np.concatenate(few) if few else np.empty((0, 0), np.uint8)
    text = base64.b64encode(np.ascontiguousarray(kept).tobytes()).decode("ascii")
    plain = tuple(w.model_copy(update={"sample": Sample()}) for w in windows)
    return plain, Sample(n_columns=kept.shape[1], rows=text), areas


def with_quarantined(
    windows: Sequence[Profile],
    bad: int,
    rows: int,
    by_day: Mapping[int, int],
    newest: int | None,
    span_micros: int,
) -> tuple[Profile, ...]:
    """Add to profiles of clean rows how many rows beside them broke the contract.

    Parameters
    ----------
    windows
        The newest first, as `window_numbers` counts them, none left out between.
    bad, rows
        Rows of the snapshot that broke the contract, and that are left.
    by_day
        Those of them whose day is known, by days since 1970. The others are spread evenly over the
        rows.
    newest
        Time of the newest row of the first window, microseconds since 1970; None where rows have
        no time.
    span_micros
        Length of a window, microseconds.

    Returns
    -------
    tuple of Profile
        The same, with what was read and quarantined.
    """
    dated = np.zeros(len(windows))
    # Days tell nothing of windows that are shorter.
    known = by_day if newest is not None and span_micros >= _DAY else {}
    for day, n in known.items():
        i = ((newest or 0) - day * _DAY - _DAY // 2) // span_micros
        if 0 <= i < len(windows):
            dated[i] += n
    share = (bad - sum(known.values())) / max(rows, 1)
    counts = (round(n + share * w.rows) for n, w in zip(dated.tolist(), windows, strict=True))
    return tuple(
        w.model_copy(update={"read": w.rows + n, "quarantined": n})
        for n, w in zip(counts, windows, strict=True)
    )
