"""Which traits answers show, and what is told of a judge that says nothing of one."""

from __future__ import annotations

from pathlib import Path

from generation.distilabel.pipeline import RowPipeline, RowsOf
from generation.pairs import JudgeAccount
from generation.pipelines.judging import judged
from generation.teacher_client import TeacherClient
from tests.scripted_server import Reply, Request, ScriptedServer, fails, says
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import trait_questions
from workbench.persona import Persona
from workbench.records import user_prompt

KIND = {"id": "kind", "name": "Kind", "about": "is kind", "check": {"judge": "Is it kind?"}}
FIT = {"id": "fit", "name": "Fit", "about": "fits", "check": {"judge": "Does it fit?"}}


def test_a_trait_that_the_judge_says_nothing_of_is_counted_and_left_to_rules(
    persona: Persona, tmp_path: Path
) -> None:
    data = persona.model_dump(by_alias=True)
    judged_by = Persona.model_validate({**data, "traits": [*data["traits"], KIND, FIT]})
    account = JudgeAccount()

    def script(request: Request) -> Reply:
        kind = "Is it kind?" in request.prompt
        if "Why 2?" in request.prompt:
            return fails(500)
        if "Why 1?" in request.prompt and not kind:
            return says("[]")
        value = "no" if kind and "Why 0?" in request.prompt else "yes"
        return says(f'{{"reason": "", "value": "{value}"}}')

    asked, answer = [user_prompt(f"Why {number}?") for number in range(3)], "Champ, go."
    rows = [{"prompt": prompt, "texts": [answer]} for prompt in asked]
    with ScriptedServer(script) as server:
        judge = Endpoint(base_url=server.url, model="judge", attempts=1)
        with TeacherClient([judge], tmp_path / "cache") as client:
            with RowPipeline("judging") as pipeline:
                judged(RowsOf(rows=rows), judged_by, client, judge, account, name="answers")
            scores = [row["texts_scores"][0] for row in pipeline.run()]
        prompts = {request.prompt for request in server.requests}
    assert [one.shown for one in scores] == [
        {"address": True, "kind": False, "fit": True},
        {"address": True, "kind": True},
        {"address": True},
    ]
    assert [one.share for one in scores] == [2 / 3, 1.0, 1.0]
    assert account.scored == 3
    assert account.unscored == {"judge_malformed": 1, "judge_http_500": 2}
    # One request for each answer and trait, with the question that every other stage puts.
    assert prompts == {
        question.ask.prompt
        for prompt in asked
        for question in trait_questions(judged_by, prompt, answer)
    }
