"""Rows of a training batch, computed by threads of Python that each hold some of them.

In: a model as TRL trains it. Out: the same model, whose passes with TRL's fused head go through
several threads. Called by ``training/trainer.py`` and ``training/plan/timing.py``.

A small model's products are too short to be shared by processor threads: these wait for one another
at the end of each of some ten thousand operations of a step, and beside another process they nearly
stop. Here a thread computes rows of its own, there and back, and waits for nobody. Rows of one
length are put together, so that less padding is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.device import together

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import Tensor
    from trl.trainer.utils import FusedCausalLMOutput

_LARGEST = 500_000_000
"""Weights of a model whose rows are dealt out; products of a larger one keep all threads busy."""
_FEWEST = 2
"""Rows of a part: a product of fewer leaves the processor waiting for memory."""
_ROWS = {"input_ids", "attention_mask", "labels"}
"""Inputs that are cut by rows. A pass with others, such as images or packed rows, stays whole."""


@dataclass(frozen=True)
class _Part:
    """Some rows of a batch."""

    rows: Tensor
    """Their places in it."""
    length: int
    """Columns that are not padding in all of them."""


@contextmanager
def rows_in_threads(model: PeftModel, *, checkpointing: bool = False) -> Iterator[int]:
    """Within the block, deal out the rows of a pass with TRL's fused head; yield to how many.

    That is 1, and nothing changes, where it could not pay or not be the same: on a GPU, for a large
    model, with dropout (whose numbers are drawn in the order of rows), where blocks are computed
    again in the backward pass, and where other processes train with this one.
    """
    import torch

    threads = torch.get_num_threads()
    if checkpointing or threads < _FEWEST or not _can_be_apart(model):
        yield 1
        return
    plain = model.forward
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        model.forward = _Apart(plain, pool, threads)
        try:
            yield threads
        finally:
            model.forward = plain
            # The count that a thread sets is also that of threads begun later.
            torch.set_num_threads(threads)


def _can_be_apart(model: PeftModel) -> bool:
    if model.device.type != "cpu" or together() or model.num_parameters() > _LARGEST:
        return False
    modules = list(model.modules())
    if any(float(getattr(one, "attention_dropout", 0) or 0) for one in modules):
        return False
    if any(type(one).__name__ == "Dropout" and one.p > 0 for one in modules):
        return False
    # Such rotary embeddings keep what the last batch needed.
    return not any(
        hasattr(one, "long_inv_freq") or getattr(one, "rope_type", "") == "dynamic"
        for one in modules
    )


class _Apart:
    """A model's forward pass, in parts."""

    def __init__(
        self, plain: Callable[..., object], pool: ThreadPoolExecutor, threads: int
    ) -> None:
        self._plain, self._pool, self._threads = plain, pool, threads

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        import torch

        tensors = {name for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        parts = []
        if not args and inputs.get("fused_lm_head") and tensors == _ROWS:
            parts = _parts(inputs["attention_mask"], self._threads)
        if len(parts) < _FEWEST:
            return self._plain(*args, **inputs)
        apart = _in_this_mode(self._plain)
        outputs = list(self._pool.map(lambda part: apart(**_of_part(inputs, part)), parts))
        return _joined(outputs, parts, inputs["labels"][:, 1:].shape, self._pool)


def _parts(mask: Tensor, threads: int) -> list[_Part]:
    """Return a batch's rows by length, dealt out so that the longest part is as short as can be."""
    import torch

    lengths = mask.size(1) - mask.flip(1).argmax(1)
    order = torch.argsort(lengths, descending=True, stable=True)
    count = min(threads, len(order) // _FEWEST)
    return (
        [_Part(rows, max(int(lengths[rows[0]]), 2)) for rows in order.chunk(count) if len(rows)]
        if count
        else []
    )


def _of_part(inputs: dict[str, Any], part: _Part) -> dict[str, Any]:
    cut = {name: inputs[name][part.rows, : part.length] for name in _ROWS}
    return {**inputs, **cut}


def _in_this_mode(call: Callable[..., object]) -> Callable[..., Any]:
    """Return a call that computes in another thread as this one would: gradients and autocast."""
    import torch

    gradients = torch.is_grad_enabled()
    half, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def made(**inputs: object) -> Any:
        with torch.set_grad_enabled(gradients), torch.autocast("cpu", dtype, enabled=half):
            return call(**inputs)

    return made


def _joined(
    outputs: Sequence[FusedCausalLMOutput],
    parts: Sequence[_Part],
    shape: torch.Size,
    pool: ThreadPoolExecutor,
) -> FusedCausalLMOutput:
    """Return the outputs of all rows, zero where a part has cut padding away."""
    import torch

    fields: dict[str, Any] = {}
    for name, first in outputs[0].items():
        if isinstance(first, torch.Tensor) and first.dim() == len(shape):
            fields[name] = first.new_zeros(shape)
            for output, part in zip(outputs, parts, strict=True):
                fields[name][part.rows, : part.length - 1] = output[name].detach()
    if outputs[0].log_probs.requires_grad:
        ways = [output.log_probs for output in outputs]
        anchor = torch.zeros((), requires_grad=True)
        joined = _Joined(ways, parts, pool)
        fields["log_probs"] = _with_backward(anchor, fields["log_probs"], joined)
    labels = fields["label_mask"].sum().clamp(min=1)
    return type(outputs[0])(loss=-fields["log_probs"].sum() / labels, **fields)


@dataclass(frozen=True)
class _Joined:
    """The log-probabilities of all parts, each with the way back through its own pass."""

    log_probs: Sequence[Tensor]
    parts: Sequence[_Part]
    pool: ThreadPoolExecutor

    def backward(self, gradient: Tensor) -> None:
        """Go back through every part in a thread; gradients of weights add up where they lie.

        torch locks a weight while it adds to its gradient.
        """
        import torch

        def back(log_probs: Tensor, part: _Part) -> None:
            torch.autograd.backward(log_probs, gradient[part.rows, : part.length - 1])

        list(self.pool.map(back, self.log_probs, self.parts))


def _with_backward(anchor: Tensor, values: Tensor, joined: _Joined) -> Tensor:
    """Return values whose backward pass is that of the parts; the anchor makes them need one."""
    import torch

    class Join(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: object, anchor: Tensor, values: Tensor) -> Tensor:
            return values.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> tuple[None, None]:
            joined.backward(gradient)
            return None, None

    result: Tensor = Join.apply(anchor, values)
    return result
