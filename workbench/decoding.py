"""Greedy answers of a loaded chat model, in batches: one code path for every stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.records import Messages, as_messages


@dataclass(frozen=True)
class Decoded:
    """One answer: its text, its new tokens, and the tokens of its prompt."""

    text: str
    tokens: int
    prompt_tokens: int


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

    Longest prompts go first: little padding, and too little memory shows early.

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
    ids = {chat: prompt_ids(tokenizer, chat) for chat in dict.fromkeys(chats)}
    room = getattr(model.config, "max_position_embeddings", None) or 10**9
    fitting = [chat for chat in ids if len(ids[chat]) + max_new_tokens <= room]
    order = sorted(fitting, key=lambda chat: -len(ids[chat]))
    asked = dict.fromkeys(ids, 0)
    for chat in chats:
        asked[chat] += 1
    advance(sum(asked[chat] for chat in ids.keys() - set(fitting)))
    answers: dict[Messages, Decoded] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        decoded = _decode(model, tokenizer, [ids[chat] for chat in batch], max_new_tokens)
        answers |= dict(zip(batch, decoded, strict=True))
        advance(sum(asked[chat] for chat in batch))
    return [answers.get(chat) for chat in chats]


def _decode(
    model: Any, tokenizer: Any, batch: Sequence[list[int]], max_new_tokens: int
) -> list[Decoded]:
    import torch

    ends = end_tokens(model, tokenizer)
    inputs = tokenizer.pad({"input_ids": list(batch)}, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        output = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            # Sampling fields of the model's own generation config mean nothing here.
            temperature=None,
            top_p=None,
            top_k=None,
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
        )
    width = inputs["input_ids"].shape[1]
    found = []
    for row, prompt in zip(output[:, width:].tolist(), batch, strict=True):
        stop = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
        text = tokenizer.decode(row[:stop], skip_special_tokens=True).strip()
        found.append(Decoded(text, stop, len(prompt)))
    return found
