"""Rows with images, as training will see them: their tokens, and the pixels each brings along."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from training.data import Rows
from training.plan.lengths import Lengths
from workbench.errors import UserError

_CHECK = "TRANSFORMERS_DISABLE_TORCH_CHECK"


def picture_lengths(rows: Rows, processor: Any) -> Lengths:
    """Return the token counts of rows with images, by TRL's own collator.

    Args:
        rows: In TRL's conversational format, with ``images``.
        processor: The model's own, of text and images.

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


def longest_picture(config: Any, text: int) -> Lengths:
    """Return the lengths of one row with one image and so many tokens of text."""
    seen = config.vision_config
    tokens = (seen.image_size // seen.patch_size) ** 2
    pixels = (1, seen.num_channels, seen.image_size, seen.image_size)
    return replace(Lengths(1, (tokens + text,), (text,)), pixels=pixels)


def pixel_inputs(rows: int, pixels: tuple[int, ...], device: str) -> dict[str, Any]:
    """Return the images of a batch as its model is given them; nothing where there are none.

    Args:
        rows: Sequences of the batch.
        pixels: Images, channels, height and width that each brings.
        device: Where the tensor is made.
    """
    import torch

    if not pixels:
        return {}
    return {"pixel_values": torch.zeros((rows * pixels[0], *pixels[1:]), device=device)}


@contextmanager
def places_unchecked() -> Iterator[None]:
    """Within the block, transformers does not count the images' places among the tokens.

    The tokens of a plan say nothing, or hold no data to count.
    """
    before = os.environ.get(_CHECK)
    os.environ[_CHECK] = "1"
    try:
        yield
    finally:
        os.environ.pop(_CHECK) if before is None else os.environ.update({_CHECK: before})
