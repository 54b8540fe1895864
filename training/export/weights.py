"""Merged weights as a stream: each tensor of the base is read once, alone, and merged by PEFT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from training.export.base_files import BaseFiles
from training.export.source import Source
from workbench.errors import UserError
from workbench.inference.adapters import WEIGHTS

if TYPE_CHECKING:
    import torch


class Merged:
    """The base's tensors with the adapter merged in, computed in float32 one at a time.

    The model is built without weights; PEFT's own layers, which alone hold the adapter, merge each
    weight when it comes by, so that every LoRA variant is merged as PEFT does it. Memory stays
    within the adapter and a few copies of the largest tensor.

    Args:
        source: Base and adapter.
        bare: Leave the adapter out.

    Raises:
        UserError: The adapter does not fit the base.
    """

    def __init__(self, source: Source, *, bare: bool = False) -> None:
        self.source = source
        self.files = BaseFiles(source.base)
        self._layers = {} if bare else _adapted(_skeleton(source))
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

    def _merge(self, layer: Any, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        base = layer.get_base_layer()
        base.weight = torch.nn.Parameter(tensor.float(), requires_grad=False)
        try:
            layer.merge(safe_merge=True)
            merged: torch.Tensor = base.weight.data
        except ValueError:
            raise UserError(
                "the adapter holds numbers that are none (NaN)", where=str(self.source.adapter)
            ) from None
        finally:
            base.weight = torch.nn.Parameter(tensor.to("meta"), requires_grad=False)
            layer.merged_adapters = []
        return merged


def _adapted(model: Any) -> dict[str, Any]:
    """Return the name of each weight that the adapter changes, with PEFT's layer around it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {
        f"{name.removeprefix('base_model.model.')}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
    }


def _skeleton(source: Source) -> Any:
    """Return the base without weights and the adapter, with its weights, on it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source.base))
        config = LoraConfig.from_pretrained(source.adapter)
        adapted = get_peft_model(model, config, low_cpu_mem_usage=True)
    held = {
        _of_default(name): weight.float()
        for name, weight in load_file(source.adapter / WEIGHTS).items()
    }
    try:
        # PEFT's own loader leaves an adapter on the device of its base, which is none here.
        unknown = adapted.load_state_dict(held, strict=False, assign=True).unexpected_keys
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


def _unfilled(adapted: Any) -> str:
    """Return which weight of the adapter the file does not hold, or an empty string."""
    meta = (n for n, p in adapted.named_parameters() if "lora_" in n and p.is_meta)
    return next((f"no weights for {name}" for name in meta), "")
