from __future__ import annotations

import json
from pathlib import Path

from curation.review.agreement import agreement, rules_beside_reviewers
from curation.review.reliability import against_gold, dawid_skene
from curation.review.votes import votes_of
from workbench.checks import Matches
from workbench.config import Policy
from workbench.persona import Trait, load_persona
from workbench.records import Example, Review, user_prompt


def rows(count: int, topics: int = 2) -> list[Example]:
    return [
        Example(prompt=user_prompt(f"Question {n}?"), answer="Answer.", topic=f"topic-{n % topics}")
        for n in range(count)
    ]


def say(row: Example, reviewer: str, fidelity: int, problems: tuple[str, ...] = ()) -> Review:
    answers = {"fidelity": fidelity, "problems": list(problems), "corrected": "", "note": ""}
    return Review(reviewer=reviewer, record=row.id, answers=answers)


def test_agreement_per_question_topic_pair_and_reviewer() -> None:
    examples = rows(30)
    reviews = []
    for number, row in enumerate(examples):
        rating = 1 + number % 5
        bad = ("unsafe_advice",) if number % 3 == 0 else ()
        reviews += [say(row, "a", rating, bad), say(row, "b", rating, bad)]
        reviews.append(say(row, "c", 6 - rating, ()))
    found = agreement(
        examples, reviews, Policy(), problems=("unsafe_advice", "refusal"), resamples=200
    )
    assert (found.records, found.overlapping) == (30, 30)
    assert found.pairs["a / b"]["fidelity"].value == 1.0
    against = found.pairs["a / c"]["fidelity"].value
    assert against is not None and against < -0.5
    assert set(found.pairs["a / b"]) == {"fidelity", "decision"}
    problem = found.questions["problem:unsafe_advice"].value  # a and b name it, c never does
    assert problem is not None and 0 < problem < 1
    assert found.questions["problem:refusal"].unscored == "same_value"
    assert set(found.topics) == {"topic-0", "topic-1"}
    assert found.topics["topic-0"]["fidelity"].rows == 15
    assert found.reviewers["a"].reviews == 30
    mine, theirs = found.reviewers["a"].consensus.value, found.reviewers["c"].consensus.value
    assert mine is not None and theirs is not None and mine > theirs
    assert json.loads(found.model_dump_json())["questions"]["fidelity"]["rows"] == 30


def test_discarded_reviews_are_no_votes() -> None:
    (row,) = rows(1)
    gone = Review(reviewer="b", record=row.id, status="discarded", answers={"fidelity": 1})
    found = agreement([row], [say(row, "a", 5), gone], Policy())
    assert (found.records, found.overlapping) == (1, 0)


def test_gold_tells_the_reviewer_who_does_not_read() -> None:
    examples = rows(20)
    gold = {row.id: "keep" if n % 2 else "unsafe_advice" for n, row in enumerate(examples)}
    reviews = []
    for row in examples:
        bad = ("unsafe_advice",) if gold[row.id] == "unsafe_advice" else ()
        reviews += [say(row, "careful", 5, bad), say(row, "careless", 5)]
    scores = against_gold(votes_of(reviews), Policy(), gold)
    assert [(s.reviewer, s.right, s.seen) for s in scores] == [
        ("careful", 20, 20),
        ("careless", 10, 20),
    ]


def test_dawid_skene_with_nothing_but_one_outcome_is_certain() -> None:
    examples = rows(3)
    trust = dawid_skene(votes_of(say(row, who, 5) for row in examples for who in "ab"), Policy())
    assert trust.posteriors[examples[0].id] == {"keep": 1.0}
    assert trust.reviewers == {"a": 1.0, "b": 1.0}


def test_a_rule_that_reviewers_contradict_is_told_by_precision_and_recall(repo: Path) -> None:
    """Of 20 answers one rule faults what reviewers fault, one the others, one none at all."""
    persona = load_persona(repo / "datasets" / "gym-trainer")

    def rule(name: str, pattern: str) -> Trait:
        check = Matches(rule="matches", patterns=(pattern,))
        return persona.rule_traits[0].model_copy(update={"id": name, "check": check})

    traits = [rule("right", "short"), rule("wrong", "short"), rule("never", ".")]
    examples = [
        Example(prompt=user_prompt(f"Question {n}?"), answer="short" if n % 2 else "long")
        for n in range(20)
    ]
    reviews = []
    for n, row in enumerate(examples):
        problems = ("right",) if n % 2 == 0 else ("wrong", "never")
        reviews += [say(row, "a", 4, problems), say(row, "b", 4, problems)]
    reviews.append(say(examples[1], "c", 4))  # one of three is no majority
    better = {"problems": [], "better": "alternative"}  # so it is about the other answer
    reviews.append(Review(reviewer="d", record=examples[0].id, answers=better))

    rules = rules_beside_reviewers(traits, examples, reviews)

    right, wrong, never = (rules[trait.id] for trait in traits)
    assert (right.kappa.value, right.precision.value, right.recall.value) == (1.0, 1.0, 1.0)
    assert (wrong.kappa.value, wrong.precision.value, wrong.recall.value) == (-1.0, 0.0, 0.0)
    assert (never.precision.n, never.precision.value, never.recall.n) == (0, None, 10)
    assert [one.disagrees for one in rules.values()] == [False, True, True]
    few = rules_beside_reviewers(traits[1:2], examples[:6], reviews)["wrong"]
    assert not few.disagrees, "of three answers nothing can be told"
