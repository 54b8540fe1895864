"""The adapter alone as GGUF, for llama.cpp's ``--lora`` and Ollama's ``ADAPTER``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.export.gguf_layout import Layout
from training.export.source import Source
from workbench.errors import UserError
from workbench.inference.adapters import WEIGHTS

_PREFIX = "base_model.model."


def write_gguf_adapter(source: Source, path: Path) -> None:
    """Write the adapter as a GGUF file of float32 pairs.

    llama.cpp adds ``scale * alpha / rank * B A``; PEFT's own scaling, which may differ (rsLoRA, a
    rank or an alpha of its own for a layer), is put into B so that both add the same.

    Raises:
        UserError: DoRA, or weights that are no LoRA pair, which llama.cpp cannot add.
    """
    import gguf
    from safetensors import safe_open

    layout, config = Layout(source.base_config()), source.adapter_config()
    if config.get("use_dora"):
        raise UserError(
            "llama.cpp has no DoRA adapters", fix="persona export gguf, which merges the adapter"
        )
    writer = gguf.GGUFWriter(path, layout.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_name(source.name)
    alpha = float(config["lora_alpha"])
    writer.add_float32("adapter.lora.alpha", alpha)
    with safe_open(source.adapter / WEIGHTS, "pt") as file:
        for key in sorted(file.keys()):
            module, _, part = key.removeprefix(_PREFIX).partition(".lora_")
            if part not in ("A.weight", "B.weight"):
                raise UserError(
                    f"llama.cpp cannot add {key}", fix="persona export gguf, which merges"
                )
            weight = file.get_tensor(key).float()
            if part == "B.weight":
                rank = weight.shape[1]
                weight = layout.laid_out(f"{module}.weight", weight)
                weight = weight * (_scaling(config, module, rank) / (alpha / rank))
            name = f"{layout.name(f'{module}.weight')}.lora_{part[0].lower()}"
            writer.add_tensor(name, weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _scaling(config: dict[str, Any], module: str, rank: int) -> float:
    """Return what PEFT multiplies B A with (``LoraLayer.update_layer``)."""
    alpha = _pattern(config.get("alpha_pattern") or {}, module, config["lora_alpha"])
    return float(alpha / rank**0.5 if config.get("use_rslora") else alpha / rank)


def _pattern(patterns: dict[str, float], module: str, default: float) -> float:
    from peft.utils.other import get_pattern_key

    return float(patterns.get(get_pattern_key(patterns, module), default))
