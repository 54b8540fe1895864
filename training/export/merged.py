"""Merged weights, tensor by tensor: each of a base's weights is read once and merged by PEFT.

In: an :class:`~training.export.source.ExportSource`. Out: a folder that transformers, vLLM and
llama.cpp's converter open (:func:`write_merged`), or a stream of tensors (:class:`MergedWeights`)
for the GGUF writer. The base is never loaded: memory stays within the adapter, one file of weights
and a few copies of the largest tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.export.carried import carry, without_paths
from training.export.source import ExportSource
from workbench.console import track
from workbench.errors import UserError
from workbench.inference.adapters import WEIGHTS
from workbench.store import write_json

if TYPE_CHECKING:
    import torch
    from bitsandbytes.functional import QuantState
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

SHARD_BYTES = 2 * 2**30
"""Largest file of weights: what is held in memory at once while a file is written."""
_STATE = ".quant_state.bitsandbytes__"
"""Marks the description of a 4-bit weight, in files saved by bitsandbytes."""


def write_merged(
    source: ExportSource, out: Path, *, dtype: str, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write the merged model into ``out``: weights file by file, and all that goes with them.

    ``dtype`` is float32, bfloat16 or float16. No file is larger than ``shard_bytes``; about this
    much memory is needed beside the largest tensor.
    """
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    merged = MergedWeights(source)
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


def _carry(source: ExportSource, out: Path, dtype: str) -> None:
    carry(source.base, out)
    config = without_paths(source.base_config())
    config.pop("quantization_config", None)
    config.pop("torch_dtype", None)
    config["dtype"] = dtype
    write_json(out / "config.json", config)


class MergedWeights:
    """The base's tensors with the adapter merged in, computed in float32 one at a time.

    The model is built without weights; PEFT's own layers, which alone hold the adapter, merge each
    weight when it comes by, so that every LoRA variant is merged as PEFT does it. ``bare`` leaves
    the adapter out, as where there is none.

    Raises:
        UserError: The adapter does not fit the base.
    """

    def __init__(self, source: ExportSource, *, bare: bool = False) -> None:
        self.source = source
        self.files = BaseFiles(source.base)
        self._layers = {} if bare or not source.adapter else _adapted_layers(_empty_model(source))
        if source.adapter:
            self._check()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of every tensor, in the order in which they are best read."""
        return self.files.shapes

    def tensors(self, names: list[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield name and merged tensor, float32 where an adapter changed it, else as stored."""
        for name, tensor in self.files.tensors(names or list(self.shapes)):
            layer = self._layers.get(name)
            yield name, self._merge(layer, tensor) if layer is not None else tensor

    def _check(self) -> None:
        source, config = self.source, self.source.adapter_config()
        more = [key for key in ("modules_to_save", "trainable_token_indices") if config.get(key)]
        more += ["bias"] if config.get("bias", "none") != "none" else []
        if more:
            raise UserError(
                f"the adapter changes more than LoRA weights ({', '.join(more)})",
                where=str(source.adapter),
                fix="export it as an adapter, which takes everything along",
            )
        if missing := sorted(set(self._layers) - set(self.files.shapes)):
            raise UserError(
                f"the base's files have no weight {missing[0]}, which the adapter changes",
                where=str(source.base),
                fix="export it as an adapter",
            )

    def _merge(self, layer: BaseTunerLayer, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        base = layer.get_base_layer()
        base.weight = torch.nn.Parameter(tensor.float(), requires_grad=False)
        try:
            layer.merge(safe_merge=True)
            merged: torch.Tensor = base.weight.data
        except ValueError:
            raise UserError(
                "the adapter holds numbers that are none (NaN)", where=str(self.source.weights)
            ) from None
        finally:
            base.weight = torch.nn.Parameter(tensor.to("meta"), requires_grad=False)
            layer.merged_adapters = []
        return merged


def _adapted_layers(model: PeftModel) -> dict[str, BaseTunerLayer]:
    """Return the name of each weight that the adapter changes, with PEFT's layer around it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {
        f"{name.removeprefix('base_model.model.')}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
    }


def _empty_model(source: ExportSource) -> PeftModel:
    """Return the base without weights and the adapter, with its weights, on it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source.base))
        config = LoraConfig.from_pretrained(source.weights)
        adapted = get_peft_model(model, config, low_cpu_mem_usage=True)
    weights = {
        _of_default(name): weight.float()
        for name, weight in load_file(source.weights / WEIGHTS).items()
    }
    try:
        # PEFT's own loader leaves an adapter on the device of its base, which is none here.
        unknown = adapted.load_state_dict(weights, strict=False, assign=True).unexpected_keys
        problem = f"no place for {unknown[0]}" if unknown else _unfilled(adapted)
    except RuntimeError as error:  # what torch raises for weights of another shape
        problem = str(error).strip().splitlines()[-1].strip()
    if problem:
        raise UserError(
            f"the adapter does not fit {source.base_name}: {problem}",
            where=str(source.adapter),
            fix="export it with the base that it was trained on",
        )
    return adapted.eval()


