from __future__ import annotations

import pytest

from curation.review.resolve import resolve
from workbench.config import Policy
from workbench.errors import UserError
from workbench.persona import Persona
from workbench.records import Example, Review, user_prompt


@pytest.fixture(scope="module")
def persona() -> Persona:
    return Persona.model_validate(
        {
            "id": "coach",
            "version": 1,
            "language": "en",
            "name": "Coach",
            "role": "A coach.",
            "audience": "Office workers.",
            "voice": {
                "address": "champ",
                "register": "Warm.",
                "emoji": {"min": 0, "max": 3},
                "length": {"min": 1, "max": 90, "unit": "words"},
            },
            "structure": ["Answers."],
            "safety": {"boundary": "Pain ends it.", "unsafe_patterns": ["through the pain"]},
            "topics": ["posture"],
            "traits": [
                {
                    "id": "address",
                    "name": "Address",
                    "about": "Says champ.",
                    "check": {"rule": "matches", "patterns": [r"\bchamp\b"]},
                }
            ],
        }
    )


def example(question: str = "My back hurts?", answer: str = "Champ, stand up.") -> Example:
    return Example(
        prompt=user_prompt(question), answer=answer, topic="posture", source="seeds.jsonl:1"
    )


def review(record: Example, reviewer: str, fidelity: int = 5, **answers: object) -> Review:
    status = answers.pop("status", "submitted")
    given = {"fidelity": fidelity, "problems": [], "corrected": "", "note": "", **answers}
    return Review(reviewer=reviewer, record=record.id, status=status, answers=given)


def test_agreed_good_row_is_kept_with_its_reviews_as_parents(persona: Persona) -> None:
    row = example()
    said = [review(row, "a", 5), review(row, "b", 4)]
    resolved = resolve(persona, [row], said, Policy(), {row.id: "Achilles was a hero."})
    assert [kept.id for kept in resolved.examples] == [row.id]
    assert set(resolved.examples[0].parents) == {said[0].id, said[1].id}
    (preference,) = resolved.preferences
    assert (preference.chosen, preference.rejected) == (row.answer, "Achilles was a hero.")
    assert preference.origin == "baseline"
    assert set(preference.parents) == {row.id, said[0].id, said[1].id}
    assert resolved.decisions[0].detail == "mean fidelity 4.50. a: 5/5; b: 4/5"
    assert resolved.drops == [] and resolved.queue == []


@pytest.mark.parametrize(
    ("votes", "reason", "detail"),
    [
        (
            [(2, []), (3, ["address"])],
            "low_fidelity",
            "mean fidelity 2.50. a: 2/5; b: 3/5, address",
        ),
        (
            [(5, ["wrong_fact", "unsafe_advice"]), (4, ["unsafe_advice"])],
            "unsafe_advice",
            "2 of 2 see it. a: 5/5, unsafe_advice, wrong_fact; b: 4/5, unsafe_advice",
        ),
        # Equal in number: the graver one, as the policy lists them.
        (
            [(5, ["wrong_fact"]), (5, ["unsafe_advice"])],
            "unsafe_advice",
            "2 of 2 see it. a: 5/5, wrong_fact; b: 5/5, unsafe_advice",
        ),
        (
            [(5, []), (3, [])],
            "disagreement_unsettled",
            "fidelity 3 to 5, no majority. a: 5/5; b: 3/5",
        ),
        (
            [(5, ["refusal"]), (5, [])],
            "disagreement_unsettled",
            "1 of 2 see a blocking problem. a: 5/5, refusal; b: 5/5",
        ),
        ([], "not_reviewed", "0 of 1 reviews"),
    ],
)
def test_each_drop_has_its_reason_and_names_the_votes(
    persona: Persona, votes: list[tuple[int, list[str]]], reason: str, detail: str
) -> None:
    row = example()
    said = [
        review(row, name, fidelity, problems=problems)
        for name, (fidelity, problems) in zip("ab", votes, strict=False)
    ]
    resolved = resolve(persona, [row], said, Policy(), {row.id: "baseline"})
    (drop,) = resolved.drops
    assert (drop.reason, drop.detail, drop.stage) == (reason, detail, "resolve")
    assert drop.record == row.id and drop.source == "seeds.jsonl:1"
    assert set(drop.parents) == {row.id, *(one.id for one in said)}
    assert resolved.examples == [] and resolved.preferences == []


