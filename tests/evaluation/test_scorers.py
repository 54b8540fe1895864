from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import pytest

from evaluation import scorers
from evaluation.gate import check_unscored
from evaluation.scorers import ScoringInput, score_responses
from tests.present import present
from tests.scripted_server import Reply, Request, ScriptedServer
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Response, Score, user_prompt
from workbench.stats import compare

GOOD = "Put it down, champ. Rest today."
BAD = "There are several causes of pain."


def response(text: str, number: int = 1, arm: str = "base") -> Response:
    return Response(
        arm=arm, prompt_id=f"ex-{number}", prompt=user_prompt("My wrist hurts."), text=text
    )


def by_metric(scores: Sequence[Score]) -> dict[str, Score]:
    return {score.metric: score for score in scores}


def test_rules_give_one_or_nothing_and_a_judges_trait_stays_unscored(persona: Persona) -> None:
    good = by_metric(score_responses(ScoringInput(persona, [response(GOOD)])))
    bad = by_metric(score_responses(ScoringInput(persona, [response(BAD)])))

    assert (good["address"].value, good["lists"].value) == (1.0, 1.0)
    assert (bad["address"].value, bad["lists"].value) == (0.0, 0.0)
    for scores in (good, bad):
        assert (scores["kind"].value, scores["kind"].unscored) == (None, "no_judge")


def test_fidelity_is_the_mean_over_scored_traits_and_names_its_parents(persona: Persona) -> None:
    half = response("Champ, there are several causes.")
    scores = by_metric(score_responses(ScoringInput(persona, [half])))

    fidelity = scores["fidelity"]
    assert fidelity.value == 0.5
    assert fidelity.parents == (half.id, scores["address"].id, scores["lists"].id)


def test_fidelity_without_any_scored_trait_is_unscored(persona: Persona) -> None:
    inputs = ScoringInput(persona, [response(GOOD)])
    only = scorers.fidelity(inputs, scorers.judged(inputs))
    assert [(score.value, score.unscored) for score in only] == [(None, "no_trait_scored")]


@pytest.mark.parametrize("text", ["", "💪", "Champ, stand by the door. " * 8])
def test_no_trait_shows_in_what_is_no_answer(persona: Persona, text: str) -> None:
    scores = by_metric(score_responses(ScoringInput(persona, [response(text)])))
    assert (scores["address"].value, scores["lists"].value) == (0.0, 0.0)
    assert scores["fidelity"].value == 0.0


def test_every_response_gets_one_score_for_each_metric(persona: Persona) -> None:
    responses = [response(GOOD, n, arm) for arm in ("base", "sft") for n in range(3)]
    scores = score_responses(ScoringInput(persona, responses))
    assert Counter(score.metric for score in scores) == dict.fromkeys(
        ("address", "lists", "kind", "content", "variety", "unlooped", "fidelity"), 6
    )
    assert {score.response for score in scores} == {r.id for r in responses}


