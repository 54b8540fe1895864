"""Which traits answers show, and what is told of a judge that says nothing of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from generation.distilabel.runner import Distilabel
from generation.pairs import JudgeAccount, trait_scores
from generation.teacher_client import TeacherClient
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import trait_questions
from workbench.persona import Persona
from workbench.records import Messages, user_prompt

JUDGE = Endpoint(base_url="http://127.0.0.1:1/v1", model="judge")
KIND = {"id": "kind", "name": "Kind", "about": "is kind", "check": {"judge": "Is it kind?"}}
FIT = {"id": "fit", "name": "Fit", "about": "fits", "check": {"judge": "Does it fit?"}}


class Scripted(TeacherClient):
    """A client whose endpoint ends its requests as scripted."""

    replies: tuple[Completion, ...] = ()
    prompts: tuple[Messages, ...] = ()

    def ask(self, step: str, prompts: Any, **_: Any) -> list[Completion]:
        self.prompts = tuple(prompts)
        return list(self.replies)


def reply(value: str) -> Completion:
    return Completion(end="ok", text=f'{{"reason": "", "value": "{value}"}}')


def test_a_trait_that_the_judge_says_nothing_of_is_counted_and_left_to_rules(
    persona: Persona, tmp_path: Path
) -> None:
    data = persona.model_dump(by_alias=True)
    judged = Persona.model_validate({**data, "traits": [*data["traits"], KIND, FIT]})
    client, account = Scripted(Distilabel(tmp_path), JUDGE, tmp_path / "cache"), JudgeAccount()
    client.replies = (
        *(reply("no"), reply("yes")),
        *(reply("yes"), Completion(end="malformed", reason="wrong_shape", http=200)),
        *(Completion(end="failed", reason="server_error", http=500),) * 2,
    )
    answers = [(user_prompt(f"Why {number}?"), "Champ, go.") for number in range(3)]
    scores = trait_scores(client, judged, answers, JUDGE, account)
    assert [one.shown for one in scores] == [
        {"address": True, "kind": False, "fit": True},
        {"address": True, "kind": True},
        {"address": True},
    ]
    assert [one.share for one in scores] == [2 / 3, 1.0, 1.0]
    assert account.scored == 3
    assert account.unscored == {"judge_malformed": 1, "judge_http_500": 2}
    # One request for each answer and trait, with the question that every other stage puts.
    assert [prompt[0].content for prompt in client.prompts] == [
        question.ask.prompt for answer in answers for question in trait_questions(judged, *answer)
    ]
