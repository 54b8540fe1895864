"""What a recipe may say: the fields of TRL's, PEFT's and bitsandbytes' own configurations.

Names and types are checked by pydantic's ``TypeAdapter`` over the libraries' own dataclasses (and
over the signatures of those that are none), so that a recipe means what their documentation says,
and all mistakes are found at once. Three kinds of mistakes pass it, and are looked at here: of the
21 wrong fields in ``tests/training/test_recipe.py`` it finds 14, and with these all.

- *words*: ``optim``, ``save_strategy`` and such are typed ``str``; their words stand in enums and
  in fields' metadata;
- *numbers out of range*: TrainingArguments and LoraConfig take anything and fail much later;
- *what the workbench decides itself*, which is refused with the reason, and YAML's ``true`` where a
  number is meant, which pydantic takes for 1.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_core import ErrorDetails

from training.methods import TRAINING_METHODS
from training.rewards import RewardSettings
from training.run import RehearsalSettings, RoundSettings
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
    """The fields that one part of a recipe may hold."""

    config: str
    """Name of the configuration class, for messages."""
    hints: Mapping[str, Any]
    """Field name → type."""
    adapter: TypeAdapter[Any]
    """Takes a mapping of fields to values, and no unknown ones."""
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Field name → its allowed words, where the type does not say them."""


_RANGES: dict[str, tuple[float, float]] = {
    # field: (least, most)
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
    "num_generations": (1, 4096),
}
_OWNED_ELSEWHERE = {
    # reason: fields
    "nothing leaves the machine while training": "push_to_hub hub_token hub_private_repo"
    " hub_model_id hub_strategy hub_always_push hub_revision trackio_space_id trackio_bucket_id"
    " trackio_static_space_id log_completions_hub_repo",
    "the model is named by the command: give --model": "model_init_kwargs router_aux_loss_coef"
    " base_model_name_or_path revision",
    "training runs in one process": "local_rank fsdp fsdp_config deepspeed parallelism_config"
    " ddp_backend ddp_timeout ddp_bucket_cap_mb ddp_find_unused_parameters ddp_broadcast_buffers"
    " ddp_static_graph megatron_config megatron_core",
    "the round's folder is given by the command": "output_dir",
    "the same command goes on from the last checkpoint by itself": "resume_from_checkpoint",
    "a run that was killed goes on as the same run": "restore_callback_states_from_checkpoint"
    " save_only_model ignore_data_skip",
    "the seed belongs to the round: give --seed": "seed data_seed",
    "a tracker is the command's to choose: give --tracker": "report_to run_name project",
    "no code of a model is ever run": "trust_remote_code",
    "the model's own chat template and tokens are used, as at inference": "chat_template_path"
    " eos_token pad_token",
    "the whole dataset of the split is used": "dataset_text_field dataset_kwargs"
    " remove_unused_columns label_names",
    "progress and curve.jsonl show it": "disable_tqdm log_level log_level_replica logging_strategy"
    " logging_nan_inf_filter log_on_each_node debug",
    "the command says what is done": "do_train do_eval do_predict",
    "the device is the GPU if there is one": "use_cpu",
    "the rewards section holds each trait's weight": "reward_weights",
    "it is always CAUSAL_LM here": "task_type",
    "PEFT fills it in itself": "peft_type auto_mapping peft_version inference_mode runtime_config",
}
_OWNED = {field: reason for reason, fields in _OWNED_ELSEWHERE.items() for field in fields.split()}
"""Field → why it is not a recipe's to say."""
_DTYPES = ("float32", "float16", "bfloat16")


