"""What a recipe may say."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from training.methods import TRAINING_METHODS
from workbench.config import Method
from workbench.errors import nearest


@dataclass(frozen=True)
class Problem:
    """One mistake of a recipe, at a path of keys."""

    path: tuple[str, ...]
    what: str
    fix: str = ""


@dataclass(frozen=True)
class Section:
    """The fields that one part of a recipe may hold.

    Args:
        config: Name of the configuration class, for messages.
        hints: Field name → type.
        choices: Field name → its allowed values, where the type does not say them.
        owned: Field name → why the workbench decides it.
    """

    config: str
    hints: dict[str, Any]
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    owned: dict[str, str] = field(default_factory=dict)


_RANGES: dict[str, tuple[float, float]] = {
    # field: (least, most); TrainingArguments and LoraConfig take anything and fail much later
    "learning_rate": (1e-9, 1.0),
    "per_device_train_batch_size": (1, 4096),
    "per_device_eval_batch_size": (1, 4096),
    "gradient_accumulation_steps": (1, 65536),
    "max_length": (8, 10_000_000),
    "num_train_epochs": (1e-3, 10_000),
    "beta": (0, 100),
    "r": (1, 8192),
    "lora_alpha": (1, 65536),
    "lora_dropout": (0, 0.99),
    "replay": (0, 1),
    "num_generations": (2, 4096),
    "held_out": (0, 1),
    "judge": (0, 100),
    "think": (0, 100),
}


def check_section(
    name: str, values: dict[str, Any], section: Section
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the values in their fields' types, and every mistake among them.

    Values of another type are left out: nobody can compute or compare with them.
    """
    clean: dict[str, Any] = {}
    problems: list[Problem] = []
    allowed = [known for known in section.hints if known not in section.owned]
    for key, value in values.items():
        path = (name, str(key))
        if key in section.owned:
            problems.append(Problem(path, f"is not a recipe's to say: {section.owned[key]}"))
        elif key not in section.hints:
            fix = nearest(str(key), allowed) or f"see the fields of {section.config}"
            problems.append(Problem(path, f"is no field of {section.config}", fix))
        else:
            fits, typed, found = _typed(value, section.hints[key], section.choices.get(key))
            if fits:
                clean[key] = typed
                found = found or _out_of_range(key, typed)
            problems += [Problem(path, what, fix) for what, fix in found]
    return clean, problems


def _typed(
    value: Any, hint: Any, choices: tuple[str, ...] | None
) -> tuple[bool, Any, list[tuple[str, str]]]:
    """Return whether ``value`` is of a type, it in that type, and what is wrong, with its mend."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    kinds = _flat(hint)
    if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
        return False, value, [(f"is {value!r}, which is no number", "")]
    try:
        typed = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(
            value
        )
    except ValidationError as error:
        # PEFT's type spells the family "pissa_niter_<number>" as one literal.
        if isinstance(value, str) and re.fullmatch(r"pissa_niter_\d+", value):
            return True, value, []
        said = error.errors()[0]["msg"].removeprefix("Input ")
        return False, value, [(f"is {value!r}, but {said}", "")]
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    known = choices or tuple(str(member.value) for kind in enums for member in kind)
    if isinstance(typed, Enum):
        typed = typed.value
    wrong = [v for v in (typed if isinstance(typed, list) else [typed]) if v is not None]
    wrong = [v for v in wrong if known and str(v) not in known]
    return (
        True,
        typed,
        [
            (
                f"is {v!r}, which is not known",
                nearest(str(v), known) or f"one of {', '.join(known)}",
            )
            for v in wrong
        ],
    )


def _flat(hint: Any) -> set[Any]:
    """Return the plain types inside a union, or the type itself."""
    parts = typing.get_args(hint)
    return {kind for part in parts for kind in _flat(part)} if parts else {hint}


def _out_of_range(key: str, value: Any) -> list[tuple[str, str]]:
    if key not in _RANGES or not isinstance(value, int | float):
        return []
    least, most = _RANGES[key]
    if least <= value <= most:
        return []
    return [(f"is {value:g}, out of range", f"give {least:g} to {most:g}")]


_SEED = "the seed belongs to the round: give --seed"
_PRIVATE = "nothing leaves the machine while training"
_MODEL = "the model is named by the command: give --model"
_TEMPLATE = "the model's own chat template and tokens are used, as at inference"
_ONE = "training runs in one process"
_TRACKER = "a tracker is the command's to choose: give --tracker"
_SHOWN = "progress and curve.jsonl show it"
_SAME = "a run that was killed goes on as the same run"
_WHOLE = "the whole dataset of the split is used"
_TRAINER_OWNED = {
    "output_dir": "the round's folder is given by the command",
    "resume_from_checkpoint": "the same command goes on from the last checkpoint by itself",
    **dict.fromkeys(
        ("restore_callback_states_from_checkpoint", "save_only_model", "ignore_data_skip"), _SAME
    ),
    **dict.fromkeys(("seed", "data_seed"), _SEED),
    **dict.fromkeys(("report_to", "run_name", "project"), _TRACKER),
    **dict.fromkeys(("trackio_space_id", "trackio_bucket_id"), _PRIVATE),
    **dict.fromkeys(
        ("trackio_static_space_id", "push_to_hub", "hub_token", "hub_private_repo"), _PRIVATE
    ),
    **dict.fromkeys(("hub_model_id", "hub_strategy", "hub_always_push", "hub_revision"), _PRIVATE),
    **dict.fromkeys(("model_init_kwargs", "router_aux_loss_coef"), _MODEL),
    "trust_remote_code": "no code of a model is ever run",
    **dict.fromkeys(("chat_template_path", "eos_token", "pad_token"), _TEMPLATE),
    **dict.fromkeys(
        ("dataset_text_field", "dataset_kwargs", "remove_unused_columns", "label_names"), _WHOLE
    ),
    **dict.fromkeys(("disable_tqdm", "log_level", "log_level_replica", "logging_strategy"), _SHOWN),
    **dict.fromkeys(("logging_nan_inf_filter", "log_on_each_node", "debug"), _SHOWN),
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), "the command says what is done"),
    **dict.fromkeys(("local_rank", "fsdp", "fsdp_config", "deepspeed", "parallelism_config"), _ONE),
    **dict.fromkeys(("ddp_backend", "ddp_timeout", "ddp_bucket_cap_mb"), _ONE),
    **dict.fromkeys(("ddp_find_unused_parameters", "ddp_broadcast_buffers"), _ONE),
    "ddp_static_graph": _ONE,
    "use_cpu": "the device is the GPU if there is one",
}
_GRPO_OWNED = {
    **dict.fromkeys(("reward_weights",), "the rewards section holds each trait's weight"),
    **dict.fromkeys(("log_completions_hub_repo",), _PRIVATE),
    "do_eval": "the validation prompts are measured before and after",
}
_ADAPTER_OWNED = {
    "task_type": "it is always CAUSAL_LM here",
    **dict.fromkeys(("base_model_name_or_path", "revision"), _MODEL),
    **dict.fromkeys(
        ("peft_type", "auto_mapping", "peft_version", "inference_mode", "runtime_config"),
        "PEFT fills it in itself",
    ),
    **dict.fromkeys(("megatron_config", "megatron_core"), _ONE),
}
_DTYPES = ("float32", "float16", "bfloat16")


def sections(data: dict[str, Any], method: Method) -> dict[str, Section]:
    """Return the sections that a recipe of the method may hold, by their key.

    Args:
        data: The recipe; its ``quantization.quant_method`` says whose fields those are.
        method: Whose trainer it is.
    """
    return {
        "trainer": trainer_section(method),
        "lora": adapter_section("LoraConfig"),
        "osf": adapter_section("OSFConfig"),
        "loraplus": LORAPLUS,
        "quantization": quantization_section(data.get("quantization")),
        "rewards": REWARDS,
        "early_stopping": early_stopping_section(),
        "rounds": ROUNDS,
    }


def trainer_section(method: Method) -> Section:
    """Return the fields of the method's TRL configuration."""
    config = TRAINING_METHODS[method].config_class()
    hints = typing.get_type_hints(config)
    fields = dataclasses.fields(config)
    choices = {
        f.name: tuple(map(str, f.metadata["choices"])) for f in fields if "choices" in f.metadata
    }
    if losses := TRAINING_METHODS[method].losses:
        choices["loss_type"] = losses
    owned = _TRAINER_OWNED | (_GRPO_OWNED if method == "grpo" else {})
    return Section(config.__name__, {f.name: hints[f.name] for f in fields}, choices, owned)


