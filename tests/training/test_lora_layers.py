"""LoRA's layers add into the product, and give the numbers and gradients that PEFT's own give."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from training import lora_layers
from training.lora_layers import fused_adapters

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

WIDTHS = [(64, 128), (128, 64)]


def adapted(*, packed: bool = False, bias: bool = False, **config: Any) -> PeftModel:
    """Return two linear layers with an adapter on each, whose second matrices are not 0."""
    import torch
    from bitsandbytes.nn import Linear4bit
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = torch.nn.Sequential(*(torch.nn.Linear(*width, bias=bias) for width in WIDTHS))
    if packed:
        halves = []
        for layer in base:
            half = Linear4bit(
                *layer.weight.T.shape, bias=bias, compute_dtype=torch.float32, quant_type="nf4"
            )
            half.load_state_dict(layer.state_dict())
            halves.append(half.to("cpu"))
        base = torch.nn.Sequential(*halves)
    model = get_peft_model(base, LoraConfig(target_modules=["0", "1"], r=4, **config))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def outcome(model: PeftModel, *, half: bool = False) -> list[Tensor]:
    """Return the outputs of 2 × 5 rows, and the gradients of inputs and weights."""
    import torch

    torch.manual_seed(1)
    inputs = torch.randn(2, 5, 64, requires_grad=True)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        outputs = model(inputs)
    (outputs.float() * torch.linspace(1, 2, outputs.numel()).view(outputs.shape)).sum().backward()
    grads = [weight.grad for weight in model.parameters() if weight.requires_grad]
    assert inputs.grad is not None
    return [outputs.detach(), inputs.grad, *grads]


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that grows by one whenever a layer adds into its product."""
    made: list[object] = []
    plain = lora_layers._weight

    def weight(base: Any, dtype: Any) -> Tensor:
        made.append(base)
        return plain(base, dtype)

    monkeypatch.setattr(lora_layers, "_weight", weight)
    return made


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_outputs_and_gradients_are_those_of_peft(
    products: list[object], packed: bool, bias: bool
) -> None:
    model = adapted(packed=packed, bias=bias, use_rslora=True)
    plain = outcome(model)
    with fused_adapters(model) as layers:
        assert layers == 2
        fused = outcome(model)
    assert len(products) == 4  # two layers, there and back
    for one, other in zip(fused, plain, strict=True):
        assert one.dtype == other.dtype
        # Sums of the same numbers in another order.
        assert float((one - other).norm()) < 2e-6 * float(other.norm())
    outcome(model)
    assert len(products) == 4  # after the block, layers are PEFT's again


def test_half_precision_rounds_no_more_than_peft(products: list[object]) -> None:
    import torch

    model = adapted()
    exact, plain = outcome(model), outcome(model, half=True)
    with fused_adapters(model):
        fused = outcome(model, half=True)
    assert len(products) == 4
    for one, other, true in zip(fused, plain, exact, strict=True):
        assert one.dtype == other.dtype
        error, usual = ((each.float() - true).square().mean().sqrt() for each in (one, other))
        assert float(error) < 1.2 * float(usual)
        assert not torch.equal(one.float(), true)


def test_inputs_without_a_gradient_get_none(products: list[object]) -> None:
    import torch

    model = adapted()
    with fused_adapters(model):
        model(torch.ones(3, 64)).sum().backward()
    # The first layer's inputs need no gradient, and so no weight on the way back.
    assert len(products) == 3


@pytest.mark.parametrize("config", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_more_than_a_product_stays_with_peft(products: list[object], config: Any) -> None:
    model = adapted(bias=True, **config)
    model.train()
    with fused_adapters(model):
        outcome(model)
    assert not products


def test_without_gradients_or_with_the_adapter_off_layers_stay_with_peft(
    products: list[object],
) -> None:
    import torch

    model = adapted()
    inputs = torch.ones(3, 64, requires_grad=True)
    with fused_adapters(model):
        with torch.no_grad():
            plain = model(inputs)
        with model.disable_adapter():
            base = model(inputs)
        assert not torch.allclose(plain, base)
        assert not products


def test_two_adapters_at_once_stay_with_peft(products: list[object]) -> None:
    from peft import LoraConfig

    model = adapted()
    model.add_adapter("second", LoraConfig(target_modules=["0", "1"], r=4))
    model.base_model.set_adapter(["default", "second"])
    with fused_adapters(model):
        outcome(model)
    assert not products
