"""compose.yaml and the image: nothing secret, nothing exposed, nothing unpinned."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
STACK: dict[str, Any] = YAML(typ="safe").load(TEXT)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
EXAMPLE = (ROOT / "mlflow" / "compose.env.example").read_text(encoding="utf-8")
KNOWN = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.M))
SECRET = re.compile(r"PASSWORD|SECRET|_KEY|AUTH_STRING")
# ${NAME:?what to do} and ${NAME:-default}.
VARIABLE = re.compile(r"\$\{(\w+)(:[?-])?([^}]*)\}")
every_service = pytest.mark.parametrize("name", sorted(SERVICES))


def images() -> Iterator[str]:
    """Yield every image that is built upon or run."""
    yield from re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.M)
    yield from (service["image"] for service in SERVICES.values())


@every_service
def test_service_is_watched_and_restarted(name: str) -> None:
    """Each service says whether it is well, and comes back when it ends."""
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} < SERVICES[name]["healthcheck"].keys()


@every_service
def test_service_waits_for_health(name: str) -> None:
    """What a service needs is not only started but well."""
    needs = SERVICES[name].get("depends_on", {})
    assert {need: SERVICES[need].get("healthcheck") is not None for need in needs} == dict.fromkeys(
        needs, True
    )
    assert [n for n, c in needs.items() if c != {"condition": "service_healthy"}] == []


@every_service
def test_ports_are_for_this_machine_only(name: str) -> None:
    """Ports are published on loopback; what holds data publishes none and has no way out."""
    ports = SERVICES[name].get("ports", [])
    assert [p for p in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", p)] == []
    if name in ("database", "storage"):
        assert ports == []
        assert SERVICES[name]["networks"] == ["inner"]
    assert STACK["networks"]["inner"] == {"internal": True}


@every_service
def test_no_secret_is_written_down(name: str) -> None:
    """A secret is a variable that must be set, and nothing starts without it."""
    environment = SERVICES[name]["environment"]
    secrets = {key: value for key, value in environment.items() if SECRET.search(key)}
    open_ones = [k for k, v in secrets.items() if not re.search(r"\$\{\w+:\?[^}]+\}$", v)]
    assert open_ones == []
    # Nor in an address: a password has a role, a colon and an @ around it.
    assert [v for v in environment.values() if re.search(r"://[^/@]*:[^/@]*@", str(v))] == []


def test_example_has_every_variable_and_no_value_of_a_secret() -> None:
    """What compose.yaml asks for, the example of the environment file has; secrets are empty."""
    asked = VARIABLE.findall(TEXT)
    assert {name for name, _, _ in asked} == set(KNOWN)
    assert {name for name, how, _ in asked if how == ":?"} == {n for n, v in KNOWN.items() if not v}
    defaults = {name: value for name, how, value in asked if how == ":-"}
    assert defaults == {name: value for name, value in KNOWN.items() if value}
    # No variable has two different defaults.
    assert len(defaults) == len({(n, v) for n, how, v in asked if how == ":-"})


def test_environment_file_is_kept_out() -> None:
    """Neither git nor the image takes the file with the secrets."""
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    taken = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in taken
    assert "!.env" not in taken


@pytest.mark.parametrize("image", sorted(set(images())))
def test_images_are_pinned(image: str) -> None:
    """An image is named with a whole version, so that tomorrow's start is today's."""
    assert re.search(r":v?\d+\.\d+\.\d+|:\d+\.\d+-", image)


def test_volumes_are_named_or_read_only() -> None:
    """What outlives a container has a name; what comes from the tree cannot be written."""
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            assert source in STACK["volumes"] or (source.startswith("./") and rest.endswith(":ro"))
            assert not source.startswith("./") or (ROOT / source).exists()


def test_databases_are_those_the_servers_ask_for() -> None:
    """The roles and databases of the addresses are made by the script, each with its own role."""
    script = (ROOT / "mlflow" / "databases.sql").read_text()
    made = {(role, name) for name, role in re.findall(r"DATABASE (\w+) OWNER (\w+)", script)}
    accounts = (ROOT / "mlflow" / "accounts.ini").read_text()
    assert set(re.findall(r"://(\w+)@database/(\w+)", TEXT + accounts)) == made
    given = SERVICES["database"]["environment"]
    assert {name for _, name in re.findall(r"\\getenv (\w+) (\w+)", script)} < given.keys()


def test_image_runs_as_nobody_special() -> None:
    """The image installs what the lock has, and does not run as root."""
    steps = (ROOT / "Dockerfile").read_text()
    assert steps.count("--constraint requirements.lock") == 1
    assert re.findall(r"^USER (\w+)", steps, re.M) == ["twinloop"]
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", steps, re.M)
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert f"!{source}" in allowed


def test_documented_command_fills_the_environment_file(tmp_path: Path) -> None:
    """The command of the page writes every secret, each a different one, for its owner alone."""
    page = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^\(umask .*$", page, re.M)
    assert f"#   {command}\n" in EXAMPLE
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "compose.env.example").write_text(EXAMPLE)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, timeout=60)
    written = tmp_path / ".env"
    assert written.stat().st_mode & 0o077 == 0
    filled = dict(re.findall(r"^(\w+)=(.+)$", written.read_text(), re.M))
    assert filled.keys() == KNOWN.keys()
    assert len({filled[name] for name, value in KNOWN.items() if not value}) == 8


def test_page_names_variables_that_exist() -> None:
    """A variable of the environment file is called the same on the page."""
    page = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b[A-Z]+_(?:[A-Z]+_)*(?:PASSWORD|PAGE|HOSTS|KEY)\b", page))
    assert named - KNOWN.keys() == {"MLFLOW_TRACKING_PASSWORD"}
