"""Importing is free of effects, and the command imports little."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("prefect", "mlflow", "optuna", "pandas", "pyarrow", "sklearn", "xgboost")
MODULES = sorted(
    f"{folder.name}.{path.stem}"
    for folder in (ROOT / "src" / "twinloop", ROOT / "tasks", ROOT / "flows")
    for path in folder.glob("*.py")
    if path.stem != "__init__"
)


def run(code: str, cwd: Path, **environment: str) -> str:
    """Run code in a fresh interpreter in a folder, and return what it printed."""
    # -c puts the current folder on the path; the repository's root is found as installed.
    command = [sys.executable, "-c", code]
    clean = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"} | environment
    out = subprocess.run(
        command, cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=120
    )
    assert out.returncode == 0, out.stderr
    return out.stdout


def test_command_imports_nothing_heavy(tmp_path: Path) -> None:
    """Help and misspelt options answer before anything slow is imported."""
    code = "import flows.cli, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(run(code, tmp_path))}
    assert loaded.isdisjoint(HEAVY)


def test_listing_runs_waits_for_neither_prefect_nor_mlflow(tmp_path: Path) -> None:
    """What `twinloop runs` reads, checks and prints with takes a second or two, not ten."""
    code = """
import json, sys
import flows.cli, flows.costs_report, tasks.recent
from flows.arguments import read_kind
assert read_kind("training") == "training"
print(json.dumps(sorted(sys.modules)))
"""
    loaded = {name.partition(".")[0] for name in json.loads(run(code, tmp_path))}
    assert loaded.isdisjoint({"prefect", "mlflow"})


def test_training_imports_optuna_only_to_tune(tmp_path: Path) -> None:
    """Whoever tunes nothing does not wait for what proposes settings."""
    code = "import flows.train_model, sys; print('optuna' in sys.modules)"
    home = {"HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path)}
    assert run(code, tmp_path, **home) == "False\n"


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """Import every module in an empty folder; note after each what the environment had gained."""
    folder = tmp_path_factory.mktemp("empty")
    code = f"""
import importlib, json, os
from pathlib import Path
before = dict(os.environ)
gained = {{}}
for name in {MODULES!r}:
    importlib.import_module(name)
    files = [str(p) for p in Path.cwd().rglob('*')]
    changed = [k for k, v in os.environ.items() if k.startswith('MLFLOW') and before.get(k) != v]
    if files or changed:
        gained[name] = files + changed
    before = dict(os.environ)
import mlflow
if mlflow.is_tracking_uri_set():
    gained['mlflow'] = [mlflow.get_tracking_uri()]
print(json.dumps(gained))
"""
    # Prefect makes its own home where it is told to; that it does is not ours.
    elsewhere = tmp_path_factory.mktemp("home")
    return folder, json.loads(run(code, folder, HOME=str(elsewhere), PREFECT_HOME=str(elsewhere)))


def test_imports_create_no_file(imported: tuple[Path, dict[str, list[str]]]) -> None:
    """An import leaves the current folder as empty as it was."""
    assert list(imported[0].iterdir()) == []


def test_imports_set_nothing_up(imported: tuple[Path, dict[str, list[str]]]) -> None:
    """An import neither writes, nor sets MLflow's address."""
    assert imported[1] == {}
