"""Rows dealt out to threads give the losses and the gradients of all rows in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from training import row_threads
from training.end_to_end import lay_end_to_end
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


def of_uneven_rows(alike: int = 0, learnt: int = 2, *, left: bool = False) -> dict[str, Tensor]:
    """Five rows of 6 to 14 tokens, the first of which are ``alike``; learnt from a column on."""
    import torch

    lengths = torch.tensor([9, 14, 6, 11, 7])
    ids = torch.arange(70).reshape(5, 14) % 50
    ids[:, :alike] = torch.arange(alike)
    mask = (torch.arange(14) < lengths[:, None]).long()
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :learnt] = -100
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if not left:
        return inputs
    moved = [14 - length for length in lengths.tolist()]
    return {
        name: torch.stack([row.roll(by) for row, by in zip(value, moved, strict=True)])
        for name, value in inputs.items()
    }


def outputs_and_gradient(trainer: Any, inputs: dict[str, Tensor]) -> tuple[Any, Tensor]:
    import torch

    trainer.model.zero_grad()
    outputs = trainer.model(**inputs, fused_lm_head=True)
    # Not the same weight for all, so that a row in another's place would show.
    weights = torch.linspace(1, 2, outputs.log_probs.numel()).reshape(outputs.log_probs.shape)
    (outputs.log_probs * weights).sum().backward()
    grads = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
    return outputs, torch.cat(grads)


BATCHES = {
    "nothing alike": of_uneven_rows(),
    "alike and unlearnt": of_uneven_rows(alike=4, learnt=5),
    "alike and learnt": of_uneven_rows(alike=4, learnt=2),
    "all learnt": of_uneven_rows(alike=4, learnt=0),
    "padded left": of_uneven_rows(alike=4, learnt=5, left=True),
}


@pytest.mark.parametrize("inputs", BATCHES.values(), ids=BATCHES)
def test_parts_give_the_outputs_and_gradients_of_the_whole(
    trainer: Any, inputs: dict[str, Tensor]
) -> None:
    import torch

    whole, gradient = outputs_and_gradient(trainer, inputs)
    with rows_in_threads(trainer.model) as threads:
        apart, same = outputs_and_gradient(trainer, inputs)
    assert threads == 2
    for name in ("log_probs", "entropy", "is_top1", "label_mask"):
        torch.testing.assert_close(apart[name], whole[name], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(apart.loss, whole.loss, atol=1e-4, rtol=1e-4)
    assert float((gradient - same).norm() / gradient.norm()) < CLOSE


def tiny(family: str, **fields: Any) -> SimpleNamespace:
    """A tiny random model of a family with TRL's head and an adapter, as a trainer holds it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        vocab_size=60,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=7,  # of Gemma's the sixth attends to all
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        **fields,
    )
    base = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    for weight in base.parameters():
        weight.data *= 3  # else a random model attends to all alike
    add_fused_lm_head(base)
    lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    return SimpleNamespace(model=get_peft_model(base, lora))


@pytest.mark.parametrize("family", ["mistral", "gemma3_text", "qwen3"])
@pytest.mark.parametrize("window", [4, 14])
def test_families_and_windows_give_what_they_give_whole(family: str, window: int) -> None:
    import torch

    trainer = tiny(family, sliding_window=window)
    for inputs in (BATCHES["alike and unlearnt"], BATCHES["nothing alike"]):
        whole, gradient = outputs_and_gradient(trainer, inputs)
        with rows_in_threads(trainer.model) as threads:
            apart, same = outputs_and_gradient(trainer, inputs)
        assert threads == 2
        torch.testing.assert_close(apart.log_probs, whole.log_probs, atol=1e-3, rtol=1e-3)
        assert float((gradient - same).norm() / gradient.norm()) < 1e-3


@pytest.mark.parametrize(
    ("family", "fields"), [("doge", {}), ("gemma3_text", {"use_bidirectional_attention": True})]
)
def test_a_family_with_a_mask_of_its_own_stays_whole(family: str, fields: dict[str, Any]) -> None:
    import torch

    trainer, inputs = tiny(family, **fields), BATCHES["alike and unlearnt"]
    whole, gradient = outputs_and_gradient(trainer, inputs)
    with rows_in_threads(trainer.model):
        first, same = outputs_and_gradient(trainer, inputs)
    torch.testing.assert_close(first.log_probs, whole.log_probs)
    torch.testing.assert_close(same, gradient)


def test_noise_on_embeddings_is_of_the_whole_batch(
    trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealt: list[object] = []

    def deal(*args: object) -> list[Any]:
        dealt.append(args)
        return []

    monkeypatch.setattr(row_threads, "_parts", deal)
    with rows_in_threads(trainer.model):
        trainer.model(**of_uneven_rows(), fused_lm_head=True)
        assert len(dealt) == 1
        trainer.model.get_base_model().get_input_embeddings().neftune_noise_alpha = 5
        trainer.model(**of_uneven_rows(), fused_lm_head=True)
        assert len(dealt) == 1


def test_threads_have_about_as_many_tokens_each() -> None:
    parts = row_threads._parts(of_uneven_rows()["attention_mask"], threads=2)
    assert [part.tolist() for part in parts] == [[1, 4], [0, 2, 3]]  # 14 and 7, 9, 6 and 11


def test_what_all_rows_begin_with_is_laid_once_and_no_padding() -> None:
    import torch

    inputs = of_uneven_rows(alike=4, learnt=5)
    laid = lay_end_to_end(inputs, torch.tensor([0, 2]))

    ids = inputs["input_ids"]
    assert laid.prefix == 4 and laid.lengths == (5, 2)
    assert laid.ids.tolist() == [[*range(4), *ids[0, 4:9].tolist(), *ids[2, 4:6].tolist()]]
    assert laid.positions.tolist() == [[*range(9), 4, 5]]
    # The first token that is learnt is predicted by the row's own last unlearnt one.
    learnt = [*[-100] * 4, *ids[0, 5:9].tolist(), -100, ids[2, 5].item(), -100]
    assert laid.next_labels.tolist() == [learnt]


def test_a_beginning_is_shared_as_far_as_nothing_after_it_is_learnt() -> None:
    import torch

    rows = torch.tensor([0, 2])
    assert lay_end_to_end(of_uneven_rows(alike=4, learnt=2), rows).prefix == 1
    assert lay_end_to_end(of_uneven_rows(alike=4, learnt=0), rows).prefix == 0
    # A row that is all of the beginning keeps a token of its own.
    assert lay_end_to_end(of_uneven_rows(alike=8, learnt=9), rows).prefix == 5


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
    ("change", "checkpointing"),
    [("", True), ("dropout", False), ("processes", False), ("mixing", False)],
)
def test_what_would_not_be_the_same_stays_whole(
    trainer: Any, change: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if change == "mixing":
        trainer.model.config.layer_types = ["full_attention", "conv"]
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
