"""The merged model as one GGUF file, tensor by tensor, with the official ``gguf`` library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.export.gguf_layout import ROPE_FACTORS, Layout
from training.export.gguf_vocab import add_tokenizer
from training.export.source import Source
from training.export.weights import Merged
from workbench.console import track

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
    source: Source, path: Path, kind: str, *, licence: str = "", bare: bool = False
) -> None:
    """Write the merged model as GGUF; every tensor is read, merged, quantized and written once.

    Args:
        source: Base and adapter.
        path: The file.
        kind: One of :data:`TYPES`.
        licence: SPDX-like name of the base's licence, or empty.
        bare: Write the base alone, for an adapter to be put on.

    Raises:
        UserError: A family or tokenizer that is not written here; an adapter that does not fit.
    """
    import gguf

    layout = Layout(source.base_config())
    merged = Merged(source, bare=bare)
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


def _tied_output(name: str, layout: Layout) -> bool:
    """Return whether a file repeats the embeddings as output layer; llama.cpp shares them."""
    return name == "lm_head.weight" and bool(layout.config.get("tie_word_embeddings"))


def _announce(writer: Any, name: str, shape: tuple[int, ...], kind: str) -> None:
    import gguf
    import numpy as np

    wanted = _type(name, shape, kind)
    size = gguf.GGML_QUANT_SIZES[wanted]
    nbytes = int(np.prod(shape)) // size[0] * size[1]
    writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes, raw_dtype=wanted)


def _type(name: str, shape: tuple[int, ...], kind: str) -> Any:
    """Return the type of one tensor: vectors stay exact, rows that fill no blocks 16-bit."""
    import gguf

    if len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    wanted = TYPES["q8_0" if kind.startswith("q4") and name in _FINE else kind]
    found = gguf.GGMLQuantizationType[wanted]
    fits = shape[-1] % gguf.GGML_QUANT_SIZES[found][0] == 0
    return found if fits else gguf.GGMLQuantizationType.F16
