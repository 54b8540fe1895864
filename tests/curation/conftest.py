"""One real Argilla server for all tests of this folder, on a home of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from curation.server import Server, ServerHome, start, stop


@pytest.fixture(scope="session")
def argilla_home(tmp_path_factory: pytest.TempPathFactory) -> ServerHome:
    return ServerHome(tmp_path_factory.mktemp("argilla") / "home")


@pytest.fixture(scope="session")
def argilla_server(argilla_home: ServerHome) -> Iterator[Server]:
    """The server, with the accounts reviewer-a and reviewer-b."""
    server = start(argilla_home, ["reviewer-a", "reviewer-b"])
    yield server
    stop(argilla_home)
