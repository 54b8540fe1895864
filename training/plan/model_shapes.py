"""A model's shapes without its weights: counted, and made short, for the plan's other files.

In: a configuration of transformers and one of PEFT. Out: numbers of weights by how they are stored,
and models of a few blocks with the adapter on them, on whatever device or mode is current.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.adapter_init import adapter_config
from training.device import Fields
from training.run import Recipe
from workbench.errors import UserError
from workbench.inference.adapters import read_adapter
from workbench.inference.hub import environment

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Shapes:
    """Numbers of parameters, and the sizes that memory and time follow from."""

    packed: int
    """Weights of linear layers in the blocks: what bitsandbytes packs into 4 bits."""
    plain: int
    """All other weights: embedding, head, norms; they stay in the compute type."""
    adapter: int
    """Trainable weights, float32."""
    frozen: int
    """Weights that the adapter keeps beside them in the compute type: OSF's first directions."""
    widest: int
    """Weights of the largest linear layer; it is unpacked whole for its product."""
    layers: int
    hidden: int
    vocabulary: int
    kv_width: int
    """Numbers that one token leaves in one layer's key-value cache."""


_KNOWN: dict[str, Shapes] = {}
"""What this process has counted; every stage of a round asks for the same."""


def read_config(folder: Path) -> PretrainedConfig:
    """Return the configuration of a local model folder.

    Raises:
        UserError: transformers does not know the architecture.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"its config cannot be read: {reason}", where=str(folder)) from None


def with_layers(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """Return a copy of a configuration that has only so many blocks, at most as many as it has."""
    cut = copy.deepcopy(config)
    text = cut.get_text_config()
    text.num_hidden_layers = min(layers, text.num_hidden_layers)
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: text.num_hidden_layers]
    return cut


def bare_model(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """Return the model class of a configuration, on whatever device or mode is current."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    text_only = type(config) in AutoModelForCausalLM._model_mapping
    auto = AutoModelForCausalLM if text_only else AutoModelForImageTextToText
    return auto.from_config(config, dtype=dtype)


def planned_adapter(
    recipe: Recipe, sft_adapter: Path | None = None, lora: Fields | None = None
) -> PeftConfig:
    """Return PEFT's configuration of the adapter that a run trains.

    ``sft_adapter`` is the adapter that the run goes on with, ``lora`` the fields of
    ``peft.LoraConfig`` of it where it is not trained yet.
    """
    from peft import PeftConfig

    if not recipe.makes_adapter and sft_adapter is not None:
        read_adapter(sft_adapter)  # PEFT would ask a hub for what is not there
        trained = PeftConfig.from_pretrained(sft_adapter)
        trained.inference_mode = False  # as it is saved; here it is trained on
        return trained
    # A factorisation of weights that are not there would only cost time: the shapes are the same.
    fields = {**(recipe.lora or lora or {}), "init_lora_weights": True}
    return adapter_config(recipe.model_copy(update={"lora": fields}))


def with_adapter(model: PreTrainedModel, adapter: PeftConfig) -> PeftModel:
    """Return the model with the adapter on it, in float32 as it is trained."""
    from peft import get_peft_model

    peft_model = get_peft_model(model, copy.deepcopy(adapter), autocast_adapter_dtype=True)
    for weight in peft_model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return peft_model


def describe(config: PretrainedConfig, adapter: PeftConfig) -> str:
    """Return a text that is the same for the same model with the same adapter."""
    return f"{config.to_json_string(use_diff=False)}{sorted(map(str, adapter.to_dict().items()))}"


def measure_shapes(config: PretrainedConfig, adapter: PeftConfig) -> Shapes:
    """Count the parameters of the whole model on the ``meta`` device, which holds no data."""
    key = describe(config, adapter)
    if key not in _KNOWN:
        _KNOWN[key] = _measured(config, adapter)
    return _KNOWN[key]


def _measured(config: PretrainedConfig, adapter: PeftConfig) -> Shapes:
    import torch

    text = config.get_text_config()
    with torch.device("meta"):
        model = bare_model(config, torch.bfloat16)
        head = model.get_output_embeddings()
        linear = {
            module.weight.data_ptr() or id(module.weight): module.weight.numel()
            for module in model.modules()
            if isinstance(module, torch.nn.Linear) and module is not head
        }
        total = sum(weight.numel() for weight in model.parameters())
        before = _held(model)
        trained = with_adapter(model, adapter)
    learning = sum(w.numel() for w in trained.parameters() if w.requires_grad)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shapes(
        packed=sum(linear.values()),
        plain=total - sum(linear.values()),
        adapter=learning,
        frozen=_held(trained) - before - learning,
        widest=max(linear.values(), default=0),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size,
        kv_width=2 * heads * width,
    )


def _held(model: torch.nn.Module) -> int:
    """Return the numbers in all weights and buffers of a model."""
    return sum(held.numel() for held in (*model.parameters(), *model.buffers()))


def pack(model: torch.nn.Module, quantization: Fields) -> None:
    """Put bitsandbytes' 4-bit layers, filled from the ones there, in the place of linear layers.

    The model's weights are on the device; its head is left as it is.
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


def pixel_inputs(rows: int, pixels: tuple[int, ...], device: str) -> dict[str, torch.Tensor]:
    """Return the images of a batch as its model is given them; nothing where there are none.

    ``pixels`` are images, channels, height and width that each of the ``rows`` brings.
    """
    import torch

    if not pixels:
        return {}
    return {"pixel_values": torch.zeros((rows * pixels[0], *pixels[1:]), device=device)}


def places_unchecked() -> AbstractContextManager[None]:
    """Within the block, transformers does not count the images' places among the tokens.

    The tokens of a plan say nothing, or hold no data to count.
    """
    return environment({"TRANSFORMERS_DISABLE_TORCH_CHECK": "1"})
