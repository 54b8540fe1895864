"""The compose file for a team: whole, pinned, closed, and accepted by Docker where it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

SECRETS = ("DATABASE_PASSWORD", "QUEUE_PASSWORD", "AUTH_SECRET", "OWNER_PASSWORD", "OWNER_API_KEY")


@pytest.fixture(scope="module")
def folder(repo: Path) -> Path:
    return repo / "deploy"


@pytest.fixture(scope="module")
def services(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    return found


@pytest.fixture(scope="module")
def client() -> list[str]:
    """The compose client: Docker's plug-in, or the older program of its own."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            found = subprocess.run([*command, "version"], capture_output=True, check=False)
            if found.returncode == 0:
                return command
    warnings.warn("NO DOCKER COMPOSE: deploy/compose.yaml is NOT checked by it", stacklevel=1)
    pytest.skip("no compose client on this machine (Docker's compose plug-in)")


def test_services_are_pinned_watched_and_kept(services: dict[str, Any], folder: Path) -> None:
    assert set(services) == {"argilla", "worker", "database", "queue", "search"}
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-\w+)?", tag), f"{name}: {tag} is no version"
        assert service["healthcheck"]["test"] and service["volumes"]
    named = yaml.safe_load((folder / "compose.yaml").read_text())["volumes"]
    used = {volume.split(":")[0] for one in services.values() for volume in one["volumes"]}
    assert used == set(named)


def test_the_server_is_the_one_that_the_embedded_one_is(
    services: dict[str, Any], repo: Path
) -> None:
    pinned = (repo / "curation/argilla/embedded/requirements.txt").read_text()
    version = re.search(r"argilla-server==(\S+)", pinned)
    assert version and services["argilla"]["image"].endswith(f":v{version[1]}")


def test_only_argilla_has_a_port_and_only_on_this_machine(services: dict[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {"argilla": ["${ARGILLA_BIND:-127.0.0.1}:${ARGILLA_PORT:-6900}:6900"]}


def test_secrets_come_from_the_environment_file_and_have_no_default(folder: Path) -> None:
    text = (folder / "compose.yaml").read_text()
    example = (folder / "env.example").read_text()
    for name in SECRETS:
        assert f"${{{name}:?" in text
        assert re.search(rf"^{name}=$", example, re.MULTILINE), f"{name} has a value in the example"
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    assert asked | {"COMPOSE_PROJECT_NAME"} == set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_docker_accepts_the_file_and_misses_secrets(
    client: list[str], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "compose.yaml").write_text((folder / "compose.yaml").read_text())
    example = (folder / "env.example").read_text()

    def config() -> subprocess.CompletedProcess[str]:
        command = [*client, "--file", str(tmp_path / "compose.yaml"), "config"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    (tmp_path / ".env").write_text(example)
    refused = config()
    assert refused.returncode != 0 and "set it in .env" in refused.stderr
    for number, name in enumerate(SECRETS):
        example = example.replace(f"{name}=\n", f"{name}=secret{number}\n")
    (tmp_path / ".env").write_text(example)
    accepted = config()
    assert accepted.returncode == 0, accepted.stderr
    found = yaml.safe_load(accepted.stdout)["services"]
    assert "secret0@database" in found["argilla"]["environment"]["ARGILLA_DATABASE_URL"]
    assert "127.0.0.1" in str(found["argilla"]["ports"])
    assert set(found["worker"]["depends_on"]) == {"argilla"}
