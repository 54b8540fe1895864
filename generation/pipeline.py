"""The stage's two jobs: the base model's own answers, and a teacher's new rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from generation.jobs import LocalModel
from generation.outcome import Outcome, Usage
from generation.runner import Distilabel
from workbench.errors import UserError
from workbench.records import Drop, Example, Response

STAGE = "generate"
BARE = "bare"
"""Arm of the base model's own answers."""


@dataclass(frozen=True)
class Bare:
    """The base model's own answers, and the prompts that it gave none to."""

    responses: list[Response] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)


def bare_answers(
    examples: Sequence[Example],
    model: Path,
    *,
    max_new_tokens: int = 96,
    batch_size: int = 16,
    workdir: Path,
    seed: int = 0,
) -> Bare:
    """Return the base model's greedy answer to each example's prompt, without the persona.

    Args:
        examples: Whose prompts are asked, in their order; equal prompts get equal answers.
        model: Folder of the base model, as :func:`workbench.models.resolve_model` returns it.
        max_new_tokens: Where an answer without an end is cut.
        batch_size: Prompts answered at once.
        workdir: Folder for the log and for what distilabel leaves.
        seed: Seeds the libraries; greedy decoding itself draws nothing.

    Raises:
        UserError: The model cannot be loaded or has no chat template, or every prompt failed.
    """
    settings = LocalModel(
        folder=model.resolve(), max_new_tokens=max_new_tokens, batch_size=batch_size, seed=seed
    )
    with Distilabel(workdir) as distilabel:
        outcomes = distilabel.run(
            BARE,
            [example.prompt for example in examples],
            settings,
            label="the base model answers",
        )
    bare = Bare(usage=Usage.of(outcomes))
    for example, outcome in zip(examples, outcomes, strict=True):
        if outcome.status == "ok":
            bare.responses.append(
                Response(
                    arm=BARE,
                    prompt_id=example.id,
                    prompt=example.prompt,
                    text=outcome.text,
                    topic=example.topic,
                    tokens=outcome.tokens,
                    parents=(example.id,),
                )
            )
        else:
            bare.dropped.append(dropped(example.id, outcome, source=model.name))
    if outcomes and not bare.responses:
        raise UserError(
            f"the base model answered none of {len(outcomes)} prompts"
            f" ({outcomes[0].reason}: {outcomes[0].detail})",
            where=str(model),
            fix="use another base model, or shorter prompts",
        )
    return bare


def dropped(record: str, outcome: Outcome, *, source: str) -> Drop:
    """Return the drop of a record whose request ended without an answer."""
    about = [f"HTTP {outcome.http}"] if outcome.http else []
    about += [f"{outcome.attempts} tries"] if outcome.attempts > 1 else []
    about += [outcome.detail] if outcome.detail else []
    return Drop(
        record=record,
        stage=STAGE,
        reason=outcome.reason,
        detail=", ".join(about),
        source=source,
        parents=(record,),
    )
