"""The merged model as a folder that transformers, vLLM and llama.cpp's converter open."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from training.export.source import Source
from training.export.weights import Merged
from workbench.console import track
from workbench.store import write_json

SHARD_BYTES = 2 * 2**30
"""Largest file of weights: what is held in memory at once while a file is written."""


def write_merged(source: Source, out: Path, *, dtype: str, shard_bytes: int = SHARD_BYTES) -> None:
    """Write the merged model into ``out``: weights file by file, and all that goes with them.

    Args:
        source: Base and adapter.
        out: An empty folder.
        dtype: Type of the weights on disk: float32, bfloat16 or float16.
        shard_bytes: Largest file; about this much memory is needed beside the largest tensor.
    """
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    merged = Merged(source)
    kind = getattr(torch, dtype)
    plan = split_torch_state_dict_into_shards(
        {n: torch.empty(s, dtype=kind, device="meta") for n, s in merged.shapes.items()},
        max_shard_size=shard_bytes,
    )
    with track("merging", len(merged.shapes)) as advance:
        for file, names in plan.filename_to_tensors.items():
            shard = {}
            for name, tensor in merged.tensors(list(names)):
                shard[name] = tensor.to(kind).contiguous()
                advance()
            save_file(shard, out / file, metadata={"format": "pt"})
            (out / file).chmod(0o644)
            del shard
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_json(out / "model.safetensors.index.json", index)
    _carry(source, out, dtype)


def _carry(source: Source, out: Path, dtype: str) -> None:
    for path in source.carried_files():
        shutil.copyfile(path, out / path.name)
    config: dict[str, Any] = source.base_config()
    config.pop("quantization_config", None)
    config.pop("torch_dtype", None)
    config["dtype"] = dtype
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
