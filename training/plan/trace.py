"""What one step keeps in memory, found by running it on tensors that have shapes and no data."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import TorchDispatchMode

from training.device import quiet
from training.plan.model_shapes import (
    bare_model,
    describe,
    pixel_inputs,
    places_unchecked,
    with_adapter,
    with_layers,
)
from training.trl_patches import cpu_attention, no_needless_casts
from workbench.errors import UserError

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PretrainedConfig

_FEW, _MORE = 2, 4
"""Blocks of the two traces; what the others add lies on a straight line through them."""
_KNOWN: dict[tuple[object, ...], int] = {}
"""Peaks that this process has traced: advice asks for many, several stages for the same."""


def step_peak(
    config: PretrainedConfig,
    adapter: PeftConfig,
    *,
    rows: int,
    length: int,
    half: bool,
    checkpointing: bool,
    pixels: tuple[int, ...] = (),
) -> int:
    """Return the peak of what a forward and a backward pass of the blocks allocate, in bytes.

    All that autograd keeps and every temporary counts, whatever the architecture; the weights, the
    adapter's gradients and the head do not. Two short models are traced: blocks are alike, so that
    the peak is linear in their number.

    The batch has ``rows`` sequences of ``length`` tokens, padding included; ``half`` is whether
    autocast computes in bfloat16; ``pixels`` are images, channels, height and width that a sequence
    brings, empty for text alone.
    """
    batch = (rows, length, pixels)
    key = (describe(config, adapter), batch, half, checkpointing)
    if key not in _KNOWN:
        few, more = (
            _traced(with_layers(config, count), adapter, batch, half, checkpointing)
            for count in (_FEW, _MORE)
        )
        layers = config.get_text_config().num_hidden_layers
        _KNOWN[key] = round(few + (more - few) / (_MORE - _FEW) * (layers - _FEW))
    return _KNOWN[key]


def _traced(
    config: PretrainedConfig,
    adapter: PeftConfig,
    batch: tuple[int, int, tuple[int, ...]],
    half: bool,
    checkpointing: bool,
) -> int:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    rows, length, pixels = batch
    with quiet(), torch.device("meta"):
        model = with_adapter(bare_model(config, torch.bfloat16), adapter).train()
    with quiet(), FakeTensorMode(), _followed(config):
        _give_fake_weights(model)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        for weight in model.parameters():
            if weight.requires_grad:
                weight.register_post_accumulate_grad_hook(_forget_gradient)
        inputs = {
            name: torch.ones((rows, length), dtype=torch.long)
            for name in ("input_ids", "attention_mask")
        }
        blocks = model.get_base_model().base_model
        with (
            _Live([*model.parameters(), *model.buffers(), *inputs.values()]) as live,
            torch.autocast("cpu", torch.bfloat16, enabled=half),
            no_needless_casts(model, half=half),
            cpu_attention(),
            places_unchecked(),
        ):
            images = pixel_inputs(rows, pixels, "cpu")
            last = blocks(**inputs, **images, use_cache=False).last_hidden_state
            last.backward(torch.empty_like(last))
    return int(live.peak)


@contextmanager
def _followed(config: PretrainedConfig) -> Iterator[None]:
    """Say in one line that an architecture goes on by its data, which tensors here do not have."""
    from torch._subclasses import fake_tensor

    try:
        yield
    except (
        fake_tensor.DataDependentOutputException,
        fake_tensor.DynamicOutputShapeException,
        fake_tensor.UnsupportedFakeTensorException,
    ) as error:
        what = f"the memory of {config.model_type} cannot be planned: {str(error)[:80]}"
        raise UserError(what, fix="train a few steps and read the measured peak") from None


def _give_fake_weights(model: torch.nn.Module) -> None:
    """Put tensors of the current mode in the place of those on ``meta``, which autocast ignores."""
    import torch

    fakes: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, old in store.items():
                if old is None:
                    continue
                if id(old) not in fakes:
                    new = torch.empty(old.shape, dtype=old.dtype)
                    if isinstance(old, torch.nn.Parameter):
                        new = torch.nn.Parameter(new, requires_grad=old.requires_grad)
                    fakes[id(old)] = new
                store[name] = fakes[id(old)]


def _forget_gradient(weight: torch.nn.Parameter) -> None:
    weight.grad = None


class _Live(TorchDispatchMode):  # type: ignore[misc]
    """Adds up the storages that operations make, until they are freed.

    Those in ``known`` were there before and do not count.
    """

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = {id(t.untyped_storage()): t.untyped_storage() for t in known}
        self._watched: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        import torch
        from torch.utils._pytree import tree_iter

        result = function(*args, **(kwargs or {}))
        for one in tree_iter(result):
            if isinstance(one, torch.Tensor):
                self._add(one.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._seen or key in self._watched:
            return
        size = storage.nbytes()
        self._watched[key] = weakref.ref(storage, lambda _: self._drop(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _drop(self, key: int, size: int) -> None:
        del self._watched[key]
        self.now -= size
