"""What a judge says of answers, and what is told of a judge that says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from generation.asker import Asker
from generation.outcome import Outcome
from generation.runner import Distilabel
from generation.verdicts import OTHER_NUMBER, verdicts_of
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import user_prompt

JUDGE = Endpoint(base_url="http://127.0.0.1:1/v1", model="judge")
JUDGED = {"id": "kind", "name": "Kind", "about": "is kind", "check": {"judge": "Is it kind?"}}


class Scripted(Asker):
    """An asker whose endpoint ends its requests as scripted."""

    replies: tuple[Outcome, ...] = ()

    def ask(self, *_: Any, **__: Any) -> list[Outcome]:
        return list(self.replies)


def said(text: str) -> Outcome:
    return Outcome(status="ok", text=text)


def test_answers_that_the_judge_says_nothing_of_are_counted_and_scored_by_rules(
    persona: Persona, tmp_path: Path
) -> None:
    data = persona.model_dump(by_alias=True)
    judged = Persona.model_validate({**data, "traits": [*data["traits"], JUDGED]})
    asker = Scripted(Distilabel(tmp_path), JUDGE, tmp_path / "cache")
    asker.replies = (
        said('{"verdicts": [false]}'),
        said('{"verdicts": [true, true]}'),
        Outcome(status="failed", reason="server_error", http=500),
        Outcome(status="failed", reason="server_error", http=500),
    )
    answers = [(user_prompt(f"Why {number}?"), "Champ, go.") for number in range(4)]
    verdicts = verdicts_of(asker, judged, answers, JUDGE)
    assert [verdict.shown for verdict in verdicts] == [
        {"address": True, "kind": False},
        {"address": True},
        {"address": True},
        {"address": True},
    ]
    assert [verdict.score for verdict in verdicts] == [0.5, 1.0, 1.0, 1.0]
    assert asker.judged == 1
    assert asker.unjudged == {OTHER_NUMBER: 1, "server_error": 2}
