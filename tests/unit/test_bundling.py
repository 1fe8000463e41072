"""The part of the core that goes with a version."""

import subprocess
import sys
from pathlib import Path

from tasks.bundling import bundle_core


def test_a_bundle_is_whole_and_no_more_than_is_needed(tmp_path: Path) -> None:
    """It is imported where there is no other Twinloop; pages and plots stay at home."""
    package = bundle_core("serving", tmp_path / "code")
    names = {path.stem for path in package.iterdir()}
    assert {"__init__", "serving", "scorer", "encoding"} <= names
    assert not names & {"plots", "page", "simulate", "drift"}
    # Each module by itself: an import that is missing would be noticed.
    modules = ", ".join(f"twinloop.{name}" for name in sorted(names - {"__init__"}))
    code = (
        f"import sys; sys.path.insert(0, sys.argv[1]); import {modules}; print(twinloop.__file__)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(package.parent)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout.strip() == str(package / "__init__.py")
