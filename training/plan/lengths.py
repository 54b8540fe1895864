"""Tokens of the real rows with the model's own chat template, and the pixels that they bring.

In: rows as training reads them. Out: :class:`Lengths`, for the plan and its memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from training.data import Rows
from training.tokens import encode
from workbench.errors import UserError
from workbench.inference.engines.chats import alike

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase, ProcessorMixin


@dataclass(frozen=True)
class Lengths:
    """Token counts of the sequences that a step is made of.

    For pairs, each pair gives two sequences; for prompts alone (GRPO) the answer is still to come.
    """

    rows: int
    whole: tuple[int, ...]
    """Tokens of each sequence, prompt and answer, cut at ``max_length``."""
    answer: tuple[int, ...]
    """Of these, tokens with a label."""
    pixels: tuple[int, ...] = ()
    """Images, channels, height and width that a sequence brings; empty for text alone."""
    shared: int = 0
    """Tokens that all sequences begin with, none of which is learnt."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence: a batch that holds it may be padded to it."""
        return max(self.whole)

    @property
    def mean(self) -> float:
        """Mean tokens of a sequence."""
        return sum(self.whole) / len(self.whole)

    def usual(self, rows: int) -> float:
        """Return the tokens that a batch of so many random sequences is padded to, on average.

        The mean of the largest of ``rows`` draws: each length times the chance that it is largest.
        """
        ordered = sorted(self.whole)
        chances = [(place / len(ordered)) ** rows for place in range(len(ordered) + 1)]
        return sum(
            length * (up_to - below)
            for length, below, up_to in zip(ordered, chances, chances[1:], strict=False)
        )

    def capped(self, max_length: int) -> Lengths:
        """Return the lengths with every sequence cut at ``max_length`` tokens."""
        whole = tuple(min(n, max_length) for n in self.whole)
        lost = (old - new for old, new in zip(self.whole, whole, strict=True))
        answer = tuple(max(n - cut, 0) for n, cut in zip(self.answer, lost, strict=True))
        shared = min(self.shared, max_length - 1)
        return replace(self, whole=whole, answer=answer, shared=shared)

    def packed(self, max_length: int) -> Lengths:
        """Return the lengths after packing: as few sequences of ``max_length`` as hold all tokens.

        TRL's packing by best fit leaves little of them empty (https://arxiv.org/abs/2404.10830).
        """
        total, labels = sum(self.whole), sum(self.answer)
        rows = math.ceil(total / max_length)
        whole = (*[max_length] * (rows - 1), total - max_length * (rows - 1))
        return Lengths(rows, whole, tuple(round(n * labels / total) for n in whole))


def measure_lengths(
    rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> Lengths:
    """Return the token counts of rows as training will see them.

    A row whose prompt fills ``max_length`` tokens is left out; None for no bound.

    Raises:
        UserError: No row has room for an answer.
    """
    encoded = [encode(tokenizer, "", row) for row in rows.rows]
    if max_length:  # training leaves them out too
        encoded = [answers for answers in encoded if answers[0].asked < max_length]
    if not encoded:
        raise UserError(
            f"every prompt fills max_length ({max_length} tokens)",
            where=str(rows.path),
            fix="raise max_length in the recipe",
        )
    every = [answer for answers in encoded for answer in answers]
    answer = tuple(one.whole - one.asked for one in every)
    # Whatever the first and the last in order have in common, all have.
    first, last = min(one.ids for one in every), max(one.ids for one in every)
    shared = min(alike(first, last), *(max(one.start - 1, 0) for one in every))
    return Lengths(len(encoded), tuple(one.whole for one in every), answer, shared=shared)


def image_lengths(rows: Rows, processor: ProcessorMixin) -> Lengths:
    """Return the token counts of rows with images, by TRL's own collator.

    Raises:
        UserError: A family of models whose images differ in size, which the plan does not know.
    """
    from PIL import Image
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    collate = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    whole, answer, pixels = [], [], set()
    for row in rows.rows:
        images = [Image.open(file).convert("RGB") for file in row["images"]]
        batch = collate([{**row, "images": images}])
        whole.append(int(batch["attention_mask"].sum()))
        answer.append(int((batch["labels"] != -100).sum()))
        pixels.add(tuple(batch["pixel_values"].shape))
    most = max(pixels)
    if len(most) != 4 or len({shape[1:] for shape in pixels}) > 1:
        raise UserError(
            "the plan knows models whose images are all of one size (LLaVA's family)",
            where=str(rows.path),
            fix="train a few steps and read the measured peak",
        )
    return Lengths(len(rows.rows), tuple(whole), tuple(answer), pixels=most)


def longest_image(config: PretrainedConfig, text: int) -> Lengths:
    """Return the lengths of one row with one image and so many tokens of text."""
    seen = config.vision_config
    tokens = (seen.image_size // seen.patch_size) ** 2
    pixels = (1, seen.num_channels, seen.image_size, seen.image_size)
    return replace(Lengths(1, (tokens + text,), (text,)), pixels=pixels)
