"""The accounts of the one real Argilla server, and the persona that they review."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.argilla.client import Connection
from curation.argilla.server import Server, ServerHome
from tests.curation.review_team import joined, owner_of, reviewers_of
from workbench.persona import Persona, load_persona


@pytest.fixture(scope="module")
def owner(argilla_home: ServerHome, argilla_server: Server) -> Connection:
    return owner_of(joined(argilla_home))


@pytest.fixture(scope="module")
def logins(argilla_home: ServerHome, argilla_server: Server) -> dict[str, Connection]:
    return reviewers_of(joined(argilla_home))


@pytest.fixture(scope="module")
def coach(repo: Path) -> Persona:
    return load_persona(repo / "datasets" / "gym-trainer")
