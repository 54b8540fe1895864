"""What leaves a round: an arm to talk to, a folder to serve, an adapter to export, rows to share.

In: a round whose stages have run. Out: what :mod:`workbench.inference` and :mod:`training.export`
need of it. ``persona chat``, ``serve``, ``export`` and ``push-dataset`` are thin over these
functions, and from Python they do the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from evaluation.answer import LEAST_NEW_TOKENS
from generation.card import FILES, dataset_card
from rounds.arms import PROMPT, OwnArm, own_arms
from rounds.context import RoundContext
from rounds.dial import scaled_name
from rounds.layout import (
    COMPARISON,
    DIAL_ANSWERS,
    GENERATED,
    RESPONSES,
    TEST,
    TRAIN,
    adapter,
    recipe,
    trained_rows,
)
from rounds.lineage.documents import data_sheet
from rounds.prompt_arms import searched_prompts
from rounds.row_export import log_export, record_names, write_about
from rounds.stages.train import learning_files, training_run
from training.export.carried import is_bridged, serving_folder
from training.export.eject import Engine, eject
from training.export.formats import Export
from training.export.gate import ParityPrompts
from training.export.hub import Provenance
from training.export.merged import write_merged
from training.export.source import ExportSource, base_licence, check_name
from training.recipe import load_recipe
from workbench.config import METHODS, Method
from workbench.console import console
from workbench.errors import UserError, nearest
from workbench.inference.adapters import scale_adapter
from workbench.inference.answer_cache import model_fingerprint
from workbench.inference.base_models import compute_dtype, resolve_model
from workbench.inference.hub import hub_errors
from workbench.records import Response, take_spread
from workbench.store import whole_folder


def _untrained(context: RoundContext, method: str) -> UserError:
    return UserError(
        f"the round has no adapter '{method}'",
        where=str(context.round.folder),
        fix=f"run `persona train {method}` first",
    )


def known_arm(context: RoundContext, name: str | None) -> OwnArm:
    """Return an arm to talk to; ``dpo`` stands for ``sft+dpo``, and ``+prompt`` may follow.

    Without a name it is the last trained one. Prompts that an evaluation searched for are there by
    their arms' names, such as ``base+optimised``.

    Raises:
        UserError: There is none of that name, or it was not trained.
    """
    trained = [method for method in METHODS if context.round.manifest(method)]
    if name is None and not trained:
        console.print(f"  {context.round.folder} has no trained adapter: the base answers")
        return OwnArm("base")
    if name is None:
        return OwnArm(trained[-1], trained[-1])
    if name in searched_prompts(context.round):
        return OwnArm(name)
    bare = name.removesuffix(PROMPT).removeprefix("sft+")
    if bare in METHODS and bare not in trained:
        raise _untrained(context, bare)
    known = ["base", *trained]
    if bare not in known:
        fix = nearest(bare, known) or f"one of {', '.join(known)}, with or without {PROMPT}"
        raise UserError(f"there is no arm '{name}'", fix=fix)
    return OwnArm(name, "" if bare == "base" else bare)


def model_folder(context: RoundContext, method: str | None) -> Path:
    """Return the folder to serve; what is made for it is made once and kept in the round.

    An adapter is merged into its base. A base whose template is bridged gets a folder of its own,
    with links to its weights: the server would else render prompts that nobody was asked.

    Raises:
        UserError: The round has no such adapter, or it was made for another base.
    """
    base = resolve_model(context.config.model)
    if method is None:
        if not is_bridged(base):
            return base
        key = hashlib.sha256("".join(model_fingerprint(base)).encode()).hexdigest()
        bridged = context.round.folder / ".served" / f"base-{key[:16]}"
        if not bridged.exists():
            with whole_folder(bridged) as out:
                serving_folder(base, out)
        return bridged
    manifest = context.round.manifest(method)
    if manifest is None:
        raise _untrained(context, method)
    merged = context.round.folder / ".served" / f"{method}-{manifest.key[:16]}"
    if not merged.exists():
        weights = context.round.path(adapter(method))
        source = ExportSource(base, context.config.model, weights, merged.name)
        source.check()
        with whole_folder(merged) as out:
            write_merged(source, out, dtype=str(compute_dtype()).removeprefix("torch."))
    return merged


def linked_model(context: RoundContext, method: str | None) -> Path:
    """Return a link of a speaking name to the folder to serve; see :func:`model_folder`."""
    folder = model_folder(context, method)
    name = f"{context.persona.id}-{method}" if method else Path(context.config.model).name
    link = context.round.folder / ".served" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder.resolve(), target_is_directory=True)
    return link


def open_export(
    context: RoundContext,
    form: str,
    *,
    stage: str | None = None,
    name: str | None = None,
    out: Path | None = None,
    prompts: int | None = None,
    dataset: str = "",
    strength: float = 1.0,
) -> Export:
    """Return all that an export of a stage needs; one of ``training.export.formats`` writes it.

    ``stage`` is the one that was trained last by default, ``name`` persona and stage, ``out`` a
    folder in the round that ``form`` names; ``prompts`` is how many of the evaluation's prompts the
    gate asks, None for all; ``dataset`` the Hub's name of the rows, for the card; ``strength`` a
    factor on what the adapter adds, held against the evaluation's own answers at that strength.

    Raises:
        UserError: No such stage or no adapter of it, a name with odd characters, no prompts, an
            adapter that has no strength but its own.
    """
    stage = _stage(context, stage)
    part = stage if strength == 1 else f"{stage}-{strength:g}"
    name = check_name(name or f"{context.persona.id}-{part}", "--name")
    base = resolve_model(context.config.model)
    weights = _at_strength(context, stage, strength)
    source = ExportSource(base, context.config.model, weights, name)
    source.check()
    return Export(
        source=source,
        prompts=_parity_prompts(context, stage, prompts, strength),
        licence=base_licence(context.config.model, base),
        provenance=replace(_provenance(context, stage, dataset), strength=strength),
        out=out or context.round.folder / "export" / f"{part}-{form}",
    )


def _at_strength(context: RoundContext, stage: Method, strength: float) -> Path:
    """Return a stage's adapter at a strength: its own folder, or one that is made of it once."""
    weights = context.round.path(adapter(stage))
    manifest = context.round.manifest(stage)
    if strength == 1 or manifest is None:
        return weights
    scaled = context.round.folder / ".served" / f"{stage}-{manifest.key[:16]}@{strength:g}"
    if not scaled.exists():
        with whole_folder(scaled) as out:
            scale_adapter(weights, strength, out)
    return scaled


