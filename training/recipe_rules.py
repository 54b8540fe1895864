"""Contradictions within a recipe that the libraries find late, quietly, or not at all.

In: a recipe whose fields are each of their type. Out: a problem for each pair of settings that
cannot both be meant. Called by ``training/recipe.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from training.recipe_fields import Problem
from training.run import Recipe

_STARTS_FROM_DATA = ("corda", "eva", "loftq", "lora_ga", "olora")
"""PEFT's ways to start an adapter that need a pass over data first, or that take a part out of the
base, which only PiSSA's way back to plain LoRA (training/adapter_init.py) puts in again."""


def contradictions(recipe: Recipe) -> Iterator[Problem]:
    """Yield every pair of settings that cannot both be meant."""
    yield from _precision(recipe.trainer, recipe.quantization)
    yield from _schedule(recipe)
    yield from _adapter(recipe)
    yield from _rounds(recipe)
    yield from _sections(recipe)
    if own := {"dpo": _dpo, "grpo": _grpo, "kto": _kto, "sdft": _sdft}.get(recipe.method):
        yield from own(recipe.trainer)


def _precision(
    trainer: dict[str, object], quantization: dict[str, object] | None
) -> Iterator[Problem]:
    if trainer.get("bf16") and trainer.get("fp16"):
        yield Problem(("trainer", "fp16"), "contradicts bf16", "keep one of them")
    both = [trainer.get(f"{name}_checkpointing") for name in ("gradient", "activation")]
    if None not in both and both[0] != both[1]:
        what = "contradicts activation_checkpointing, its new name, which is heeded"
        yield Problem(("trainer", "gradient_checkpointing"), what, "keep one of them")
    bits = quantization or {}
    four, eight = bits.get("load_in_4bit"), bits.get("load_in_8bit")
    if four and eight:
        yield Problem(("quantization", "load_in_8bit"), "contradicts load_in_4bit", "keep one")
    if quantization is not None and not four and not eight and "quant_method" not in bits:
        fix = "give load_in_4bit: true, or quantization: null"
        yield Problem(("quantization",), "quantizes nothing", fix)
    if not four and (needless := [key for key in bits if key.startswith("bnb_4bit_")]):
        path = ("quantization", needless[0])
        yield Problem(path, "needs load_in_4bit", "give load_in_4bit: true")


def _schedule(recipe: Recipe) -> Iterator[Problem]:
    trainer = recipe.trainer
    max_steps = trainer.get("max_steps", -1)
    if max_steps == 0 or max_steps < -1:
        fix = "give 1 or more, or -1 for epochs"
        yield Problem(("trainer", "max_steps"), f"is {max_steps}", fix)
    if max_steps > 0 and "num_train_epochs" in trainer:
        yield Problem(("trainer", "num_train_epochs"), "is overruled by max_steps", "keep one")
    logging, saving = trainer.get("logging_steps", 10), trainer.get("save_steps", 500)
    stepwise = trainer.get("save_strategy", "steps") == "steps"
    if stepwise and logging >= 1 and saving >= 1 and saving % logging:
        # A loss is looked at when it is logged: so no checkpoint is kept of weights gone bad.
        path = ("trainer", "save_steps" if "save_steps" in trainer else "logging_steps")
        what = f"saves every {saving:g} steps but logs every {logging:g}"
        yield Problem(path, what, "make save_steps a multiple of logging_steps")
    if trainer.get("eval_strategy", "no") == "no":
        what, fix = "needs an evaluation while training", "give eval_strategy: steps"
        if trainer.get("load_best_model_at_end"):
            yield Problem(("trainer", "load_best_model_at_end"), what, fix)
        if recipe.early_stopping is not None:
            yield Problem(("early_stopping",), what, fix)


def _adapter(recipe: Recipe) -> Iterator[Problem]:
    lora = recipe.lora or {}
    if recipe.lora is not None and recipe.osf is not None:
        yield Problem(("osf",), "contradicts lora", "keep one kind of adapter")
    if recipe.loraplus is not None and recipe.osf is not None:
        yield Problem(("loraplus",), "is for LoRA, not for osf", "leave one of them out")
    if recipe.loraplus is not None and "loraplus_lr_ratio" not in recipe.loraplus:
        yield Problem(("loraplus",), "lacks its ratio", "give loraplus_lr_ratio: 16")
    start = lora.get("init_lora_weights")
    if recipe.quantization is not None:
        what = "takes the weights apart, which 4-bit weights do not allow"
        if recipe.starts_from_pissa:
            yield Problem(("lora", "init_lora_weights"), what, "leave quantization out")
        if recipe.osf is not None:
            yield Problem(("osf",), what, "leave quantization out")
    if start in _STARTS_FROM_DATA:
        what = f"is {start}, which starts from data or changes the base, and none of it is kept"
        yield Problem(("lora", "init_lora_weights"), what, "give gaussian, or leave it out")
    if "lm_head" in (lora.get("target_modules") or ()):
        what = "names lm_head, which TRL's loss bypasses: it would never be trained"
        yield Problem(("lora", "target_modules"), what, "leave lm_head out")
    starts = recipe.method in ("sft", "sdft")
    if starts and not recipe.makes_adapter and not recipe.continues:
        yield Problem(("lora",), "is missing", "give the adapter's rank: lora: {r: 16}")
    if recipe.method == "dpo":
        for name in ("lora", "osf"):
            if getattr(recipe, name) is not None:
                what = "is already fixed by the SFT adapter that DPO goes on with"
                yield Problem((name,), what, "drop it")


