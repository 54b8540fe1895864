"""Loaded models that speak for arms: one base at a time, its adapters switched on and off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.arms import Arm
from workbench.errors import UserError
from workbench.inference.base_models import load_model, load_tokenizer

if TYPE_CHECKING:
    import torch


class Speakers:
    """The models of local arms, loaded when they are first needed.

    A base is loaded once, in full precision, and adapters are attached to it. On a CPU, where an
    adapter's own products double the time of a token, it is merged while its arm speaks: computed
    and added in float32, rounded once, as an export does it. Then the base's own weights come back
    from a copy, bit by bit. On a GPU adapters are switched and never merged.

    Args:
        base: Folder of the round's base model.
        arms: Who will speak; those at endpoints are passed over.
        dtype: Type of weights and computation; the device's best by default.
    """

    def __init__(self, base: Path, arms: Sequence[Arm], dtype: torch.dtype | None = None) -> None:
        self._base, self._dtype = base, dtype
        self._arms = [arm for arm in arms if arm.endpoint is None]
        self._loaded: tuple[Path, _Speaker] | None = None

    def folder(self, arm: Arm) -> Path:
        """Return the folder of the model that an arm speaks with."""
        return arm.model or self._base

    @contextmanager
    def speaking(self, arm: Arm) -> Iterator[tuple[Any, Any]]:
        """Give the arm's model and tokenizer while the context lasts.

        Raises:
            UserError: An adapter does not fit the model.
        """
        folder = self.folder(arm)
        if self._loaded is None or self._loaded[0] != folder:
            self._loaded = None  # so that two models are never held at once
            own = [one for one in self._arms if self.folder(one) == folder]
            self._loaded = (folder, _Speaker(folder, own, self._dtype))
        speaker = self._loaded[1]
        with speaker.switched(arm):
            yield speaker.model, speaker.tokenizer


class _Speaker:
    """A loaded base, its tokenizer, and the adapters of its arms."""

    def __init__(self, folder: Path, arms: Sequence[Arm], dtype: torch.dtype | None) -> None:
        self.tokenizer: Any = load_tokenizer(folder)
        self.model: Any = load_model(folder, dtype=dtype)
        self.names: dict[Path, str] = {}
        for arm in arms:
            if arm.adapter and arm.adapter not in self.names:
                self._attach(arm.name, arm.adapter, folder)
        self.merges = self.model.device.type == "cpu"
        for weight in self.model.parameters():
            if not self.merges:
                # Adapters compute in the base's type, as they did in training; float32 ones would
                # make every layer convert its input, which doubles the time of a token.
                weight.data = weight.data.to(self.model.dtype)
            # PEFT freezes the base, and for frozen weights torch copies the whole output layer
            # once for each prompt of a batch (bmm in place of mm): seconds, and a GiB.
            weight.requires_grad_(True)
        self.model.eval()

    def _attach(self, arm: str, adapter: Path, folder: Path) -> None:
        from peft import PeftModel

        # PEFT files adapters as torch submodules, whose names cannot hold every character.
        name = self.names[adapter] = f"adapter_{len(self.names)}"
        try:
            if len(self.names) == 1:
                self.model = PeftModel.from_pretrained(self.model, adapter, adapter_name=name)
            else:
                self.model.load_adapter(adapter, adapter_name=name)
            problem = self._differing_weights(adapter, name)
        # What PEFT and torch raise for weights of another shape and for unknown modules.
        except (RuntimeError, ValueError) as error:
            problem = str(error).strip().splitlines()[0]
        if problem:
            raise UserError(
                f"the adapter of arm '{arm}' does not fit the base model {folder.name}: {problem}",
                where=str(adapter),
                fix="use the base model that it was trained on",
            )

    def _differing_weights(self, adapter: Path, name: str) -> str:
        """Return what PEFT passes over in silence: weights that only file or model has."""
        from peft import get_peft_model_state_dict
        from safetensors import safe_open

        with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
            saved = set(file.keys())
        fitted = set(get_peft_model_state_dict(self.model, adapter_name=name))
        differing = sorted(saved ^ fitted)
        return f"{len(differing)} weights differ, such as {differing[0]}" if differing else ""

    @contextmanager
    def switched(self, arm: Arm) -> Iterator[None]:
        """Switch to the arm's adapter, or all adapters off, while the context lasts."""
        if arm.adapter:
            name = self.names[arm.adapter]
            self.model.set_adapter(name)
            with _merged(self.model, name) if self.merges else nullcontext():
                yield
        elif self.names:
            with self.model.disable_adapter():
                yield
        else:
            yield


@contextmanager
def _merged(model: Any, adapter: str) -> Iterator[None]:
    """Add an adapter to the weights while the context lasts; then they are what they were."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    before = [layer.get_base_layer().weight.data for layer in layers]
    try:
        for layer, weight in zip(layers, before, strict=True):
            # A new tensor, so that the merge, in float32, does not write into the kept one.
            layer.get_base_layer().weight.data = weight.float().clone()
            layer.merge(adapter_names=[adapter])
            merged = layer.get_base_layer().weight
            merged.data = merged.data.to(weight.dtype)
        yield
    finally:
        for layer, weight in zip(layers, before, strict=True):
            layer.get_base_layer().weight.data = weight
            # What PEFT calls merged it would subtract; the weights are the base's own already.
            layer.merged_adapters.clear()
