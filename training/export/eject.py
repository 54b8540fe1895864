"""A training run as one plain script with its rows: the same adapter without this project.

In: a :class:`~training.run.TrainingRun`. Out: a folder with ``train.py`` (TRL and PEFT, or
Unsloth), the rows in TRL's form, the bridged chat template, the pinned versions, what GRPO rewards,
and the adapter that the run goes on from. ``persona eject`` calls it.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from training.data import Rows
from training.device import device_fields, quantization_fields
from training.methods import TRAINING_METHODS, read_rows
from training.rewards import RewardSettings, make_rewards
from training.run import TrainingRun
from training.self_distillation import teacher_template
from training.tokens import fit, splits_rows
from workbench.checks import EmojiRule, Lacks, LengthRule, Matches
from workbench.errors import UserError
from workbench.inference.base_models import compute_dtype, load_tokenizer
from workbench.parts import SENTENCE_END
from workbench.prompts import page_templates
from workbench.store import whole_folder, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Engine = Literal["trl", "unsloth"]
SCRIPT = "train.py"
TEACHER = "teacher_prompt.txt"
REWARDS = "rewards.py"
"""What GRPO's script imports: its reward functions, which would make it too long."""
TRAITS = "traits.json"
"""What GRPO's script rewards: a list of traits, each with its id, weight and check."""
_PLAIN = (EmojiRule, LengthRule, Lacks, Matches)
"""Checks that the script has lines for; those of a language's pack need its code and data."""
_PACKAGES = ("trl", "peft", "transformers", "torch", "bitsandbytes", "datasets", "accelerate")


def eject(run: TrainingRun, out: Path, *, name: str, engine: Engine = "trl") -> Path:
    """Write the script of a run with all that it reads, and return its path.

    The run's own ``out`` is not used; the script's first line says ``name``.

    Raises:
        UserError: The run has parts that a plain script does not say, such as a judge's reward.
    """
    _refuse(run, engine)
    traits = _traits(run)
    if out.exists() and not (out / SCRIPT).exists():
        what = "is there already, and holds no such script"
        raise UserError(what, where=str(out), fix="name a new folder")
    tokenizer = load_tokenizer(run.model)
    rows = _rows(run, tokenizer, out)
    packages = [*_PACKAGES, *(["emoji"] if run.method == "grpo" else [])]
    versions = {package: version(package).partition("+")[0] for package in packages}
    teacher = _teacher(run)
    text = _script(run, name, engine, tokenizer.eos_token, versions)
    with whole_folder(out) as draft:
        (draft / SCRIPT).write_text(text, encoding="utf-8")
        for split, some in rows.items():
            _write_rows(draft / f"{split}.jsonl", some)
        (draft / "chat_template.jinja").write_text(str(tokenizer.chat_template), encoding="utf-8")
        pins = "".join(f"{package}=={pin}\n" for package, pin in versions.items())
        pins += "unsloth\n" if engine == "unsloth" else ""
        (draft / "requirements.txt").write_text(pins, encoding="utf-8")
        if teacher:
            (draft / TEACHER).write_text(teacher, encoding="utf-8")
        if run.method == "grpo":
            write_json(draft / TRAITS, traits)
            (draft / REWARDS).write_text(_rewards(run), encoding="utf-8")
        if run.adapter and not run.recipe.makes_adapter:
            shutil.copytree(run.adapter, draft / "start")
    return out / SCRIPT


def _rows(run: TrainingRun, tokenizer: PreTrainedTokenizerBase, out: Path) -> dict[str, Rows]:
    """Return split → the rows that the run learns from, less those that teach nothing."""
    config = TRAINING_METHODS[run.method].config_class()
    arguments = config(**_trainer_fields(run), output_dir=str(out))
    longest = None if splits_rows(arguments) else getattr(arguments, "max_length", None)
    files = {"train": run.train, "validation": run.validation}
    return {
        split: fit(read_rows(run.recipe, path), tokenizer, longest)
        for split, path in files.items()
        if path
    }


