"""Fit FLAML or AutoGluon on a table and predict another; runs in the environment of these two.

``python others.py flaml|autogluon FOLDER OUT SECONDS CORES``: reads ``train.parquet``,
``test.parquet`` and ``about.json`` in FOLDER, writes ``predictions.parquet`` and ``used.json`` to
OUT. It imports nothing of Twinloop's, which is not installed there.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TARGET = "__target__"
_FLAML = {"macro_f1": "macro_f1", "brier": "log_loss"}
# AutoGluon's own word for accuracy before all else; where it ends with no model in so short a time,
# its default, with the whole budget again.
_PRESETS = ("best_quality", "medium_quality")
_AUTOGLUON = {
    "rmse": "root_mean_squared_error",
    "mae": "mean_absolute_error",
    "macro_f1": "f1_macro",
    "brier": "log_loss",
}


def main() -> None:
    """Fit, predict, and say what it took."""
    system, folder, out, seconds, cores = sys.argv[1:]
    about = json.loads((Path(folder) / "about.json").read_text())
    train, test = (
        _plain(pd.read_parquet(Path(folder) / f"{part}.parquet")) for part in ("train", "test")
    )
    start = time.perf_counter()
    predict, note = _SYSTEMS[system](train, about, float(seconds), int(cores), Path(out))
    fitted = time.perf_counter()
    predictions = predict(test)
    used = {
        "fit_seconds": fitted - start,
        "predict_seconds": time.perf_counter() - fitted,
        "note": note,
    }
    predictions.to_parquet(Path(out) / "predictions.parquet")
    (Path(out) / "used.json").write_text(json.dumps(used))


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Turn booleans into numbers, and text into categories, which both systems know."""
    for name in table.columns:
        if table[name].dtype == bool:
            table[name] = table[name].astype("int8")
        elif table[name].dtype == object:
            kinds = {type(v) for v in table[name].dropna()}
            table[name] = table[name].astype("float32" if kinds <= {bool} else "category")
    return table


def _flaml(train: pd.DataFrame, about: Any, seconds: float, cores: int, out: Path) -> Any:
    from flaml import AutoML

    model = AutoML()
    classes = about["n_classes"]
    settings: dict[str, Any] = {}
    if about["by_time"]:
        settings["split_type"] = "time"
    metric = _FLAML.get(about["optimise"], about["optimise"])
    X, y = train.drop(columns=TARGET), train[TARGET].to_numpy()
    model.fit(
        X,
        y,
        task="classification" if classes else "regression",
        metric=metric,
        time_budget=seconds,
        n_jobs=cores,
        seed=about["seed"],
        log_file_name=str(out / "flaml.log"),
        verbose=0,
        **settings,
    )

    def predict(test: pd.DataFrame) -> pd.DataFrame:
        if not classes:
            return pd.DataFrame({"value": np.asarray(model.predict(test), float)})
        return _by_class(model.predict_proba(test), model.classes_, classes)

    return predict, str(model.best_estimator)


def _autogluon(train: pd.DataFrame, about: Any, seconds: float, cores: int, out: Path) -> Any:
    from autogluon.tabular import TabularPredictor

    classes = about["n_classes"]
    task = "regression" if not classes else "binary" if classes == 2 else "multiclass"
    metric = _AUTOGLUON.get(about["optimise"], about["optimise"])
    for preset in _PRESETS:
        path = str(out / "autogluon" / preset)
        model = TabularPredictor(
            TARGET, problem_type=task, eval_metric=metric, path=path, verbosity=1
        )
        try:
            model.fit(train, time_limit=seconds, presets=preset, num_cpus=cores, num_gpus=0)
            note = f"{model.model_best}, {preset}{_failures(model)}"
            break
        except (AssertionError, RuntimeError, ValueError) as err:
            print(f"{preset}: {err}", file=sys.stderr)
    else:
        raise SystemExit("no preset fitted any model in time")

    def predict(test: pd.DataFrame) -> pd.DataFrame:
        if not classes:
            return pd.DataFrame({"value": model.predict(test).to_numpy(float)})
        shares = model.predict_proba(test)
        return _by_class(shares.to_numpy(float), shares.columns, classes)

    return predict, note


def _failures(model: Any) -> str:
    """Say which kinds of model broke down, be it for what is not installed here, or for time."""
    failed = model.model_failures()
    kinds = set(failed["child_model_type"].fillna(failed["model_type"]) + ": " + failed["exc_type"])
    return f"; without {', '.join(sorted(kinds))}" if kinds else ""


def _by_class(shares: Any, known: Any, classes: int) -> pd.DataFrame:
    full = np.zeros((len(shares), classes))
    full[:, np.asarray(known, int)] = shares
    return pd.DataFrame(full, columns=[f"p{i}" for i in range(classes)])


_SYSTEMS = {"flaml": _flaml, "autogluon": _autogluon}

if __name__ == "__main__":
    main()
