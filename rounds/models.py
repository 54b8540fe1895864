"""What leaves a round: an arm to talk to, a folder to serve, an adapter to export, rows to share.

In: a round whose stages have run. Out: what :mod:`workbench.inference` and :mod:`training.export`
need of it. ``persona chat``, ``serve``, ``export`` and ``push-dataset`` are thin over these
functions, and from Python they do the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
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
from rounds.prompt_arms import arm_prompt, searched_prompts
from rounds.row_export import log_export, record_names, write_about
from rounds.stages.train import learning_files, training_run
from training.export.carried import TEMPLATE, is_bridged, lead_by, serving_folder
from training.export.eject import Engine, eject
from training.export.formats import Export
from training.export.gate import ParityPrompts
from training.export.hub import Provenance
from training.export.merged import write_merged
from training.export.source import ExportSource, base_licence, check_name
from training.recipe import load_recipe
from workbench.arm_names import PROMPT_ARMS, is_prompted
from workbench.config import METHODS, Method
from workbench.console import console
from workbench.errors import UserError, nearest
from workbench.inference.adapters import scale_adapter
from workbench.inference.answer_cache import model_fingerprint
from workbench.inference.base_models import compute_dtype, resolve_model
from workbench.inference.hub import hub_errors
from workbench.prompts import with_system
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
    if name in PROMPT_ARMS and name != f"base{PROMPT}":
        what = f"no prompt was searched for the arm '{name}' yet"
        fix = "run `persona evaluate --prompts` first"
        raise UserError(what, where=str(context.round.folder), fix=fix)
    bare = name.removesuffix(PROMPT).removeprefix("sft+")
    if bare in METHODS and bare not in trained:
        raise _untrained(context, bare)
    known = ["base", *trained]
    if bare not in known:
        fix = nearest(bare, known) or f"one of {', '.join(known)}, with or without {PROMPT}"
        raise UserError(f"there is no arm '{name}'", fix=fix)
    return OwnArm(name, "" if bare == "base" else bare)


def model_folder(context: RoundContext, method: str | None, system: str = "") -> Path:
    """Return the folder to serve; what is made for it is made once and kept in the round.

    An adapter is merged into its base. A base whose template is bridged gets a folder of its own,
    with links to its weights: the server would else render prompts that nobody was asked. So does
    one with a ``system`` prompt, which leads chats that have none of their own.

    Raises:
        UserError: The round has no such adapter, or it was made for another base.
    """
    base = resolve_model(context.config.model)
    if method is None:
        if not system and not is_bridged(base):
            return base
        key, fill = _digest("".join(model_fingerprint(base))), partial(serving_folder, base)
    else:
        manifest = context.round.manifest(method)
        if manifest is None:
            raise _untrained(context, method)
        weights, key = context.round.path(adapter(method)), manifest.key[:16]
        source = ExportSource(base, context.config.model, weights, f"{method}-{key}")
        source.check()
        fill = partial(write_merged, source, dtype=str(compute_dtype()).removeprefix("torch."))
    name = "-".join([method or "base", key, *([_digest(system)] if system else [])])
    folder = context.round.folder / ".served" / name
    if not folder.exists():
        with whole_folder(folder) as out:
            fill(out)
            lead_by(out / TEMPLATE, system)
    return folder


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def linked_model(context: RoundContext, arm: str | None) -> Path:
    """Return a link of a speaking name to the folder that serves an arm, the base by default.

    Raises:
        UserError: As :func:`known_arm` and :func:`model_folder`.
    """
    own = known_arm(context, arm or "base")
    folder = model_folder(context, own.stage or None, arm_prompt(context, own.name))
    bare = own.name == "base"
    name = Path(context.config.model).name if bare else f"{context.persona.id}-{_part(own)}"
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
    arm: str | None = None,
    prompted: bool = False,
    name: str | None = None,
    out: Path | None = None,
    prompts: int | None = None,
    dataset: str = "",
    strength: float = 1.0,
) -> Export:
    """Return all that an export of an arm needs; one of ``training.export.formats`` writes it.

    ``arm`` is a name as :func:`known_arm` takes it, ``base+optimised`` say; by default the adapter
    of ``stage`` answers, the one that was trained last. ``prompted`` puts the persona's system
    prompt before an arm that has none. ``name`` is persona and arm, ``out`` a folder in the round
    that ``form`` names; ``prompts`` is how many of the evaluation's prompts the
    gate asks, None for all; ``dataset`` the Hub's name of the rows, for the card; ``strength`` a
    factor on what the adapter adds, held against the evaluation's own answers at that strength.

    Raises:
        UserError: No such arm or no adapter of it, a name with odd characters, no prompts, an
            adapter that has no strength but its own.
    """
    own = _exported_arm(context, stage, arm, prompted=prompted)
    part = _part(own) if strength == 1 else f"{_part(own)}-{strength:g}"
    name = check_name(name or f"{context.persona.id}-{part}", "--name")
    base = resolve_model(context.config.model)
    weights = _at_strength(context, own.stage, strength)
    system = arm_prompt(context, own.name)
    source = ExportSource(base, context.config.model, weights, name)
    source.check()
    return Export(
        source=source,
        prompts=_parity_prompts(context, own, system, prompts, strength),
        licence=base_licence(context.config.model, base),
        provenance=replace(_provenance(context, own.stage, dataset), strength=strength),
        out=out or context.round.folder / "export" / f"{part}-{form}",
        system=system,
    )


def _exported_arm(
    context: RoundContext, stage: str | None, arm: str | None, *, prompted: bool
) -> OwnArm:
    if arm and stage:
        what = f"the arm '{arm}' is asked for, and --stage {stage} too"
        raise UserError(what, where="--arm", fix="leave one of them out")
    method = "" if arm else _stage(context, stage)
    own = known_arm(context, arm) if arm else OwnArm(method, method)
    return replace(own, name=f"{own.name}{PROMPT}") if prompted and not own.prompted else own


def _part(arm: OwnArm) -> str:
    """Return an arm's name as files and servers are called."""
    return arm.name.replace("+", "-")


