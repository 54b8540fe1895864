"""The base model's own answers, which become the rejected answers of preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from generation.distilabel.cluster import Cluster
from generation.teacher_client import TeacherClient, drop_of
from workbench.config import GenerateSettings
from workbench.errors import UserError
from workbench.inference.answer_cache import CACHE
from workbench.inference.completion import Completion, Usage, usage_of
from workbench.inference.endpoint import Endpoint
from workbench.inference.wire import check_reachable
from workbench.records import Drop, Example, Messages, Response

BASELINE = "baseline"
"""Arm of the base model's own answers."""


@dataclass(frozen=True)
class Baseline:
    """The base model's own answers, and the prompts that it gave none to."""

    usage: Usage
    responses: list[Response] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)


def baseline_answers(
    examples: Sequence[Example],
    model: Path | Endpoint,
    settings: GenerateSettings,
    *,
    workdir: Path,
    seed: int = 0,
) -> Baseline:
    """Return the base model's greedy answer to each example's prompt, without the persona.

    Equal prompts get equal answers. The model is a folder, as ``resolve_model`` returns it, or
    where it is served, which may be asked from a cluster; an endpoint's answers are kept in
    ``workdir``. The seed is the libraries': greedy decoding itself draws nothing.

    Raises:
        UserError: The model cannot be loaded or has no chat template, its endpoint cannot be
            reached or went down, or every prompt failed.
    """
    prompts = [example.prompt for example in examples]
    completions = _completions(prompts, model, settings, workdir, seed) if prompts else []
    name = model.model if isinstance(model, Endpoint) else model.name
    baseline = Baseline(usage_of(completions))
    for example, completion in zip(examples, completions, strict=True):
        if completion.ok:
            baseline.responses.append(_response(example, completion))
        else:
            parents = (example.id,)
            drop = drop_of(completion, example.id, source=name, parents=parents)
            baseline.dropped.append(drop)
    if completions and not baseline.responses:
        raise UserError(
            f"the base model answered none of {len(completions)} prompts"
            f" ({completions[0].reason}: {completions[0].detail})",
            where=name,
            fix="use another base model, or shorter prompts",
        )
    return baseline


def _completions(
    prompts: Sequence[Messages],
    model: Path | Endpoint,
    settings: GenerateSettings,
    workdir: Path,
    seed: int,
) -> list[Completion]:
    if isinstance(model, Endpoint):
        check_reachable(model)
    # Distilabel takes seconds to import.
    from generation.pipelines.baseline import baseline_pipeline

    pipeline = partial(baseline_pipeline, prompts, step=BASELINE, settings=settings, seed=seed)
    if isinstance(model, Path):
        return [row["completion"] for row in pipeline(folder=model, client=None).run()]
    cache, cluster = (workdir / CACHE).resolve(), Cluster.of(settings)
    with TeacherClient([model], cache, seed, cluster=cluster) as client:
        return [row["completion"] for row in pipeline(folder=None, client=client).run()]


def _response(example: Example, completion: Completion) -> Response:
    return Response(
        arm=BASELINE,
        prompt_id=example.id,
        prompt=example.prompt,
        text=completion.text,
        topic=example.topic,
        tokens=completion.tokens,
        parents=(example.id,),
    )
