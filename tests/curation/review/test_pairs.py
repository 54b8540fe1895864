"""A teacher's own pairs share the fate of the row that people judged."""

from __future__ import annotations

from curation.review.pairs import NOT_KEPT, with_their_rows
from curation.split import split_rows
from workbench.records import Decision, Example, Message, Preference, Role, user_prompt

TOPICS = ("squat", "sleep", "walk", "desk", "food")


def row(number: int = 1, answer: str = "Champ, stand up.") -> Example:
    return Example(
        prompt=user_prompt(f"{TOPICS[number]}: what about number {number * 1111}?"),
        answer=answer,
        topic=TOPICS[number],
        origin="teacher",
        source="m",
    )


def hard_negative(of: Example) -> Preference:
    return Preference(
        prompt=of.prompt,
        chosen=of.answer,
        rejected="Please stand up.",
        topic=of.topic,
        kind="voice_off",
        origin="teacher",
        source="m",
        parents=(of.id,),
    )


def decided(of: Example, outcome: str, reason: str = "") -> Decision:
    return Decision(record=of.id, outcome=outcome, reason=reason, parents=(of.id,))


def test_a_pair_of_a_kept_row_stays_as_it_is() -> None:
    one = row()
    pair = hard_negative(one)
    made, drops = with_their_rows([pair], [one], [one], [decided(one, "keep")])
    assert [(p.id, p.chosen, p.rejected, p.kind) for p in made] == [
        (pair.id, one.answer, "Please stand up.", "voice_off")
    ]
    assert (made[0].parents[0], drops) == (one.id, [])


def test_a_correction_is_preferred_to_the_hard_negative_and_a_masked_row_is_found() -> None:
    one = row()
    masked = one.evolve(prompt=user_prompt("masked?"), parents=(one.id,))
    edit = masked.evolve(answer="Champ, walk.", origin="edit", parents=(masked.id, one.id))
    made, drops = with_their_rows([hard_negative(one)], [masked], [edit], [decided(masked, "edit")])
    assert [(p.prompt, p.chosen) for p in made] == [(masked.prompt, "Champ, walk.")]
    assert {edit.id, one.id} <= set(made[0].parents)
    assert drops == []


def test_a_pair_falls_with_its_row_by_the_row_s_reason() -> None:
    dropped, filtered, same = row(1), row(2), row(3)
    like = same.evolve(answer="Please  stand up.", origin="edit", parents=(same.id,))
    made, drops = with_their_rows(
        [hard_negative(dropped), hard_negative(filtered), hard_negative(same)],
        [dropped, same],
        [like],
        [decided(dropped, "drop", "unsafe"), decided(same, "edit")],
    )
    assert made == []
    assert [drop.reason for drop in drops] == ["unsafe", NOT_KEPT, "answer_replaced"]
    assert all(drop.stage == "resolve" and drop.source == "m" for drop in drops)


def test_a_pair_is_in_its_row_s_split() -> None:
    rows = [row(number) for number in range(5)]
    pairs, _ = with_their_rows(
        map(hard_negative, rows), rows, rows, [decided(one, "keep") for one in rows]
    )
    splits = split_rows(rows, pairs, seed=0)
    for split, examples in splits.examples.items():
        assert {p.topic for p in splits.preferences[split]} == {e.topic for e in examples}
    assert all(splits.examples[split] for split in ("train", "test"))


def test_a_pair_of_an_earlier_turn_keeps_that_turn_whatever_becomes_of_the_last() -> None:
    roles: tuple[Role, ...] = ("user", "assistant", "user")
    texts = ("My neck.", "Champ, look left.", "And now?")
    prompt = tuple(Message(role=r, content=text) for r, text in zip(roles, texts, strict=True))
    talk = Example(prompt=prompt, answer="Champ, look right.")
    early = Preference(
        prompt=prompt[:1], chosen=texts[1], rejected="Look left.", parents=(talk.id, "cr-1")
    )
    last = Preference(prompt=prompt, chosen=talk.answer, rejected="Hm.", parents=(talk.id, "cr-2"))
    masked = (Message(role="user", content="My neck."), Message(role="assistant", content="Champ!"))
    kept = talk.evolve(
        prompt=(*masked, prompt[2]), answer="Champ, rest tonight.", parents=(talk.id,)
    )
    standing, drops = with_their_rows([early, last], [talk], [kept], [decided(talk, "edit")])
    assert drops == []
    assert [(one.prompt, one.chosen, one.rejected) for one in standing] == [
        (prompt[:1], "Champ!", "Look left."),
        (kept.prompt, "Champ, rest tonight.", "Hm."),
    ]