def test_correction_settles_a_disagreement_and_beats_the_original(persona: Persona) -> None:
    row = example()
    better = "Champ, stand up and roll your shoulders."
    said = [review(row, "a", 5), review(row, "b", 1, corrected=better, problems=["wrong_fact"])]
    resolved = resolve(persona, [row], said, Policy(), {row.id: "baseline"})
    (kept,) = resolved.examples
    assert (kept.answer, kept.origin) == (better, "edit")
    assert set(kept.parents) == {row.id, said[0].id, said[1].id}
    pairs = [(p.chosen, p.rejected, p.origin) for p in resolved.preferences]
    assert pairs == [(better, row.answer, "edit"), (better, "baseline", "baseline")]
    assert resolved.drops == [] and resolved.counts["edit"] == 1


def test_prefilled_correction_left_as_it_was_is_no_correction(persona: Persona) -> None:
    row = example()
    said = [review(row, name, 5, corrected=row.answer + "\n") for name in "ab"]
    resolved = resolve(persona, [row], said, Policy(), {row.id: row.answer})
    assert [kept.origin for kept in resolved.examples] == ["seed"]
    assert resolved.preferences == []  # the bare answer is the same text


def test_unsafe_correction_is_refused_and_said_so(persona: Persona) -> None:
    row = example()
    said = [review(row, "a", 2, corrected="Champ, push through the pain."), review(row, "b", 2)]
    resolved = resolve(persona, [row], said, Policy(), {})
    assert resolved.drops[0].reason == "low_fidelity"
    assert "correction by a not taken: unsafe ('through the pain')" in resolved.drops[0].detail


def test_of_several_corrections_the_shared_one_then_the_fewest_failed_traits(
    persona: Persona,
) -> None:
    row = example()
    shared = [
        review(row, "a", 3, corrected="Stretch."),
        review(row, "b", 3, corrected="Champ, stretch."),
        review(row, "c", 3, corrected="Stretch."),
    ]
    assert resolve(persona, [row], shared, Policy(), {}).examples[0].answer == "Stretch."
    assert resolve(persona, [row], shared[:2], Policy(), {}).examples[0].answer == "Champ, stretch."


def test_three_reviewers_settle_by_majority_what_two_cannot(persona: Persona) -> None:
    row = example()
    said = [review(row, "a", 5), review(row, "b", 5), review(row, "c", 2)]
    kept = resolve(persona, [row], said, Policy(), {})
    assert kept.counts["keep"] == 1
    one_blocks = [review(row, "a"), review(row, "b"), review(row, "c", problems=["refusal"])]
    assert resolve(persona, [row], one_blocks, Policy(), {}).counts["keep"] == 1
    # The mean says keep, the majority says drop: neither wins.
    torn = [review(row, "a", 5), review(row, "b", 3), review(row, "c", 3)]
    assert resolve(persona, [row], torn, Policy(), {}).drops[0].reason == "disagreement_unsettled"


def test_unsettled_rows_wait_for_an_adjudicator_whose_word_is_final(persona: Persona) -> None:
    row = example()
    said = [review(row, "a", 5), review(row, "b", 1)]
    attended = Policy(unsettled="queue")
    waiting = resolve(persona, [row], said, attended, {})
    assert [one.record for one in waiting.queue] == [row.id]
    assert waiting.drops == [] and waiting.examples == []
    last = review(row, "judge", 4)
    settled = resolve(persona, [row], said, attended, {}, adjudications=[last])
    assert settled.examples[0].id == row.id and settled.queue == []
    assert set(settled.examples[0].parents) == {said[0].id, said[1].id, last.id}


def test_unattended_unsettled_rows_are_dropped_and_counted(persona: Persona) -> None:
    row = example()
    resolved = resolve(persona, [row], [review(row, "a", 5), review(row, "b", 1)], Policy(), {})
    assert resolved.counts == {
        "examples": 0,
        "preferences": 0,
        "queue": 1,
        "drop.disagreement_unsettled": 1,
    }
    assert resolved.queue[0].reason == "disagreement_unsettled"


