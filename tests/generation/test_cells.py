"""The topic plan: what is wanted, what came, and what is marked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from generation.account import account_lines
from generation.cells import Coverage, phrases, plan_asks, plan_cells
from generation.exemplars import nearest_exemplars
from generation.pipeline import Taught, plan_teacher, teacher_rows
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, says
from workbench.config import Ask
from workbench.errors import UserErrors
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Example, Preference, user_prompt

MIX = {"evolved": 0.2, "adversarial": 0.1, "out_of_scope": 0.1, "follow_up": 0.2}
GOOD = "Champ, squat to the chair today."
WEAK = "Squat to the chair today."
NEAR = "A squat is an exercise in which the hips are lowered."


def test_every_axis_is_spread_evenly_and_the_kinds_have_their_shares(persona: Persona) -> None:
    cells = plan_cells(persona, 60, MIX, seed=1)
    assert Counter(cell.topic for cell in cells) == {"squat": 60, "sleep": 60}
    # 4 x 3 x 5 combinations, each once a topic.
    for topic in persona.topics:
        of_topic = [(c.intent, c.difficulty, c.tone) for c in cells if c.topic == topic]
        assert len(set(of_topic)) == 60
    kinds = Counter(cell.kind for cell in cells)
    assert kinds == {"": 48, "evolved": 24, "adversarial": 12, "out_of_scope": 12, "follow_up": 24}
    ways = Counter(cell.variant for cell in cells if cell.kind == "adversarial")
    assert set(ways.values()) == {3}
    assert plan_cells(persona, 60, MIX, seed=1) == cells
    assert plan_cells(persona, 60, MIX, seed=2) != cells


def test_cells_are_described_in_both_languages_with_the_same_keys(persona: Persona) -> None:
    def keys(tree: dict[str, Any]) -> dict[str, Any]:
        return {k: keys(v) if isinstance(v, dict) else None for k, v in tree.items()}

    assert keys(phrases("en")) == keys(phrases("ko"))
    cell = next(c for c in plan_cells(persona, 20, MIX) if c.kind == "evolved")
    assert "How deep?" in cell.described(persona, "How deep?")
    korean = persona.model_copy(update={"language": "ko"})
    assert phrases("ko")["tones"][cell.tone] in cell.described(korean, "얼마나?")


def test_a_plan_asks_for_its_counts_of_its_cells_and_nothing_else(persona: Persona) -> None:
    asks = [
        Ask(topic="sleep", trait="address", count=5),
        Ask(topic="squat", kind="adversarial", count=3),
    ]
    cells = plan_asks(persona, asks, seed=1)
    assert Counter((cell.topic, cell.kind, cell.trait) for cell in cells) == {
        ("sleep", "", "address"): 5,
        ("squat", "adversarial", ""): 3,
    }
    assert len({(c.intent, c.difficulty, c.tone) for c in cells}) == 8
    assert len({c.variant for c in cells if c.kind}) == 3
    assert "calls the person champ" in cells[0].described(persona, "")
    assert cells[0].emphasis(persona).endswith("calls the person champ")
    assert cells[5].emphasis(persona) == ""
    lines = Coverage.of(cells, cells, cells).lines()
    assert lines[-2:] == [
        "kinds: ordinary 5/5, adversarial 3/3",
        "traits: address 5/5, ordinary 3/3",
    ]


def test_topics_and_traits_of_a_plan_that_the_persona_lacks_are_all_named(
    persona: Persona,
) -> None:
    asks = [Ask(topic="sleeep", count=1), Ask(topic="squat", trait="adress", count=1)]
    with pytest.raises(UserErrors) as raised:
        plan_asks(persona, asks)
    first, second = raised.value.lines()
    assert "no topic 'sleeep'" in first and "'sleep'" in first
    assert "no trait 'adress'" in second and "'address'" in second


def test_coverage_counts_cells_and_tells_every_axis(persona: Persona) -> None:
    cells = plan_cells(persona, 3)
    coverage = Coverage.of(cells, cells[:5], cells[:4])
    rows = coverage.to_dict()
    assert sum(row["wanted"] for row in rows) == 6
    assert [row["answered"] for row in rows if row["cell"] == cells[5].name] == [0]
    assert coverage.lines()[0] == "topics: squat 3/3, sleep 1/3"
    assert [line.split(":")[0] for line in coverage.lines()] == [
        "topics", "intents", "difficulties", "tones",
    ]  # fmt: skip


def test_exemplars_are_near_to_the_question(persona: Persona, seeds: list[Example]) -> None:
    late = Example(prompt=user_prompt("Tea at night?"), answer="Champ, no.", topic="sleep")
    dull = Example(prompt=user_prompt("Coffee at night?"), answer="No.", topic="sleep")
    asked = [("sleep", "Is coffee at eight in the evening fine?"), ("squat", "My knees hurt!")]
    first, second = nearest_exemplars(persona, [*seeds, late, dull], asked)
    assert first[0] == seeds[3]
    assert second[0] == seeds[0]
    # An answer that lacks a trait is never shown.
    assert dull not in [*first, *second]


def teach(
    persona: Persona, seeds: list[Example], work: Path, **options: Any
) -> tuple[Taught, list[Request], list[str]]:
    """Teach with candidates of two qualities, hard negatives and a judge's verdicts."""
    persona = Persona.model_validate(
        {
            **persona.model_dump(by_alias=True),
            "traits": [
                *persona.model_dump(by_alias=True)["traits"],
                {"id": "kind", "name": "Kind", "about": "is kind", "check": {"judge": "Kind?"}},
            ],
        }
    )

    def script(request: Request) -> Reply:
        text = request.body["messages"][-1]["content"]
        if "verdicts" in text:
            return says(f'{{"verdicts": [{"true" if "Champ" in text else "false"}]}}')
        if request.schema:
            return conforms(request)
        if request.system:
            last = text[-30:]
            return says(f"{GOOD} {last}" if request.body["seed"] else f"{WEAK} {last}")
        return says(NEAR)

    with ScriptedServer(script) as server:
        endpoint = Endpoint(base_url=server.url, model="m", concurrency=16)
        options = {"mix": MIX, "candidates": 2, "hard_negatives": 0.5, "judge": endpoint, **options}
        plan = plan_teacher(
            persona, seeds, endpoint, per_topic=10,
            **{k: v for k, v in options.items() if k not in ("margin",)},
        )  # fmt: skip
        taught = teacher_rows(persona, seeds, endpoint, per_topic=10, workdir=work, **options)
        return taught, server.requests, account_lines(plan, taught)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("taught")