def _at_strength(context: RoundContext, stage: str, strength: float) -> Path | None:
    """Return a stage's adapter at a strength: its own folder, or one that is made of it once.

    None for the base, which has no adapter.
    """
    if not stage:
        if strength != 1:
            what = "the base has no adapter, so that there is nothing to scale"
            raise UserError(what, where="--strength", fix="leave it out")
        return None
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
    context: RoundContext, arm: OwnArm, system: str, prompts: int | None, strength: float
) -> ParityPrompts:
    """Return the evaluation's own prompts, with this arm's answers where it gave some."""
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
        chats=tuple(with_system(system, row.prompt) if system else row.prompt for row in rows),
        max_new_tokens=settings.max_new_tokens or int(limit or LEAST_NEW_TOKENS),
        persona=context.persona,
        recorded=_recorded(context, arm, {row.id for row in rows}, strength),
    )


def _recorded(
    context: RoundContext, arm: OwnArm, prompt_ids: set[str], strength: float
) -> tuple[Response, ...]:
    """Return what the evaluation wrote down of this very arm for the prompts."""
    manifest = context.round.manifest("evaluate")
    if manifest is None or (arm.stage and adapter(arm.stage).path not in manifest.inputs):
        return ()
    prompt = _prompt_part(arm.name)
    arms = [
        a.name for a in own_arms(context) if a.stage == arm.stage and _prompt_part(a.name) == prompt
    ]
    if arm.name in searched_prompts(context.round):  # whatever this configuration asks for
        arms = [arm.name]
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


def _prompt_part(arm: str) -> str:
    """Return which prompt an arm is asked under, by its name; empty for none."""
    return arm.rpartition("+")[2] if is_prompted(arm) else ""


def _provenance(context: RoundContext, stage: str, dataset: str) -> Provenance:
    manifest = context.round.manifest(stage) if stage else None
    has_recipe = bool(stage) and context.round.has(recipe(stage))
    evaluated = context.round.has(COMPARISON)
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
