"""Rows of a training batch, computed by threads of Python that each hold some of them.

In: a model as TRL trains it. Out: the same model, whose passes with TRL's fused head go through
several threads. Called by ``training/trainer.py`` and ``training/plan/timing.py``.

A small model's products are too short to be shared by processor threads: these wait for one another
at the end of each of some ten thousand operations of a step, and beside another process they nearly
stop. Here a thread computes rows of its own, there and back, and waits for nobody. They are laid
end to end (:mod:`training.end_to_end`): no padding is computed, and what they begin with once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.device import together
from training.end_to_end import (
    EndToEnd,
    attending_to,
    attention_by_rows,
    laid_end_to_end,
    lay_end_to_end,
)
from training.lm_head import head_in_one_pass
from workbench.inference.engines.streams import threads_for_rows

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import Tensor
    from trl.trainer.utils import FusedCausalLMOutput

_FEWEST = 2
"""Rows for each part: a product of fewer leaves the processor waiting for memory."""
_SAME = 0.1
"""Root mean square of differences in nats a token that rounding in half precision stays below."""
_ROWS = {"input_ids", "attention_mask", "labels"}
"""Inputs that are cut by rows. A pass with others, such as images or packed rows, stays whole."""


_OF_A_FAMILY = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)
"""What the code of a family of models raises where the mask is not as it expects."""


@contextmanager
def rows_in_threads(model: PeftModel, *, checkpointing: bool = False) -> Iterator[int]:
    """Within the block, deal out the rows of a pass with TRL's fused head; yield to how many.

    That is 1, and nothing changes, where it could not pay or not be the same: on a GPU, for a large
    model, with dropout, with layers that mix tokens otherwise than by attention, where blocks are
    computed again in the backward pass, and where other processes train with this one. The first
    pass of all is held against the whole one; where they differ, all passes stay whole.
    """
    import torch

    threads = threads_for_rows(model)
    if checkpointing or threads < _FEWEST or not _can_be_apart(model):
        yield 1
        return
    plain = model.forward
    with (
        attention_by_rows(),
        head_in_one_pass(laid_end_to_end),
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        model.forward = _Apart(model, pool, threads)
        try:
            yield threads
        finally:
            model.forward = plain
            # The count that a thread sets is also that of threads begun later.
            torch.set_num_threads(threads)


def _can_be_apart(model: PeftModel) -> bool:
    """Return whether no number is drawn, and attention alone mixes tokens, whose places are given.

    With dropout, numbers would be drawn in another order.
    """
    base, modules = model.get_base_model(), list(model.modules())
    kinds = set(getattr(base.config.get_text_config(), "layer_types", None) or ())
    if together() or not kinds <= {"full_attention", "sliding_attention"}:
        return False
    if base.config._attn_implementation != "sdpa":
        return False
    shares = (getattr(one, "attention_dropout", 0) for one in modules)
    drawn = any(isinstance(share, float) and share > 0 for share in shares)
    if drawn or any(type(one).__name__ == "Dropout" and one.p > 0 for one in modules):
        return False
    return "position_ids" in inspect.signature(type(base).forward).parameters


class _Apart:
    """A model's forward pass, in parts."""

    def __init__(self, model: PeftModel, pool: ThreadPoolExecutor, threads: int) -> None:
        self._plain, self._pool, self._threads = model.forward, pool, threads
        base = model.get_base_model()
        self._embeddings = base.get_input_embeddings()
        config = base.config.get_text_config()
        self._window = getattr(config, "sliding_window", None)
        self._vocabulary = int(config.vocab_size)
        self._same: bool | None = None
        """Whether parts give what the whole gives; None before the first pass."""

    def _is_the_same(self) -> bool:
        """Return whether a few tokens have the log-probabilities that the whole pass gives them.

        A family may mask otherwise than by places, or look at the mask for more than attention.
        """
        import torch

        # Three tokens that all rows begin with, and rows of different lengths.
        ids = torch.arange(1, 41).reshape(4, 10) % self._vocabulary
        ids[:, :3] = ids[0, :3]
        mask = (torch.arange(10) < torch.tensor([[10], [6], [8], [9]])).long()
        labels = ids.masked_fill((mask == 0) | (torch.arange(10) < 4), -100)
        inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        with torch.no_grad():
            whole = self._plain(**inputs, fused_lm_head=True).log_probs
            try:
                apart = self(**inputs, fused_lm_head=True).log_probs
            except _OF_A_FAMILY:
                return False
        return float((whole - apart).square().mean().sqrt()) < _SAME

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        import torch

        tensors = {name for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        parts = []
        if not args and inputs.get("fused_lm_head") and tensors == _ROWS and self._may(inputs):
            parts = _parts(inputs["attention_mask"], self._threads)
        if len(parts) >= _FEWEST and self._same is None:
            self._same = True
            self._same = self._is_the_same()
        if len(parts) < _FEWEST or not self._same:
            return self._plain(*args, **inputs)
        sequences = [lay_end_to_end(inputs, rows) for rows in parts]
        rest = {name: value for name, value in inputs.items() if name not in _ROWS}
        apart = _in_this_mode(self._plain, rest)
        outputs = list(self._pool.map(apart, sequences))
        return _joined(outputs, sequences, inputs["labels"][:, 1:].shape, self._pool)

    def _may(self, inputs: dict[str, Any]) -> bool:
        """Return whether nothing depends on the rows beside a row, nor on more than its places.

        NEFTune's noise depends on the batch's length, and experts are balanced over the batch.
        """
        if getattr(self._embeddings, "neftune_noise_alpha", None):
            return False
        longest = int(inputs["attention_mask"].sum(1).max())
        slides = self._window is not None and longest > self._window
        return not slides and not inputs.get("output_router_logits")


def _parts(mask: Tensor, threads: int) -> list[Tensor]:
    """Return a batch's rows dealt out so that each part has about as many tokens."""
    import torch

    count = min(threads, len(mask) // _FEWEST)
    parts: list[list[int]] = [[] for _ in range(count)]
    lengths = mask.sum(1).tolist()
    for row in sorted(range(len(mask)) if count else (), key=lambda row: -lengths[row]):
        min(parts, key=lambda part: sum(lengths[one] for one in part)).append(row)
    return [torch.tensor(sorted(part)) for part in parts]


def _in_this_mode(
    call: Callable[..., object], options: dict[str, Any]
) -> Callable[[EndToEnd], Any]:
    """Return a call that computes in another thread as this one would: gradients and autocast."""
    import torch

    gradients = torch.is_grad_enabled()
    half, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def made(sequence: EndToEnd) -> Any:
        with (
            torch.set_grad_enabled(gradients),
            torch.autocast("cpu", dtype, enabled=half),
            attending_to(sequence),
        ):
            return call(**{**options, **sequence.inputs})

    return made


def _joined(
    outputs: Sequence[FusedCausalLMOutput],
    parts: Sequence[EndToEnd],
    shape: torch.Size,
    pool: ThreadPoolExecutor,
) -> FusedCausalLMOutput:
    """Return the outputs of all rows as in one pass, zero where nothing follows."""
    import torch

    fields: dict[str, Any] = {}
    for name, first in outputs[0].items():
        if isinstance(first, torch.Tensor) and first.dim() == len(shape):
            fields[name] = first.new_zeros(shape)
            for output, part in zip(outputs, parts, strict=True):
                fields[name][part.rows, part.columns] = output[name].detach()[0, part.source]
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
    parts: Sequence[EndToEnd]
    pool: ThreadPoolExecutor

    def backward(self, gradient: Tensor) -> None:
        """Go back through every part in a thread; gradients of weights add up where they lie.

        torch locks a weight while it adds to its gradient.
        """
        import torch

        def back(log_probs: Tensor, part: EndToEnd) -> None:
            own = torch.zeros_like(log_probs)
            own[0, part.source] = gradient[part.rows, part.columns]
            torch.autograd.backward(log_probs, own)

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
