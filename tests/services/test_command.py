"""The real `twinloop` command, as a process of its own, with a Prefect server of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from twinloop.amounts import decimals_for, money

TWINLOOP = Path(sys.executable).parent / "twinloop"
COMMANDS = (
    *(
        "train",
        "score",
        "verify",
        "watch",
        "retrain",
        "replay",
        "champion",
        "reproduce",
        "runs",
        "check",
    ),
)
SUGAR = """
name: sugar
task: regression
source: {kind: bundled, dataset: diabetes}
key: [row]
target: target
metric: rmse
training: {folds: 3, candidates: [baseline, linear]}
"""


class Desk(NamedTuple):
    """Where a person sits: a home for Twinloop, an empty HOME, and a workload file of their own."""

    home: Path
    user: Path
    file: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the command finds in its environment: nothing that tests have set."""
        ours = ("PREFECT_", "MLFLOW_", "TWINLOOP_", "XDG_", "MPL")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        return kept | {"TWINLOOP_HOME": str(self.home), "HOME": str(self.user)}

    def twinloop(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [TWINLOOP, *arguments],
            env=self.environment,
            cwd=self.user.parent,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def children(self) -> list[psutil.Process]:
        """List living processes that work in this home's Prefect folder."""
        return [p for p in psutil.process_iter() if self._owns(p)]

    def _owns(self, process: psutil.Process) -> bool:
        try:
            mine = process.environ().get("PREFECT_HOME") == str(self.home / ".prefect")
            return mine and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Provide an empty home, an empty HOME, and a small workload's file beside them."""
    found = Desk(tmp_path / "home", tmp_path / "user", tmp_path / "sugar.yaml")
    found.home.mkdir()
    found.user.mkdir()
    found.file.write_text(SUGAR, encoding="utf-8")
    yield found
    for process in found.children():
        process.kill()


def wait_until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Poll until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


def assert_one_error(done: subprocess.CompletedProcess[str], code: str) -> None:
    """Assert that a command failed with one error of a code and nothing else on stderr."""
    assert done.returncode == 1
    assert done.stderr.startswith(f"error [{code}] "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(desk: Desk, command: str) -> None:
    """Help needs no server, lists the options and writes nothing."""
    done = desk.twinloop(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for option in ("WORKLOAD", "--json", "--var", "--help"):
        assert option in done.stdout
    assert list(desk.home.iterdir()) == list(desk.user.iterdir()) == []


def test_help_names_every_command(desk: Desk) -> None:
    """The command's own help lists every command that works on a workload."""
    done = desk.twinloop("--help")
    lines = [line.strip(" │").split() for line in done.stdout.splitlines()]
    after = next(i for i, line in enumerate(lines) if "Commands" in line)
    listed = {line[0] for line in lines[after:] if line and line[0].isalpha()}
    assert set(COMMANDS) <= listed


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_workload(desk: Desk, command: str) -> None:
    """A workload nobody knows is one error that names the nearest, before any server starts."""
    folder = desk.home / "data" / "workloads"
    folder.mkdir(parents=True)
    (folder / "sugar.yaml").write_text(SUGAR, encoding="utf-8")
    done = desk.twinloop(command, "suger")
    assert_one_error(done, "TL100")
    assert "Did you mean 'sugar'?" in done.stderr
    assert not (desk.home / ".prefect").exists()


def read(path: Path) -> Any:
    """Read a JSON file the command has written."""
    return json.loads(path.read_text(encoding="utf-8"))


def test_both_loops_by_the_path_of_a_file(desk: Desk, tmp_path: Path) -> None:
    """A YAML file anywhere goes through both loops: JSON is what was printed, HOME stays empty."""
    out: dict[str, tuple[str, Any]] = {}
    for command in ("check", "train", "score", "verify", "watch", "champion", "runs"):
        path = tmp_path / f"{command}.json"
        done = desk.twinloop(command, str(desk.file), "--json", str(path))
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        out[command] = (done.stdout, read(path))
    text, checked = out["check"]
    assert f"rows: {checked['read']} read" in text
    assert checked["read"] == checked["rows"] == 442
    text, trained = out["train"]
    assert f"{trained['holdout']:.4g} ({trained['winner']})" in text
    assert (trained["winner"], trained["champion"]) == ("linear", "1")
    text, manifest = out["score"]
    assert f"read 442, scored {manifest['scored']}, quarantined 0, with version 1" in text
    assert manifest["version"]["run_id"] == trained["run_id"]
    text, verified = out["verify"]
    assert (verified["outputs"], verified["rows"]) == (1, manifest["scored"])
    assert verified["faults"] == []
    assert_damage_is_told(desk, manifest["folder"])
    text, decision = out["watch"]
    assert f"decision: {decision['action']}" in text
    text, history = out["champion"]
    assert history["champion"] == "1"
    assert "first version" in text
    text, listed = out["runs"]
    kinds = {run["kind"] for run in listed["runs"]}
    assert kinds == {"training", "candidate", "promotion", "inference", "monitoring"}
    assert all(run["status"] == "FINISHED" and run["accuracy"] for run in listed["runs"])
    digits = decimals_for(run["money"] for run in listed["runs"])
    assert all(money(run["money"], digits) in text for run in listed["runs"])
    assert list(desk.user.iterdir()) == []
    assert desk.children() == []


def assert_damage_is_told(desk: Desk, folder: str) -> None:
    """Assert that verifying a damaged window is one error, and that its file is named."""
    lake = desk.home / "data" / "lake" / "sugar"
    part = lake / "predictions" / "all" / folder / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    done = desk.twinloop("verify", str(desk.file))
    assert_one_error(done, "TL510")
    assert "1 published files of 'sugar'" in done.stderr
    assert str(part) in done.stdout + done.stderr


def test_failing_train_is_one_error(desk: Desk) -> None:
    """A training that cannot be says so once, without a traceback, and leaves no process."""
    desk.file.write_text(SUGAR.replace("target: target", "target: progress"), encoding="utf-8")
    done = desk.twinloop("train", str(desk.file))
    assert_one_error(done, "TL220")
    assert "'progress', which is the target" in done.stderr
    assert desk.children() == []
    assert list(desk.user.iterdir()) == []


def test_killed_command_takes_its_server_along(desk: Desk) -> None:
    """After SIGKILL in the middle of a flow nothing goes on, and the next command works."""
    log = desk.home / "command.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [TWINLOOP, "train", str(desk.file)], env=desk.environment, stdout=out, stderr=out
        )
    try:
        work = desk.home / "data" / "lake" / "sugar" / "work"
        wait_until(work.exists, 120, "a training at work")
        assert [p for p in desk.children() if "server" in p.cmdline()]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: not desk.children(), 15, "the end of the Prefect server")
    done = desk.twinloop("train", str(desk.file))
    assert done.returncode == 0, done.stderr


def test_interrupted_command_ends_in_order(desk: Desk) -> None:
    """After Ctrl-C a command ends with status 130, one word, and no process left."""
    status, error = interrupt_training(desk)
    # Python itself loses an interrupt that comes while it collects garbage; people press again.
    if "Exception ignored in" in error:
        shutil.rmtree(desk.home / "data" / "lake")
        status, error = interrupt_training(desk)
    assert (status, error) == (130, "interrupted\n")
    assert desk.children() == []


def interrupt_training(desk: Desk) -> tuple[int, str]:
    """Press Ctrl-C in the middle of a training; return its status and what it said."""
    process = subprocess.Popen(
        [TWINLOOP, "train", str(desk.file)],
        env=desk.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    work = desk.home / "data" / "lake" / "sugar" / "work"
    wait_until(work.exists, 120, "a training at work")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    return process.returncode, error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--window", "yesterday"), "START/END"),
        (("train", "--folds", "1"), "folds"),
        (("train", "--candidates", "linear,magic"), "'magic'"),
        (("train", "--history", "180"), "180"),
        (("replay", "--policy", "sometimes"), "'sometimes'"),
        (("replay", "--step", "0d"), "0d"),
        (("check", "--var", "NAME"), "NAME=VALUE"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value[-1],
)
def test_option_that_makes_no_sense(desk: Desk, arguments: tuple[str, ...], words: str) -> None:
    """A bad option is one error with its value and what was expected, before any server starts."""
    done = desk.twinloop(arguments[0], str(desk.file), *arguments[1:])
    assert_one_error(done, "TL100")
    assert words in done.stderr
    assert desk.children() == []
    assert not (desk.home / ".prefect").exists()
