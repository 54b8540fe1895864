"""The topic plan: what is wanted, what came, and what is marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from generation.topic_plan import Coverage, phrases, topic_plan
from tests.generation.conftest import rows
from workbench.config import GenerateSettings, RowRequest
from workbench.errors import UserErrors
from workbench.persona import Persona
from workbench.records import Example, Preference, user_prompt

MIX = {"evolved": 0.2, "adversarial": 0.1, "out_of_scope": 0.1, "follow_up": 0.2}


def test_every_axis_is_spread_evenly_and_the_kinds_have_their_shares(persona: Persona) -> None:
    cells = topic_plan(persona, rows(60, mix=MIX), seed=1)
    assert Counter(cell.topic for cell in cells) == {"squat": 60, "sleep": 60}
    # 4 x 3 x 5 combinations, each once a topic.
    for topic in persona.topics:
        of_topic = [(c.intent, c.difficulty, c.tone) for c in cells if c.topic == topic]
        assert len(set(of_topic)) == 60
    kinds = Counter(cell.kind for cell in cells)
    assert kinds == {"": 48, "evolved": 24, "adversarial": 12, "out_of_scope": 12, "follow_up": 24}
    ways = Counter(cell.variant for cell in cells if cell.kind == "adversarial")
    assert set(ways.values()) == {3}
    assert topic_plan(persona, rows(60, mix=MIX), seed=1) == cells
    assert topic_plan(persona, rows(60, mix=MIX), seed=2) != cells


def test_cells_are_described_in_both_languages_with_the_same_keys(persona: Persona) -> None:
    def keys(tree: Mapping[str, object]) -> dict[str, Any]:
        return {k: keys(v) if isinstance(v, dict) else None for k, v in tree.items()}

    assert keys(phrases("en")) == keys(phrases("ko"))
    cell = next(c for c in topic_plan(persona, rows(20, mix=MIX)) if c.kind == "evolved")
    assert "How deep?" in cell.described(persona, "How deep?")
    korean = persona.model_copy(update={"language": "ko"})
    assert phrases("ko")["tones"][cell.tone] in cell.described(korean, "얼마나?")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_persona_on_itself_is_asked_for_in_each_way_and_without_a_problem(
    persona: Persona, language: str
) -> None:
    cells = topic_plan(persona, rows(30, mix={"first_person": 0.1}), seed=1)
    own = [cell for cell in cells if cell.kind == "first_person"]
    assert Counter(cell.variant for cell in own) == {"letter": 2, "diary": 2, "reason": 2}
    assert not any(cell.kind == "first_person" for cell in topic_plan(persona, GenerateSettings()))
    words = phrases(language)
    asked = persona.model_copy(update={"language": language})
    for cell in own:
        text = cell.described(asked, "How deep?")
        assert text.startswith(words["kinds"]["first_person"][cell.variant].format(name="Coach"))
        assert words["tones"][cell.tone] in text
        # Intent and difficulty are of people who bring a problem.
        assert words["difficulties"][cell.difficulty] not in text and "How deep?" not in text


def test_a_plan_asks_for_its_counts_of_its_cells_and_nothing_else(persona: Persona) -> None:
    asks = [
        RowRequest(topic="sleep", trait="address", count=5),
        RowRequest(topic="squat", kind="adversarial", count=3),
    ]
    cells = topic_plan(persona, rows(1, plan=asks), seed=1)
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
    asks = [RowRequest(topic="sleeep", count=1), RowRequest(topic="squat", trait="adress", count=1)]
    with pytest.raises(UserErrors) as raised:
        topic_plan(persona, rows(1, plan=asks))
    first, second = raised.value.lines()
    assert "no topic 'sleeep'" in first and "'sleep'" in first
    assert "no trait 'adress'" in second and "'address'" in second


def test_coverage_counts_cells_and_tells_every_axis(persona: Persona) -> None:
    cells = topic_plan(persona, rows(3))
    coverage = Coverage.of(cells, cells[:5], cells[:4])
    counts = coverage.to_dict()
    assert sum(row["wanted"] for row in counts) == 6
    assert [row["answered"] for row in counts if row["cell"] == cells[5].name] == [0]
    assert coverage.lines()[0] == "topics: squat 3/3, sleep 1/3"
    assert [line.split(":")[0] for line in coverage.lines()] == [
        "topics", "intents", "difficulties", "tones",
    ]  # fmt: skip


def test_a_marked_row_has_an_id_of_its_own_and_an_unmarked_one_the_old() -> None:
    row = {"prompt": user_prompt("How?"), "answer": "So."}
    plain, marked = Example(**row), Example(**row, kind="adversarial")
    assert plain.id == "ex-8d7476c0b76eae0a"
    assert marked.id != plain.id
    pair = Preference(prompt=user_prompt("How?"), chosen="So.", rejected="No.")
    assert pair.evolve(kind="voice_off").id != pair.id
