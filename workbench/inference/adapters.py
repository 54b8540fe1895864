"""Adapters as files, and on a base: read, checked, switched on and off, written.

The one way to have a base with adapters. Evaluation, chat, the parity gate of an export and the
losses of single rows ask an :class:`AdaptedModel`; training goes on from :func:`load_adapter` and
ends with :func:`save_adapter`. Only an export's merged files are made without a loaded base, tensor
by tensor.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.inference.base_models import load_model, load_tokenizer
from workbench.store import expanded, replace_folder

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS = "adapter_model.safetensors"
"""Only safetensors: the older .bin is a pickle, which may run code when it is opened."""
CONFIG = "adapter_config.json"
_BESIDE_LORA = ("use_dora", "modules_to_save", "trainable_token_indices", "lora_bias")
"""Fields of LoRA's configuration by which an adapter is more than a product of matrices."""
_SECOND = re.compile(r"\.lora_(embedding_)?B(\.|$)")
"""Names of the second matrices, which are 0 when training begins."""


class AdaptedModel:
    """A base model loaded once, its tokenizer, and adapters that are switched on and off.

    The base computes in the device's best type, and so do its adapters: float32 ones would make
    every layer convert its input, which doubles the time of a token. On a CPU an adapter's own
    products double it too, so there it is merged while it is in use: computed and added in float32,
    rounded once, as an export does it; then the base's own weights come back, bit by bit. On a GPU
    adapters are never merged.

    ``adapters`` are the folders of those that :meth:`use` may be asked for.

    Raises:
        UserError: An adapter that is not there or does not fit the base.
    """

    def __init__(
        self,
        base: Path,
        adapters: Iterable[Path] = (),
        *,
        dtype: torch.dtype | None = None,
        merge: bool | None = None,
    ) -> None:
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(base)
        self.model: PreTrainedModel | PeftModel = load_model(base, dtype=dtype)
        own_type = self.model.dtype
        on_cpu = self.model.device.type == "cpu"
        packed = not all(weight.is_floating_point() for weight in self.model.parameters())
        self._merges = (on_cpu and not packed) if merge is None else merge
        self._names: dict[Path, str] = {}
        for adapter in dict.fromkeys(adapters):
            # PEFT files adapters as torch submodules, whose names cannot hold every character.
            self._names[adapter] = f"adapter_{len(self._names)}"
            self.model = _attach(self.model, adapter, base.name, self._names[adapter])
        for weight in self.model.parameters():
            if not weight.is_floating_point():
                continue  # packed 4-bit weights stay as they are
            if not self._merges:
                weight.data = weight.data.to(own_type)
            # PEFT freezes the base, and for frozen weights torch copies the whole output layer
            # once for each prompt of a batch (bmm in place of mm): seconds, and a GiB.
            weight.requires_grad_(True)
        self.model.eval()
        self._before_merge: list[tuple[BaseTunerLayer, torch.Tensor]] = []
        self._in_use: Path | None = None
        if self._names:
            self.model.base_model.disable_adapter_layers()

    def use(self, adapter: Path | None) -> PreTrainedModel | PeftModel:
        """Return the model with one of its adapters on, or with all off, until the next call."""
        if adapter == self._in_use:
            return self.model
        self._restore()
        self._in_use = None
        if self._names:
            self.model.base_model.disable_adapter_layers()
        if adapter is not None:
            self.model.base_model.enable_adapter_layers()
            self.model.set_adapter(self._names[adapter])
            if self._merges:
                self._merge(self._names[adapter])
        self._in_use = adapter
        return self.model

    def _merge(self, name: str) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer

        layers = [layer for layer in self.model.modules() if isinstance(layer, BaseTunerLayer)]
        self._before_merge = [(layer, layer.get_base_layer().weight.data) for layer in layers]
        for layer, weight in self._before_merge:
            # A new tensor, so that the merge, in float32, does not write into the base's own.
            layer.get_base_layer().weight.data = weight.float().clone()
            layer.merge(adapter_names=[name])
            merged = layer.get_base_layer().weight
            merged.data = merged.data.to(weight.dtype)

    def _restore(self) -> None:
        for layer, weight in self._before_merge:
            layer.get_base_layer().weight.data = weight
            # What PEFT calls merged it would subtract; the weights are the base's own already.
            layer.merged_adapters.clear()
        self._before_merge = []


def load_adapter(model: PreTrainedModel, folder: Path, base_name: str) -> PeftModel:
    """Return ``model`` with the adapter on it, trainable, in float32.

    Raises:
        UserError: No adapter there, or one that was trained on another base.
    """
    check_made_for(folder, base_name, fix="train SFT on this base first")
    return _attach(model, folder, base_name, "default", is_trainable=True)


