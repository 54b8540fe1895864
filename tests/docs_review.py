"""What people do in their browsers where a page says so: ``python -m tests.docs_review FOLDER``.

A process of its own, since it has to be in the network namespace of the page's commands.
"""

from __future__ import annotations

import sys
from pathlib import Path

from curation.argilla.client import Connection
from curation.argilla.pull import review_progress
from curation.argilla.server import ServerHome, start
from tests.curation.review_team import answer
from workbench.persona import load_persona
from workbench.records import Example
from workbench.store import read_records

PERSONA, REVIEWER = "coffee-friend", "taster"


def review(folder: Path) -> None:
    """Keep every answer that is new in the last round of the tutorial's persona."""
    server = start(ServerHome((folder / "runs" / ".argilla").absolute()), [REVIEWER], reuse=True)
    persona = load_persona(folder / "datasets" / PERSONA)
    owner = Connection(server.url, server.owner_api_key)
    login = Connection(server.url, server.logins[REVIEWER].api_key)
    rounds = sorted((folder / "runs" / PERSONA).glob("round-*"))
    *known, new = (
        {row.id for row in read_records(one / "filter/examples.jsonl", Example)} for one in rounds
    )
    there = review_progress(owner, persona, rounds[-1].name)
    for row in new.difference(*known):
        answer(login, there.dataset, row, fidelity=5)


if __name__ == "__main__":
    review(Path(sys.argv[1]))
