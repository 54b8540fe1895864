from evaluation.answer import cut_shares, max_new_tokens_for
from workbench.records import Response, user_prompt


def by_bytes(text: str) -> dict[str, list[int]]:
    """A tokenizer that knows no language."""
    return {"input_ids": list(text.encode())}


def test_there_is_room_for_the_longest_answer_whatever_the_tokenizer_makes_of_it():
    english, korean = "champ " * 20, "회원님 " * 50
    assert max_new_tokens_for(by_bytes, [english]) == 192  # 120 bytes and a tenth, in steps of 64
    assert max_new_tokens_for(by_bytes, [english, korean]) == 576  # 500 bytes and a tenth
    # A few tokens more or less are the same decoding.
    assert max_new_tokens_for(by_bytes, ["x" * 470]) == max_new_tokens_for(by_bytes, ["x" * 500])


def test_short_answers_leave_room_for_long_ones_of_other_arms():
    assert max_new_tokens_for(by_bytes, ["Up!"]) == max_new_tokens_for(by_bytes, []) == 128


def test_an_answer_that_reaches_the_limit_counts_as_cut():
    responses = [
        Response(arm=arm, prompt_id=f"ex-{n}", prompt=user_prompt("Why?"), text="…", tokens=tokens)
        for arm, lengths in {"base": (128, 128, 40, 128), "sft": (127, 60)}.items()
        for n, tokens in enumerate(lengths)
    ]
    assert cut_shares(responses, 128) == {"base": 0.75, "sft": 0.0}
