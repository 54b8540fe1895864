"""Decoding: what plain generate says, from a shared prefix and a batch that is refilled."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.inference.engines import batched, running_rows, shared_prefix, step_attention
from workbench.inference.engines.batch_rows import BatchRow
from workbench.inference.engines.batched import BatchedEngine, attends_to_all
from workbench.inference.engines.chats import (
    ChatAnswer,
    ChatRequest,
    Decoding,
    alike,
    end_tokens,
    greedy_answers,
    prompt_ids,
)
from workbench.inference.engines.drafts import Drafts
from workbench.inference.engines.running_rows import RunningRows
from workbench.inference.engines.shared_prefix import common_prefix
from workbench.records import Message, Messages, user_prompt

SYSTEM = "Say champ and walk right now. " * 8
"""Longer than the prefix from which it is computed once for all."""
TOKENS = 24
Loaded = tuple[Any, Any]


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Loaded:
    """The tiny model in full precision, where the order of a batch changes no token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32").eval()
    # Larger weights, more ends: answers of different lengths.
    for weight in model.parameters():
        weight.data *= 3
    model.generation_config.eos_token_id = list(range(1, 30))
    return model, AutoTokenizer.from_pretrained(tiny_model, padding_side="left")


def chats(system: str = "") -> list[Messages]:
    words = ("chair", "the trainer today", "question " * 9, "walks right", "a", "sets your " * 20)
    asked = [user_prompt(f"{word} {number}") for number in range(4) for word in words]
    lead = (Message(role="system", content=system),) if system else ()
    return [(*lead, *chat) for chat in asked]


def plain(loaded: Loaded, chat: Messages, most: int = TOKENS) -> str:
    """What `generate` says to one prompt alone."""
    model, tokenizer = loaded
    messages = [message.model_dump() for message in chat]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=most, do_sample=False, pad_token_id=1)
    said = output[0, inputs["input_ids"].shape[1] :]
    text: str = tokenizer.decode(said, skip_special_tokens=True).strip()
    return text


def answers(loaded: Loaded, asked: list[Messages], batch_size: int) -> list[ChatAnswer | None]:
    return greedy_answers(BatchedEngine(*loaded, batch_size), asked, max_new_tokens=TOKENS)


ASKED = {"alone": chats(), "prefix": chats(SYSTEM), "some": [*chats(SYSTEM)[:9], *chats()[5:17]]}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_answers_are_those_of_generate_whoever_shares_the_batch(
    loaded: Loaded, asked: list[Messages]
) -> None:
    expected = [plain(loaded, chat) for chat in asked]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        few = answers(loaded, asked, 3)  # by two threads, each with a batch of its own
    finally:
        torch.set_num_threads(before)
    many = answers(loaded, asked, 50)

    assert [answer and answer.text for answer in few] == expected
    assert few == many
    lengths = {answer.tokens for answer in few if answer}
    assert len(lengths) > 3 and max(lengths) <= TOKENS


def test_equal_chats_are_answered_once_and_one_that_is_too_long_not_at_all(
    loaded: Loaded,
) -> None:
    advanced: list[int] = []
    short, long = user_prompt("Why?"), user_prompt("today " * 600)
    first, none, second = greedy_answers(
        BatchedEngine(*loaded, 2), [short, long, short], max_new_tokens=4, advance=advanced.append
    )
    assert first == second and first is not None
    assert none is None
    assert sorted(advanced) == [1, 2]


