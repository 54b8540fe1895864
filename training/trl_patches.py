"""What only repairs TRL and the libraries under it, with the versions that need it.

Every repair has a test in ``tests/training/test_trl_patches.py`` that shows the fault without it:
once a new version mends the fault, that test fails, and the repair can go. All were found with
torch 2.13.0, transformers 5.23.0, TRL 1.16.0, PEFT 0.21.2 and bitsandbytes 0.50.2. Where no issue
upstream is named, none is known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel, Trainer, TrainingArguments

TILE = 1024
"""Tokens and words of vocabulary in one tile: 4 MiB of float32, which stays in the cache."""
LONGEST_PRODUCT = 224
"""Tokens of the longest row that is attended to by products on a processor. Without libraries, 8
rows of 224 tokens are planned to take 2.9 GiB with SmolLM2-135M; 8 rows of 384 would take 5.9 by
products and take 3.5 by torch's kernel."""


@contextmanager
def cpu_lm_head() -> Iterator[None]:
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


@contextmanager
def cpu_attention() -> Iterator[None]:
    """Within the block, training on a processor attends by matrix products over grouped heads.

    In bfloat16 torch's own kernel for processors takes 58 ms there and back for a layer of
    SmolLM2-135M (8 rows of 168 tokens, one core), these products 19, and heads that share keys need
    no copies of them. A step took 6.2 instead of 7.6 s of a core so, its loss differed by less than
    0.004 nats, and outputs and gradients are as near to those of float32. All else stays the
    kernel's: float32, evaluations, what is more than plain attention, and rows longer than
    :data:`LONGEST_PRODUCT`, for which a weight would be kept for every pair of tokens.
    """
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as functions

    if torch.cuda.is_available():
        yield
        return
    plain = functions["sdpa"]
    functions["sdpa"] = partial(_attend, plain)
    try:
        yield
    finally:
        functions["sdpa"] = plain


def _attend(
    plain: Callable[..., tuple[Tensor, None]],
    module: Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: object,
) -> tuple[Tensor, None]:
    """Attend; ``plain`` does where something else than a mask of places is asked for.

    Queries are (rows, heads, tokens, width); keys and values have a whole part of the heads.
    """
    import torch

    rows, heads, tokens, width = query.shape
    asked = dropout or any(more.get(name) is not None for name in ("position_bias", "cache"))
    mask = attention_mask
    usual = mask is not None and mask.dtype is torch.bool and mask.dim() == 4 and mask.size(1) == 1
    half = query.dtype is torch.bfloat16 and torch.is_grad_enabled() and query.requires_grad
    long = tokens > LONGEST_PRODUCT
    if (
        asked
        or not usual
        or not half
        or long
        or heads % key.size(1)
        or more.get("softcap") is not None
    ):
        options = {"dropout": dropout, "scaling": scaling, **more}
        return plain(module, query, key, value, attention_mask, **options)
    assert mask is not None
    shared, places = key.size(1), key.size(2)
    scaled = query * (width**-0.5 if scaling is None else scaling)
    folded = scaled.reshape(rows, shared, -1, width)
    scores = torch.matmul(folded, key.transpose(2, 3)).view(rows, shared, -1, tokens, places)
    scores = scores.masked_fill(~mask[:, :, None], torch.finfo(scores.dtype).min)
    shares = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    attended = torch.matmul(shares.view(rows, shared, -1, places), value)
    return attended.view(rows, heads, tokens, -1).transpose(1, 2).contiguous(), None


def keep_float32(model: PeftModel, source: str = "") -> None:
    """Put the trainable weights back into float32, which TRL rounds to bfloat16 for 4-bit bases.

    bfloat16 holds 8 bits of a number, so that an update of AdamW at DPO's learning rates is
    smaller than half the distance to the next weight, and is lost. TRL follows QLoRA's paper there,
    and makes an exception of DoRA's magnitudes for that very reason
    (https://github.com/huggingface/trl/issues/7268).

    ``source`` names a frozen copy of the adapter to take unrounded values from.
    """
    weights = dict(model.named_parameters())
    for name, weight in weights.items():
        if weight.requires_grad:
            exact = weights[name.replace(".default.", f".{source}.")] if source else weight
            weight.data = exact.data.detach().clone().float()


def reload_float32(model: PeftModel, file: Path) -> None:
    """Put the adapter's weights back as its file holds them, in float32."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    keep_float32(model)
    set_peft_model_state_dict(model, load_file(file))


def one_gpu(arguments: TrainingArguments) -> TrainingArguments:
    """Return TRL's configuration, told that this process trains on one GPU of several.

    transformers would put ``DataParallel`` around the model, which TRL refuses; a process that
    ``accelerate`` has started knows of one GPU already. It is what transformers does with a model
    that lies on several.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def no_needless_casts(model: PeftModel, *, half: bool) -> AbstractContextManager[None]:
    """Keep the adapters' inputs in the half precision of autocast, which casts the weights.

    PEFT's 4-bit layers ask ``torch.is_autocast_enabled()``, which means CUDA alone, and its other
    layers ask nothing: on a CPU a float32 copy of every layer's input would be kept for the
    backward pass, some gigabytes of them.

    ``half`` is whether autocast computes in half precision.
    """
    from peft.helpers import disable_input_dtype_casting
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in model.modules():
        # OSF's layers ask for the switch and do not have it.
        if isinstance(layer, BaseTunerLayer) and not hasattr(layer, "cast_input_dtype_enabled"):
            layer.cast_input_dtype_enabled = True
    context: AbstractContextManager[None] = disable_input_dtype_casting(model, half)
    return context


