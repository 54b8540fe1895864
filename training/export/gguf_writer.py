"""GGUF files, tensor by tensor, with the official ``gguf`` library: a merged model, or an adapter.

The writer is our own: the official library writes tensors and keys, and llama.cpp's script that
turns a Hugging Face folder into a file comes with no package that could be trusted as a dependency
(the one on the package index is a copy by somebody unknown, which overwrites the official library
too). It knows llama, mistral, qwen2 and qwen3 with a byte-level BPE; any other family goes through
the script of a user's own llama.cpp (:func:`convert`). Every file is asked through a real llama.cpp
before it gets its name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.export.gguf_layout import ROPE_FACTORS, SCRIPT, VARIABLE, GGUFLayout, add_tokenizer
from training.export.merged import MergedWeights
from training.export.source import ExportSource
from workbench.console import track
from workbench.errors import UserError
from workbench.inference.adapters import WEIGHTS

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

_PREFIX = "base_model.model."
_CONVERTER_TYPES = ("f32", "f16", "q8_0")
TYPES = {"f32": "F32", "f16": "F16", "q8_0": "Q8_0", "q4_0": "Q4_0", "q4_1": "Q4_1"}
"""Name on the command line → type of gguf."""
_FILE_TYPES = {
    "f32": "ALL_F32",
    "f16": "MOSTLY_F16",
    "q8_0": "MOSTLY_Q8_0",
    "q4_0": "MOSTLY_Q4_0",
    "q4_1": "MOSTLY_Q4_1",
}
_FINE = ("token_embd.weight", "output.weight")
"""Kept at 8 bits in a 4-bit file, as llama.cpp's own quantizer keeps them finer than the rest."""


def write_gguf(
    source: ExportSource, path: Path, kind: str, *, licence: str = "", bare: bool = False
) -> None:
    """Write the merged model as GGUF; every tensor is read, merged, quantized and written once.

    ``kind`` is one of :data:`TYPES`, ``licence`` the SPDX-like name of the base's or empty;
    ``bare`` writes the base alone, for an adapter to be put on.

    Raises:
        UserError: A family or tokenizer that is not written here; an adapter that does not fit.
    """
    import gguf

    layout = GGUFLayout(source.base_config())
    merged = MergedWeights(source, bare=bare)
    writer = gguf.GGUFWriter(path, layout.architecture)
    writer.add_type("model")
    writer.add_name(source.name)
    if licence:
        writer.add_license(licence)
    writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[kind]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    layout.describe(writer)
    add_tokenizer(writer, source.base, int(layout.config["vocab_size"]))
    names = [n for n in merged.shapes if not _tied_output(n, layout)]
    factors = layout.rope_factors()
    if factors is not None:
        writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.numpy().dtype, 4 * len(factors))
    for name in names:
        _announce(writer, layout.name(name), merged.shapes[name], kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors.numpy())
    with track(f"writing {kind}", len(names)) as advance:
        for name, tensor in merged.tensors(names):
            weight = layout.laid_out(name, tensor.float()).contiguous().numpy()
            quantized = gguf.quants.quantize(weight, _type(layout.name(name), weight.shape, kind))
            writer.write_tensor_data(quantized)
            advance()
    writer.close()


def _tied_output(name: str, layout: GGUFLayout) -> bool:
    """Return whether a file repeats the embeddings as output layer; llama.cpp shares them."""
    return name == "lm_head.weight" and bool(layout.config.get("tie_word_embeddings"))


def _announce(writer: GGUFWriter, name: str, shape: tuple[int, ...], kind: str) -> None:
    import gguf
    import numpy as np

    wanted = _type(name, shape, kind)
    size = gguf.GGML_QUANT_SIZES[wanted]
    nbytes = int(np.prod(shape)) // size[0] * size[1]
    writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes, raw_dtype=wanted)


def _type(name: str, shape: tuple[int, ...], kind: str) -> GGMLQuantizationType:
    """Return the type of one tensor: vectors stay exact, rows that fill no blocks 16-bit."""
    import gguf

    if len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    wanted = TYPES["q8_0" if kind.startswith("q4") and name in _FINE else kind]
    block_type = gguf.GGMLQuantizationType[wanted]
    fits = shape[-1] % gguf.GGML_QUANT_SIZES[block_type][0] == 0
    return block_type if fits else gguf.GGMLQuantizationType.F16


def write_gguf_adapter(source: ExportSource, path: Path) -> None:
    """Write the adapter as a GGUF file of float32 pairs.

    llama.cpp adds ``scale * alpha / rank * B A``; PEFT's own scaling, which may differ (rsLoRA, a
    rank or an alpha of its own for a layer), is put into B so that both add the same.

    Raises:
        UserError: DoRA, or weights that are no LoRA pair, which llama.cpp cannot add.
    """
    import gguf
    from safetensors import safe_open

    layout, config = GGUFLayout(source.base_config()), source.adapter_config()
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
    with safe_open(source.weights / WEIGHTS, "pt") as file:
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


def converter() -> str:
    """Return the path of llama.cpp's converter, or an empty string."""
    return os.environ.get(VARIABLE) or shutil.which(SCRIPT) or ""


def convert(merged: Path, path: Path, kind: str) -> None:
    """Write a merged folder as GGUF with llama.cpp's converter.

    ``kind`` is f32, f16 or q8_0; the converter writes no 4-bit types.

    Raises:
        UserError: Another type, or the converter fails: its last line.
    """
    if kind not in _CONVERTER_TYPES:
        fix = f"--type {_CONVERTER_TYPES[-1]}, then llama.cpp's llama-quantize"
        raise UserError(f"llama.cpp's converter writes no {kind}", fix=fix)
    script = converter()
    command = [script] if os.access(script, os.X_OK) else [sys.executable, script]
    command += [str(merged), "--outfile", str(path), "--outtype", kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not path.exists():
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise UserError(f"llama.cpp's converter fails: {last}", where=script)
