"""What others say of the same rows: KS by the column, Evidently and NannyML by their defaults."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

if TYPE_CHECKING:
    from benchmarks import frame
    from benchmarks.drift import world
else:
    import frame
    from drift import world

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "twinloop" / "drift"
# What to install, step by step. NannyML asks for any pandas, and imports a package that it does not
# ask for; all at once sends pip back and forth for longer than ten minutes.
PINS = {
    "evidently": (["evidently==0.7.23", "pandas<3", "numpy<2.3"],),
    "nannyml": (["nannyml==0.13.1"], ["pandas<3", "numpy<2.3", "statsmodels"]),
}
_HERE = Path(__file__).parent
_CHUNKS = 5  # of the past, whose rows stand for the training's


def environment(name: str, cache: Path) -> Path | None:
    """Make the environment of one, unless it is there, and return its Python; None if it fails."""
    folder = cache / name
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.is_file():
        return python
    frame.show(f"making the environment of {name} in {folder}")
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    for packages in PINS[name]:
        install = [str(python), "-m", "pip", "install", "-q", "--prefer-binary", *packages]
        if subprocess.run(install, check=False, capture_output=True).returncode:
            frame.show(f"{name} cannot be installed here: {' '.join(packages)}")
            return None
    ready.touch()
    return python


def show(repeats: int, rows: int, cache: Path) -> None:
    """Print how often each raises an alarm where nothing changes."""
    for seasons in (False, True):
        alarms = {"KS at 0.05, any number": 0}
        with tempfile.TemporaryDirectory() as place:
            for repeat in range(repeats):
                made = world.make_world(repeat, seasons=seasons)
                rng = np.random.default_rng([3, repeat])
                past = [world.draw_rows(made, w, rows, rng) for w in range(world.PAST)]
                then, now = pd.concat(past[-_CHUNKS:]), world.draw_rows(made, world.PAST, rows, rng)
                numbers = [c for c in map(str, now) if c.startswith("x")]
                p = [stats.ks_2samp(then[c].dropna(), now[c].dropna()).pvalue for c in numbers]
                alarms["KS at 0.05, any number"] += min(p) < 0.05
                then.to_parquet(Path(place) / f"{repeat}_then.parquet")
                now.to_parquet(Path(place) / f"{repeat}_now.parquet")
            for name in PINS:
                python = environment(name, cache)
                if python is None:
                    continue
                done = subprocess.run(
                    [str(python), str(_HERE / "peers.py"), name, place, str(repeats)],
                    capture_output=True,
                    text=True,
                    check=False,
                    env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
                )
                if done.returncode:
                    frame.show(f"{name} failed: {done.stderr[-300:]}")
                    continue
                for line in done.stdout.splitlines():
                    what, n = line.rsplit("\t", 1)
                    alarms[what] = int(n)
        where = "seasons" if seasons else "all windows alike"
        for what, found in alarms.items():
            frame.show(f"{what}, {rows:,} rows, {where}: {found} of {repeats} checks alarm")
