"""Run one stage of a round: inputs hashed, folder swapped in when it is whole, manifest last.

A manifest's existence means "done". Whether a stage is up to date is read off its manifest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from rounds import layout
from rounds.artifacts import Artifact, Records, Value
from rounds.layout import Manifest, OutputFile, RoundFolder, write
from workbench.console import console, publishing
from workbench.errors import UserError
from workbench.inference.base_models import has_gpu
from workbench.inference.processor import processor
from workbench.meter import Meter
from workbench.records import Record
from workbench.store import disk_errors, file_hash, replace_folder, write_json

R = TypeVar("R", bound=Record)
V = TypeVar("V")


@dataclass
class Work:
    """What a stage's function is given: inputs, a folder to fill, a place for its counts."""

    round: RoundFolder
    out: Path
    inputs: frozenset[Artifact] = frozenset()
    """What the manifest will name; nothing else of the round may be read."""
    counts: dict[str, Any] = field(default_factory=dict)

    def read(self, artifact: Value[V]) -> V:
        """Return what an input holds, such as records in the order of the file.

        Raises:
            UserError: It is no valid one; names the line.
        """
        self._check(artifact)
        return self.round.read(artifact)

    def read_if_there(self, artifact: Records[R]) -> list[R]:
        """Return the records of an optional input; none where the round does not have it."""
        return self.read(artifact) if artifact in self.inputs else []

    def path(self, artifact: Artifact) -> Path:
        """Return where an input lies, for what is read elsewhere: an adapter, a trainer's rows."""
        self._check(artifact)
        return self.round.path(artifact)

    def write(self, artifact: Value[object], value: object) -> Path:
        """Write one of the stage's artifacts and return its path."""
        return write(self.out, artifact, value)

    def _check(self, artifact: Artifact) -> None:
        if artifact not in self.inputs:
            raise LookupError(f"{artifact.path} is not among the inputs of {self.out.name}")


@dataclass(frozen=True)
class StageSpec:
    """One stage of a round."""

    name: str
    """Folder name and name on the command line."""
    run: Callable[[Work], None]
    """Fills ``work.out``."""
    inputs: tuple[Artifact, ...] = ()
    """What it reads of the round; a folder counts with all its files."""
    optional: tuple[Artifact, ...] = ()
    """What it reads too where the round has it."""
    earlier: tuple[tuple[RoundFolder, Artifact], ...] = ()
    """What it reads of earlier rounds."""
    files: Mapping[str, Path | str] = field(default_factory=dict)
    """Files from outside of the rounds, by the label that the manifest gives them; the hash of one
    that is gone."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Everything else that the outcome depends on; JSON values."""
    packages: tuple[str, ...] = ()
    """Distributions whose versions the manifest names."""
    foretold: float | None = None
    """Seconds that it was said to take."""
    resumable: bool = False
    """Keep a half-filled folder, since ``run`` can go on in it."""


@dataclass(frozen=True)
class Outcome:
    """How a stage ended."""

    stage: str
    ran: bool
    manifest: Manifest


def run_stage(
    round_: RoundFolder,
    spec: StageSpec,
    *,
    seed: int,
    force: bool = False,
    others: Callable[[], Iterable[int]] = tuple,
) -> Outcome:
    """Run a stage unless its manifest says that the same work is done.

    Raises:
        UserError: An input is missing, an output was changed by hand, or the disk is full.
    """
    inputs = (*spec.inputs, *(one for one in spec.optional if round_.has(one)))
    identity = _identity(round_, spec, inputs, seed)
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    before = round_.manifest(spec.name)
    if before and not force:
        why = _difference(before, identity, key)
        if not why:
            _check_done(round_.stage(spec.name), before, spec.packages)
            return Outcome(spec.name, False, before)
        console.print(f"  {spec.name} is done again: {why}")
    partial = round_.partial(spec.name)
    work = Work(round_, partial, frozenset(inputs))
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with disk_errors(partial):
        _prepare(partial, key, keep=spec.resumable and not force)
        with Meter(others) as meter, publishing(round_.folder / layout.PROGRESS):
            spec.run(work)
        (partial / ".key").unlink()
        manifest = Manifest(
            **identity,
            key=key,
            outputs=_output_hashes(partial),
            counts=work.counts,
            versions={name: metadata.version(name) for name in sorted(spec.packages)},
            started=started,
            seconds=round(meter.seconds, 2),
            foretold=spec.foretold,
            processor=_processor(spec),
            peak_mib=round(meter.peak_mib),
        )
        write_json(partial / layout.MANIFEST, manifest.model_dump(mode="json"))
        # Killed from here on, the next run finds the stage whole, or does it again.
        replace_folder(partial, round_.stage(spec.name))
    return Outcome(spec.name, True, manifest)


