"""What an export is opened with: a stage's adapter, the evaluation's prompts, and what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rounds.arms import PROMPT, own_arms
from rounds.context import RoundContext
from workbench.config import METHODS
from workbench.errors import UserError, nearest
from workbench.records import Example, Response
from workbench.sampling import take_spread
from workbench.store import read_records

if TYPE_CHECKING:
    from training.export.card import Provenance
    from training.export.formats import Export
    from training.export.gate import Questions, Verdict


def open_export(
    context: RoundContext,
    form: str,
    *,
    stage: str | None,
    name: str | None,
    out: Path | None,
    prompts: int | None,
    dataset: str = "",
) -> Export:
    """Return all that an export of a stage needs.

    Args:
        context: The round.
        form: The format, for the folder's name.
        stage: Whose adapter; the last that was trained by default.
        name: What the export calls itself.
        out: Its folder.
        prompts: How many of the evaluation's prompts the gate asks; None for all.
        dataset: The Hub's name of the rows, for the card.

    Raises:
        UserError: No such stage or no adapter of it, a name with odd characters, no prompts.
    """
    from training.export.formats import Export
    from training.export.licences import base_licence
    from training.export.source import Source, check_name
    from workbench.inference.base_models import resolve_model

    stage = _stage(context, stage)
    name = check_name(name or f"{context.persona.id}-{stage}", "--name")
    base = resolve_model(context.config.model)
    source = Source(base, context.config.model, context.round.stage(stage) / "adapter", name)
    source.check()
    return Export(
        source=source,
        asked=_questions(context, stage, prompts),
        licence=base_licence(context.config.model, base),
        provenance=_provenance(context, stage, dataset),
        out=out or context.round.folder / "export" / f"{stage}-{form}",
    )


def told(work: Export, verdict: Verdict | None) -> None:
    """Print the gate's table and the folder."""
    from rich.table import Table

    from workbench.console import console

    if verdict is not None:
        table = Table("parity", "", title=work.source.name, title_justify="left")
        for label, value in verdict.table().items():
            table.add_row(label, value)
        console.print(table)
    if work.licence.restricted:
        console.print(f"  licence: {work.licence.terms}")
    click.echo(work.out)


def _stage(context: RoundContext, stage: str | None) -> str:
    """Return the stage to export: the one asked for, or the one trained last."""
    trained = [name for name in METHODS if context.round.manifest(name)]
    if stage is None and trained:
        manifests = {name: context.round.manifest(name) for name in trained}
        started = {name: one.started for name, one in manifests.items() if one}
        # dpo goes on from sft, and so do the others: the last to be started.
        return max(trained, key=lambda name: started[name])
    if stage is not None and stage not in METHODS:
        fix = nearest(stage, METHODS) or f"one of {', '.join(trained or METHODS)}"
        raise UserError(f"there is no stage '{stage}' with an adapter", where="--stage", fix=fix)
    if stage not in trained:
        raise UserError(
            f"the round has no adapter of '{stage or METHODS[0]}'",
            where=str(context.round.folder),
            fix=f"run `persona train {stage or METHODS[0]}` first",
        )
    return str(stage)


def _questions(context: RoundContext, stage: str, prompts: int | None) -> Questions:
    """Return the evaluation's own prompts, with what it heard of this adapter where it did."""
    from training.export.gate import Questions

    settings = context.config.evaluate
    rows = list(read_records(context.round.folder / "split/test.jsonl", Example))
    rows = take_spread(rows, settings.rows)[:prompts]
    if not rows:
        raise UserError(
            "the round has no held-out prompt to check an export with",
            where=str(context.round.folder / "split/test.jsonl"),
            fix="split with a test share above 0",
        )
    return Questions(
        chats=tuple(row.prompt for row in rows),
        max_new_tokens=settings.max_new_tokens or _room(context),
        persona=context.persona,
        recorded=_recorded(context, stage, {row.id for row in rows}),
    )


def _room(context: RoundContext) -> int:
    """Return where the evaluation cut answers; before one, where it would by the least."""
    from evaluation.answer import LEAST_NEW_TOKENS

    manifest = context.round.manifest("evaluate")
    counts = manifest.counts if manifest else {}
    return int(counts.get("max_new_tokens", LEAST_NEW_TOKENS))


def _recorded(context: RoundContext, stage: str, wanted: set[str]) -> tuple[Response, ...]:
    """Return what the evaluation wrote down of this very adapter for the prompts asked."""
    manifest = context.round.manifest("evaluate")
    trained = context.round.manifest(stage)
    used = manifest.inputs.get(f"{stage}/adapter") if manifest else None
    if manifest is None or trained is None or used is None:
        return ()
    arms = [a.name for a in own_arms(context) if a.stage == stage and not a.name.endswith(PROMPT)]
    responses = read_records(context.round.stage("evaluate") / "responses.jsonl", Response)
    return tuple(
        response
        for response in responses
        if response.arm in arms
        and response.prompt_id in wanted
        and not (response.probe or response.turn or response.seed)
    )


def _provenance(context: RoundContext, stage: str, dataset: str) -> Provenance:
    from training.export.card import Provenance

    manifest = context.round.manifest(stage)
    recipe = context.round.stage(stage) / "recipe.yaml"
    comparison = context.round.stage("evaluate") / "comparison.json"
    return Provenance(
        recipe=recipe.read_text(encoding="utf-8") if recipe.exists() else "",
        data=dict(manifest.inputs) if manifest else {},
        method=stage,
        seed=manifest.seed if manifest else context.config.seed,
        evaluation=json.loads(comparison.read_text(encoding="utf-8"))
        if comparison.exists()
        else {},
        dataset=dataset,
    )