def check_section(
    name: str, values: Mapping[str, Any], section: Section
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the values in their fields' types, and every mistake among them.

    Values of another type are left out: nobody can compute or compare with them.
    """
    clean: dict[str, Any] = {}
    problems: list[Problem] = []
    rest: dict[str, Any] = {}
    for key, value in values.items():
        path = (name, str(key))
        if key in _OWNED:
            problems.append(Problem(path, f"is not a recipe's to say: {_OWNED[key]}"))
        elif isinstance(value, bool) and _numeric(section.hints.get(key)):
            problems.append(Problem(path, f"is {value!r}, which is no number"))
        elif isinstance(value, str) and re.fullmatch(r"pissa_niter_\d+", value):
            clean[key] = value  # PEFT's type spells the family as one literal, with a placeholder
        else:
            rest[str(key)] = value
    typed, errors = _validated(section.adapter, rest)
    problems += [
        Problem((name, key), *_in_words(rest[key], error, section)) for key, error in errors.items()
    ]
    for key, value in typed.items():
        plain = value.value if isinstance(value, Enum) else value
        clean[key] = plain
        wrong = _unknown_words(plain, section.hints[key], section.choices.get(key))
        problems += [
            Problem((name, key), *mistake) for mistake in wrong or _out_of_range(key, plain)
        ]
    return clean, problems


def _validated(
    adapter: TypeAdapter[Any], values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, ErrorDetails]]:
    """Return the values in their fields' types, and for each of the others its error."""
    errors: dict[str, ErrorDetails] = {}
    try:
        whole = adapter.validate_python(values)
    except ValidationError as error:
        # A union has an error for each of its types: the one that knows the right words says most.
        for item in sorted(error.errors(), key=lambda item: item["type"].endswith("_type")):
            errors.setdefault(str(item["loc"][0]), item)
        whole = adapter.validate_python({k: v for k, v in values.items() if k not in errors})
    return {key: getattr(whole, key) for key in values if key not in errors}, errors


def _in_words(value: Any, error: ErrorDetails, section: Section) -> tuple[str, str]:
    """Return what is wrong with a field's value, and its mend."""
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        key = str(error["loc"][0])
        allowed = [known for known in section.hints if known not in _OWNED]
        fix = nearest(key, allowed) or f"see the fields of {section.config}"
        return f"is no field of {section.config}", fix
    if error["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return _not_known(value, known)
    return f"is {value!r}, but {error['msg'].removeprefix('Input ')}", ""


def _not_known(value: Any, known: Iterable[str]) -> tuple[str, str]:
    words = tuple(known)
    fix = nearest(str(value), words) or f"one of {', '.join(words)}"
    return f"is {value!r}, which is not known", fix


def _unknown_words(value: Any, hint: Any, choices: tuple[str, ...] | None) -> list[tuple[str, str]]:
    """Return the words that are none of a field's: what its metadata or an enum of its type has."""
    enums = [kind for kind in _flat(hint) if isinstance(kind, type) and issubclass(kind, Enum)]
    known = choices or tuple(str(member.value) for kind in enums for member in kind)
    words = [word for word in (value if isinstance(value, list) else [value]) if word is not None]
    return [_not_known(word, known) for word in words if known and str(word) not in known]


def _out_of_range(key: str, value: Any) -> list[tuple[str, str]]:
    if key not in _RANGES or not isinstance(value, int | float):
        return []
    least, most = _RANGES[key]
    if least <= value <= most:
        return []
    return [(f"is {value:g}, out of range", f"give {least:g} to {most:g}")]


def _numeric(hint: Any) -> bool:
    """Whether a type is of numbers, and not of truth values."""
    kinds = _flat(hint)
    return bool not in kinds and bool(kinds & {int, float})


def _flat(hint: Any) -> set[Any]:
    """Return the plain types inside a union, or the type itself."""
    parts = typing.get_args(hint)
    return {kind for part in parts for kind in _flat(part)} if parts else {hint}


def sections(data: Mapping[str, Any], method: Method) -> dict[str, Section]:
    """Return the sections that a recipe of the method may hold, by their key.

    ``data`` is the recipe; its ``quantization.quant_method`` says whose fields those are.
    """
    import peft
    from transformers import EarlyStoppingCallback

    words = {**TRAINING_METHODS[method].words, "loss_type": TRAINING_METHODS[method].losses}
    return {
        "trainer": _of_dataclass(
            TRAINING_METHODS[method].config_class(), {k: v for k, v in words.items() if v}
        ),
        "lora": _of_dataclass(peft.LoraConfig),
        "osf": _of_dataclass(peft.OSFConfig),
        # The parameters of peft.optimizers.create_loraplus_optimizer (arXiv 2402.12354).
        "loraplus": _of_hints(
            "create_loraplus_optimizer",
            {"loraplus_lr_ratio": float, "loraplus_lr_embedding": float},
        ),
        "quantization": _quantization(data.get("quantization")),
        "rewards": _of_model(RewardSettings),
        "early_stopping": _of_hints(
            "EarlyStoppingCallback", _by_defaults(EarlyStoppingCallback.__init__)
        ),
        "rounds": _of_model(RoundSettings),
        "rehearsal": _of_model(RehearsalSettings),
    }


def quantization_config(quantization: Mapping[str, Any] | None) -> Any:
    """Return the configuration class of transformers that the section is for."""
    import transformers

    mxfp4 = isinstance(quantization, dict) and quantization.get("quant_method") == "mxfp4"
    return transformers.Mxfp4Config if mxfp4 else transformers.BitsAndBytesConfig


def _quantization(quantization: Mapping[str, Any] | None) -> Section:
    """Return the fields of ``BitsAndBytesConfig`` or ``Mxfp4Config``, typed by their defaults."""
    config = quantization_config(quantization)
    choices = {
        "bnb_4bit_quant_type": ("nf4", "fp4"),
        "bnb_4bit_compute_dtype": _DTYPES,
        "bnb_4bit_quant_storage": ("uint8", *_DTYPES),
        "quant_method": ("bitsandbytes", "mxfp4"),
    }
    hints = _by_defaults(config.__init__) | {"quant_method": str}
    return _of_hints(config.__name__, hints, choices)


def _of_dataclass(config: type, choices: Mapping[str, tuple[str, ...]] | None = None) -> Section:
    """Return the fields of one of TRL's or PEFT's configurations."""
    # Its __post_init__ would look for a GPU; training/recipe.py asks last what it alone knows.
    own = {
        "__pydantic_config__": ConfigDict(extra="forbid", arbitrary_types_allowed=True),
        "__post_init__": lambda self: None,
        "__module__": config.__module__,
    }
    checked = dataclasses.make_dataclass(config.__name__, [], bases=(config,), namespace=own)
    fields = dataclasses.fields(checked)
    hints = typing.get_type_hints(config)
    words = {
        f.name: tuple(map(str, f.metadata["choices"])) for f in fields if "choices" in f.metadata
    }
    named = {f.name: hints[f.name] for f in fields}
    return Section(config.__name__, named, TypeAdapter(checked), words | dict(choices or {}))


def _of_model(model: type[BaseModel]) -> Section:
    """Return the fields of one of our own settings."""
    hints = {name: info.annotation for name, info in model.model_fields.items()}
    return Section(model.__name__, hints, TypeAdapter(model))


def _of_hints(
    name: str, hints: Mapping[str, Any], choices: Mapping[str, tuple[str, ...]] | None = None
) -> Section:
    """Return the parameters of a function, or of a class that is no dataclass."""
    fields: dict[str, Any] = {key: (hint, None) for key, hint in hints.items()}
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    model = create_model(name, __config__=config, **fields)
    return Section(name, hints, TypeAdapter(model), choices or {})


def _by_defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
    return {p.name: type(p.default) if p.default is not None else Any for p in named}
