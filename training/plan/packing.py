"""bitsandbytes' 4-bit layers made from random weights, without a file to load."""

from __future__ import annotations

from typing import Any


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