def _of_default(name: str) -> str:
    """Return a name in an adapter's file as the model with one adapter has it."""
    head, _, kind = name.rpartition(".lora_")
    kind = kind.removesuffix(".weight")
    return f"{head}.lora_{kind}.default.weight"


def _unfilled(adapted: PeftModel) -> str:
    """Return which weight of the adapter the file does not hold, or an empty string."""
    meta = (n for n, p in adapted.named_parameters() if "lora_" in n and p.is_meta)
    return next((f"no weights for {name}" for name in meta), "")


class BaseFiles:
    """A base's safetensors: names and shapes from their headers, each tensor read when it is asked.

    Where the files hold bitsandbytes' 4-bit weights, these are widened to float32 as they come by.

    Raises:
        UserError: No weights there, or a file that is not whole.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        stored: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, Path] = {}
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise UserError("no weights there (*.safetensors)", where=str(folder))
        for path in paths:
            try:
                with safe_open(path, "pt") as file:
                    for key in file.keys():  # noqa: SIM118 — the file is no mapping
                        self._files[key] = path
                        stored[key] = tuple(file.get_slice(key).get_shape())
            except SafetensorError as error:
                raise UserError(
                    f"is no whole safetensors file ({error})",
                    where=str(path),
                    fix="fetch or make the model again",
                ) from None
        self._packed = _packed(stored)
        states = {key for keys in self._packed.values() for key in keys}
        self.shapes = {key: shape for key, shape in stored.items() if key not in states}
        """Name → shape of every weight, in the order of the files."""
        with _Reader(self._files) as read:
            for name, keys in self._packed.items():
                self.shapes[name] = tuple(_state(read, name, keys).shape)

    def tensors(self, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the named tensors in the order given, each read once from its file."""
        with _Reader(self._files) as read:
            for name in names:
                keys = self._packed.get(name)
                yield name, read(name) if keys is None else _widened(read, name, keys)


class _Reader:
    """Opens each file once and reads one tensor at a time."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files, self._opened, self._stack = files, dict[Path, Any](), ExitStack()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, name: str) -> torch.Tensor:
        from safetensors import safe_open

        path = self._files[name]
        if path not in self._opened:
            self._opened[path] = self._stack.enter_context(safe_open(path, "pt"))
        tensor: torch.Tensor = self._opened[path].get_tensor(name)
        return tensor


def _packed(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[str]]:
    """Return 4-bit weight → the tensors that describe it."""
    weights = {name.partition(_STATE)[0] for name in shapes if _STATE in name}
    return {w: [name for name in shapes if name.startswith(f"{w}.")] for w in sorted(weights)}


def _state(read: _Reader, name: str, keys: Sequence[str]) -> QuantState:
    from bitsandbytes.functional import QuantState

    tensors = {key.removeprefix(f"{name}."): read(key) for key in keys}
    return QuantState.from_dict(tensors, device="cpu")


def _widened(read: _Reader, name: str, keys: Sequence[str]) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    wide: torch.Tensor = dequantize_4bit(read(name), _state(read, name, keys))
    return wide.float()
