"""Rows dealt out to threads give the losses and the gradients of all rows in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from training import row_threads
from training.row_threads import rows_in_threads

from .conftest import DPO, SFT, built, recipe_of, run_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer

CLOSE = 1e-4
"""Relative distance of two gradients that are sums of the same numbers in another order."""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Two processor threads, whatever the machine has; and afterwards what was before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def trainer(tiny_model: Path, examples: Path, tmp_path: Path) -> Trainer:
    recipe = recipe_of(SFT, bf16=False)
    assert recipe.quantization
    exact = {**recipe.quantization, "bnb_4bit_compute_dtype": "float32"}
    plain = recipe.model_copy(update={"quantization": exact})
    made, _ = built(run_of(plain, tiny_model, examples, tmp_path))
    made.model.float()
    return made


def of_uneven_rows() -> dict[str, Tensor]:
    """Five rows of 4 to 12 tokens, padded right, with a prompt of two tokens each."""
    import torch

    lengths = torch.tensor([7, 12, 4, 9, 5])
    ids = torch.arange(60).reshape(5, 12) % 50
    mask = (torch.arange(12) < lengths[:, None]).long()
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :2] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def outputs_and_gradient(trainer: Any, inputs: dict[str, Tensor]) -> tuple[Any, Tensor]:
    import torch

    trainer.model.zero_grad()
    outputs = trainer.model(**inputs, fused_lm_head=True)
    # Not the same weight for all, so that a row in another's place would show.
    weights = torch.linspace(1, 2, outputs.log_probs.numel()).reshape(outputs.log_probs.shape)
    (outputs.log_probs * weights).sum().backward()
    grads = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
    return outputs, torch.cat(grads)


def test_parts_give_the_outputs_and_gradients_of_the_whole(trainer: Any) -> None:
    import torch

    inputs = of_uneven_rows()
    whole, gradient = outputs_and_gradient(trainer, inputs)
    with rows_in_threads(trainer.model) as threads:
        apart, same = outputs_and_gradient(trainer, inputs)
    assert threads == 2
    for name in ("log_probs", "entropy", "is_top1", "label_mask"):
        torch.testing.assert_close(apart[name], whole[name], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(apart.loss, whole.loss, atol=1e-4, rtol=1e-4)
    assert float((gradient - same).norm() / gradient.norm()) < CLOSE


def test_rows_of_one_length_are_put_together_and_padding_is_cut() -> None:
    parts = row_threads._parts(of_uneven_rows()["attention_mask"], threads=2)
    assert [(part.rows.tolist(), part.length) for part in parts] == [([1, 3, 0], 12), ([4, 2], 5)]


def test_after_it_the_pass_is_the_plain_one_and_threads_are_as_before(trainer: Any) -> None:
    import torch

    plain = trainer.model.forward
    with rows_in_threads(trainer.model):
        assert trainer.model.forward is not plain
    assert trainer.model.forward == plain
    assert torch.get_num_threads() == 2


def test_a_mistake_in_a_thread_is_raised(trainer: Any) -> None:
    inputs = of_uneven_rows()
    inputs["input_ids"] = inputs["input_ids"] + 10**7
    with rows_in_threads(trainer.model), pytest.raises(IndexError):
        trainer.model(**inputs, fused_lm_head=True)


@pytest.mark.parametrize(
    ("change", "checkpointing"), [("", True), ("dropout", False), ("processes", False)]
)
def test_what_would_not_be_the_same_stays_whole(
    trainer: Any, change: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if change == "dropout":
        trainer.model.add_module("drop", torch.nn.Dropout(0.1))
    if change == "processes":
        monkeypatch.setenv("WORLD_SIZE", "2")
    with rows_in_threads(trainer.model, checkpointing=checkpointing) as threads:
        assert threads == 1


def test_pairs_keep_their_loss(
    tiny_model: Path, preferences: Path, sft_adapter: Path, tmp_path: Path
) -> None:
    run = run_of(recipe_of(DPO), tiny_model, preferences, tmp_path, adapter=sft_adapter)
    trainer, _ = built(run)
    inputs = next(iter(trainer.get_train_dataloader()))
    with trainer.compute_loss_context_manager():
        whole = trainer.compute_loss(trainer.model, dict(inputs))
        with rows_in_threads(trainer.model) as threads:
            apart = trainer.compute_loss(trainer.model, dict(inputs))
            apart.backward()
    assert threads == 2
    assert apart.item() == pytest.approx(whole.item(), abs=0.01)
