"""The tree keeps the shape that imports, tools and readers rely on."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A machine's own folders: nobody else has them.
MACHINE = re.compile(rb"/(?:work|root|home/[a-z_][\w.-]*|Users/\w[\w.-]*)/")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """List the files that git tracks, or would with the next `git add`."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    names = out.stdout.decode().split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def test_import_contracts_hold() -> None:
    """Imports go one way, and the core knows neither Prefect nor MLflow."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_mlflow_is_the_installed_one() -> None:
    """The folder mlflow/ does not shadow the package."""
    spec = importlib.util.find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None, "mlflow is not installed: the folder took its place"
    # The environment may lie in the repository; the folder mlflow/ is what must not be found.
    assert ROOT / "mlflow" not in Path(spec.origin).resolve().parents


def test_mlflow_folder_holds_no_code() -> None:
    """The server's home holds no Python, which would make it a package."""
    home = ROOT / "mlflow"
    code = [p for p in home.rglob("*.py") if home / "store" not in p.parents]
    assert code == []


def test_tests_are_no_package(tracked: list[Path]) -> None:
    """No folder of tests shadows a package of its name."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []
    assert not [p for p in tracked if p.name == "conftest.py" and p.parent != ROOT / "tests"]


def test_file_names_say_what_is_inside(tracked: list[Path]) -> None:
    """No file is called utils, helpers, common or misc."""
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [p for p in tracked if p.stem.lower() in vague] == []


def test_no_file_names_a_machine(tracked: list[Path]) -> None:
    """No tracked file holds a path that exists on one machine only."""
    found = [
        f"{path.relative_to(ROOT)}: {hit[0].decode()}"
        for path in tracked
        if (hit := MACHINE.search(path.read_bytes()))
    ]
    assert found == []


def test_nothing_that_runs_write_is_tracked(tracked: list[Path]) -> None:
    """Lake, stores and models stay out of git."""
    written = ("data/lake/", "mlflow/store/", "mlruns/", ".prefect/", "mlflow.db")
    assert [p for p in tracked if str(p.relative_to(ROOT)).startswith(written)] == []


def test_lock_is_hashed_and_names_no_host() -> None:
    """Every requirement has its hashes, and any index can serve them."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    # Package names like aiohttp aside, nothing in it is an address or an option of an installer.
    assert "://" not in text
    assert not re.search(r"^--", text, re.M)
    requirements = re.split(r"\n(?=\S)", text.replace("\\\n", "").strip())
    bare = [r.split()[0] for r in requirements if not re.search(r"--hash=sha256:[0-9a-f]{64}", r)]
    assert len(requirements) > 100
    assert bare == []
    assert [r.split()[0] for r in requirements if "==" not in r.split()[0]] == []