@pytest.mark.slow
def test_kinds_are_marked_candidates_chosen_and_pairs_scored(
    persona: Persona, seeds: list[Example], work: Path
) -> None:
    taught, requests, lines = teach(persona, seeds, work)
    assert taught.share == 1.0
    assert Counter(e.kind for e in taught.examples) == {
        "": 8, "evolved": 4, "adversarial": 2, "out_of_scope": 2, "follow_up": 4,
    }  # fmt: skip
    # The candidate that shows more traits is the row, whichever came first.
    assert all(example.answer.startswith(GOOD) for example in taught.examples)
    follow_ups = [e for e in taught.examples if e.kind == "follow_up"]
    by_prompt = {e.prompt: e for e in taught.examples}
    for example in follow_ups:
        assert [turn.role for turn in example.prompt] == ["user", "assistant", "user"]
        base = by_prompt[example.prompt[:1]]
        assert (base.topic, base.kind) == (example.topic, "")
    kinds = Counter(pair.kind for pair in taught.preferences)
    assert kinds == {"candidates": 20, "voice_off": 5, "rule_broken": 5}
    rows = {e.id: e for e in taught.examples}
    scores = {(s.response, s.arm): s.value for s in taught.scores}
    for pair in taught.preferences:
        assert pair.chosen == rows[pair.parents[0]].answer
        assert (scores[pair.id, "chosen"], scores[pair.id, "rejected"]) == (1.0, 0.0)
    steps = Counter({step: usage["requests"] for step, usage in taught.steps.items()})
    assert steps == {
        "questions": 4,
        "answers": 40,
        "follow_ups": 4,
        "hard_negatives": 10,
        "judge": 50,
    }
    # A scripted hard negative is the same text for every row, so equal requests were joined.
    assert len(requests) <= sum(steps.values())
    assert "the judge: 50 answers judged, 0 not" in lines
    assert any(line.startswith("answered of kinds: ordinary 8/8") for line in lines)
    assert lines[-1] == "pairs: candidates 20, rule_broken 5, voice_off 5; 0 too close"


@pytest.mark.slow
def test_pairs_too_close_are_dropped_by_name(
    persona: Persona, seeds: list[Example], work: Path
) -> None:
    taught, _, _ = teach(persona, seeds, work, margin=1.0, judge=None, candidates=1)
    assert taught.steps.keys() == {"questions", "answers", "follow_ups", "hard_negatives"}
    # Weak answers alone: a hard negative lacks what they lack, so no pair has a margin.
    assert taught.preferences == []
    close = [drop for drop in taught.dropped if drop.reason == "pair_too_close"]
    assert Counter(drop.detail.split(":")[0] for drop in close) == {
        "voice_off": 5, "rule_broken": 5,
    }  # fmt: skip


def test_a_marked_row_has_an_id_of_its_own_and_an_unmarked_one_the_old() -> None:
    row = {"prompt": user_prompt("How?"), "answer": "So."}
    plain, marked = Example(**row), Example(**row, kind="adversarial")
    assert plain.id == "ex-6cbb9c013666ec05"
    assert marked.id != plain.id
    pair = Preference(prompt=user_prompt("How?"), chosen="So.", rejected="No.")
    assert pair.evolve(kind="voice_off").id != pair.id
