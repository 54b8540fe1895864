"""Commands on a round of a small persona whose teacher is a scripted server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import main
from tests.small_round import SmallRound


@pytest.fixture
def persona_folder(small_round: SmallRound) -> Path:
    return small_round.written_persona()


@pytest.fixture
def of_round(small_round: SmallRound) -> Callable[..., list[str]]:
    """Return the options of the round, with the scripted server at ``url`` as its teacher."""
    return small_round.options


@pytest.fixture
def run(small_round: SmallRound) -> Callable[..., int]:
    """Run a command of the round."""

    def run(*arguments: str, **about: Any) -> int:
        return int(main([*arguments, *small_round.options(**about)]))

    return run
