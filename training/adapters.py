"""Adapters as files: written without machine paths, read only onto the base they were made for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."


def save_adapter(
    model: PeftModel,
    folder: Path,
    base_name: str,
    *,
    pissa_start: Path | None = None,
    weights: dict[str, Any] | None = None,
) -> None:
    """Write the trained adapter as ``folder``, whole or not at all.

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
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def load_adapter(model: PreTrainedModel, folder: Path, base_name: str) -> PeftModel:
    """Return ``model`` with the adapter on it, trainable, in float32.

    Raises:
        UserError: No adapter there, or one that was trained on another base.
    """
    from peft import PeftModel

    check_adapter(model, folder, base_name)
    return PeftModel.from_pretrained(model, folder, is_trainable=True)


def check_adapter(model: PreTrainedModel, folder: Path, base_name: str) -> None:
    """Raise a UserError unless the adapter was made for this base, by its name and its shapes."""
    config = read_adapter(folder)
    made_for = config.get("base_model_name_or_path") or "an unnamed base"
    if not same_base(made_for, base_name):
        raise _other_base(folder, f"was trained on {made_for}, not on {base_name}")
    from safetensors import SafetensorError, safe_open

    modules = dict(model.named_modules())
    try:
        weights = safe_open(folder / WEIGHTS, "pt")
    except SafetensorError as error:
        raise _broken(folder / WEIGHTS, error) from None
    with weights as file:
        for key in file.keys():  # noqa: SIM118 — the file is no mapping
            name, _, part = key.removeprefix(_PREFIX).partition(".lora_")
            # Dimension 1 of A is the layer's input, dimension 0 of B its output.
            side = {"A.weight": ("in_features", 1), "B.weight": ("out_features", 0)}.get(part)
            if side is None:
                continue
            # An adapter on parameters of experts is nested; they say nothing of their sides.
            name = name.removesuffix(".base_layer")
            has = getattr(modules.get(name), side[0], None)
            if has is None and name in modules:
                continue
            wants = file.get_slice(key).get_shape()[side[1]]
            if has != wants:
                raise _other_base(
                    folder, f"does not fit {base_name}: {name} has {has} {side[0]}, not {wants}"
                )


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


def same_base(one: str, other: str) -> bool:
    """Return whether two names mean one base: the same name, or two paths of one folder."""
    if one == other:
        return True
    paths = Path(one).expanduser(), Path(other).expanduser()
    return all(path.is_dir() for path in paths) and paths[0].resolve() == paths[1].resolve()


def _other_base(folder: Path, what: str) -> UserError:
    return UserError(f"the adapter {what}", where=str(folder), fix="train SFT on this base first")
