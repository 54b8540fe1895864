from __future__ import annotations

from collections.abc import Sequence

import pytest
from scipy.stats import binomtest

from evaluation.people import Blind, blind, count
from tests.present import present
from workbench.records import Response, Review, user_prompt

PROMPTS = 24


def responses(arm: str, text: str = "", probe: str = "") -> list[Response]:
    return [
        Response(
            arm=arm,
            prompt_id=f"{probe}ex-{n}",
            prompt=user_prompt(f"Question {n}?"),
            text=text or f"{arm} says {n}.",
            probe=probe,
        )
        for n in range(PROMPTS)
    ]


def choose(
    shown: Blind, arm_wins: int, reviewers: Sequence[str] = ("reviewer-1", "reviewer-2")
) -> list[Review]:
    """Everyone chooses the arm on the first pairs, the other on the rest."""
    return [
        Review(
            reviewer=name,
            record=pair.record,
            answers={
                "better": "candidate"
                if (n < arm_wins) == (pair.candidate == pair.arm)
                else "alternative"
            },
        )
        for n, pair in enumerate(shown.pairs)
        for name in reviewers
    ]


@pytest.fixture
def shown() -> Blind:
    return blind(
        [*responses("base"), *responses("sft"), *responses("sft", probe="safety")], "sft", ["base"]
    )


def test_nothing_that_reviewers_see_names_an_arm(shown: Blind) -> None:
    assert len(shown.examples) == PROMPTS
    firsts = [pair.candidate for pair in shown.pairs]
    assert 5 < firsts.count("sft") < 19  # a coin decides who is the candidate
    for example, pair in zip(shown.examples, shown.pairs, strict=True):
        assert example.id == pair.record
        assert {example.answer, shown.alternatives[example.id]} == {
            f"{arm} says {pair.prompt_id.removeprefix('ex-')}." for arm in ("sft", "base")
        }
        assert (example.origin, example.source) == ("imported", "")


def test_choices_come_back_to_the_arm_whichever_place_it_had(shown: Blind) -> None:
    found = count(shown, choose(shown, arm_wins=18))
    (pairing,) = found.pairings
    wilson = binomtest(18, 24).proportion_ci(method="wilson")

    assert (pairing.wins, pairing.losses, pairing.ties, pairing.open) == (18, 6, 0, 0)
    assert (pairing.share, pairing.low, pairing.high) == (0.75, wilson.low, wilson.high)
    assert pairing.p == pytest.approx(binomtest(18, 24).pvalue)
    assert pairing.excludes_chance
    assert (found.votes, found.reviewers) == (48, 2)
    assert found.pairing("sft", "base") == pairing
    assert found.pairing("sft", "teacher") is None


def test_a_prompt_counts_once_and_a_split_vote_is_a_tie(shown: Blind) -> None:
    one, other = choose(shown, 24, ["reviewer-1"]), choose(shown, 12, ["reviewer-2"])
    (pairing,) = count(shown, [*one, *other]).pairings
    assert (pairing.wins, pairing.losses, pairing.ties) == (12, 0, 12)


def test_what_nobody_chose_yet_is_open_and_other_reviews_do_not_count(shown: Blind) -> None:
    given = choose(shown, 24)[:6]
    drafts = [one.model_copy(update={"status": "discarded"}) for one in choose(shown, 24)[6:]]
    foreign = Review(reviewer="reviewer-1", record="ex-other", answers={"better": "alternative"})
    (pairing,) = count(shown, [*given, *drafts, foreign]).pairings
    assert (pairing.wins, pairing.losses, pairing.open, pairing.votes) == (3, 0, 21, 6)
    (unanswered,) = count(shown, []).pairings
    assert (unanswered.share, unanswered.low, unanswered.p) == (None, None, None)


def test_two_equal_answers_are_a_tie_that_nobody_has_to_read() -> None:
    shown = blind([*responses("base", "Same."), *responses("sft", "Same.")], "sft", ["base"])
    (pairing,) = count(shown, []).pairings
    assert shown.examples == ()
    assert (pairing.ties, pairing.share) == (PROMPTS, None)


def test_one_answer_in_two_pairings_is_two_rows_with_corrected_tests() -> None:
    arms = [answer for arm in ("base", "base+prompt", "sft") for answer in responses(arm)]
    shown = blind(arms, "sft", ["base", "base+prompt"])
    assert len({example.id for example in shown.examples}) == 2 * PROMPTS
    first, second = count(shown, choose(shown, 2 * PROMPTS)).pairings
    assert (first.against, second.against) == ("base", "base+prompt")
    assert first.p_adjusted == pytest.approx(2 * present(first.p))
