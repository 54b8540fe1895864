"""What endpoints are asked for, byte for byte: a change of how jobs run changes no request."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from generation.teacher import teacher_rows
from tests.generation.conftest import rows
from tests.generation.test_conversations import USERS, WEAK, last
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, says
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Example

RECORDED = Path(__file__).with_name("requests.json")
"""Language → kind of request → how many different ones there were, and the digest of them all."""
MIX = {"evolved": 0.2, "adversarial": 0.1, "out_of_scope": 0.1, "follow_up": 0.2}

SIGNS = {
    "critique": ("What the answer lacks:", "이 답변에 빠진 것:"),
    "repair": ("[Not part of the conversation.", "[대화가 아닌 안내입니다."),
}


def kind_of(request: Request) -> str:
    if request.json_mode:
        return "judge"
    if request.schema is not None:
        return "questions" if "questions" in request.schema["properties"] else "user"
    for kind, signs in SIGNS.items():
        if any(sign in last(request) for sign in signs):
            return kind
    return "answer" if request.system else "hard_negative"


def script(request: Request) -> Reply:
    text = last(request)
    match kind_of(request):
        case "judge":
            value = "yes" if "Champ" in text.split("<answer>\n")[1] else "no"
            return says(json.dumps({"reason": "So.", "value": value}))
        case "user":
            return says(json.dumps({"state": "go_on", "reason": "", "message": f"{text[:9]} 2?"}))
        case "questions":
            return conforms(request)
        case "critique":
            return says("It does not say champ.")
        case "repair":
            return says("Champ again.")
    slips = "2?" in text or (request.system and not request.body["seed"])
    return says(f"{WEAK} {text[-9:]}" if slips else f"Champ, squat. {text[-9:]}")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_job_of_every_kind_asks_what_it_always_asked(
    persona: Persona, seeds: list[Example], tmp_path: Path, language: str
) -> None:
    judged = {"id": "kind", "name": "Kind", "about": "is kind", "check": {"judge": "Kind?"}}
    fields = persona.model_dump(by_alias=True)
    fields |= {"language": language, "traits": [*fields["traits"], judged]}
    settings = rows(10, mix=MIX, candidates=2, hard_negatives=0.5, conversations=4)
    with ScriptedServer(script) as server:
        endpoint = Endpoint(base_url=server.url, model="m", concurrency=16)
        teacher_rows(
            Persona.model_validate(fields),
            seeds,
            endpoint,
            settings,
            workdir=tmp_path,
            judge=endpoint.model_copy(update={"model": "j"}),
            users=USERS,
            user=endpoint.model_copy(update={"model": "u"}),
        )
    kinds: dict[str, set[str]] = defaultdict(set)
    for request in server.requests:
        kinds[kind_of(request)].add(json.dumps(request.body, sort_keys=True, ensure_ascii=False))
    digests = {
        kind: [len(bodies), hashlib.sha256("\n".join(sorted(bodies)).encode()).hexdigest()[:16]]
        for kind, bodies in kinds.items()
    }
    assert Counter(digests) == json.loads(RECORDED.read_text(encoding="utf-8"))[language]