def keep_gradients(model: PreTrainedModel) -> None:
    """Keep 4-bit layers from repacking their weights at the first evaluation on a processor.

    Where AVX512-BF16 is there, bitsandbytes 0.50 turns a layer that is evaluated into a form that
    only its inference kernel reads, for good: what is trained after that goes through a kernel
    without a backward pass, and gets wrong gradients without a word. The constants are rounded too.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def prepare_rollouts(trainer: Trainer) -> None:
    """Let GRPO's policy write its completions as it computes its losses, and no slower.

    accelerate puts autocast around the forward pass of the whole model, which generation does not
    go through: bfloat16 of the base would meet the adapter's float32
    (https://github.com/huggingface/peft/issues/1515).
    """
    model, plain = trainer.model, trainer.model.generate
    keep_head_whole(model)

    def generate(*args: object, **options: object) -> Tensor:
        with trainer.accelerator.autocast(), unpacked(model):
            return plain(*args, **options)

    model.generate = generate


def keep_head_whole(model: PeftModel) -> None:
    """Have the head multiply the prompts' last hidden states by itself once, not once a row."""
    model.get_output_embeddings().register_forward_pre_hook(_in_one_piece)


def _in_one_piece(_: object, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Give the head a copy of the prompt's last hidden states, which are cut out of all of them.

    torch multiplies such a view by frozen weights row by row, each with a copy of the head of its
    own: for 32 rows of SmolLM2-135M that were 1.8 GB and 8 s on one core, more than the 24 tokens
    that followed.
    """
    return (inputs[0].contiguous(), *inputs[1:])


@contextmanager
def unpacked(model: PeftModel) -> Iterator[None]:
    """Within the block, 4-bit layers on a processor multiply by their unpacked weights.

    The numbers are those that the layers compute with themselves: bitsandbytes unpacks a weight
    into the compute type for every product (``bitsandbytes::gemm_4bit``). For each new token that
    is as much work as the product; here it is done once for all tokens, at 2 bytes a weight of
    bfloat16. A GPU has a kernel that unpacks as it multiplies, and is left alone.
    """
    layers = [layer for layer in model.modules() if packed_on_cpu(layer)]
    try:
        for layer in layers:
            layer.forward = _plain_product(layer)
        yield
    finally:
        for layer in layers:
            # An attribute of its own hides the class's method; without it, that is back.
            layer.__dict__.pop("forward", None)


def packed_on_cpu(layer: Module) -> bool:
    """Return whether a layer is one of 4 bits on a processor."""
    from bitsandbytes.nn import Linear4bit

    return isinstance(layer, Linear4bit) and layer.weight.device.type == "cpu"


def unpacked_weight(layer: Module, dtype: torch.dtype) -> Tensor:
    """Return the weight of a 4-bit layer, outputs × inputs."""
    from bitsandbytes.functional import dequantize_4bit

    weight: Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return weight.to(dtype)


def _plain_product(layer: Module) -> Callable[[Tensor], Tensor]:
    from torch.nn import functional

    dtype = layer.compute_dtype or layer.weight.quant_state.dtype
    weight = unpacked_weight(layer, dtype)
    bias = None if layer.bias is None else layer.bias.to(dtype)
    return partial(_product, functional.linear, weight, bias)


def _product(
    linear: Callable[..., Tensor], weight: Tensor, bias: Tensor | None, inputs: Tensor
) -> Tensor:
    return linear(inputs.to(weight.dtype), weight, bias).to(inputs.dtype)


def add_earlier_tokens(entry: dict[str, float], tokens: int) -> None:
    """Add the tokens of the calls before to an entry of the log.

    TRL's trainers for SFT, DPO and KTO count anew after a kill; where answers are drawn, the count
    is a part of the state that is read back.
    """
    if any("completions/" in name for name in entry):
        return
    for name in ("num_tokens", "eval_num_tokens"):
        if name in entry:
            entry[name] += tokens


def move_trackio(folder: Path) -> None:
    """Have trackio write there: it reads its folder once, when TRL first imports it."""
    import trackio.utils

    before = trackio.utils.TRACKIO_DIR
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "trackio":
            continue
        for key, path in list(vars(module).items()):
            if isinstance(path, Path) and key.isupper() and path.is_relative_to(before):
                setattr(module, key, folder / path.relative_to(before))
