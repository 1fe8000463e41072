"""Two equal models are the same file, and the file still is the model."""

import io
import time
import zipfile
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from skops import io as skops_io

from twinloop.archive import stable_archive
from twinloop.modelfiles import TRUSTED_TYPES

X = np.random.default_rng(0).integers(0, 5, (60, 3)).astype(np.float32)
Y = X.sum(axis=1)
MODELS: dict[str, Any] = {
    "linear": lambda: make_pipeline(OneHotEncoder(), RidgeCV()).fit(X, Y),
    "forest": lambda: RandomForestRegressor(5, random_state=0).fit(X, Y),
    "boosting": lambda: HistGradientBoostingClassifier(
        max_iter=3, categorical_features=[0], random_state=0
    ).fit(X, Y > 5),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_equal_models_are_one_file(name: str) -> None:
    """Fitted twice, at other addresses and another second: as skops writes them they differ."""
    model = MODELS[name]()
    first = skops_io.dumps(model)
    other = MODELS[name]()
    time.sleep(2.1)  # an archive counts time in steps of two seconds
    second = skops_io.dumps(other)
    assert first != second
    assert stable_archive(first) == stable_archive(second)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_file_is_still_the_model(name: str) -> None:
    """It loads by the same list, answers the same, and once more is itself."""
    model = MODELS[name]()
    content = stable_archive(skops_io.dumps(model))
    loaded = skops_io.loads(content, trusted=list(TRUSTED_TYPES))
    assert (loaded.predict(X) == model.predict(X)).all()
    assert stable_archive(content) == content


def test_other_models_are_other_files() -> None:
    """One number more or less shows."""
    one, two = (skops_io.dumps({"a": np.array([1.0, v])}) for v in (2.0, np.nextafter(2.0, 3.0)))
    assert stable_archive(one) != stable_archive(two)


def test_names_of_the_users_own_are_left_alone() -> None:
    """A key called like one of skops' own is data; an array kept twice is one file."""
    array = np.arange(3.0)
    given = {"file": "1.npy", "__id__": 7, "a": array, "b": array, "c": b"bytes"}
    content = stable_archive(skops_io.dumps(given))
    loaded = skops_io.loads(content)
    assert (loaded["file"], loaded["__id__"], loaded["c"]) == ("1.npy", 7, b"bytes")
    assert loaded["a"] is loaded["b"] or (loaded["a"] == loaded["b"]).all()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == ["1.npy", "2.bin", "schema.json"]
