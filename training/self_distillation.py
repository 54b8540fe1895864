"""What self-distillation has of its own: the base, told who to be and shown the answer, teaches.

The student answers bare questions; the teacher is the same base without the adapter, and reads the
persona's system prompt and the reviewed answer before it says how likely it finds each of the
student's tokens (https://arxiv.org/abs/2601.19897). The trainer is TRL's, in its experimental part,
whose fields may move: all that is known of it stands here, in the row of ``training/methods.py``
and in the recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from training.device import Fields
from training.run import MethodHooks, TrainerParts, TrainingRun
from training.trl_patches import prepare_rollouts
from workbench.errors import UserError
from workbench.language import say
from workbench.persona import Persona
from workbench.prompts import system_prompt

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer

_TEMPLATE = "teacher_prompt_template"


class DemonstrationHooks(MethodHooks):
    """Put the persona into the teacher's prompt, unless the recipe says what that is.

    Raises:
        UserError: No persona.
    """

    def __init__(self, run: TrainingRun) -> None:
        super().__init__(run)
        if run.persona is None:
            raise UserError("sdft tells the teacher who to be, and the run names no persona")
        self.persona = run.persona

    def trainer_inputs(self, parts: TrainerParts) -> Fields:
        """Set the teacher's prompt; no further arguments.

        Raises:
            UserError: One generation takes more prompts than there are.
        """
        parts.check_prompts()
        if _TEMPLATE not in self.run.recipe.trainer:
            setattr(parts.arguments, _TEMPLATE, teacher_template(self.persona))
        return {}

    def prepare(self, trainer: Trainer) -> None:
        """Repair the rollouts, and count their tokens."""
        prepare_rollouts(trainer)
        count_tokens(trainer)


def count_tokens(trainer: Trainer) -> None:
    """Have ``num_tokens`` logged, of prompts and answers: TRL's trainer leaves it out.

    As GRPO's does, the count lies in the trainer's state, so that a checkpoint brings it back.
    """
    record = trainer._record_completion_metrics

    def counting(mode: str, batch: Mapping[str, Tensor]) -> None:
        record(mode, batch)
        if mode == "train":
            tokens = batch["prompt_mask"].sum() + batch["completion_mask"].sum()
            trainer.state.num_input_tokens_seen += int(trainer.accelerator.gather(tokens).sum())
            trainer._metrics[mode]["num_tokens"] = [trainer.state.num_input_tokens_seen]

    trainer._record_completion_metrics = counting


def teacher_template(persona: Persona) -> str:
    """Return what the teacher reads in place of a question, in the persona's language.

    ``{prompt}`` stands for the question and ``{privileged_context}`` for the reviewed answer;
    braces of the persona's own are doubled.
    """
    system = system_prompt(persona).replace("{", "{{").replace("}", "}}")
    shown, ask = (say(persona.language, f"prompt.teacher.{key}") for key in ("shown", "ask"))
    return f"{system}\n\n{{prompt}}\n\n{shown}\n{{privileged_context}}\n\n{ask}"
