"""One training run as a value: its recipe and files, what its trainer is made of, its summary.

A :class:`TrainingRun` is built by ``rounds/stages/train.py``, planned by ``training/plan``, carried
out by ``training/trainer.py``, and sent as JSON to several processes by ``training/launch.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml
from pydantic import Field

from training.data import Rows
from training.device import Fields
from training.rewards import RewardGain, RewardSettings
from workbench.config import Method
from workbench.errors import UserError
from workbench.inference.answer_cache import model_fingerprint
from workbench.inference.endpoint import Endpoint
from workbench.inference.reward_model import RewardModel
from workbench.persona import Persona
from workbench.store import file_hash
from workbench.values import Frozen, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

Engine = Literal["trl", "unsloth"]
Data = Literal["chat", "instruction", "text", "images"]


class RoundSettings(Settings):
    """The ``rounds`` section of a recipe: whether a run goes on from an earlier round."""

    start: Literal["base", "last"] = "base"
    """``base`` trains on all rows; ``last`` goes on from the adapter that an earlier round trained
    by this method, on the rows that are new."""
    replay: float = Field(default=0.0, ge=0, le=1)
    """With ``last``: the share of the rows that it was trained on already that is trained on again.
    See :func:`training.data.draw_replay`."""


class RehearsalSettings(Settings):
    """The ``rehearsal`` section of a recipe: the base's own answers, learnt beside the persona.

    Rehearsal against catastrophic forgetting (Robins 1995, *Catastrophic Forgetting, Rehearsal and
    Pseudorehearsal*, Connection Science 7), with rows that the base makes itself.
    """

    rows: int = Field(default=0, ge=0)
    """How many, at most: general instructions (``train.rehearsal`` in the configuration) with the
    base's greedy answers, where these keep to all that was asked; 0 for none."""
    max_new_tokens: int = Field(default=64, ge=8)
    """Tokens of an answer; one that has not ended by then is left out."""


class Recipe(Frozen):
    """A recipe whose every value was checked against the library that it is for."""

    method: Method
    engine: Engine = "trl"
    """``unsloth`` loads the base and the adapter with Unsloth's kernels; it needs a GPU."""
    data: Data = "chat"
    """What a row is: a chat, an Alpaca instruction, raw text, or a chat with images."""
    trainer: Fields = Field(default_factory=dict)
    """Fields of TRL's configuration of the method."""
    lora: Fields | None = None
    """Fields of ``peft.LoraConfig``; None to go on with the SFT adapter."""
    osf: Fields | None = None
    """Fields of ``peft.OSFConfig``, in place of ``lora``."""
    loraplus: Fields | None = None
    """Parameters of ``peft.optimizers.create_loraplus_optimizer``."""
    quantization: Fields | None = None
    """Fields of ``transformers.BitsAndBytesConfig``; None for full precision."""
    rewards: RewardSettings | None = None
    """For GRPO; its defaults where the recipe says nothing."""
    early_stopping: Fields | None = None
    """Parameters of ``transformers.EarlyStoppingCallback``."""
    rounds: RoundSettings = RoundSettings()
    rehearsal: RehearsalSettings = RehearsalSettings()
    """For SFT."""

    def to_yaml(self) -> str:
        """Return the recipe as YAML that :func:`training.recipe.load_recipe` reads."""
        fields = self.model_dump(mode="json", exclude_unset=True)
        data = {key: value for key, value in fields.items() if value is not None}
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)

    @property
    def makes_adapter(self) -> bool:
        """Whether the recipe makes a new adapter, instead of going on with the SFT adapter."""
        return self.lora is not None or self.osf is not None

    @property
    def starts_from_pissa(self) -> bool:
        """Whether the adapter takes the base's principal components out (arXiv 2404.02948)."""
        return str((self.lora or {}).get("init_lora_weights", "")).startswith("pissa")

    @property
    def samples(self) -> bool:
        """Whether the method learns from its own answers, sampled as it trains."""
        return self.method in ("grpo", "sdft")

    @property
    def continues(self) -> bool:
        """Whether the run starts at an earlier round's adapter of the same method."""
        return self.rounds.start == "last"

    def require(self, method: Method) -> None:
        """Raise a UserError if the recipe is for another method."""
        if self.method != method:
            raise UserError(
                f"the recipe is for {self.method}, not for {method}",
                fix=f"use a recipe with 'method: {method}', such as {method}.yaml",
            )