def eject_stage(
    context: RoundContext, *, stage: str | None = None, out: Path | None = None, engine: Engine
) -> Path:
    """Write a stage's training as one plain script with its rows, and return the script.

    Raises:
        UserError: No such stage or no adapter of it, or a plain script does not say all of it.
    """
    one, method = context.round, _stage(context, stage)
    manifest = one.manifest(method)
    text, replayed = one.read(recipe(method)), one.path(trained_rows(method))
    folder = out or one.stage("export") / f"{method}-script"
    with TemporaryDirectory() as temporary:
        file = Path(temporary) / "recipe.yaml"
        file.write_text(text, encoding="utf-8")
        own = context.config.train.files.get(method)
        train, validation = learning_files(one, method, own, Path(temporary))
        inputs = manifest.inputs if manifest else {}
        starts = [Path(name) for name in inputs if name.endswith("/adapter")]
        # Another round's adapter is named with its round, this round's by its stage alone.
        start = starts[0] if starts else None
        if start:
            start = (one.folder if len(start.parts) == 2 else one.folder.parent) / start
        settings = load_recipe(file)
        run = training_run(
            context,
            settings,
            replayed if replayed.exists() else train,
            folder,
            validation=validation,
            adapter=start,
            persona=context.persona if settings.samples else None,
        )
        script = eject(run, folder, name=context.persona.name, engine=engine)
        write_about(context, folder, record_names(run.train, run.validation))
    log_export(one, folder)
    return script


