from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from training.adapter_init import load_base
from training.run import Recipe
from training.trl_patches import _in_one_piece, unpacked

from .conftest import SFT


@pytest.fixture(scope="module")
def packed(tiny_model: Path) -> Any:
    """The tiny model in 4 bits, with an adapter, as training loads it."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = load_base(Recipe.model_validate(SFT), tiny_model, None)
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", **{**SFT["lora"], "init_lora_weights": False})
    return get_peft_model(model, lora)


@pytest.fixture
def batch() -> dict[str, Any]:
    import torch

    ids = torch.arange(24).reshape(2, 12)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


@pytest.fixture(autouse=True)
def half() -> Iterator[None]:
    """Autocast as accelerate has it, where the packed layers compute in bfloat16."""
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        yield


def gradients(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    model.train()
    model.zero_grad()
    model(**batch).loss.backward()
    return {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}


def test_an_evaluation_leaves_the_gradients_as_they_were(
    packed: Any, batch: dict[str, Any]
) -> None:
    import torch

    before = gradients(packed, batch)
    packed.eval()
    with torch.no_grad():
        packed(**batch)
    after = gradients(packed, batch)

    assert any("layers.0." in name for name in before)
    for name, gradient in before.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(after[name], gradient, msg=name)


def test_unpacked_weights_give_the_numbers_of_the_packed_ones(
    packed: Any, batch: dict[str, Any]
) -> None:
    import torch

    with torch.no_grad():
        slow = packed(**batch).logits
        with unpacked(packed):
            forwards = [m.__dict__.get("forward") for m in packed.modules()]
            fast = packed(**batch).logits
        again = packed(**batch).logits

    assert sum(forward is not None for forward in forwards) == 14  # 7 linear layers in 2 blocks
    assert not any("forward" in m.__dict__ for m in packed.modules() if "4bit" in str(type(m)))
    torch.testing.assert_close(fast, slow, atol=0.02, rtol=0.02)
    torch.testing.assert_close(again, slow, atol=0, rtol=0)


def test_the_head_gets_its_states_in_one_piece() -> None:
    import torch

    cut = torch.arange(24.0).reshape(2, 3, 4)[:, -1:, :]
    assert not cut.is_contiguous()

    (whole,) = _in_one_piece(None, (cut,))

    assert whole.is_contiguous() and torch.equal(whole, cut)