def test_a_scorer_of_the_table_runs_and_stays_out_of_fidelity(
    persona: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    def length(inputs: ScoringInput) -> list[Score]:
        return [scorers.score_of(r, "letters", float(len(r.text))) for r in inputs.responses]

    monkeypatch.setitem(scorers.SCORERS, "length", length)
    scores = by_metric(score_responses(ScoringInput(persona, [response(GOOD)])))
    assert scores["letters"].value == len(GOOD)
    assert scores["fidelity"].value == 1.0


def says(value: str) -> Reply:
    """A judge's verdict in the form that ragas asks for."""
    return Reply(json.dumps({"reason": "Because.", "value": value}))


def endpoint(url: str, **changes: object) -> Endpoint:
    return Endpoint(**{"base_url": url, "model": "judge", "timeout": 1.0, "attempts": 1, **changes})


def test_a_judge_that_fails_a_fifth_of_the_time_leaves_counts_that_add_up(persona: Persona) -> None:
    failures = (
        Reply("no JSON at all"),
        Reply(status=500),
        Reply("", delay=30.0),
        Reply(refusal="I would rather not."),
        says("2009.58"),
        Reply(status=429),
    )

    def script(request: Request) -> Reply:
        number = int(request.prompt.split("number ")[1].split(".")[0])
        if "{tough}" not in request.prompt:
            return says("yes")
        # Six of thirty in each arm, partly on the same questions.
        failed = number if number < 100 else number - 104
        return failures[failed] if 0 <= failed < 6 else says("yes" if number % 2 else "no")

    responses = [response(f"Champ, number {n}. Rest now.", n) for n in range(30)]
    responses += [response(f"Champ, number {n + 100}. Rest now.", n, "sft") for n in range(30)]
    with ScriptedServer(script) as judge:
        scores = score_responses(
            ScoringInput(persona, responses, judge=endpoint(judge.url, concurrency=4))
        )

    kind = [score for score in scores if score.metric == "kind"]
    assert len(kind) == 60
    assert Counter(score.unscored for score in kind if score.unscored) == {
        "judge_malformed": 2,
        "judge_http_500": 2,
        "judge_timeout": 2,
        "judge_refused": 2,
        "judge_out_of_range": 2,
        "judge_http_429": 2,
    }
    assert {s.prompt_id: s.value for s in kind if s.arm == "base" and s.value is not None} == {
        f"ex-{n}": float(n % 2) for n in range(6, 30)
    }
    assert 1 < judge.most_at_once <= 4
    # Two questions an answer: the trait's and the content's; a limit alone is met again.
    asked = Counter(request.prompt for request in judge.requests)
    assert len(asked) == 120
    assert sum(times > 1 for times in asked.values()) == 2
    assert {s.value for s in scores if s.metric == "content"} == {1.0}

    cell = compare(scores).cell("base", "kind")
    assert (cell.scored, cell.unscored, cell.mean) == (24, 6, 0.5)
    assert present(compare(scores).cell("sft", "kind").difference).pairs == 20
    # Unjudged in one arm, a prompt is compared on the rule traits in both.
    fidelity = {(s.arm, s.prompt_id): s.value for s in scores if s.metric == "fidelity"}
    assert (fidelity["base", "ex-0"], fidelity["sft", "ex-0"]) == (1.0, 1.0)
    assert (fidelity["base", "ex-6"], fidelity["sft", "ex-6"]) == (1.0, 1.0)
    assert fidelity["base", "ex-10"] == fidelity["sft", "ex-10"] == pytest.approx(2 / 3)
    # A fifth of the trait's scores is missing: more than a tenth, not more than a fifth.
    assert [missing.metric for missing in check_unscored(scores, 0.1)] == ["kind"]
    assert check_unscored(scores, 0.2) == []


def test_the_judge_sees_question_asked_and_answer_as_they_are(persona: Persona) -> None:
    with ScriptedServer(lambda _: says("yes")) as judge:
        asked = [response("Champ {braces} stay.")]
        scores = by_metric(
            score_responses(
                ScoringInput(
                    persona, asked, judge=endpoint(judge.url), references={"ex-1": "Champ, ice it."}
                )
            )
        )
    assert scores["kind"].value == 1.0
    prompts = [request.prompt for request in judge.requests]
    (trait,) = [prompt for prompt in prompts if "kind and {tough} at once?" in prompt]
    (content,) = [prompt for prompt in prompts if "right, safe and of use" in prompt]
    for prompt in prompts:
        assert "<asked>\nMy wrist hurts.\n</asked>" in prompt
        assert "<answer>\nChamp {braces} stay.\n</answer>" in prompt
    # The rubric is the spec's own words; only content is shown the approved answer.
    assert "Kind and tough: Is kind and tough at once." in trait
    assert "Boundary: Pain that stays needs a doctor." in content
    assert "<approved>\nChamp, ice it.\n</approved>" in content
    assert "<approved>" not in trait


def test_a_broken_answer_is_asked_again(persona: Persona) -> None:
    def script(request: Request) -> Reply:
        return says("no") if request.time else Reply("{")

    with ScriptedServer(script) as judge:
        patient = endpoint(judge.url, attempts=2)
        scores = by_metric(score_responses(ScoringInput(persona, [response(GOOD)], judge=patient)))
    assert scores["kind"].value == 0.0


@pytest.mark.parametrize(
    ("status", "line"), [(401, "refuses the API key"), (404, "does not know the model")]
)
def test_a_refused_key_and_an_unknown_model_stop_at_once(
    persona: Persona, status: int, line: str
) -> None:
    reply = Reply(status=status)
    with ScriptedServer(lambda _: reply) as judge:
        responses = [response(GOOD, n) for n in range(40)]
        with pytest.raises(UserError, match=line):
            score_responses(
                ScoringInput(persona, responses, judge=endpoint(judge.url, concurrency=2))
            )
    assert len(judge.requests) < 10


def test_a_judge_that_is_down_and_a_missing_key_are_told(
    persona: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = endpoint("http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="nothing answers there"):
        score_responses(ScoringInput(persona, [response(GOOD)], judge=down))
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(UserError, match="JUDGE_KEY: the API key is not set"):
        keyed = endpoint(down.base_url, api_key_env="JUDGE_KEY")
        score_responses(ScoringInput(persona, [response(GOOD)], judge=keyed))
