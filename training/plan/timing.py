"""Seconds of a step, from a short measurement of the model's own blocks on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from training.device import no_needless_casts, quiet
from training.plan.skeleton import bare_model, with_adapter, with_layers

_FEW, _MORE = 1, 3
_REPEATS = 2


@dataclass(frozen=True)
class Step:
    """One pass through the blocks."""

    rows: int
    length: int
    """Tokens of each row."""
    half: bool
    """Whether autocast computes in bfloat16."""
    checkpointing: bool = False
    """Whether blocks are computed again in the backward pass."""
    backward: bool = True
    """False for a forward pass alone: of a reference, or of a token that is sampled."""


def step_seconds(
    config: Any,
    adapter: Any,
    quantization: dict[str, Any] | None,
    step: Step,
) -> float:
    """Return the seconds of a forward and a backward pass, measured on two short models.

    The weights are random and packed as the recipe says: what is timed is the real code on the real
    device. Blocks are alike, so that time is linear in their number. The head is not in it.

    Args:
        config: Of the model, transformers' own.
        adapter: PEFT's configuration.
        quantization: Fields of ``transformers.BitsAndBytesConfig``, or None.
        step: What is computed.
    """
    few, more = (
        _timed(_passes(with_layers(config, count), adapter, quantization, step))
        for count in (_FEW, _MORE)
    )
    layers = config.get_text_config().num_hidden_layers
    return max(few + (more - few) / (_MORE - _FEW) * float(layers - _FEW), few)


def _timed(once: Callable[[], None]) -> float:
    """Return the least seconds of a few calls, after one to warm up."""
    once()
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _passes(
    config: Any,
    adapter: Any,
    quantization: dict[str, Any] | None,
    step: Step,
) -> Callable[[], None]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with quiet(), torch.device(device):
        dtype = torch.bfloat16 if step.half else torch.float32
        bare = bare_model(config, dtype)
        if quantization and quantization.get("load_in_4bit"):
            pack(bare, quantization)
        model = with_adapter(bare, adapter).train()
    if step.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    ids = torch.randint(
        config.get_text_config().vocab_size, (step.rows, step.length), device=device
    )
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    # One padding token, as in a real batch: without any, a faster kernel without a mask is taken.
    if step.length > 1:
        inputs["attention_mask"][0, -1] = 0
    blocks = model.get_base_model().base_model

    def once() -> None:
        with (
            torch.set_grad_enabled(step.backward),
            torch.autocast(device, dtype, enabled=step.half),
            no_needless_casts(model, half=step.half),
        ):
            last = blocks(**inputs, use_cache=False).last_hidden_state
        if step.backward:
            last.backward(torch.ones_like(last))
            model.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()

    return once


def pack(model: Any, quantization: dict[str, Any]) -> None:
    """Put bitsandbytes' 4-bit layers, filled from the ones there, in the place of linear layers.

    Args:
        model: With its weights on the device; the head is left as it is.
        quantization: Fields of ``transformers.BitsAndBytesConfig``.
    """
    import bitsandbytes as bnb
    import torch

    # A single block has no head.
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, torch.nn.Linear) or layer is head:
            continue
        packed = bnb.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=layer.weight.dtype,
            compress_statistics=bool(quantization.get("bnb_4bit_use_double_quant")),
            quant_type=quantization.get("bnb_4bit_quant_type", "fp4"),
            device="meta",
        )
        packed.weight = bnb.nn.Params4bit(
            layer.weight.data.cpu(),
            requires_grad=False,
            compress_statistics=packed.weight.compress_statistics,
            quant_type=packed.weight.quant_type,
            module=packed,
        ).to(layer.weight.device)
        if layer.bias is not None:
            packed.bias = layer.bias
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, packed)
