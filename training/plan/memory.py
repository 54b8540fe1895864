"""Peak memory of a run by its parts, and the smallest change to its recipe that makes it fit.

In: an :class:`EstimateProfile`. Out: bytes. Called by ``training/plan/plan.py`` and, for shapes
that are not here, by ``training/plan/recipes.py``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from training.device import Fields
from training.plan.lengths import Lengths
from training.plan.model_shapes import Shapes
from training.plan.trace import step_peak
from training.run import Recipe
from training.trl_patches import LONGEST_PRODUCT, TILE
from workbench.inference.engines.streams import LARGEST
from workbench.inference.processor import processor

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PretrainedConfig, TrainingArguments

MIB = 1 << 20
_HOLES, _HOLES_BY_ROWS = 0.5, 0.2
"""Bytes that glibc's heap holds besides each byte of activations: blocks of a step are freed in
another order than they were taken. Fewer where each row attends by itself: by it plans of
SmolLM2-135M on two cores lie 8 % above the measured resident set for 2 steps of 8 short rows, 2 %
(SFT in bfloat16) and 1 % (in float32) above that of a few steps by the command, and 6 % below it
for DPO. With every block above 1 MiB returned at once there are few, and a pass takes twice as
long."""
KERNELS = 66 * MIB
"""What libraries take when they first compute (oneDNN's compiled kernels); the same measurement."""
_BLOCK, _OUTER_BLOCK = 64, 256
"""Weights under one constant, and constants under one constant of the second level: bitsandbytes'
defaults, as in QLoRA (https://arxiv.org/abs/2305.14314, section 3)."""
_STATES = {"ademamix": 3, "lion": 1, "rmsprop": 1, "adagrad": 1, "adafactor": 0, "sgd": 0}
"""Numbers that an optimizer keeps for each trained weight, by a word of its name; AdamW keeps 2.
Adafactor keeps rows and columns alone, and transformers' SGD has no momentum."""
_GPU_TILE = 4096, 32768
"""Tokens and words of vocabulary in one tile of TRL's head on a GPU (trl.kernels)."""


@dataclass(frozen=True)
class EstimateProfile:
    """Everything that a run's memory follows from."""

    recipe: Recipe
    arguments: TrainingArguments
    """TRL's configuration of the method, defaults filled in."""
    config: PretrainedConfig
    adapter: PeftConfig
    shapes: Shapes
    lengths: Lengths
    half: bool
    """Whether the device computes in half precision."""
    gpu: bool

    @property
    def sequences(self) -> int:
        """Sequences in one forward pass of the policy: a pair is two."""
        batch: int = self.arguments.per_device_train_batch_size
        return batch * 2 if self.recipe.method == "dpo" else batch

    @property
    def threads(self) -> int:
        """Threads that lay a batch's rows end to end (:mod:`training.row_threads`); 1 for none."""
        weights, arguments = self.shapes.packed + self.shapes.plain, self.arguments
        whole = self.gpu or self.recipe.method not in ("sft", "dpo", "kto") or self.lengths.pixels
        packed = getattr(arguments, "packing", False) or arguments.neftune_noise_alpha
        drawn = getattr(self.adapter, "lora_dropout", 0)
        if whole or packed or drawn or arguments.gradient_checkpointing or weights > LARGEST:
            return 1
        return max(min(processor().threads, self.sequences // 2), 1)

    @property
    def length(self) -> int:
        """Tokens of each row of the largest batch, as many as it takes for all of them."""
        if self.recipe.samples:
            return self.lengths.longest + int(self.arguments.max_completion_length or 0)
        if getattr(self.arguments, "packing", False) and self.arguments.max_length:
            return int(self.arguments.max_length)
        if self.threads > 1:
            longest = sorted(self.lengths.whole)[-self.sequences :]
            return self._end_to_end(sum(longest) / len(longest))
        multiple = getattr(self.arguments, "pad_to_multiple_of", None) or 1
        return -(-self.lengths.longest // multiple) * multiple

    @property
    def usual_length(self) -> int:
        """Tokens of each row of a usual batch, in the same way."""
        if self.threads > 1:
            return self._end_to_end(self.lengths.mean)
        return round(self.lengths.usual(self.sequences))

    def _end_to_end(self, mean: float) -> int:
        """Return the tokens of a row without padding; each thread lays the rows' beginning once."""
        spared = self.lengths.shared * (1 - self.threads / self.sequences)
        return max(math.ceil(mean - spared), 1)

    @property
    def labels(self) -> int:
        """Tokens of the largest batch that have a label, at most."""
        if self.recipe.samples:
            return self.sequences * int(self.arguments.max_completion_length or 0)
        return sum(sorted(self.lengths.answer, reverse=True)[: self.sequences])


def parts(profile: EstimateProfile) -> dict[str, int]:
    """Return what each part of a run takes at its peak, in bytes; libraries are not among them."""
    shapes, compute = profile.shapes, 2 if profile.half else 4
    bits = profile.recipe.quantization or {}
    four, eight = bits.get("load_in_4bit"), bits.get("load_in_8bit")
    width = 0.5 if four else 1.0 if eight else float(compute)
    constants = 0.0
    if four and bits.get("bnb_4bit_use_double_quant"):
        constants = shapes.packed / _BLOCK * (1 + 4 / _OUTER_BLOCK)
    elif four:
        constants = shapes.packed / _BLOCK * 4
    unpacked = shapes.widest * compute if four or eight else 0
    sizes = {
        "weights": shapes.packed * width + shapes.plain * compute,
        "quantization constants": constants,
        "adapters": 4 * shapes.adapter + compute * shapes.frozen,
        "gradients": 4 * shapes.adapter,
        "optimizer": _optimizer_states(profile) * shapes.adapter,
        "activations": unpacked + _step(profile),
        "logits": _logits(profile),
        "reference model": _reference(profile),
        "rollouts": _rollouts(profile),
    }
    if not profile.gpu:
        holes = _HOLES_BY_ROWS if profile.threads > 1 else _HOLES
        sizes["holes of the heap"] = holes * (sizes["activations"] + sizes["logits"])
    return {name: round(size) for name, size in sizes.items()}


def _step(profile: EstimateProfile) -> int:
    """Return the bytes that the passes of a step keep."""
    lengths = {profile.length}
    if profile.threads > 1:  # rows up to that long keep a weight for every pair of tokens
        lengths.add(min(profile.length, LONGEST_PRODUCT))
    return max(
        step_peak(
            profile.config,
            profile.adapter,
            rows=profile.sequences,
            length=length,
            half=profile.half,
            checkpointing=bool(profile.arguments.gradient_checkpointing),
            pixels=profile.lengths.pixels,
        )
        for length in lengths
    )


def peak(sizes: dict[str, int]) -> int:
    """Return the peak of the parts together: answers are sampled before a step, not during it."""
    step = sum(sizes.get(name, 0) for name in ("activations", "logits", "holes of the heap"))
    return sum(sizes.values()) - min(step, sizes["rollouts"])


def loading(profile: EstimateProfile) -> int:
    """Return what loading holds at its peak on a processor, before anything is trained, in bytes.

    The file of weights stays mapped until all are read; each weight is copied out of it, packed,
    and its copy kept by the heap. With the embedded model 564 MiB; measured were 589 on one core
    and 764 on two, whose threads read at once.
    """
    if profile.gpu:
        return 0
    shapes, compute = profile.shapes, 2 if profile.half else 4
    packed = profile.recipe.quantization is not None
    file, copies = 2 * (shapes.packed + shapes.plain), compute * shapes.packed
    loaded = shapes.packed / 2 + compute * shapes.plain if packed else copies
    return round(file + copies * packed + loaded)


def _optimizer_states(profile: EstimateProfile) -> float:
    """Return the bytes of state for each trained weight."""
    name = str(getattr(profile.arguments.optim, "value", profile.arguments.optim))
    if "paged" in name and profile.gpu:
        return 0.0  # it moves to the host's memory when the GPU's is short
    states = next((count for word, count in _STATES.items() if word in name), 2)
    return states * (1 + 4 / _OUTER_BLOCK if "8bit" in name else 4.0)


def _logits(profile: EstimateProfile) -> float:
    """Return what the head holds at a time: one tile of logits, and a gradient for each label.

    TRL's head never makes all logits; on a CPU without Triton the tile is held as some six copies
    in float32 (logits, exponentials, probabilities, gradient and two masks; trl.kernels).
    """
    labels = profile.labels
    if profile.recipe.method == "sdft":
        # It compares whole distributions: the student's and the teacher's logits, as they are and
        # over the temperature, their float32 log-probabilities, and the student's gradients.
        return labels * profile.shapes.vocabulary * (4 * (2 if profile.half else 4) + 4 * 4)
    tokens, words = _GPU_TILE if profile.gpu else (TILE, TILE)
    tile = min(labels, tokens) * min(words, profile.shapes.vocabulary)
    copies = 2 if profile.gpu else 2 + 6 * 4
    # Hidden states where there is a label, their float32 gradient, and that in the compute type.
    return tile * copies + labels * profile.shapes.hidden * (2 + 4 + 2)


def _reference(profile: EstimateProfile) -> float:
    """Return the frozen copy of the adapter; the base is shared, and a fresh adapter needs none."""
    method = profile.recipe.method
    if method == "sft" or profile.recipe.makes_adapter:
        return 0.0
    if method == "grpo" and not profile.arguments.beta:
        return 0.0
    return 4.0 * profile.shapes.adapter + (2 if profile.half else 4) * profile.shapes.frozen


def _rollouts(profile: EstimateProfile) -> float:
    """Return what sampling holds: key-value cache, the scores of the next token, open weights."""
    if not profile.recipe.samples:
        return 0.0
    together = int(profile.arguments.generation_batch_size)
    shapes = profile.shapes
    cache = together * profile.length * shapes.layers * shapes.kv_width * (2 if profile.half else 4)
    # Scores, sorted, as probabilities, and cumulated for top-p: four float32 copies.
    scores = together * shapes.vocabulary * 4 * 4
    four_bit = (profile.recipe.quantization or {}).get("load_in_4bit")
    # On a processor the weights are unpacked while answers are sampled (training/trl_patches.py).
    unpacked = shapes.packed * (2 if profile.half else 4) if four_bit and not profile.gpu else 0
    return cache + scores + unpacked


Change = Fields
_SHORTEST = 128
"""Tokens below which rows are not cut: what is left of an answer would teach little."""


def smallest_change(profile: EstimateProfile, memory: int) -> Change | None:
    """Return the trainer fields to set otherwise, or None if nothing makes the run fit.

    Changes are tried from the one that costs least: a smaller batch with more accumulation (the
    same result), checkpointing (the same result, a third more time), 8-bit AdamW paged to the host
    (nearly the same), shorter rows (their ends are lost). If none is enough alone, they are
    heaped up in this order.

    ``memory`` is the bytes that the parts of the run may take.
    """
    kinds = [list(kind(profile)) for kind in (_smaller, _checkpointing, _optimizer, _shorter)]
    for changes in kinds:
        for change in changes:
            if _fits(profile, change, memory):
                return change
    heap: Change = {}
    for changes in kinds:
        for change in changes:
            tried = {**heap, **change}
            if _fits(profile, tried, memory):
                return tried
        heap |= changes[-1] if changes else {}
    return None


def changed(profile: EstimateProfile, change: Change) -> EstimateProfile:
    """Return the scene with trainer fields set otherwise."""
    arguments = copy.copy(profile.arguments)
    for name, value in change.items():
        setattr(arguments, name, value)
    lengths = profile.lengths
    if limit := change.get("max_length"):
        lengths = lengths.capped(limit)
    return replace(profile, arguments=arguments, lengths=lengths)


def _fits(profile: EstimateProfile, change: Change, memory: int) -> bool:
    return peak(parts(changed(profile, change))) <= memory


def _smaller(profile: EstimateProfile) -> Iterator[Change]:
    batch = profile.arguments.per_device_train_batch_size
    rows = batch * profile.arguments.gradient_accumulation_steps
    # GRPO's groups share a batch: its size follows num_generations. KTO compares rows of a batch.
    group = getattr(profile.arguments, "num_generations", 1) if profile.recipe.samples else 1
    least = 2 if profile.recipe.method == "kto" else group
    while batch // 2 >= least and batch % 2 == 0:
        batch //= 2
        yield {"per_device_train_batch_size": batch, "gradient_accumulation_steps": rows // batch}


def _checkpointing(profile: EstimateProfile) -> Iterator[Change]:
    if not profile.arguments.gradient_checkpointing:
        yield {"gradient_checkpointing": True}


def _optimizer(profile: EstimateProfile) -> Iterator[Change]:
    name = str(getattr(profile.arguments.optim, "value", profile.arguments.optim))
    if profile.gpu and "adam" in name and "paged" not in name:
        yield {"optim": "paged_adamw_8bit"}


def _shorter(profile: EstimateProfile) -> Iterator[Change]:
    if profile.recipe.samples or profile.lengths.pixels:
        return  # prompts are never cut, and an image's places cannot be
    length = 1 << (profile.lengths.longest - 1).bit_length()
    while length // 2 >= _SHORTEST:
        length //= 2
        yield {"max_length": length}
