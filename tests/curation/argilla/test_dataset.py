"""What a reviewer is asked; the SDK makes settings with a client alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.argilla.client import Connection, connected
from curation.argilla.dataset import DatasetShape, problem_labels, seal_of, settings
from workbench.persona import Persona, load_persona


@pytest.fixture(scope="module")
def korean(repo: Path) -> Persona:
    return load_persona(repo / "datasets" / "gym-trainer-ko")


def test_guide_and_titles_are_in_the_language_of_the_persona(
    owner: Connection, korean: Persona
) -> None:
    with connected(owner):  # the SDK makes settings with a client alone
        made = settings(korean, (), DatasetShape(), min_submitted=2)
        assert made.guidelines.startswith(f"# {korean.name}: 검토 안내")
        assert made.fields["question"].title == "질문"
        assert made.questions["problems"].title == "무엇이 잘못됐나요?"
        assert made.questions["problems"].labels == list(problem_labels(korean))
        assert made.questions["problems"].visible_labels == 8
        assert made.metadata["topic"].title == "주제"


def test_settings_for_single_answers_ask_nothing_about_pairs(
    owner: Connection, coach: Persona
) -> None:
    with connected(owner):  # the SDK makes settings with a client alone
        made = settings(coach, (), DatasetShape(), min_submitted=3)
        assert [field.name for field in made.fields] == ["question", "answer"]
        names = [question.name for question in made.questions]
        assert names == ["fidelity", "problems", "corrected", "note"]
        assert [question.required for question in made.questions] == [True, False, False, False]
        assert made.distribution.min_submitted == 3


def test_order_of_a_pair_is_metadata_that_annotators_do_not_see(
    owner: Connection, coach: Persona
) -> None:
    with connected(owner):  # the SDK makes settings with a client alone
        made = settings(coach, (), DatasetShape(pairs=True), min_submitted=2)
        assert made.metadata["order"].visible_for_annotators is False
        assert made.metadata["topic"].visible_for_annotators is True
        assert made.questions["better"].labels == ["a", "b", "tie", "both_bad"]


def test_seal_changes_with_the_specification_and_with_what_is_asked(
    owner: Connection, coach: Persona
) -> None:
    with connected(owner):  # the SDK makes settings with a client alone

        def seal(persona: Persona, shape: DatasetShape, reviewers: int = 2) -> str:
            return seal_of(settings(persona, (), shape, min_submitted=reviewers).guidelines)

        first = seal(coach, DatasetShape())
        assert len(first) == 16
        assert (
            seal(coach, DatasetShape()) == first
            and seal(coach, DatasetShape(), reviewers=3) == first
        )
        assert seal(coach.model_copy(update={"must": ("Rhyme.",)}), DatasetShape()) != first
        assert seal(coach, DatasetShape(pairs=True)) != first