def _attach(
    model: PreTrainedModel | PeftModel,
    folder: Path,
    base_name: str,
    name: str,
    *,
    is_trainable: bool = False,
) -> PeftModel:
    """Return the model with one more adapter on it.

    Raises:
        UserError: No adapter there, or weights that the base has no place for.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    read_adapter(folder)
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(folder, adapter_name=name)
        else:
            model = PeftModel.from_pretrained(
                model, folder, adapter_name=name, is_trainable=is_trainable
            )
        problem = _differing_weights(model, folder, name)
    except SafetensorError as error:
        raise _broken(folder / WEIGHTS, error) from None
    # What PEFT and torch raise for unknown modules and for weights of another shape, which torch
    # lists line by line.
    except (RuntimeError, ValueError) as error:
        lines = str(error).strip().splitlines()
        problem = next((line for line in lines if "size mismatch" in line), lines[0]).strip()
    if problem:
        raise UserError(
            f"the adapter does not fit the base model {base_name}: {problem}",
            where=str(folder),
            fix="use the base model that it was trained on",
        )
    return model


def _differing_weights(model: PeftModel, folder: Path, name: str) -> str:
    """Return what PEFT passes over in silence: weights that only file or model has."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "pt") as file:
        saved = set(file.keys())
    differing = sorted(saved ^ set(get_peft_model_state_dict(model, adapter_name=name)))
    return f"{len(differing)} weights differ, such as {differing[0]}" if differing else ""


def read_adapter(folder: Path) -> dict[str, Any]:
    """Return the fields of an adapter's configuration.

    Raises:
        UserError: No adapter there.
    """
    if not (folder / CONFIG).exists() or not (folder / WEIGHTS).exists():
        raise UserError(
            f"no adapter there ({CONFIG} and {WEIGHTS})",
            where=str(folder),
            fix="train SFT first, or name the folder it wrote",
        )
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise _broken(folder / CONFIG, error) from None
    return config


def _broken(file: Path, error: Exception) -> UserError:
    return UserError(f"cannot be read: {error}", where=str(file), fix="train that adapter again")


def check_made_for(folder: Path, base_name: str, *, fix: str = "") -> None:
    """Check by the adapter's own word that it was trained on a base.

    ``fix`` is what to do about another base; naming that base by default.

    Raises:
        UserError: No adapter there, or one of another base.
    """
    made_for = read_adapter(folder).get("base_model_name_or_path") or "an unnamed base"
    if not same_base(made_for, base_name):
        raise UserError(
            f"the adapter was trained on {made_for}, not on {base_name}",
            where=str(folder),
            fix=fix or f"run it with --model {made_for}",
        )


def same_base(one: str, other: str) -> bool:
    """Return whether two names mean one base: the same name, or two paths of one folder."""
    if one == other:
        return True
    paths = expanded(one), expanded(other)
    return all(path.is_dir() for path in paths) and paths[0].resolve() == paths[1].resolve()


def scale_adapter(adapter: Path, strength: float, folder: Path) -> None:
    """Write an adapter at ``strength`` of itself into ``folder``, which is there and empty.

    LoRA adds ``s·B·A`` to a weight: with ``strength·B`` it adds that much of it, whoever loads the
    file and whatever its scaling, 0 being the base and 1 the adapter as it was trained.

    Raises:
        UserError: No adapter there, or one that changes more than by LoRA's product, so that no
            factor is a part of it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    config = read_adapter(adapter)
    more = [name for name in _BESIDE_LORA if config.get(name)]
    more += ["bias"] if config.get("bias", "none") != "none" else []
    kind = config.get("peft_type")
    if kind != "LORA" or more:
        what = ", ".join(more) if kind == "LORA" else f"type {kind}"
        raise UserError(
            f"an adapter with {what} has no strength but its own",
            where=str(adapter),
            fix="train with plain LoRA, or leave the strength out",
        )
    try:
        weights = load_file(adapter / WEIGHTS)
    except SafetensorError as error:
        raise _broken(adapter / WEIGHTS, error) from None
    scaled = {
        name: (weight.float() * strength).to(weight.dtype) if _SECOND.search(name) else weight
        for name, weight in weights.items()
    }
    save_file(scaled, folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(adapter / CONFIG, folder / CONFIG)


def save_adapter(
    model: PeftModel,
    folder: Path,
    base_name: str,
    *,
    pissa_start: Path | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write the trained adapter as ``folder``, whole or not at all, without this machine's paths.

    Args:
        model: Its active adapter is ``default``; any other (a reference) is left out.
        folder: Replaced if there.
        base_name: The base as the user named it; a cache's path would mean nothing elsewhere.
        pissa_start: The PiSSA adapter before training, which took components out of the base: the
            difference is written, a plain LoRA of twice the rank that fits the untouched base.
        weights: All of the model's, where it is shared out among processes and holds only a part.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = base_name
    # False: "auto" asks a hub whether the base's vocabulary was resized; it never is here.
    model.save_pretrained(
        temporary,
        state_dict=weights,
        selected_adapters=["default"],
        save_embedding_layers=False,
        path_initial_model_for_weight_conversion=str(pissa_start) if pissa_start else None,
    )
    # PEFT's card names the base by its path in the cache, and says nothing that is known here.
    (temporary / "README.md").unlink(missing_ok=True)
    replace_folder(temporary, folder)
