from __future__ import annotations

from pathlib import Path

import pytest

from curation.argilla.dataset import guidelines, problem_labels
from curation.argilla.pictures import pictures_of
from curation.argilla.records import JudgeOpinion, order_of, records
from curation.argilla.similar import VECTOR, Similarity
from workbench.errors import UserError
from workbench.language import phrases
from workbench.persona import Persona
from workbench.records import Example, Message, user_prompt


def example(question: str = "Sore neck?", answer: str = "Rest.", topic: str = "") -> Example:
    return Example(prompt=user_prompt(question), answer=answer, topic=topic)


def test_guide_holds_every_trait_the_boundary_and_the_examples(coach: Persona) -> None:
    shown = [example(f"Question {number}?", f"Answer {number}.") for number in range(5)]
    guide = guidelines(coach, shown)
    assert all(f"- **{trait.name}**: {trait.about}" in guide for trait in coach.traits)
    assert coach.safety.boundary.strip() in guide
    assert guide.count("\n> Answer") == 3
    assert len(guide) < 6000  # Argilla takes 10 000; people read fewer


def test_a_trait_is_named_as_missed_where_reviewers_say_what_is_wrong(coach: Persona) -> None:
    labels = problem_labels(coach)
    assert labels["emoji"] == f"Breaks: {coach.problems['emoji']}"
    assert labels["wrong_fact"] == coach.problems["wrong_fact"]
    assert sorted(labels) == sorted(coach.problems)
    assert list(labels)[-1] == coach.traits[-1].id and next(iter(labels)) == "unsafe_advice"


def test_review_phrases_exist_in_both_languages() -> None:
    english, korean = phrases("en"), phrases("ko")
    ours = {key for key in english if key.startswith("review.")}
    assert len(ours) > 40
    assert ours == {key for key in korean if key.startswith("review.")}


def test_pair_is_shown_in_a_random_order_that_is_remembered(coach: Persona) -> None:
    rows = [example(f"Question {number}?", f"Candidate {number}.") for number in range(200)]
    alternatives = {row.id: "Alternative." for row in rows}
    made = records(coach, "round-001", rows, alternatives, {})
    first = 0
    for row, record in zip(rows, made, strict=True):
        place = {"ab": "answer_a", "ba": "answer_b"}[record.metadata["order"]]
        assert record.fields[place] == row.answer
        assert "answer" not in record.fields and len(record.suggestions) == 0
        first += place == "answer_a"
    assert 70 < first < 130
    other = [order_of(row, "round-002") for row in rows]
    assert other != [record.metadata["order"] for record in made]


def test_rules_and_judge_suggest_with_agent_and_score(coach: Persona) -> None:
    row = example("Sore?", "There are several causes. Push through the pain.", "soreness")
    judge = JudgeOpinion(2, 0.7, "judge-model")
    (record,) = records(coach, "round-001", [row], {}, {row.id: judge})
    found = {suggestion.question_name: suggestion for suggestion in record.suggestions}
    assert set(found) == {"corrected", "problems", "fidelity"}
    assert found["corrected"].value == row.answer
    problems = found["problems"]
    assert problems.agent == "rules" and problems.score is None
    assert {"address", "no_encyclopedia", "unsafe_advice"} <= set(problems.value)
    assert (found["fidelity"].value, found["fidelity"].score) == (2, 0.7)
    assert found["fidelity"].agent == "judge-model"


def test_row_without_a_fault_gets_no_suggested_problem(coach: Persona, repo: Path) -> None:
    row = _seed(repo, coach.few_shot[0])
    (record,) = records(coach, "round-001", [row], {}, {})
    assert [suggestion.question_name for suggestion in record.suggestions] == ["corrected"]
    assert record.metadata["topic"] == coach.topic_name(row.topic)
    assert record.metadata["length"] == len(row.answer.split())
    assert (record.metadata["origin"], record.metadata["round"]) == ("own seed", "round-001")


def test_a_conversation_is_a_chat_and_its_last_turn_is_judged(coach: Persona) -> None:
    turns = (("user", "My neck <b>."), ("assistant", "Since when?"), ("user", "Monday."))
    prompt = tuple(Message.model_validate({"role": role, "content": c}) for role, c in turns)
    row = Example(prompt=prompt, answer="Rest.")
    (record,) = records(coach, "round-001", [row], {}, {}, similar=Similarity())
    assert record.fields["chat"] == [
        {"role": "Person", "content": "My neck &lt;b>."},
        {"role": "Coach", "content": "Since when?"},
    ]
    assert (record.fields["question"], record.fields["answer"]) == ("Monday.", "Rest.")
    alone = example("Monday.", "Rest.")
    (plain,) = records(coach, "round-001", [alone], {}, {}, similar=Similarity())
    assert "chat" not in plain.fields.to_dict()
    assert plain.vectors[VECTOR] != record.vectors[VECTOR], "found by what was said before, too"


def test_pictures_are_files_as_data_and_what_texts_name_by_an_address_that_argilla_takes(
    tmp_path: Path,
) -> None:
    from PIL import Image

    noise = Image.effect_noise((1600, 1200), 90)
    for name in ("small.png", "large.bmp"):
        noise.resize((8, 6) if name == "small.png" else noise.size).save(tmp_path / name)
    text = "Is ![this](data:image/png;base64,AA) as ![that](http://a.b/c.png)?"
    row = example(text).evolve(images=("small.png", "large.bmp"))
    small, large, *named = pictures_of(row, ["![x](no/path.png) ![y](http://a.b)"], tmp_path)
    assert small.startswith("data:image/png;base64,") and large.startswith("data:image/png;base64,")
    assert len(large) < 2_000_000 < (tmp_path / "large.bmp").stat().st_size * 2
    assert named == ["data:image/png;base64,AA", "http://a.b/c.png"]
    assert pictures_of(example("3*10 <b>")) == []
    with pytest.raises(UserError, match="cannot be read"):
        pictures_of(row.evolve(images=("gone.png",)), (), tmp_path)


def _seed(repo: Path, line: int) -> Example:
    import json

    text = (repo / "datasets/gym-trainer/seeds.jsonl").read_text(encoding="utf-8").split("\n")
    row = json.loads(text[line - 1])
    prompt = user_prompt(row["instruction"], row["input"])
    return Example(prompt=prompt, answer=row["output"], topic=row["topic"])
