"""The base model's own answers, which become the rejected side of preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from generation.cache import CACHE
from generation.jobs import Cluster, LocalModel, Served
from generation.outcome import Usage, usage_of
from generation.runner import Distilabel
from generation.stops import stop_if_hopeless
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint, check_reachable
from workbench.records import Drop, Example, Response

BARE = "bare"
"""Arm of the base model's own answers."""


@dataclass(frozen=True)
class Bare:
    """The base model's own answers, and the prompts that it gave none to."""

    usage: Usage
    responses: list[Response] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)


def bare_answers(
    examples: Sequence[Example],
    model: Path | Endpoint,
    *,
    max_new_tokens: int = 96,
    batch_size: int = 16,
    workdir: Path,
    seed: int = 0,
    cluster: Cluster | None = None,
) -> Bare:
    """Return the base model's greedy answer to each example's prompt, without the persona.

    Args:
        examples: Whose prompts are asked, in their order; equal prompts get equal answers.
        model: Folder of the base model, as ``resolve_model`` returns it, or where it is served.
        max_new_tokens: Where an answer without an end is cut.
        batch_size: Prompts answered at once by a model in a folder.
        workdir: Folder for the log and for what distilabel leaves.
        seed: Seeds the libraries; greedy decoding itself draws nothing.
        cluster: Where a served model is asked from; a model in a folder answers on this machine.

    Raises:
        UserError: The model cannot be loaded or has no chat template, its endpoint cannot be
            reached or went down, or every prompt failed.
    """
    settings: LocalModel | Served
    if isinstance(model, Endpoint):
        check_reachable(model)
        name = model.model
        settings = Served(
            endpoint=model,
            cache=(workdir / CACHE).resolve(),
            step=BARE,
            temperature=0,
            max_new_tokens=max_new_tokens,
            cut=True,
            seed=seed,
        )
    else:
        name = model.name
        settings = LocalModel(
            folder=model.resolve(), max_new_tokens=max_new_tokens, batch_size=batch_size, seed=seed
        )
    with Distilabel(workdir, cluster) as distilabel:
        outcomes = distilabel.run(
            BARE,
            [example.prompt for example in examples],
            settings,
            label="the base model answers",
        )
    if isinstance(model, Endpoint):
        stop_if_hopeless(model, outcomes)
    bare = Bare(usage_of(outcomes))
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
            bare.dropped.append(outcome.drop(example.id, source=name, parents=(example.id,)))
    if outcomes and not bare.responses:
        raise UserError(
            f"the base model answered none of {len(outcomes)} prompts"
            f" ({outcomes[0].reason}: {outcomes[0].detail})",
            where=name,
            fix="use another base model, or shorter prompts",
        )
    return bare
