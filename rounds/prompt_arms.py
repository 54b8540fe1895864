"""The prompts that try hard: searched for on training and validation rows, before any arm answers.

In: the round's training and validation rows, the base in a pool, a teacher where one is configured.
Out: the system prompt of each arm that the configuration asks for. Called where the models answer;
no test prompt is at hand here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from evaluation.arms import Arm, ModelPool
from evaluation.few_shot import TRIALS, answer_loss, search_few_shot
from evaluation.prices import SearchedPrompt
from evaluation.sense import SenseInput, language_loss
from rounds.context import RoundContext
from rounds.layout import PRICES, RoundFolder
from workbench.arm_names import FEW_SHOT, OPTIMISED, is_prompted
from workbench.console import console, in_words, track
from workbench.errors import UserError
from workbench.inference.answer_cache import CACHE
from workbench.inference.embedder import make_embedder
from workbench.inference.endpoint import Endpoint
from workbench.prompts import system_prompt
from workbench.records import Example, take_spread
from workbench.store import write_json
from workbench.text import counted

MOST_ROWS = 8
"""Validation rows whose answers decide which examples are shown."""
DECIDING = 16
"""Validation rows that the base answers under each prompt that the teacher wrote."""
REFLECTED = 48
"""Training rows that the teacher may read answers to."""
REASONS = {
    "no_teacher": "no teacher is configured to write prompts",
    "no_package": "the package gepa is not installed (pip install 'persona-workbench[prompts]')",
}
"""Why the optimised prompt is left out, in words."""


@dataclass(frozen=True)
class PromptSearch:
    """What prompts are searched with, the test split never among it."""

    context: RoundContext
    pool: ModelPool
    train: Sequence[Example]
    validation: Sequence[Example]
    max_new_tokens: int
    """That a prompt has to leave room for."""
    scratch: Path
    """Keeps what was found, and the answers."""

    def all(self) -> list[SearchedPrompt]:
        """Return the searched prompts that the configuration asks for; a search is made once.

        Raises:
            UserError: There are no validation rows to decide by, no example leaves room, or the
                teacher refuses.
        """
        for arm, reason in left_out(self.context).items():
            console.print(f"  {arm} is left out: {REASONS[reason]}", markup=False)
        wanted = prompt_arms(self.context)
        prompts = []
        if FEW_SHOT in wanted:
            shots = self.context.config.evaluate.shots
            rows = take_spread(list(self.validation), MOST_ROWS)
            prompt = self._once("few-shot", rows, [str(shots), str(TRIALS)], self._few_shot)
            prompts.append(prompt)
        if OPTIMISED in wanted:
            rows = take_spread(list(self.validation), DECIDING)
            teacher, budget = self.context.config.main_teacher, self.context.config.evaluate
            assert teacher is not None
            key = [*teacher.fingerprint, budget.prompt_budget.model_dump_json()]
            key.append(str(self.context.config.embedder))
            prompts.append(self._once("optimised", rows, key, partial(self._optimised, teacher)))
        return prompts

    def _once(
        self,
        name: str,
        rows: Sequence[Example],
        own: Sequence[str],
        search: Callable[[Sequence[Example]], SearchedPrompt],
    ) -> SearchedPrompt:
        """Return what a search found; ``own`` is what decides it beside the rows and the base."""
        key = [
            *self.pool.fingerprint(Arm("base")),
            *(row.id for row in (*self.train, *rows)),
            *(system_prompt(self.context.persona), *own, str(self.max_new_tokens)),
            str(self.context.config.seed),
        ]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        file = self.scratch / name / f"{digest}.json"
        if file.exists():
            return SearchedPrompt.model_validate_json(file.read_text("utf-8"))
        if not rows:
            raise self._no_rows(name)
        begun = time.perf_counter()
        prompt = search(rows)
        seconds = round(time.perf_counter() - begun, 1)
        prompt = prompt.model_copy(update={"seconds": seconds})
        console.print(f"  {_in_a_line(prompt)}", markup=False)
        write_json(file, prompt.model_dump(mode="json"))
        return prompt

    def _no_rows(self, name: str) -> UserError:
        room = ", and room in the context" if name == "few-shot" else ""
        what = f"{name} prompts need validation rows to be chosen by{room}"
        fix = "split with a validation share above 0, lower evaluate.shots, or leave the arm out"
        return UserError(what, where=self.context.place("evaluate", "prompt_arms"), fix=fix)

    def _few_shot(self, rows: Sequence[Example]) -> SearchedPrompt:
        """Return the prompt with the best examples; the answers of ``rows`` decide."""
        persona = self.context.persona
        base, room = self.pool.use(Arm("base")), self.max_new_tokens
        loss = partial(answer_loss, *base, rows=rows, room=room)
        with track("choosing examples", TRIALS) as advance:

            def loss_of(shown: Sequence[Example]) -> float | None:
                advance()
                return loss(system_prompt(persona, shown))

            search = search_few_shot(
                self.train,
                loss_of,
                shots=self.context.config.evaluate.shots,
                seed=self.context.config.seed,
            )
        if search.loss is None:
            raise self._no_rows("few-shot")
        return SearchedPrompt(
            arm=FEW_SHOT,
            text=system_prompt(persona, search.rows),
            rows=tuple(row.id for row in search.rows),
            loss=search.loss,
            plain_loss=loss(system_prompt(persona)),
            trials=search.trials,
        )

    def _optimised(self, teacher: Endpoint, rows: Sequence[Example]) -> SearchedPrompt:
        """Return the prompt that the teacher wrote; the base's answers to ``rows`` decide."""
        from evaluation.optimised_prompt import PromptTask, optimise_prompt

        config, persona = self.context.config, self.context.persona
        reflected = take_spread(list(self.train), REFLECTED)
        corpus = [row.answer for row in (*rows, *self.train)]
        answers = [row.answer for row in self.train]
        embedder = make_embedder(config.embedder, persona.language, corpus)
        loss = language_loss(persona.language, self.pool, self.scratch / "loss")
        both = [*rows, *reflected]
        sense = SenseInput(persona.language, both, answers, embedder, *loss, persona)
        task = PromptTask(
            persona,
            self.pool,
            reflected,
            rows,
            sense,
            teacher,
            config.evaluate.prompt_budget,
            self.scratch / CACHE,
            self.max_new_tokens,
            config.evaluate.batch_size,
            config.seed,
        )
        best = optimise_prompt(task)
        return SearchedPrompt(
            arm=OPTIMISED,
            text=best.text,
            score=best.score,
            plain_score=best.plain_score,
            trials=best.candidates,
            answers=best.answers,
            reflections=best.reflections,
        )


