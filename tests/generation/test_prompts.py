"""What a teacher or a chat is shown."""

from __future__ import annotations

from pathlib import Path

from generation.importing import import_rows
from generation.prompts import dataset_prompt, nearest_examples, prompt_versions
from workbench.persona import Persona
from workbench.records import Example, user_prompt


def test_few_shot_examples_are_near_to_the_question(persona: Persona, seeds: list[Example]) -> None:
    late = Example(prompt=user_prompt("Tea at night?"), answer="Champ, no.", topic="sleep")
    dull = Example(prompt=user_prompt("Coffee at night?"), answer="No.", topic="sleep")
    asked = [("sleep", "Is coffee at eight in the evening fine?"), ("squat", "My knees hurt!")]
    first, second = nearest_examples(persona, [*seeds, late, dull], asked)
    assert first[0] == seeds[3]
    assert second[0] == seeds[0]
    # An answer that lacks a trait is never shown.
    assert dull not in [*first, *second]


def test_no_example_is_shown_to_two_topics_whose_rows_would_then_be_in_one_split(
    persona: Persona, seeds: list[Example]
) -> None:
    loose = [
        Example(prompt=user_prompt(f"May I sit {n} hours?"), answer="Champ, up.") for n in range(3)
    ]
    asked = [("sleep", "My knees hurt when I squat at night."), ("squat", "May I sit 2 hours?")]
    first, second = nearest_examples(persona, [*seeds, *loose], asked)
    assert {seed.topic for seed in first} <= {"sleep", ""}
    assert {seed.topic for seed in second} <= {"squat", ""}
    assert not {seed.id for seed in first} & {seed.id for seed in second}
    assert nearest_examples(persona, [], asked) == [[], []]
    (none,) = nearest_examples(persona, seeds[:2], [("sleep", "My knees hurt when I squat.")])
    assert none == [], "no seed of another topic"


def test_the_prompt_tells_role_counts_and_form_in_the_persona_s_language(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    text = dataset_prompt(persona, seeds, count=5)
    assert "Write 5 rows" in text
    assert '- 3 on "squat" (Squats)\n- 2 on "sleep" (Sleep and rest)\n' in text
    assert 'Call the person "champ"' in text
    assert '{"instruction": "…", "output": "…", "topic": "…"}' in text
    # A chat that echoes the examples gives rows that can be imported.
    reply = tmp_path / "reply.txt"
    reply.write_text("\n".join(text.splitlines()[-2:]), encoding="utf-8")
    assert [row.question for row in import_rows(reply, None).examples] == [
        seed.question for seed in seeds[:2]
    ]
    korean = dataset_prompt(persona.model_copy(update={"language": "ko"}), [], count=1)
    assert "모두 1개의 행" in korean and '- "squat" (Squats): 1개\n1. ' in korean
    assert "sleep" not in korean.split("# 할 일")[1].split("1. ")[0]


def test_every_prompt_of_a_job_has_a_version_of_its_own_in_each_language(persona: Persona) -> None:
    korean = prompt_versions(persona.model_copy(update={"language": "ko"}))
    english = prompt_versions(persona)
    names = {"system", "questions", "follow_up", "hard_negative", "dataset", "topic_plan"}
    others = {"critique", "repair", "judge", "compare"}
    assert english.keys() == korean.keys() == names | others
    assert len({*english.values(), *korean.values()}) == 2 * len(english)
