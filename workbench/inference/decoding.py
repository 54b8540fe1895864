"""Answers of a loaded chat model, in batches: one code path for every stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.records import Messages, as_messages

if TYPE_CHECKING:
    from workbench.inference.batching import Row


@dataclass(frozen=True)
class Decoded:
    """One answer: its text, its new tokens, and the tokens of its prompt."""

    text: str
    tokens: int
    prompt_tokens: int


@dataclass(frozen=True)
class Ask:
    """One conversation to answer.

    Attributes:
        chat: The conversation; it ends with a user's turn.
        seed: Of the draw of its tokens; 0 for the greedy answer.
        tag: Whatever the caller knows it by.
        first: Whether it goes before others, because more is asked after its answer.
    """

    chat: Messages
    seed: int = 0
    tag: Any = None
    first: bool = False


Done = Callable[[Ask, Decoded | None], Iterable[Ask]]
"""Called once with each answer, as soon as it is there; returns what is to be asked after it."""


def prompt_ids(tokenizer: Any, chat: Messages) -> list[int]:
    """Return the token ids of a prompt under the model's own chat template."""
    ids: list[int] = tokenizer.apply_chat_template(
        as_messages(chat), add_generation_prompt=True, return_dict=True
    )["input_ids"]
    return ids


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return every token that ends an answer: the model's own and the template's."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    return sorted({*own, tokenizer.eos_token_id} - {None})


def greedy_answers(
    model: Any,
    tokenizer: Any,
    chats: Sequence[Messages],
    *,
    max_new_tokens: int,
    batch_size: int,
    advance: Callable[[int], None],
) -> list[Decoded | None]:
    """Return the greedy answer to each chat, in order; equal chats are answered once.

    Args:
        model: A causal language model, with or without adapters.
        tokenizer: Its tokenizer, padded left.
        chats: Conversations that end with a user's turn.
        max_new_tokens: Where an answer without an end is cut.
        batch_size: Prompts answered at once.
        advance: Called with the number of chats answered since the last call.

    Returns:
        One answer a chat; None for a prompt that leaves no room for ``max_new_tokens``.
    """
    asked = dict.fromkeys(chats, 0)
    for chat in chats:
        asked[chat] += 1
    answers: dict[Messages, Decoded | None] = {}

    def done(ask: Ask, answer: Decoded | None) -> Iterable[Ask]:
        answers[ask.chat] = answer
        advance(asked[ask.chat])
        return ()

    sizes = {"max_new_tokens": max_new_tokens, "batch_size": batch_size}
    answer_all(model, tokenizer, [Ask(chat) for chat in asked], done, **sizes)
    return [answers[chat] for chat in chats]


def answer_all(
    model: Any,
    tokenizer: Any,
    asks: Iterable[Ask],
    done: Done,
    *,
    max_new_tokens: int,
    batch_size: int,
    temperature: float = 1.0,
) -> None:
    """Answer ``asks`` and whatever ``done`` returns after them, such as a conversation's next turn.

    Rows are prefilled in groups of like length, a prefix that all prompts share is computed once,
    and the place of an ended row goes to the next one. Models whose layers don't all attend to the
    whole context, or whose own settings change the logits, are answered by ``generate`` instead.

    Args:
        model: A causal language model, with or without adapters.
        tokenizer: Its tokenizer, padded left.
        asks: What is asked at first.
        done: Takes each answer; None for a prompt that leaves no room for ``max_new_tokens``.
        max_new_tokens: Where an answer without an end is cut.
        batch_size: Prompts answered at once.
        temperature: Of answers with a seed, above 0.
    """
    import torch

    from workbench.inference.batching import Batch, Row

    room = getattr(model.config, "max_position_embeddings", None) or 10**9

    def rows(asked: Iterable[Ask]) -> Iterable[Row]:
        todo = list(asked)
        for ask in todo:
            ids = prompt_ids(tokenizer, ask.chat)
            if len(ids) + max_new_tokens > room:
                todo.extend(done(ask, None))
                continue
            draws = torch.Generator().manual_seed(ask.seed) if ask.seed else None
            yield Row(ask, ids, generator=draws, first=ask.first)

    def said(row: Row) -> list[Row]:
        text = tokenizer.decode(row.said, skip_special_tokens=True).strip()
        return list(rows(done(row.ask, Decoded(text, len(row.said), len(row.ids)))))

    ends = end_tokens(model, tokenizer)
    batch = Batch(model, ends, max_new_tokens, batch_size, temperature)
    waiting = list(rows(asks))
    if attends_to_all(model):
        batch.answer(waiting, said)
    else:
        batch.generate(waiting, said, tokenizer)


def attends_to_all(model: Any) -> bool:
    """Return whether each layer is ordinary attention over the whole context, and greedy is argmax.

    Sliding windows, capped logits, linear layers and penalties are left to ``generate``.
    """
    config, own = model.config.get_text_config(), model.generation_config
    kinds = getattr(config, "layer_types", None)
    whole = set(kinds) == {"full_attention"} if kinds else not getattr(config, "sliding_window", 0)
    capped = getattr(config, "attn_logit_softcapping", None)
    penalties = (own.repetition_penalty or 1.0) != 1.0 or bool(own.no_repeat_ngram_size)
    plain = model.config._attn_implementation == "sdpa"
    return whole and not capped and not penalties and plain