def left_out(context: RoundContext) -> dict[str, str]:
    """Return the prompt arms that are asked for and cannot be made → why, by :data:`REASONS`."""
    if OPTIMISED not in _wanted(context):
        return {}
    if context.config.main_teacher is None:
        return {OPTIMISED: "no_teacher"}
    return {} if find_spec("gepa") else {OPTIMISED: "no_package"}


def prompt_arms(context: RoundContext) -> list[str]:
    """Return the arms of prompts that are searched for."""
    missing = left_out(context)
    return [arm for arm in _wanted(context) if arm not in missing]


def searched_prompts(round_: RoundFolder) -> dict[str, str]:
    """Return arm → the system prompt that the round's last evaluation found for it."""
    if not round_.path(PRICES).exists():
        return {}
    return {one.arm: one.text for one in round_.read(PRICES).prompts}


def arm_prompt(context: RoundContext, arm: str) -> str:
    """Return the system prompt that an arm is talked to under; empty for one without."""
    if not is_prompted(arm):
        return ""
    return searched_prompts(context.round).get(arm) or system_prompt(context.persona)


def _wanted(context: RoundContext) -> list[str]:
    return [f"base+{name}" for name in context.config.evaluate.prompt_arms]


def _in_a_line(prompt: SearchedPrompt) -> str:
    took = in_words(prompt.seconds)
    if prompt.score is None:
        return f"{prompt.arm}: {len(prompt.rows)} rows of {prompt.trials} sets in {took}"
    return (
        f"{prompt.arm}: the best of {counted(prompt.trials, 'prompt')} in {took}, by"
        f" {prompt.answers} answers and {counted(prompt.reflections, 'question')} to the teacher;"
        f" voice and sense {prompt.plain_score:.2f} to {prompt.score:.2f} on validation rows"
    )
