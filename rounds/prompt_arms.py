"""The prompts that try hard: searched for on training and validation rows, before any arm answers.

In: the round's training and validation rows, and the base in a pool. Out: the system prompt of each
arm that the configuration asks for, and what arms cost. Called where the models answer; no test
prompt is at hand here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from evaluation.arms import Arm, ModelPool
from evaluation.few_shot import TRIALS, answer_loss, search_few_shot
from evaluation.prices import SearchedPrompt
from rounds.context import RoundContext
from workbench.arm_names import FEW_SHOT
from workbench.console import console, in_words
from workbench.errors import UserError
from workbench.prompts import system_prompt
from workbench.records import Example, take_spread
from workbench.store import write_json

MOST_ROWS = 8
"""Validation rows whose answers decide."""


def search_prompts(
    context: RoundContext,
    pool: ModelPool,
    train: Sequence[Example],
    validation: Sequence[Example],
    room: int,
    scratch: Path,
) -> list[SearchedPrompt]:
    """Return the searched prompts that the configuration asks for; a search is made once.

    ``room`` is the new tokens that a prompt has to leave room for; ``scratch`` keeps what was
    found.

    Raises:
        UserError: There are no validation rows to decide by, or no example leaves room.
    """
    if "few-shot" not in context.config.evaluate.prompt_arms:
        return []
    rows = take_spread(list(validation), MOST_ROWS)
    shots, plain = context.config.evaluate.shots, system_prompt(context.persona)
    key = [
        *pool.fingerprint(Arm("base")),
        *(row.id for row in (*train, *rows)),
        *(plain, str(shots), str(TRIALS), str(room), str(context.config.seed)),
    ]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    file = scratch / "few-shot" / f"{digest}.json"
    if file.exists():
        return [SearchedPrompt.model_validate_json(file.read_text("utf-8"))]
    prompt = _search(context, pool, train, rows, room)
    console.print(
        f"  {prompt.arm}: {len(prompt.rows)} rows of {prompt.trials} sets in"
        f" {in_words(prompt.seconds)}",
        markup=False,
    )
    write_json(file, prompt.model_dump(mode="json"))
    return [prompt]


def _search(
    context: RoundContext,
    pool: ModelPool,
    train: Sequence[Example],
    rows: Sequence[Example],
    room: int,
) -> SearchedPrompt:
    """Return the prompt with the best examples; the answers of ``rows`` decide."""
    begun = time.perf_counter()
    loss = partial(answer_loss, *pool.use(Arm("base")), rows=rows, room=room)
    search = search_few_shot(
        train,
        lambda shown: loss(system_prompt(context.persona, shown)),
        shots=context.config.evaluate.shots,
        seed=context.config.seed,
    )
    if search.loss is None:
        what = "few-shot examples need validation rows to be chosen by, and room in the context"
        fix = "split with a validation share above 0, lower evaluate.shots, or leave the arm out"
        raise UserError(what, where=context.place("evaluate", "prompt_arms"), fix=fix)
    return SearchedPrompt(
        arm=FEW_SHOT,
        text=system_prompt(context.persona, search.rows),
        rows=tuple(row.id for row in search.rows),
        loss=search.loss,
        plain_loss=loss(system_prompt(context.persona)),
        trials=search.trials,
        seconds=round(time.perf_counter() - begun, 1),
    )