def _script(run: TrainingRun, name: str, engine: Engine, end: str, versions: dict[str, str]) -> str:
    method, trainer = TRAINING_METHODS[run.method], _trainer_fields(run)
    return _render(
        "eject.py.j2",
        title=f"Train {name} anew: {run.method.upper()}, seed {run.seed}.",
        libraries="TRL and Unsloth" if engine == "unsloth" else "TRL and PEFT",
        files=["train.jsonl", *(["validation.jsonl"] if run.validation else [])],
        base=run.base_name,
        engine=engine,
        start=run.adapter is not None and not run.recipe.makes_adapter,
        trl={
            "module": ".".join(["trl", *method.config.split(".")[:-1]]),
            "config": method.config.rpartition(".")[2],
            "trainer": method.trainer.rpartition(".")[2],
        },
        teacher=run.method == "sdft",
        rewards=run.method == "grpo",
        versions=versions,
        seed=run.seed,
        end=end,
        trainer=trainer,
        lora=run.recipe.lora or {},
        quantization=quantization_fields(run.recipe.quantization),
        four_bit=bool((run.recipe.quantization or {}).get("load_in_4bit")),
        dtype=str(compute_dtype()).removeprefix("torch."),
        validation=run.validation is not None,
    )


def _rewards(run: TrainingRun) -> str:
    """Return the reward functions of GRPO's script."""
    assert '"' not in SENTENCE_END.pattern, "it is written as a raw string"
    settings = run.recipe.rewards or RewardSettings()
    end = f'r"{SENTENCE_END.pattern}"'
    return _render("eject_rewards.py.j2", think=settings.think, sentence_end=end)


def _teacher(run: TrainingRun) -> str:
    """Return what self-distillation's teacher reads in place of a question; empty of others."""
    if run.method != "sdft":
        return ""
    if own := run.recipe.trainer.get("teacher_prompt_template"):
        return str(own)
    assert run.persona is not None, "sdft tells the teacher who to be"
    return teacher_template(run.persona)


def _traits(run: TrainingRun) -> list[dict[str, Any]]:
    """Return what GRPO's script rewards and watches, a trait each; nothing of other methods.

    Raises:
        UserError: A trait is rewarded that only its language's pack can check.
    """
    if run.method != "grpo":
        return []
    assert run.persona is not None, "grpo rewards a persona's traits"
    rewards = make_rewards(run.persona, run.recipe.rewards or RewardSettings(), run.seed)
    checks = {trait.id: trait.check for trait in run.persona.rule_traits}
    names = (*rewards.rewarded, *rewards.held_out)
    weights = dict(zip(names, rewards.weights, strict=False))  # TRL's own reward comes behind them
    beyond = [name for name in names if not isinstance(checks[name], _PLAIN)]
    if rewarded := [name for name in beyond if weights[name]]:
        listed, language = ", ".join(rewarded), run.persona.language
        raise UserError(
            f"a plain script cannot check {listed}, which come with the language '{language}'",
            where=run.method,
            fix="leave them out of the recipe's rewards.traits, or export the adapter or the rows",
        )
    return [
        {"id": name, "weight": weights[name], "check": checks[name].model_dump(mode="json")}
        for name in names
        if name not in beyond
    ]


def _refuse(run: TrainingRun, engine: Engine) -> None:
    """Raise a UserError for what the script has no lines for."""
    recipe, rewards = run.recipe, run.recipe.rewards
    parts = {
        "a judge's reward": bool(rewards and rewards.judge),
        "a reward for sense": bool(rewards and rewards.sense),
        "a reward model": bool(rewards and rewards.reward_model),
        "GRPO, by Unsloth": run.method == "grpo" and engine == "unsloth",
        "self-distillation, by Unsloth": run.method == "sdft" and engine == "unsloth",
        f"data: {recipe.data}": recipe.data != "chat",
        "osf": recipe.osf is not None,
        "loraplus": recipe.loraplus is not None,
        "early_stopping": recipe.early_stopping is not None,
        "a PiSSA start": recipe.starts_from_pissa,
        "an adapter to go on with, by Unsloth": engine == "unsloth" and not recipe.makes_adapter,
    }
    if beyond := [part for part, there in parts.items() if there]:
        raise UserError(
            f"a plain script does not carry {', '.join(beyond)}",
            where=run.method,
            fix="export the adapter or the rows instead",
        )


def _trainer_fields(run: TrainingRun) -> dict[str, Any]:
    fields = device_fields(run.recipe.trainer)
    fields.pop("teacher_prompt_template", None)  # in a file beside the script
    if run.validation is None:
        fields |= {"eval_strategy": "no", "load_best_model_at_end": False}
    return fields | {"disable_tqdm": True}


def _render(template: str, **values: object) -> str:
    templates = page_templates("training.export", py=_literal)
    return templates.get_template(template).render(**values) + "\n"


def _literal(value: object) -> str:
    """Return a value as Python writes it, a line for each key, as ruff formats it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        lines = [f"    {_literal(key)}: {_literal(one)}," for key, one in value.items()]
        return "\n".join(["{", *lines, "}"]) if lines else "{}"
    return repr(value)


def _write_rows(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.rows)