def _stage(context: RoundContext, stage: str | None) -> Method:
    """Return the stage to export: the one asked for, or the one trained last."""
    manifests = {name: context.round.manifest(name) for name in METHODS}
    trained = {name: manifest.started for name, manifest in manifests.items() if manifest}
    if stage is None and trained:
        # dpo goes on from sft, and so do the others: the last to be started.
        return max(trained, key=lambda name: trained[name])
    if stage is not None and stage not in METHODS:
        fix = nearest(stage, METHODS) or f"one of {', '.join(trained or METHODS)}"
        raise UserError(f"there is no stage '{stage}' with an adapter", where="--stage", fix=fix)
    if stage is None or stage not in trained:
        raise _untrained(context, stage or METHODS[0])
    return stage


def _parity_prompts(
    context: RoundContext, stage: str, prompts: int | None, strength: float
) -> ParityPrompts:
    """Return the evaluation's own prompts, with this adapter's answers where it gave some."""
    settings = context.config.evaluate
    rows = take_spread(context.round.read(TEST), settings.rows)[:prompts]
    if not rows:
        raise UserError(
            "the round has no held-out prompt to check an export with",
            where=str(context.round.path(TEST)),
            fix="split with a test share above 0",
        )
    # Where the evaluation cut answers; before one, where it would by the least.
    manifest = context.round.manifest("evaluate")
    limit = manifest.counts.get("max_new_tokens") if manifest else None
    return ParityPrompts(
        chats=tuple(row.prompt for row in rows),
        max_new_tokens=settings.max_new_tokens or int(limit or LEAST_NEW_TOKENS),
        persona=context.persona,
        recorded=_recorded(context, stage, {row.id for row in rows}, strength),
    )


def _recorded(
    context: RoundContext, stage: str, prompt_ids: set[str], strength: float
) -> tuple[Response, ...]:
    """Return what the evaluation wrote down of this very adapter for the prompts."""
    manifest = context.round.manifest("evaluate")
    if manifest is None or adapter(stage).path not in manifest.inputs:
        return ()
    arms = [a.name for a in own_arms(context) if a.stage == stage and not a.prompted]
    answers = RESPONSES
    if strength != 1:
        arms = [scaled_name(arm, strength) for arm in arms]
        if not context.round.has(answers := DIAL_ANSWERS):
            return ()
    return tuple(
        response
        for response in context.round.read(answers)
        if response.arm in arms
        and response.prompt_id in prompt_ids
        and not (response.probe or response.turn or response.seed)
    )


def _provenance(context: RoundContext, stage: str, dataset: str) -> Provenance:
    manifest = context.round.manifest(stage)
    has_recipe, evaluated = context.round.has(recipe(stage)), context.round.has(COMPARISON)
    return Provenance(
        recipe=context.round.read(recipe(stage)) if has_recipe else "",
        data=dict(manifest.inputs) if manifest else {},
        method=stage,
        seed=manifest.seed if manifest else context.config.seed,
        evaluation=context.round.read(COMPARISON) if evaluated else None,
        dataset=dataset,
        rows=data_sheet(context).card_part() if context.round.has(TRAIN) else "",
    )


def push_dataset(context: RoundContext, repository: str, *, public: bool = False) -> str:
    """Send a round's generated rows to the Hub, with a card, and return the commit's address.

    The token is the one of ``hf auth login``, or HF_TOKEN; it is written nowhere. ``repository`` is
    ``owner/name``; it is made where it is not there, private unless ``public``.

    Raises:
        UserError: The round has no generated rows, or the Hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    manifest = context.round.manifest(GENERATED.stage)
    if manifest is None or not manifest.counts.get("taught"):
        raise UserError(
            "the round has no generated rows",
            where=str(context.round.folder),
            fix="run `persona generate` with a teacher first",
        )
    folder = context.round.stage(GENERATED.stage)
    card = dataset_card(context.persona, manifest.model_dump(mode="json")).encode()
    operations = [CommitOperationAdd("README.md", card)]
    operations += [
        CommitOperationAdd(f"{name}.jsonl", folder / f"{name}.jsonl")
        for name in FILES
        if (output := manifest.outputs.get(f"{name}.jsonl")) and output.records
    ]
    api = HfApi()
    with hub_errors(repository):
        api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        commit = api.create_commit(
            repository,
            operations,
            repo_type="dataset",
            commit_message=f"{context.persona.id}: {manifest.counts['taught']} generated rows",
        )
    return commit.commit_url