def _rounds(recipe: Recipe) -> Iterator[Problem]:
    if not recipe.continues:
        if recipe.rounds.replay:
            what = "is for start: last; from the base all rows are trained on"
            yield Problem(("rounds", "replay"), what, "leave it out")
        return
    if recipe.lora is not None or recipe.loraplus is not None:
        name = "lora" if recipe.lora is not None else "loraplus"
        what = "is for a new adapter; with start: last the earlier one goes on as it is"
        yield Problem((name,), what, "drop it")
    if recipe.osf is not None:
        # Its parts would be those of a merged base that is nowhere; an OSF adapter goes on itself.
        what = "takes its base apart anew, and the earlier adapter is not in that"
        fix = "drop it to go on with an OSF adapter, or `persona export merged` and --model for"
        yield Problem(("osf",), what, f"{fix} LoRA")


def _sections(recipe: Recipe) -> Iterator[Problem]:
    """Yield the sections, words and values that are for other methods."""
    if recipe.trainer.get("beta") == 0 and recipe.method != "grpo":
        what = "is 0, which only grpo takes: nothing would hold the policy"
        yield Problem(("trainer", "beta"), what, "give 0.1")
    if recipe.rewards is not None and recipe.method != "grpo":
        yield Problem(("rewards",), f"are for grpo, not for {recipe.method}", "drop them")
    if recipe.data != "chat" and recipe.method != "sft":
        yield Problem(("data",), f"is {recipe.data}, which only sft takes", "leave it out")
    if recipe.rehearsal.rows and (recipe.method != "sft" or recipe.data != "chat"):
        yield Problem(("rehearsal", "rows"), "are for sft on chats", "set them to 0")
    if recipe.trainer.get("assistant_only_loss") and recipe.data != "chat":
        what = f"is for conversations, and the recipe's data are {recipe.data}"
        yield Problem(("trainer", "assistant_only_loss"), what, "leave it out")
    if recipe.engine == "unsloth" and (recipe.osf is not None or recipe.data == "images"):
        what = "is unsloth, which is used here for LoRA on text models"
        yield Problem(("engine",), what, "leave it out")


def _sdft(trainer: dict[str, object]) -> Iterator[Problem]:
    yield from _vllm(trainer)
    if trainer.get("teacher_model_kind") == "ema":
        what = (
            "is ema, whose teacher no checkpoint holds: a run that is killed would go on otherwise"
        )
        yield Problem(("trainer", "teacher_model_kind"), what, "give base or live")


def _vllm(trainer: dict[str, object]) -> Iterator[Problem]:
    if trainer.get("use_vllm") and find_spec("vllm") is None:
        what = "needs the package vllm, which is not installed"
        yield Problem(("trainer", "use_vllm"), what, "pip install vllm, or leave it out")


def _grpo(trainer: dict[str, Any]) -> Iterator[Problem]:
    if missing := list(_vllm(trainer)):
        yield from missing
        return
    if trainer.get("num_generations") == 1:
        what = "is 1, and an answer is better only than others to its prompt"
        yield Problem(("trainer", "num_generations"), what, "give 2 or more")
    # The reward on held-out prompts is measured in whole groups.
    rows = trainer.get("per_device_eval_batch_size", 8)
    group = trainer.get("num_generations_eval") or trainer.get("num_generations", 8)
    if group and rows % group:
        path = ("trainer", "per_device_eval_batch_size")
        yield Problem(path, f"is {rows}, no multiple of {group} generations", f"give {group}")


def _kto(trainer: dict[str, object]) -> Iterator[Problem]:
    alone = trainer.get("per_device_train_batch_size", 8) == 1
    if alone and trainer.get("loss_type", "kto") == "kto":
        # The KL term pairs every prompt with another row's answer of the same batch.
        path, what = ("trainer", "per_device_train_batch_size"), "is 1, but KTO compares rows"
        yield Problem(path, what, "give 2 or more, or loss_type: apo_zero_unpaired")


def _dpo(trainer: dict[str, Any]) -> Iterator[Problem]:
    if trainer.get("sync_ref_model"):
        path = ("trainer", "sync_ref_model")
        yield Problem(path, "does not work with an adapter", "leave it out")
    if trainer.get("padding_free"):
        path = ("trainer", "padding_free")
        yield Problem(path, "is not available for DPO in TRL", "leave it out")
    losses, weights = trainer.get("loss_type", ["sigmoid"]), trainer.get("loss_weights")
    if weights is not None and len(weights) != len(losses):
        what = f"has {len(weights)} weights for {len(losses)} losses"
        yield Problem(("trainer", "loss_weights"), what, "give one for each")
    if "exo_pair" in losses and not trainer.get("label_smoothing"):
        fix = "give 1.0e-3"
        yield Problem(("trainer", "loss_type"), "exo_pair needs label_smoothing", fix)