def test_adjudication_rule_queues_whatever_reviewers_differ_on(persona: Persona) -> None:
    row = example()
    said = [review(row, "a", 4), review(row, "b", 3)]  # mean 3.5: a majority policy keeps it
    assert resolve(persona, [row], said, Policy(), {}).counts["keep"] == 1
    strict = resolve(persona, [row], said, Policy(rule="adjudication", unsettled="queue"), {})
    assert strict.queue[0].detail.startswith("reviewers differ: keep / low_fidelity")


def test_discarded_by_all_is_its_own_reason(persona: Persona) -> None:
    row = example()
    said = [review(row, "a", status="discarded"), review(row, "b", status="discarded")]
    assert resolve(persona, [row], said, Policy(), {}).drops[0].reason == "discarded"


def test_pair_keeps_the_side_that_reviewers_prefer(persona: Persona) -> None:
    row = example()
    alternative = {row.id: "Champ, walk first."}
    better = [review(row, "a", 4, better="alternative"), review(row, "b", 5, better="alternative")]
    (kept,) = (
        won := resolve(persona, [row], better, Policy(), {}, alternatives=alternative)
    ).examples
    assert (kept.answer, kept.origin) == ("Champ, walk first.", "teacher")
    assert [(p.chosen, p.rejected) for p in won.preferences] == [(kept.answer, row.answer)]
    ours = [review(row, "a", 4, better="candidate"), review(row, "b", 5, better="tie")]
    lost = resolve(persona, [row], ours, Policy(), {}, alternatives=alternative)
    assert [(p.chosen, p.rejected) for p in lost.preferences] == [(row.answer, alternative[row.id])]
    split = [review(row, "a", 5, better="candidate"), review(row, "b", 5, better="alternative")]
    torn = resolve(persona, [row], split, Policy(), {}, alternatives=alternative)
    assert torn.drops[0].detail.startswith("1 against 1 on which answer is better")
    bad = [review(row, name, 4, better="both_bad") for name in "ab"]
    assert resolve(persona, [row], bad, Policy(), {}).drops[0].reason == "both_bad"


def test_dawid_skene_follows_the_reliable_reviewers(persona: Persona) -> None:
    rows = [example(f"Question {number}?") for number in range(40)]
    said = []
    for number, row in enumerate(rows):
        good = number % 2 == 0
        said += [review(row, name, 5 if good else 1) for name in ("a", "b")]
        # The third votes the other way on every fourth pair of rows, else with them.
        wrong = number % 8 in (0, 1)
        said.append(review(row, "c", 5 if good != wrong else 1))
    resolved = resolve(persona, rows, said, Policy(rule="dawid-skene"), {})
    assert [kept.id for kept in resolved.examples] == [row.id for row in rows[::2]]
    assert {drop.reason for drop in resolved.drops} == {"low_fidelity"}
    assert resolved.decisions[0].detail.startswith("probability 1.00 of keep")


def test_reviews_of_other_records_are_counted_not_used(persona: Persona) -> None:
    row, gold = example(), example("Gold?")
    resolved = resolve(persona, [row], [review(row, "a"), review(gold, "a", 1)], Policy(), {})
    assert resolved.strangers == 1 and resolved.counts["keep"] == 1


def test_every_row_has_exactly_one_decision_in_the_order_of_the_examples(persona: Persona) -> None:
    rows = [example(f"Question {number}?") for number in range(6)]
    said = [review(row, "a", 1 + number % 5) for number, row in enumerate(rows[:5])]
    resolved = resolve(persona, rows, reversed(said), Policy(), {})
    assert [one.record for one in resolved.decisions] == [row.id for row in rows]
    assert len(resolved.examples) + len(resolved.drops) == len(rows)


def test_policy_that_blocks_on_an_unknown_problem_is_refused(persona: Persona) -> None:
    with pytest.raises(UserError) as error:
        resolve(persona, [], [], Policy(blocking=("unsafe_advise",)), {})
    assert error.value.line() == (
        "review.policy: blocking: unknown problem 'unsafe_advise' — did you mean 'unsafe_advice'?"
    )
