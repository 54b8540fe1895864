"""What every command of a round is about: configuration, persona, and the round's folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from shlex import quote

import yaml
from pydantic import BaseModel

from rounds.layout import CONFIG, RoundFolder, round_number
from workbench.commands import RUNS, RoundOptions
from workbench.config import DIAL, RunConfig, load_config
from workbench.console import console
from workbench.errors import UserError, nearest
from workbench.inference import processor
from workbench.inference.answer_cache import base_fingerprint
from workbench.inference.base_models import resolve_model
from workbench.inference.chat_template import BRIDGE
from workbench.inference.embedded import EMBEDDED, EMBEDDED_HASH
from workbench.paraphrases import Meaning
from workbench.persona import Persona, load_persona, persona_file
from workbench.records import Example
from workbench.store import atomic_file
from workbench.yamlfile import read_yaml

SEEDS = "seeds.jsonl"
"""The rows that come with a persona."""


_WHOLE = 1_000
"""More prompts than a set has."""


@dataclass(frozen=True)
class RoundContext:
    """One round of one persona under one configuration."""

    config: RunConfig
    persona: Persona
    round: RoundFolder
    runs: Path
    file: Path | None = None
    """Where the configuration was read from."""

    @property
    def persona_folder(self) -> Path:
        """The folder that holds the persona's specification, seeds and reviews."""
        return persona_file(self.config.persona).parent

    @property
    def options(self) -> RoundOptions:
        """What names the round in a command to paste."""
        return RoundOptions(self.persona_folder, self.runs, self.round.number)

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files of rows that the round imports."""
        named = self.config.sources or (self.persona_folder / SEEDS,)
        return tuple(path for path in named if round_number(path) is None)

    @property
    def source_rounds(self) -> tuple[RoundFolder, ...]:
        """The persona's earlier rounds that the round takes its kept rows over from."""
        named = (path for path in self.config.sources if round_number(path))
        return tuple(self.round.sibling(path.name) for path in named)

    def base_key(self, stage: str) -> str:
        """Return what tells the base from others of its name: template, tokenizer, weights' sizes.

        Of a base that is gone it is what the stage was made with: what is done stays done.
        """
        if self.config.model == EMBEDDED:
            return f"{EMBEDDED_HASH}, bridge {BRIDGE}"
        try:
            return base_fingerprint(resolve_model(self.config.model, weights=False))
        except UserError:
            manifest = self.round.manifest(stage)
            return str(manifest.settings.get("base", "")) if manifest else ""

    def persona_files(self, *names: str) -> dict[str, Path]:
        """Return those of the named files that the persona's folder holds, by their names."""
        paths = {name: self.persona_folder / name for name in names}
        return {name: path for name, path in paths.items() if path.exists()}

    def meaning(self, threshold: float | None) -> Meaning | None:
        """Return how questions are compared by meaning; None where the threshold is 1: not at all.

        ``threshold`` is the likeness from which two ask the same; the embedder's own by default.
        """
        if threshold == 1:
            return None
        return Meaning(self.config.embedder, self.persona.language, threshold)

    def few_shot_examples(self, rows: Iterable[Example]) -> list[Example]:
        """Return those of the rows that the persona names as right answers, in its order."""
        order = [f"{SEEDS}:{line}" for line in self.persona.few_shot]
        named = (row for row in rows if row.source in order)
        return sorted(named, key=lambda row: order.index(row.source))

    def place(self, *keys: str) -> str:
        """Return where the configuration says something, for a message: file, line and key."""
        dotted = ".".join(keys)
        if self.file is None:
            return dotted
        _, lines = read_yaml(self.file)
        return f"{self.file}:{lines[keys]}: {dotted}" if keys in lines else dotted

    def with_settings(self, section: str, **settings: object) -> RoundContext:
        """Return the same context, with those settings of a section that are not None."""
        changes = {name: value for name, value in settings.items() if value is not None}
        own: BaseModel = getattr(self.config, section)
        return self._with(**{section: own.model_copy(update=changes)})

    def importing(
        self,
        files: tuple[Path, ...],
        columns: Mapping[str, str],
        *,
        skip_bad: bool = False,
        replace: bool = False,
        served: bool = False,
    ) -> RoundContext:
        """Return the same context, with more files of rows, and how these are read.

        What the round has already stays, and is read as it was; ``replace`` leaves it out. Files
        that are ``served`` are logs of a served model.
        """
        if not files and not replace:
            changes = {"columns": dict(columns)} if columns else {}
            return self._with(**changes, **({"skip_bad": True} if skip_bad else {}))
        config = self.config
        held = () if replace else config.sources or _seeds_taken_in(self.round, self.persona_folder)
        others = without(held, files)
        logs = (
            *(path for path in others if path in self.config.served),
            *(files if served else ()),
        )
        if not others:
            return self._with(sources=files, columns=dict(columns), skip_bad=skip_bad, served=logs)
        read = {path: config.columns_of(path) for path in others} | dict.fromkeys(files, columns)
        bad = [*filter(config.skips_bad, others), *(files if skip_bad else ())]
        return self._with(
            sources=(*others, *files),
            columns={str(path): dict(own) for path, own in read.items() if own},
            skip_bad=tuple(bad) or False,
            served=logs,
        )

    def evaluating(
        self,
        more: Mapping[str, str],
        *,
        robustness: bool = False,
        safety: bool = False,
        dial: bool = False,
        prompts: bool = False,
    ) -> RoundContext:
        """Return the same context, with more to ask.

        ``more`` are further arms; the others are all surfaces, the safety sets whole, several
        strengths of the adapter, and prompts that try harder.
        """
        changes: dict[str, object] = {}
        if more:
            changes["more"] = {**self.config.evaluate.more, **more}
        if robustness:
            changes["robustness"] = "whole"
        if safety:
            changes |= {"safety": _WHOLE, "requests": _WHOLE, "conversations": "all"}
        if dial and not self.config.evaluate.strengths:
            changes["strengths"] = DIAL
        if prompts:
            changes["prompt_arms"] = ("few-shot", "optimised")
        return self.with_settings("evaluate", **changes)

    def _with(self, **changes: object) -> RoundContext:
        return replace(self, config=self.config.model_copy(update=changes))

    @contextmanager
    def remembered(self, *, undo: bool) -> Iterator[None]:
        """Write the configuration into the round; with ``undo``, take a mistake's back."""
        file = self.round.folder / CONFIG
        before = file.read_text(encoding="utf-8") if file.exists() else None
        self.remember()
        try:
            yield
        except UserError:
            if undo and before is None:
                file.unlink()
            elif undo and before is not None:
                with atomic_file(file) as old:
                    old.write(before)
            raise

    def remember(self) -> None:
        """Write the configuration into the round; endpoints name where a key is, never the key."""
        data = self.config.model_dump(mode="json", exclude_defaults=True)
        data |= {"persona": str(self.config.persona), "model": self.config.model}
        with atomic_file(self.round.folder / CONFIG) as file:
            file.write("# Written by persona; the configuration that this round was made with.\n")
            yaml.safe_dump(data, file, allow_unicode=True, sort_keys=False)


