"""One real Argilla server for all tests of this folder, on a home of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.review.connection import Connection
from curation.server import Server, ServerHome, start, stop
from tests.curation.review_team import joined, owner_of, reviewers_of
from workbench.persona import Persona, load_persona


SERVERS = {"argilla_server", "source"}
"""Fixtures that start a server."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that needs a server as slow, however it comes by it."""
    for item in items:
        if SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def argilla_home(tmp_path_factory: pytest.TempPathFactory) -> ServerHome:
    return ServerHome(tmp_path_factory.mktemp("argilla") / "home")


@pytest.fixture(scope="session")
def argilla_server(argilla_home: ServerHome) -> Iterator[Server]:
    """The server, with the accounts reviewer-a and reviewer-b."""
    server = start(argilla_home, ["reviewer-a", "reviewer-b"])
    yield server
    stop(argilla_home)


@pytest.fixture(scope="module")
def owner(argilla_home: ServerHome, argilla_server: Server) -> Connection:
    return owner_of(joined(argilla_home))


@pytest.fixture(scope="module")
def logins(argilla_home: ServerHome, argilla_server: Server) -> dict[str, Connection]:
    return reviewers_of(joined(argilla_home))


@pytest.fixture(scope="module")
def coach(repo: Path) -> Persona:
    return load_persona(repo / "datasets" / "gym-trainer")