def adapter_section(name: str) -> Section:
    """Return the fields of one of PEFT's configurations."""
    import peft

    config = getattr(peft, name)
    hints = typing.get_type_hints(config)
    names = [f.name for f in dataclasses.fields(config)]
    return Section(name, {n: hints[n] for n in names}, owned=_ADAPTER_OWNED)


def quantization_config(quantization: dict[str, Any] | None) -> Any:
    """Return the configuration class of transformers that the section is for."""
    import transformers

    mxfp4 = isinstance(quantization, dict) and quantization.get("quant_method") == "mxfp4"
    return transformers.Mxfp4Config if mxfp4 else transformers.BitsAndBytesConfig


def quantization_section(quantization: dict[str, Any] | None) -> Section:
    """Return the fields of ``BitsAndBytesConfig`` or ``Mxfp4Config``, typed by their defaults."""
    config = quantization_config(quantization)
    choices = {
        "bnb_4bit_quant_type": ("nf4", "fp4"),
        "bnb_4bit_compute_dtype": _DTYPES,
        "bnb_4bit_quant_storage": ("uint8", *_DTYPES),
        "quant_method": ("bitsandbytes", "mxfp4"),
    }
    hints = _by_defaults(config.__init__) | {"quant_method": str}
    return Section(config.__name__, hints, choices)


def early_stopping_section() -> Section:
    """Return the parameters of ``transformers.EarlyStoppingCallback``."""
    from transformers import EarlyStoppingCallback

    return Section("EarlyStoppingCallback", _by_defaults(EarlyStoppingCallback.__init__))


def _by_defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
    return {p.name: type(p.default) if p.default is not None else Any for p in named}


LORAPLUS = Section(
    "create_loraplus_optimizer", {"loraplus_lr_ratio": float, "loraplus_lr_embedding": float}
)
"""The parameters of ``peft.optimizers.create_loraplus_optimizer`` (arXiv 2402.12354)."""
REWARDS = Section(
    "rewards",
    {
        "traits": dict[str, float] | None,
        "held_out": list[str] | float,
        "judge": float,
        "think": float,
    },
)
"""Our own: the weights of what GRPO rewards; see :class:`training.rewards.RewardSettings`."""
ROUNDS = Section("rounds", {"start": str, "replay": float}, {"start": ("base", "last")})
"""Our own: whether a run goes on from an earlier round; see :mod:`training.data`."""
