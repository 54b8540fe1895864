"""The model that is trained: its base loaded, its adapter new or going on, TRL's trainer on it.

In: a recipe, or what a trainer is made of. Out: a model, or the trainer. Called by
``training/trainer.py``.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from training.device import Fields, quantization_fields
from training.run import Recipe, TrainerParts
from training.trl_patches import keep_float32, keep_gradients, reload_float32
from workbench.errors import UserError
from workbench.inference.adapters import WEIGHTS, load_adapter
from workbench.inference.base_models import load_model, resolve_model
from workbench.inference.chat_template import tied_embeddings
from workbench.meter import give_memory_back
from workbench.store import whole_folder

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel, Trainer

_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "lm_head", "embed_out")
"""What architectures call their embeddings and their output layer."""
PISSA_START = "pissa-start"
"""Folder, beside the checkpoints, of a PiSSA adapter as it was before the first step."""


def load_base(recipe: Recipe, folder: Path, max_length: int | None) -> PreTrainedModel:
    """Return the base model that the recipe trains on: as TRL would load it, or by Unsloth.

    Raises:
        UserError: ``engine: unsloth`` without a GPU or without the package.
    """
    if recipe.engine == "unsloth":
        return _unsloth(recipe, folder, max_length)
    quantization = quantization_fields(recipe.quantization)
    model = load_model(folder, quantization=quantization, images=recipe.data == "images")
    keep_gradients(model)
    _let_go_of_files(model)
    return model


def _let_go_of_files(model: PreTrainedModel) -> None:
    """Copy what still lies in the mapped file of weights, and return what loading has freed.

    One embedding that was not packed keeps the whole file in memory: with the embedded model the
    process held 1117 MiB after loading, and holds 650 so.
    """
    for weight in model.parameters():
        if weight.device.type == "cpu" and weight.is_floating_point():
            weight.data = weight.data.clone()
    give_memory_back()


def check_engine(recipe: Recipe) -> None:
    """Raise a UserError that names the first thing that ``engine: unsloth`` misses here."""
    import torch

    if recipe.engine != "unsloth":
        return
    missing = "a GPU" if not torch.cuda.is_available() else ""
    missing = missing or ("" if find_spec("unsloth") else "the package unsloth")
    if missing:
        fix = "leave engine out, or " + (
            "pip install unsloth" if "package" in missing else "train where there is one"
        )
        raise UserError(f"engine: unsloth needs {missing}, which is not here", fix=fix)


def check_tied(recipe: Recipe, model: str) -> None:
    """Refuse an adapter on embeddings that are the output layer, too: it would change one alone.

    The base's weights are not read.

    Raises:
        UserError: The adapter names such a layer.
    """
    if recipe.lora is None:
        return
    targets = recipe.lora.get("target_modules") or ()
    layers = [*(recipe.lora.get("modules_to_save") or ())]
    if isinstance(targets, str):  # "all-linear", or a pattern
        layers += [name for name in _EMBEDDINGS if re.fullmatch(targets, f"model.{name}")]
    else:
        layers += targets
    named = [layer for layer in layers if layer.rpartition(".")[2] in _EMBEDDINGS]
    if named and tied_embeddings(resolve_model(model, weights=False)):
        raise UserError(
            f"lora names {named[0]}, and this base's embeddings are its output layer, too (tied):"
            " an adapter would change one of the two alone",
            where=recipe.method,
            fix=f"leave {named[0]} out, or take a base whose embeddings are not tied",
        )


def _unsloth(recipe: Recipe, folder: Path, max_length: int | None) -> PreTrainedModel:
    """Return Unsloth's model, with its adapter where the recipe makes a new one."""
    check_engine(recipe)
    from unsloth import FastLanguageModel

    four_bit = bool((recipe.quantization or {}).get("load_in_4bit"))
    model, _ = FastLanguageModel.from_pretrained(
        model_name=str(folder),
        max_seq_length=max_length or 2048,
        load_in_4bit=four_bit,
        trust_remote_code=False,
    )
    if recipe.lora is None:
        return model
    lora = dict(recipe.lora)
    checkpointing = "unsloth" if recipe.trainer.get("gradient_checkpointing") else False
    return FastLanguageModel.get_peft_model(model, use_gradient_checkpointing=checkpointing, **lora)


def adapter_config(recipe: Recipe) -> PeftConfig:
    """Return PEFT's configuration of the recipe's new adapter."""
    from peft import LoraConfig, OSFConfig

    if recipe.osf is not None:
        return OSFConfig(task_type="CAUSAL_LM", **recipe.osf)
    return LoraConfig(task_type="CAUSAL_LM", **(recipe.lora or {}))


def make_trainer(parts: TrainerParts, trainer_class: type[Trainer], **more: object) -> Trainer:
    """Return TRL's trainer on the recipe's new adapter, else on the one that the run goes on with.

    Where the trainer needs a reference, it is a frozen copy of that adapter on the one base in
    memory, or the bare base where the adapter is new. ``more`` are its arguments beside those that
    all trainers share.

    Raises:
        UserError: No adapter to go on with, or one of another base.
    """
    run = parts.run
    if run.recipe.makes_adapter:
        # Unsloth has put the adapter on already.
        put_on = hasattr(parts.model, "peft_config")
        new = {} if put_on else {"peft_config": adapter_config(run.recipe)}
        trainer = trainer_class(model=parts.model, **new, **parts.trainer_inputs(), **more)
        keep_float32(trainer.model)
    else:
        assert run.adapter is not None
        policy = load_adapter(parts.model, run.adapter, run.base_name)
        trainer = trainer_class(model=policy, **parts.trainer_inputs(), **more)
        # TRL copies the adapter as "ref" before it rounds the policy: take the exact values back.
        # Without a reference they are read from the file again.
        if "ref" in trainer.model.peft_config:
            keep_float32(trainer.model, source="ref")
        else:
            reload_float32(trainer.model, run.adapter / WEIGHTS)
    if run.recipe.loraplus:
        _use_loraplus(trainer, run.recipe.loraplus)
    return trainer


def _use_loraplus(trainer: Trainer, loraplus: Fields) -> None:
    """Give the trainer LoRA+'s optimizer: B learns ``loraplus_lr_ratio`` times as fast as A.

    The ratio is of https://arxiv.org/abs/2402.12354; the class and its arguments are those that
    the recipe's ``optim`` names.
    """
    from peft.optimizers import create_loraplus_optimizer

    cls, arguments = type(trainer).get_optimizer_cls_and_kwargs(trainer.args)
    decay = trainer.args.weight_decay
    trainer.optimizer = create_loraplus_optimizer(
        trainer.model, cls, loraplus_weight_decay=decay, **arguments, **loraplus
    )


def keep_pissa_start(model: PeftModel, checkpoints: Path) -> None:
    """Write the untrained PiSSA adapter, unless a run that was killed has written it already."""
    folder = checkpoints / PISSA_START
    if folder.exists():
        return
    with whole_folder(folder) as temporary:
        model.save_pretrained(temporary, save_embedding_layers=False)
