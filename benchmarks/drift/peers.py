"""Run in an environment of its own: count the alarms of Evidently or NannyML, by their defaults.

Arguments: which one, a folder of pairs of Parquet files, and how many there are.
"""

import json
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd


def main() -> None:
    """Count, and print one line a rule."""
    warnings.simplefilter("ignore")
    name, place, repeats = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if name == "speed":
        speed(place)
        return
    count = {"evidently": evidently, "nannyml": nannyml}[name]
    totals: dict[str, int] = {}
    for repeat in range(repeats):
        pair = (pd.read_parquet(place / f"{repeat}_{side}.parquet") for side in ("then", "now"))
        for what, alarm in count(*pair).items():
            totals[what] = totals.get(what, 0) + alarm
    for what, total in totals.items():
        print(f"{what}\t{total}")


def speed(place: Path) -> None:
    """Run Evidently's preset once; print CPU seconds and the largest memory in megabytes."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    then, now = (
        pd.read_parquet(place / f"0_{side}.parquet").drop(columns="window")
        for side in ("then", "now")
    )
    began = time.process_time()
    Report([DataDriftPreset()]).run(now, then).dict()
    cpu = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps({"cpu": cpu, "peak": peak}))


def evidently(then: pd.DataFrame, now: pd.DataFrame) -> dict[str, bool]:
    """Apply the data drift preset: half of the columns, or any column."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    found: Any = Report([DataDriftPreset()]).run(now, then).dict()
    drifted = next(
        m["value"]["count"]
        for m in found["metrics"]
        if isinstance(m["value"], dict) and "count" in m["value"]
    )
    return {
        "Evidently, any column": drifted > 0,
        "Evidently, half of the columns": drifted >= now.shape[1] / 2,
    }


def nannyml(then: pd.DataFrame, now: pd.DataFrame) -> dict[str, bool]:
    """Apply the univariate calculator, in chunks of a window's rows."""
    import nannyml as nml

    calculator = nml.UnivariateDriftCalculator(column_names=list(now), chunk_size=len(now))
    found = calculator.fit(then).calculate(now).to_df()
    period = found[("chunk", "chunk", "period")] == "analysis"
    alerts = found.loc[period, [c for c in found.columns if c[-1] == "alert"]]
    return {"NannyML, any column": bool(alerts.to_numpy().any())}


if __name__ == "__main__":
    main()
