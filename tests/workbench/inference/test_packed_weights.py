"""Packed weights: the same products, the weights as they were after them, and held once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from workbench.inference.base_models import load_model
from workbench.inference.packed_weights import FEWEST_ROWS, is_packed_here, packed_weights

ROWS = 2 * FEWEST_ROWS
TYPES = [torch.float32, torch.bfloat16]


class _Tied(nn.Module):  # type: ignore[misc]
    """Embeddings that are the output layer too, and a layer with and one without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(40, 16), nn.Linear(16, 40, bias=False)
        self.head.weight = self.embed.weight
        self.up, self.down = nn.Linear(16, 56), nn.Linear(56, 16, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.down(self.up(self.embed(ids)).relu()))
        return logits


def model(dtype: torch.dtype) -> _Tied:
    torch.manual_seed(0)
    tied: _Tied = _Tied().to(dtype)
    return tied


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_products_are_the_same_and_weights_come_back_bit_by_bit(dtype: torch.dtype) -> None:
    tied, ids = model(dtype), torch.arange(30).view(ROWS // 8 * 5, -1)
    before = {name: weight.clone() for name, weight in tied.named_parameters()}
    exact = 1e-5 if dtype is torch.float32 else 0.02
    with torch.inference_mode():
        plain = tied(ids)
        with packed_weights(tied, ROWS) as layers:
            packed = tied(ids)

            assert layers == (3 if is_packed_here(dtype) else 0)
            # The head's weight is the embeddings', which are looked up; the others are held once.
            held = [tied.embed.weight.numel(), tied.up.weight.numel(), tied.down.weight.numel()]
            assert held == ([640, 0, 0] if layers else [640, 896, 896])
        torch.testing.assert_close(packed, plain, rtol=exact, atol=exact)
        assert torch.equal(tied(ids), plain)
    assert all(torch.equal(weight, before[name]) for name, weight in tied.named_parameters())


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_losses_of_a_chat_model_are_within_a_hundredth_of_a_nat(
    tiny_model: Path, dtype: torch.dtype
) -> None:
    loaded, ids = load_model(tiny_model, dtype=dtype).eval(), torch.arange(2, 50).view(4, 12)
    with torch.inference_mode():
        plain = float(loaded(input_ids=ids, labels=ids).loss)
        with packed_weights(loaded, ROWS) as layers:
            packed = float(loaded(input_ids=ids, labels=ids).loss)
    assert (layers > 0) == is_packed_here(dtype)
    assert plain > 1 and abs(packed - plain) < 0.01


def test_weights_come_back_after_an_error_and_may_be_trained() -> None:
    tied = model(torch.float32)
    with pytest.raises(KeyboardInterrupt), torch.inference_mode(), packed_weights(tied, ROWS):
        raise KeyboardInterrupt
    tied(torch.arange(8)).sum().backward()

    assert tied.up.weight.grad is not None and tied.up.weight.grad.shape == (56, 16)


def test_few_rows_patched_layers_and_other_kinds_of_layers_are_left_alone() -> None:
    class Packed4bit(nn.Linear):  # type: ignore[misc]
        pass

    tied = model(torch.float32)
    tied.down = Packed4bit(56, 16)
    tied.up.forward = lambda inputs: inputs.repeat(1, 4)[:, :56]
    with packed_weights(tied, FEWEST_ROWS - 1) as layers:
        assert layers == 0
    with packed_weights(tied, ROWS) as layers:
        assert layers == 1  # the head
        assert tied.down.weight.numel() == 56 * 16
    assert "forward" in tied.up.__dict__ and "forward" not in tied.head.__dict__