class TrainingRun(Frozen):
    """All that a run is made from; its JSON holds no secret, since endpoints only name keys."""

    recipe: Recipe
    model: Path
    """Folder of the base model."""
    base_name: str
    """The base as the user named it; it is written into the adapter."""
    train: Path
    """JSONL of the records that the recipe's method and ``data`` ask for."""
    validation: Path | None = None
    """The same, for what is measured while training; None for none."""
    out: Path
    """Folder of the run; a call that was killed goes on from its ``checkpoints/``."""
    seed: int
    """Of a new adapter's first weights, the order of rows, sampled answers and held-out traits."""
    adapter: Path | None = None
    """The adapter to go on with, which stays as it is; None where the recipe makes a new one."""
    tracker: str = "none"
    """One of :data:`workbench.config.TRACKERS`; changes nothing of the result."""
    persona: Persona | None = None
    """Whose traits are rewarded; for GRPO."""
    judge: Endpoint | None = None
    """An endpoint for the traits that no rule checks; for GRPO."""
    reward_model: RewardModel | None = None
    """What reviewers' labels taught of those traits, where the gate let it through; for GRPO."""

    @property
    def method(self) -> Method:
        """The recipe's."""
        return self.recipe.method

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints; gone when the run is done."""
        return self.out / "checkpoints"

    def to_json(self) -> str:
        """Return the run as JSON that :meth:`model_validate_json` reads."""
        return self.model_dump_json(indent=1, by_alias=True)

    def identity(self) -> str:
        """Return a hash of what decides the result; checkpoints of another are not gone on from."""
        files = [self.train, self.validation, self.adapter]
        parts = {
            "recipe": self.recipe.model_dump(),
            "files": [file_hash(path) if path else None for path in files],
            "base": [self.base_name, *model_fingerprint(self.model)],
            "trl": metadata.version("trl"),
            "seed": self.seed,
            "persona": self.persona.record_id if self.persona else "",
            "judge": self.judge.model if self.judge else "",
            **({"reward_model": self.reward_model.model_dump()} if self.reward_model else {}),
        }
        text = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class TrainerParts:
    """What TRL's trainer of a run is made of."""

    run: TrainingRun
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    """Or the processor of a model that reads images."""
    arguments: TrainingArguments
    """TRL's configuration of the method."""
    train: Rows
    validation: Rows | None

    def trainer_inputs(self) -> Fields:
        """Return the arguments that TRL's trainers share."""
        return {
            "args": self.arguments,
            "train_dataset": self.train.dataset(),
            "eval_dataset": self.validation.dataset() if self.validation else None,
            "processing_class": self.tokenizer,
        }

    def check_prompts(self) -> None:
        """Check that there are prompts enough for one generation, of a method that samples.

        Raises:
            UserError: There are not: TRL would train on none.
        """
        sampled = self.arguments.generation_batch_size // self.arguments.num_generations
        if len(self.train.rows) < sampled:
            raise UserError(
                f"holds {len(self.train.rows)} prompts, and {sampled} are answered together",
                where=str(self.train.path),
                fix="lower gradient_accumulation_steps or per_device_train_batch_size in the"
                " recipe",
            )


class MethodHooks:
    """What a method does beside what all do: nothing; GRPO rewards and measures."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run

    def trainer_inputs(self, parts: TrainerParts) -> Fields:
        """Return arguments of TRL's trainer beside those that all trainers share."""
        return {}

    def prepare(self, trainer: Trainer) -> None:
        """Change the trainer before it trains."""

    def train(
        self, trainer: Trainer, parts: TrainerParts, train: Callable[[], object]
    ) -> RewardGain | None:
        """Train by calling ``train``, and return what was measured before and after."""
        train()
        return None


class TrainSummary(Frozen):
    """What a finished run says of itself; ``summary.json``."""

    method: Method
    base: str
    device: str
    seed: int
    rows: int
    validation_rows: int
    cut_rows: int
    """Rows that were longer than ``max_length`` and lost their end."""
    left_out: int = 0
    """Rows that teach nothing: filled by their prompt, empty, or pairs that are the same."""
    steps: int
    epochs: float
    tokens: int
    """Tokens that went through training, prompts included, padding not."""
    seconds: float
    """From the first step to the last, evaluation included; over all calls if it was resumed."""
    total_seconds: float
    """Of this call, loading and writing included."""
    loss_first: float
    loss_last: float
    final: dict[str, float]
    """The last value of everything that was logged: loss, eval_loss, rewards/…"""
    trainable_parameters: int
    planned_peak_mib: float | None = None
    """What the plan said that the next two would be; None where none could be made."""
    peak_resident_mib: float
    peak_gpu_mib: float
    held_out_reward: RewardGain | None = None
    """For GRPO: the reward on prompts that were not trained on, before and after."""
    warnings: tuple[str, ...] = ()
    """What the run said in words while it went: rewards without variance, early stop and such."""
    resumed_from: int
    """Step of the checkpoint that this call went on from; 0 for none."""
