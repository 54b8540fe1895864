"""The best few examples to show in a prompt, searched offline: the prompt that tuning has to beat.

In: reviewed rows of the training split to choose from, and a function that says how likely the
reviewed answers of the validation split are once some rows are shown. Out: the rows. Called where
the models answer; no test prompt comes anywhere near it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from workbench.inference.engines.chats import alike, chat_ids, longest_context, prompt_ids
from workbench.inference.likelihood import right_padded
from workbench.prompts import with_system
from workbench.records import Example, Message, as_messages

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TRIALS = 24
"""Sets of rows that are tried."""
Loss = Callable[[Sequence[Example]], float | None]
"""Rows that are shown → nats a token of the answers that are to be foretold; None without room."""


class FewShotSearch(NamedTuple):
    """What a search found."""

    rows: tuple[Example, ...]
    """The rows to show, in their order; none where no set has room."""
    loss: float | None
    """With them; None where no set has room."""
    trials: int


def search_few_shot(
    rows: Sequence[Example], loss: Loss, *, shots: int, trials: int = TRIALS, seed: int = 0
) -> FewShotSearch:
    """Return the ``shots`` rows under which ``loss`` is least, of at most ``trials`` sets.

    Half of the trials are random sets that take turns with the rows, so that each row is seen in
    some and is worth the mean of those; the others change the best set, its worst row by the best
    one outside, and keep what is better. Where so many rows leave no room, fewer are shown.
    """
    draw = random.Random(f"few-shot:{seed}")
    count, tried = min(shots, len(rows)), 0
    order: list[Example] = []
    losses: dict[tuple[int, ...], float] = {}
    place = {id(row): number for number, row in enumerate(rows)}

    def try_set(chosen: Sequence[Example]) -> float | None:
        nonlocal tried
        key = tuple(sorted(place[id(row)] for row in chosen))
        if key not in losses and tried < trials:
            tried += 1
            value = loss([rows[number] for number in key])
            if value is not None:
                losses[key] = value
        return losses.get(key)

    # Sets are counted as they are drawn: of few rows the same one comes again and again.
    for _ in range(max(trials // 2, 1)):
        if not count:
            break
        if len(order) < count:
            fresh = list(rows)
            draw.shuffle(fresh)
            order += [row for row in fresh if all(row is not one for one in order)]
        chosen, order = order[:count], order[count:]
        if try_set(chosen) is None:
            count -= 1
    if not losses:
        return FewShotSearch((), None, tried)
    _climb(rows, losses, try_set, lambda: tried < trials)
    best = min(losses, key=lambda key: losses[key])
    return FewShotSearch(tuple(rows[number] for number in best), losses[best], tried)


def _climb(
    rows: Sequence[Example],
    losses: Mapping[tuple[int, ...], float],
    try_set: Callable[[Sequence[Example]], float | None],
    goes_on: Callable[[], bool],
) -> None:
    """Try changes of the best set until no trial is left or every single change was tried."""
    changed = True
    while goes_on() and changed:
        changed = False
        best = min(losses, key=lambda key: losses[key])
        worth = _worth(losses)
        outside = sorted(set(range(len(rows))) - set(best), key=lambda n: worth.get(n, 1e9))
        inside = sorted(best, key=lambda n: -worth.get(n, 1e9))
        for new, old in ((new, old) for new in outside for old in inside):
            other = tuple(sorted({*best, new} - {old}))
            if other in losses:
                continue
            changed = True
            try_set([rows[number] for number in other])
            break


def _worth(losses: Mapping[tuple[int, ...], float]) -> dict[int, float]:
    """Return row → the mean loss of the sets that it was in; less is better."""
    seen: dict[int, list[float]] = defaultdict(list)
    for key, loss in losses.items():
        for number in key:
            seen[number].append(loss)
    return {number: fmean(values) for number, values in seen.items()}


def answer_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    system: str,
    rows: Sequence[Example],
    *,
    room: int = 0,
) -> float | None:
    """Return how surprising the rows' answers are under a system prompt, in nats a token.

    The mean over the rows of each answer's own mean, its end included. What the prompts share is
    computed once. Every prompt has to leave ``room`` for so many new tokens.

    Returns:
        None where a prompt leaves no such room, or no row has an answer.
    """
    asked = [with_system(system, row.prompt) for row in rows]
    starts = [len(prompt_ids(tokenizer, chat)) for chat in asked]
    whole = [
        chat_ids(tokenizer, as_messages((*chat, _answer(row))), ask=False)
        for chat, row in zip(asked, rows, strict=True)
    ]
    if not rows or max(max(map(len, whole)), max(starts) + room) > longest_context(model):
        return None
    losses = _losses(model, whole, starts)
    return fmean(losses) if losses else None


def _answer(row: Example) -> Message:
    return Message(role="assistant", content=row.answer)


def _losses(
    model: PreTrainedModel, whole: Sequence[list[int]], starts: Sequence[int]
) -> list[float]:
    """Return the mean loss of what follows each text's start; a text without any is left out."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers.cache_utils import DynamicCache

    shared = min(*(alike(whole[0], one) for one in whole), min(starts) - 1)
    own = right_padded([one[shared:] for one in whole], model)
    ids, mask = own["input_ids"], own["attention_mask"]
    mask = torch.cat([mask.new_ones(len(whole), shared), mask], dim=1)
    with torch.inference_mode():
        states = DynamicCache(config=model.config)
        if shared:
            first = torch.tensor([whole[0][:shared]], device=model.device)
            model(input_ids=first, past_key_values=states, use_cache=True, logits_to_keep=1)
            states.batch_repeat_interleave(len(whole))
        inputs = {"input_ids": ids, "attention_mask": mask, "past_key_values": states}
        logits = model(**inputs, use_cache=True).logits
        return [
            float(
                cross_entropy(
                    logits[at, start - shared - 1 : len(one) - shared - 1].float(),
                    ids[at, start - shared : len(one) - shared],
                )
            )
            for at, (start, one) in enumerate(zip(starts, whole, strict=True))
            if len(one) > start
        ]
