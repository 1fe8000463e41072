"""Reference: what a model is to remember of its training rows, for windows to be compared with."""

import base64

import numpy as np

from twinloop.profile import Profile
from twinloop.samples import SIZE, Sample
from twinloop.separation import separation

# Rows of all windows together that the rows of a new one are to be told from.
_ROWS = 4 * SIZE


def sample_windows(
    windows: tuple[Profile, ...],
) -> tuple[tuple[Profile, ...], Sample, tuple[float, ...]]:
    """Take rows of all windows, and tell those of each window from those of the others.

    Parameters
    ----------
    windows
        Profiles of the training rows, window by window, each with a sample.

    Returns
    -------
    tuple of (tuple of Profile, Sample, tuple of float)
        The same profiles without samples; rows of all, as many of each window; and the area under
        the curve of each window against the others, see `twinloop.separation`.
    """
    codes = [window.sample.codes() for window in windows]
    few = [rows[: max(_ROWS // max(len(windows), 1), 1)] for rows in codes]
    areas = tuple(
        separation(np.concatenate([*few[:i], *few[i + 1 :]]), rows)
        for i, rows in enumerate(codes)
        if len(codes) > 1
    )
    kept = np.concatenate(few) if few else np.empty((0, 0), np.uint8)
    text = base64.b64encode(np.ascontiguousarray(kept).tobytes()).decode("ascii")
    plain = tuple(w.model_copy(update={"sample": Sample()}) for w in windows)
    return plain, Sample(n_columns=kept.shape[1], rows=text), areas