def open_context(
    *,
    config: Path | None = None,
    preset: str | None = None,
    runs: Path = RUNS,
    round_number: int = 1,
    persona: Path | None = None,
    **changes: object,
) -> RoundContext:
    """Return the round that the options name.

    The configuration comes from the file or preset given, else from the round if it has one, else
    from the default preset; ``changes`` that are not None go on top. What was put into the round
    stays under a file, too: its sources beside those that the file names, its plan of rows.

    Raises:
        UserError: A broken configuration or persona, with every mistake of it.
    """
    changes |= {"persona": persona}
    options = {key: value for key, value in changes.items() if value is not None}
    file = config or (preset_path(preset) if preset else None)
    if file is None:
        named = load_persona(persona or RunConfig().persona)
        saved = RoundFolder.open(runs / named.id, round_number).folder / CONFIG
        file = saved if saved.exists() else preset_path("default")
    settings = load_config(file, options)
    processor.use(settings.processor)
    own = load_persona(settings.persona)
    one = RoundFolder.open(runs / own.id, round_number)
    if file != one.folder / CONFIG:
        settings = _with_what_is_there(settings, file, options, one)
    return RoundContext(settings, own, one, runs, file)


_STAYS = ("columns", "skip_bad", "served")
"""Keys of how a round's files are read."""


def _with_what_is_there(
    settings: RunConfig, file: Path, options: Mapping[str, object], one: RoundFolder
) -> RunConfig:
    """Return a file's configuration with what people put into the round: its files, its plan.

    Rows are added and never replaced by this; where the file names others, it is told.
    """
    saved = one.folder / CONFIG
    if not saved.exists() or "sources" in options:
        return settings
    data, _ = read_yaml(saved)
    reviews, plan = data.get("review"), data.get("generate")
    below: dict[str, object] = {key: data[key] for key in _STAYS if key in data}
    if isinstance(plan, dict) and "plan" in plan:
        below["generate"] = {"plan": plan["plan"]}
    if isinstance(reviews, dict) and "per_record" in reviews:
        below["review"] = {"per_record": reviews["per_record"]}
    named, folder = settings.sources, persona_file(settings.persona).parent
    held = tuple(Path(str(path)) for path in data.get("sources", ()))
    held = held or (_seeds_taken_in(one, folder) if named else ())
    settings = load_config(file, options, below)
    more = without(held, named)
    if more and named:
        at = RoundOptions(folder, one.folder.parent.parent, one.number)
        console.print(
            f"  {one.name} keeps its rows of {', '.join(map(str, more))}, which {file} does not"
            f" name; `{at.command(f'import FILE --replace --config {quote(str(file))}')}` takes"
            " them out",
            markup=False,
        )
    return settings.model_copy(update={"sources": (*more, *named)})


def _seeds_taken_in(one: RoundFolder, persona_folder: Path) -> tuple[Path, ...]:
    """Return the persona's own seeds where a round has imported them."""
    manifest = one.manifest("import")
    taken = manifest is not None and f"source:{SEEDS}" in manifest.inputs
    return (persona_folder / SEEDS,) if taken else ()


def without(paths: Iterable[Path], others: Iterable[Path]) -> tuple[Path, ...]:
    """Return the paths that are none of the others, whichever way these are written."""
    known = {path.resolve() for path in others}
    return tuple(path for path in paths if path.resolve() not in known)


def presets() -> list[str]:
    """Return the names of the configurations that come with the project."""
    folder = files("workbench").joinpath("presets")
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir())


def preset_path(name: str) -> Path:
    """Return the file of a preset.

    Raises:
        UserError: There is none of that name.
    """
    if name not in presets():
        fix = nearest(name, presets()) or f"one of {', '.join(presets())}"
        raise UserError(f"there is no preset '{name}'", fix=fix)
    return Path(str(files("workbench").joinpath(f"presets/{name}.yaml")))
