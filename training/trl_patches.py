"""What only repairs TRL and the libraries under it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trl import GRPOTrainer

TILE = 1024
"""Tokens and words of vocabulary in one tile: 4 MiB of float32, which stays in the cache."""


@contextmanager
def cpu_head() -> Iterator[None]:
    """Within the block, TRL's head looks only where there is a label, in tiles of :data:`TILE`.

    On a CPU it else makes logits for prompts and padding too, in tiles of 512 MiB. Measured with
    SmolLM2-135M and 8 rows of 164 tokens on two cores: 2.3 s and 1.4 GiB a step before, 0.5 s and
    20 MiB after, the numbers the same. On a GPU nothing is changed.

    The three names are TRL's own and private; a test fails if they are gone or change the loss.
    """
    import torch

    if torch.cuda.is_available():
        yield
        return
    from trl.kernels import chunked_logprob as kernel
    from trl.trainer import utils as head

    # In trainer.utils this name decides only which positions are looked at.
    before = head._use_triton, head._CHUNKED_LOGPROB_CHUNK_SIZE, kernel.TOKEN_CHUNK_SIZE
    head._use_triton = lambda device: True
    head._CHUNKED_LOGPROB_CHUNK_SIZE = kernel.TOKEN_CHUNK_SIZE = TILE
    try:
        yield
    finally:
        head._use_triton, head._CHUNKED_LOGPROB_CHUNK_SIZE, kernel.TOKEN_CHUNK_SIZE = before


def prepare_rollouts(trainer: GRPOTrainer) -> None:
    """Let the policy write its completions as it computes its losses, and no slower than it could.

    accelerate puts autocast around the forward pass of the whole model, which generation does not
    go through: bfloat16 of the base would meet the adapter's float32.
    """
    model, plain = trainer.model, trainer.model.generate
    keep_head_whole(model)

    def generate(*given: Any, **named: Any) -> Any:
        with trainer.accelerator.autocast(), unpacked(model):
            return plain(*given, **named)

    model.generate = generate


def keep_head_whole(model: Any) -> None:
    """Have the head multiply the prompts' last hidden states by itself once, not once a row."""
    model.get_output_embeddings().register_forward_pre_hook(_in_one_piece)


def _in_one_piece(_: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the head a copy of the prompt's last hidden states, which are cut out of all of them.

    torch multiplies such a view row by row, each with a copy of the head of its own: for 32 rows of
    SmolLM2-135M that were 1.8 GB and 8 s on one core, more than the 24 tokens that followed.
    """
    return (given[0].contiguous(), *given[1:])


@contextmanager
def unpacked(model: Any) -> Iterator[None]:
    """Within the block, 4-bit layers on a processor multiply by their unpacked weights.

    The numbers are those that the layers compute with themselves: bitsandbytes unpacks a weight
    into the compute type for every product of more than one row (``MatMul4Bit``). For each new
    token that is as much work as the product; here it is done once for all tokens, at 2 bytes a
    weight of bfloat16. A GPU has a kernel that unpacks as it multiplies, and is left alone.
    """
    layers = [layer for layer in model.modules() if _packed_on_cpu(layer)]
    try:
        for layer in layers:
            layer.forward = _plain_product(layer)
        yield
    finally:
        for layer in layers:
            # An attribute of its own hides the class's method; without it, that is back.
            layer.__dict__.pop("forward", None)


def _packed_on_cpu(layer: Any) -> bool:
    from bitsandbytes.nn import Linear4bit

    return isinstance(layer, Linear4bit) and layer.weight.device.type == "cpu"


def _plain_product(layer: Any) -> Callable[[Any], Any]:
    from bitsandbytes.functional import dequantize_4bit
    from torch.nn import functional

    dtype = layer.compute_dtype or layer.weight.quant_state.dtype
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
    bias = None if layer.bias is None else layer.bias.to(dtype)
    return partial(_product, functional.linear, weight, bias)


def _product(linear: Callable[..., Any], weight: Any, bias: Any, inputs: Any) -> Any:
    return linear(inputs.to(weight.dtype), weight, bias).to(inputs.dtype)
