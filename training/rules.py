"""Contradictions within a recipe that the libraries find late, quietly, or not at all."""

from __future__ import annotations

from typing import Any

from training.fields import Method, Problem


def contradictions(
    method: Method,
    trainer: dict[str, Any],
    lora: dict[str, Any] | None,
    quantization: dict[str, Any] | None,
) -> list[Problem]:
    """Return every pair of settings that cannot both be meant."""
    found = _precision(trainer, quantization) + _schedule(trainer)
    return found + (_sft(trainer, lora) if method == "sft" else _dpo(trainer, lora))


def _precision(trainer: dict[str, Any], quantization: dict[str, Any] | None) -> list[Problem]:
    found = []
    if trainer.get("bf16") and trainer.get("fp16"):
        found.append(Problem(("trainer", "fp16"), "contradicts bf16", "keep one of them"))
    bits = quantization or {}
    four, eight = bits.get("load_in_4bit"), bits.get("load_in_8bit")
    if four and eight:
        found.append(
            Problem(("quantization", "load_in_8bit"), "contradicts load_in_4bit", "keep one")
        )
    if quantization is not None and not four and not eight:
        found.append(
            Problem(
                ("quantization",),
                "quantizes nothing",
                "give load_in_4bit: true, or quantization: null",
            )
        )
    if not four and (needless := [key for key in bits if key.startswith("bnb_4bit_")]):
        found.append(
            Problem(("quantization", needless[0]), "needs load_in_4bit", "give load_in_4bit: true")
        )
    return found


def _schedule(trainer: dict[str, Any]) -> list[Problem]:
    found = []
    max_steps = trainer.get("max_steps", -1)
    if max_steps == 0 or max_steps < -1:
        found.append(
            Problem(("trainer", "max_steps"), f"is {max_steps}", "give 1 or more, or -1 for epochs")
        )
    if max_steps > 0 and "num_train_epochs" in trainer:
        found.append(
            Problem(("trainer", "num_train_epochs"), "is overruled by max_steps", "keep one")
        )
    logging, saving = trainer.get("logging_steps", 10), trainer.get("save_steps", 500)
    stepwise = trainer.get("save_strategy", "steps") == "steps"
    if stepwise and logging >= 1 and saving >= 1 and saving % logging:
        # A loss is looked at when it is logged: so no checkpoint is kept of weights gone bad.
        found.append(
            Problem(
                ("trainer", "save_steps" if "save_steps" in trainer else "logging_steps"),
                f"saves every {saving:g} steps but logs every {logging:g}",
                "make save_steps a multiple of logging_steps",
            )
        )
    if trainer.get("load_best_model_at_end") and trainer.get("eval_strategy", "no") == "no":
        found.append(
            Problem(
                ("trainer", "load_best_model_at_end"),
                "needs an evaluation while training",
                "give eval_strategy: steps",
            )
        )
    return found


def _sft(trainer: dict[str, Any], lora: dict[str, Any] | None) -> list[Problem]:
    found = []
    if lora is None:
        found.append(Problem(("lora",), "is missing", "give the adapter's rank: lora: {r: 16}"))
    if "lm_head" in ((lora or {}).get("target_modules") or ()):
        found.append(
            Problem(
                ("lora", "target_modules"),
                "names lm_head, which TRL's loss bypasses: it would never be trained",
                "leave lm_head out",
            )
        )
    if trainer.get("assistant_only_loss"):
        found.append(
            Problem(
                ("trainer", "assistant_only_loss"),
                "is for whole chats, but rows here are a prompt and its answer",
                "leave it out: the loss is on the answer alone",
            )
        )
    return found


def _dpo(trainer: dict[str, Any], lora: dict[str, Any] | None) -> list[Problem]:
    found = []
    if lora is not None:
        found.append(
            Problem(("lora",), "is already fixed by the SFT adapter that DPO goes on with", "drop")
        )
    if trainer.get("sync_ref_model"):
        found.append(
            Problem(("trainer", "sync_ref_model"), "does not work with an adapter", "leave it out")
        )
    if trainer.get("padding_free"):
        found.append(
            Problem(("trainer", "padding_free"), "is not available for DPO in TRL", "leave it out")
        )
    losses, weights = trainer.get("loss_type", ["sigmoid"]), trainer.get("loss_weights")
    if weights is not None and len(weights) != len(losses):
        found.append(
            Problem(
                ("trainer", "loss_weights"),
                f"has {len(weights)} weights for {len(losses)} losses",
                "give one for each",
            )
        )
    if "exo_pair" in losses and not trainer.get("label_smoothing"):
        found.append(
            Problem(("trainer", "loss_type"), "exo_pair needs label_smoothing", "give 1.0e-3")
        )
    return found