def _identity(
    round_: RoundFolder, spec: StageSpec, inputs: Sequence[Artifact], seed: int
) -> dict[str, Any]:
    """Return everything that a stage's outcome depends on."""
    return {
        "stage": spec.name,
        "inputs": _input_hashes(round_, spec, inputs),
        "settings": json.loads(json.dumps(spec.settings, default=str)),
        "seed": seed,
    }


def _processor(spec: StageSpec) -> dict[str, Any]:
    """Return what a stage with a model computed with on a processor; nothing on a GPU."""
    if "torch" not in spec.packages or has_gpu():
        return {}
    return processor().model_dump(mode="json")


def _input_hashes(
    round_: RoundFolder, spec: StageSpec, inputs: Sequence[Artifact]
) -> dict[str, str]:
    round_.require(*inputs, by=spec.name)
    hashes = {one.path: file_hash(round_.path(one)) for one in inputs}
    for other, artifact in spec.earlier:
        hashes[f"{other.name}/{artifact.path}"] = file_hash(other.path(artifact))
    return hashes | {
        label: file if isinstance(file, str) else file_hash(file)
        for label, file in spec.files.items()
    }


def _difference(before: Manifest, identity: dict[str, Any], key: str) -> str:
    """Return in words why a finished stage is out of date, or an empty string."""
    if before.key == key:
        return ""
    changed = []
    for part in ("inputs", "settings"):
        old, new = getattr(before, part), identity[part]
        changed += [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if before.seed != identity["seed"]:
        changed.append("seed")
    return f"changed: {', '.join(changed)}"


def _check_done(folder: Path, manifest: Manifest, packages: Iterable[str]) -> None:
    """Hold a finished stage's files against its manifest, and say what else made it.

    Other versions of libraries are told: hours are not spent again for them alone.
    """
    for name, written in manifest.outputs.items():
        path = folder / name
        if not path.exists() or file_hash(path) != written.sha256:
            raise UserError(
                "was changed after its stage wrote it",
                where=str(path),
                fix=f"put it back, or make it anew with --force {manifest.stage}",
            )
    changed = [
        f"{name} {manifest.versions[name]} (here {metadata.version(name)})"
        for name in sorted(set(packages) & set(manifest.versions))
        if manifest.versions[name] != metadata.version(name)
    ]
    if changed:
        console.print(f"  made with {', '.join(changed)}; --force {manifest.stage} makes it anew")


def _prepare(partial: Path, key: str, *, keep: bool) -> None:
    """Make the temporary folder; go on in one that was begun for the same work, where allowed."""
    mark = partial / ".key"
    begun = mark.exists() and mark.read_text(encoding="utf-8") == key
    if partial.exists() and not (keep and begun):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    mark.write_text(key, encoding="utf-8")


def _output_hashes(folder: Path) -> dict[str, OutputFile]:
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        records = None
        if path.suffix == ".jsonl":
            with path.open("rb") as file:
                records = sum(1 for _ in file)
        files[path.relative_to(folder).as_posix()] = OutputFile(
            sha256=file_hash(path), bytes=path.stat().st_size, records=records
        )
    return files