def test_fewer_rows_run_at_once_where_their_tokens_would_not_fit(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, widths = chats(), []
    room = RunningRows.room

    def watched(running: RunningRows, queue: Iterable[BatchRow]) -> int:
        free = room(running, queue)
        widths.append((len(running.rows) + free) * running._columns(running.rows))
        return free

    monkeypatch.setattr(RunningRows, "room", watched)
    bound = 8 * (12 + TOKENS)
    monkeypatch.setattr(batched, "_CACHE_BYTES", bound * batched._token_bytes(loaded[0]))
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        answered = answers(loaded, asked, 50)
    finally:
        torch.set_num_threads(torch_threads)

    assert [answer and answer.text for answer in answered] == [plain(loaded, c) for c in asked]
    assert 0 < max(widths) <= bound


def test_the_prefix_that_spares_most_is_shared_by_those_that_have_it() -> None:
    long, short = list(range(100)), list(range(200, 270))
    prompts = [[*long, 1], [*short, 1], [*long, 2, 3], [*short, 2], [*short, 3], [7]]

    assert common_prefix(prompts, 64) == short  # twice 70 tokens against once 100
    assert common_prefix(prompts[:3], 64) == long
    assert common_prefix([[1, 2, 3], [1, 2, 4]], 64) == []  # too short to be worth it
    assert common_prefix([long, long], 64) == long[:-1]  # a prompt keeps a token of its own


def test_products_and_a_processors_kernel_attend_alike() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(5, 3, tokens, 8) for tokens in (2, 11, 11))
    mask = (torch.arange(11) < torch.tensor([1, 4, 7, 10, 11])[:, None])[:, None, None]
    seen = torch.zeros(5, 1, 2, 11).masked_fill(~mask, float("-inf"))
    for own in (None, seen):
        apart, at_once = (
            step_attention.attention(query, key, value, own, 0.3, fused=fused)
            for fused in (False, True)
        )
        for ours, kernels in zip(apart, at_once, strict=True):
            torch.testing.assert_close(ours, kernels)


def watched_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list that grows with every step: its rows, and the tokens that they put in."""
    steps: list[tuple[int, int]] = []
    step = RunningRows.step

    def watched(running: RunningRows) -> None:
        rows = len(running.rows)
        step(running)
        assert running.layers[0].step is not None
        steps.append((rows, len(running.layers[0].step.slots)))

    monkeypatch.setattr(RunningRows, "step", watched)
    return steps


@pytest.fixture(scope="module")
def repeating(tiny_model: Path) -> Loaded:
    """The tiny model with the weights that it has: it soon repeats itself, and hardly ends."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model, padding_side="left")
    model.generation_config.eos_token_id = sorted(end_tokens(model, tokenizer))
    return model, tokenizer


@pytest.mark.parametrize("asked", [chats()[:7], chats(SYSTEM)[:5]], ids=["alone", "prefix"])
def test_what_repeats_is_guessed_and_the_answers_are_the_same(
    repeating: Loaded, monkeypatch: pytest.MonkeyPatch, asked: list[Messages]
) -> None:
    steps = watched_steps(monkeypatch)
    found = greedy_answers(BatchedEngine(*repeating, 3), asked, max_new_tokens=90)
    tokens = sum(answer.tokens for answer in found if answer)
    assert sum(rows for rows, _ in steps) < 0.6 * tokens
    monkeypatch.setattr(running_rows, "_MOST_DRAFTED", 0)
    assert greedy_answers(BatchedEngine(*repeating, 3), asked, max_new_tokens=90) == found
    assert [answer and answer.text for answer in found] == [
        plain(repeating, chat, 90) for chat in asked
    ]


