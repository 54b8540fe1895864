"""Linear layers on a processor that multiply by weights laid out for its cache and registers.

In: a model whose weights stay as they are for a while. Out: the same model, whose frozen products
are oneDNN's over weights that were laid out once; plain products lay them out at every call. Called
by the batched engine for each group of rows.

torch's own way to this layout, ``torch.compile`` with a frozen graph, takes half a minute of
compiling a model; the two operators that it ends in are called here by themselves. The embedded
model in float32, one thread, 64 rows, milliseconds of all products of a step: 232 plain, 177 packed
with AVX-512; 245 and 203 with AVX2 alone. In bfloat16 with AVX512-BF16 97 and 88, of 8 rows 28 and
17. Sums are added up in another order, so float32 differs in its last bits; bfloat16 came out the
same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from workbench.meter import trim_heap

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Linear, Module

FEWEST_ROWS = 4
"""Rows from which the layout is worth its time, about a second for the embedded model."""

_BETWEEN_TRIMS = 16


@contextmanager
def packed_weights(model: Module, rows: int) -> Iterator[int]:
    """Within the block, linear layers multiply by packed weights; yield to how many do.

    Nothing changes on a GPU, for few rows, or in a type that oneDNN does not pack here. Weights are
    held once: where nothing else reads a layer's own, it is empty within the block, and unpacked
    after it, bit by bit as it was. Products of ``rows`` rows are to be fast; of others the outcome
    is the same.
    """
    layers = list(_packable(model)) if rows >= FEWEST_ROWS else []
    shared = _weights_held_twice(model)
    try:
        for number, layer in enumerate(layers):
            _pack(layer, rows, keep=id(layer.weight) in shared)
            if number % _BETWEEN_TRIMS == 0:
                trim_heap()  # else all weights let go of would stay beside all packed ones
        trim_heap()
        yield len(layers)
    finally:
        for layer in layers:
            _unpack(layer)


def _packable(model: Module) -> Iterator[Linear]:
    import torch

    if not torch.backends.mkldnn.is_available():
        return
    for layer in model.modules():
        # Subclasses, such as 4-bit layers, compute otherwise, and so does a layer that was patched.
        if type(layer) is torch.nn.Linear and "forward" not in layer.__dict__:
            weight = layer.weight
            if weight.device.type == "cpu" and is_packed_here(weight.dtype):
                yield layer


def is_packed_here(dtype: torch.dtype) -> bool:
    """Return whether oneDNN packs a type on this processor; emulated bfloat16 it refuses."""
    import torch

    if dtype is torch.float32:
        return True
    return dtype is torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _weights_held_twice(model: Module) -> set[int]:
    """Return the ids of weights that several modules hold, such as tied embeddings."""
    seen: set[int] = set()
    twice: set[int] = set()
    for module in model.modules():
        for weight in module._parameters.values():
            (twice if id(weight) in seen else seen).add(id(weight))
    return twice


def pack(weight: Tensor, rows: int) -> Tensor:
    """Return a weight, outputs × inputs, laid out for products with so many rows."""
    import torch

    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return packed


def product(weight: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    """Return ``x·Wᵀ + b`` of a packed weight; it has no backward pass."""
    import torch

    result: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return result


def _pack(layer: Linear, rows: int, *, keep: bool) -> None:
    import torch

    with torch.inference_mode(mode=False):
        weight = layer.weight.data
        layer.forward = partial(product, pack(weight, rows), layer.bias)
        if not keep:
            layer.weight.data = weight.new_empty(0)


def _unpack(layer: Linear) -> None:
    """Give a layer its own product back, and its weight where that was let go of."""
    import torch

    own = layer.__dict__.pop("forward", None)
    if own is not None and not layer.weight.numel():
        # A weight made in inference mode could never be trained again.
        with torch.inference_mode(mode=False):
            layer.weight.data = own.args[0].to_dense()