def test_wrong_guesses_change_nothing(repeating: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(drafts: Drafts, most: int) -> list[int]:
        return [5, 6, 7, 8, 9][:most]

    monkeypatch.setattr(Drafts, "guess", wrong)
    steps = watched_steps(monkeypatch)
    asked = chats()[:7]
    found = answers(repeating, asked, 3)
    assert [answer and answer.text for answer in found] == [plain(repeating, c) for c in asked]
    assert max(put_in - rows for rows, put_in in steps) == 15  # three rows guess five each


def test_drawn_answers_and_a_guess_past_the_last_token_are_not_guessed(
    repeating: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[int] = []

    def guess(drafts: Drafts, most: int) -> list[int]:
        asked_for.append(most)
        return []

    monkeypatch.setattr(Drafts, "guess", guess)
    engine = BatchedEngine(*repeating, 2)
    drawn = [ChatRequest(chat, seed=3) for chat in chats()[:2]]
    engine.answer(drawn, lambda request, answer: (), Decoding(6, temperature=1.0))
    assert not asked_for
    engine.answer([ChatRequest(chats()[0])], lambda request, answer: (), Decoding(6))
    # After the first token, which the prompt gives, five are left, one of which needs no guess.
    assert asked_for == [4, 3, 2, 1, 0]


def test_all_tokens_of_a_short_next_turn_go_in_at_once(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_rows, "_MOST_DRAFTED", 0)
    steps = watched_steps(monkeypatch)
    lacking: list[int] = []

    def goes_on(request: ChatRequest, answer: ChatAnswer | None) -> Iterable[ChatRequest]:
        assert answer is not None
        if request.tag != "last":
            turn = Message(role="assistant", content=answer.text or "-")
            later = ChatRequest((*request.chat, turn, *user_prompt("And then?")), tag="last")
            before = [*prompt_ids(loaded[1], request.chat), *answer.ids[:-1]]
            ids = prompt_ids(loaded[1], later.chat)
            lacking.append(len(ids) - alike(before, ids))
            yield later

    BatchedEngine(*loaded, 1).answer([ChatRequest(chats()[0])], goes_on, Decoding(TOKENS))
    assert lacking[0] > 1
    assert [put_in for _, put_in in steps if put_in > 1] == lacking


@pytest.mark.parametrize("fed", [0, 64])
def test_what_is_asked_after_an_answer_is_answered_too(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, fed: int
) -> None:
    monkeypatch.setattr(running_rows, "_MOST_FED", fed)
    said: dict[Messages, str] = {}

    def done(request: ChatRequest, answer: ChatAnswer | None) -> Iterable[ChatRequest]:
        assert answer is not None
        said[request.chat] = answer.text
        if request.tag == "last":
            return
        turn = Message(role="assistant", content=answer.text or "-")
        yield ChatRequest((*request.chat, turn, *user_prompt("And then?")), tag="last")
        # One that shares nothing with the others waits for its own turn.
        yield ChatRequest(user_prompt(f"apart {len(said)}"), tag="last")

    opening = [ChatRequest(chat) for chat in chats(SYSTEM)[:5]]
    BatchedEngine(*loaded, 4).answer(opening, done, Decoding(TOKENS))

    assert len(said) == 15
    assert said == {chat: plain(loaded, chat) for chat in said}


@pytest.mark.parametrize("fed", [0, 64])
def test_what_prompts_begin_with_and_earlier_turns_are_computed_once(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, fed: int
) -> None:
    monkeypatch.setattr(running_rows, "_MOST_FED", fed)
    computed: dict[tuple[int, ...], list[int]] = {}
    admit = RunningRows.admit

    def watched(running: RunningRows, rows: list[BatchRow]) -> None:
        computed.update({tuple(row.ids): row.fresh for row in rows})
        admit(running, rows)

    monkeypatch.setattr(RunningRows, "admit", watched)
    answered: list[tuple[list[int], list[int]]] = []

    def goes_on(request: ChatRequest, answer: ChatAnswer | None) -> Iterable[ChatRequest]:
        assert answer is not None
        asked = prompt_ids(loaded[1], request.chat)
        answered.append((asked, list(answer.ids)))
        if request.tag != "last":
            turn = Message(role="assistant", content=answer.text or "-")
            yield ChatRequest((*request.chat, turn, *user_prompt("And then?")), tag="last")

    led = (Message(role="system", content="Say champ and walk."),)
    opening = [(*led, *chat) for chat in chats()[:6]]
    engine = BatchedEngine(*loaded, 50)
    engine.answer([ChatRequest(chat) for chat in opening], goes_on, Decoding(TOKENS))

    first = {tuple(prompt_ids(loaded[1], chat)) for chat in opening}
    shared = common_prefix([list(ids) for ids in first], 1)
    assert 8 <= len(shared) < shared_prefix.SHORTEST_PREFIX
    # A short next turn goes on in the place of the last one, a longer one gets a copy of it.
    assert len(answered) == 12 and len(computed) == (6 if fed else 12)
    for ids, fresh in computed.items():
        before = max(
            (alike([*asked, *new[:-1]], ids) for asked, new in answered if asked != list(ids))
        )
        assert fresh == list(ids[len(shared) if ids in first else before :])


def test_a_model_with_sliding_windows_is_left_to_generate(loaded: Loaded) -> None:
    model, _ = loaded
    assert attends_to_all(model)
    before = answers(loaded, chats(SYSTEM), 5)
    model.config.sliding_window = 4096
    try:
        assert not attends_to_all(model)
        assert answers(loaded, chats(SYSTEM), 5) == before
    finally:
        model.config.sliding_window = None
