"""What a round is on disk: its folder, the artifacts of its stages, and their manifests.

In: the folder of a persona's rounds. Out: records, documents and manifests, typed by the artifact.
The only module that spells the path of a stage's file; others name it, as ``round.read(TRAIN)``.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from pydantic import Field

from curation.review.agreement import Agreement
from evaluation.calibration import Calibration
from evaluation.dial import Dial
from evaluation.gate import GateReport
from evaluation.outcome import SenseReport
from evaluation.pairwise import PairwiseResult
from evaluation.people import People
from evaluation.prices import Prices
from evaluation.reward_model import RewardReport
from evaluation.robustness import Robustness
from evaluation.safety_case import SafetyCase
from evaluation.style import StyleReport
from evaluation.sweep import SweepReport
from rounds.artifacts import Artifact, Document, Json, R, Records, Text, V, Value
from rounds.order import no_round, not_yet
from workbench import store
from workbench.config import METHODS, Method
from workbench.errors import UserError
from workbench.records import (
    SPLITS,
    Conversation,
    Critique,
    Decision,
    Drop,
    Example,
    Preference,
    ProbePrompt,
    Record,
    Response,
    Review,
    Score,
    SplitAssignment,
    SplitName,
    UnpairedPreference,
)
from workbench.stats import Comparison
from workbench.stats.training_seeds import SeedsReport
from workbench.values import Frozen

FORMAT = 2
"""Of rounds on disk. A round of another format is refused in one line, never half understood."""
MANIFEST = "manifest.json"
PROGRESS = ".progress.json"
"""What the running stage is doing, for whoever watches; gone when it ends."""
CONFIG = "config.yaml"
"""The round's own configuration: what later commands on the same round start from."""
TEACHER_JOB = "teacher"
"""Folder of a teacher's job in what outlives the stage ``generate``."""
LOCK = ".lock"
_DATA = ("import", "generate", "filter", "review", "resolve", "split")
STAGES = (*_DATA, *METHODS, "evaluate", "report")
"""Names of the stages' folders, in the order in which a reader meets them."""
_ROUND = re.compile(r"round-(\d{3,})")


IMPORTED = Records("import", "examples.jsonl", Example)
IMPORTED_PREFERENCES = Records("import", "preferences.jsonl", Preference)
IMPORT_DROPS = Records("import", "drops.jsonl", Drop)
PICTURES = Artifact("import", "images")
CARRY_OVER_EXAMPLES = Records("import", "carry-over-examples.jsonl", Example)
"""The carry-over: what a round takes from earlier rounds, every record unchanged."""
CARRY_OVER_PREFERENCES = Records("import", "carry-over-preferences.jsonl", Preference)
CARRY_OVER_DECISIONS = Records("import", "carry-over-decisions.jsonl", Decision)
CARRY_OVER_REVIEWS = Records("import", "carry-over-reviews.jsonl", Review)
CARRY_OVER_BASELINE = Records("import", "carry-over-baseline.jsonl", Response)

GENERATED = Records("generate", "examples.jsonl", Example)
GENERATED_PREFERENCES = Records("generate", "preferences.jsonl", Preference)
GENERATED_SCORES = Records("generate", "scores.jsonl", Score)
BASELINE = Records("generate", "baseline.jsonl", Response)
GENERATE_DROPS = Records("generate", "drops.jsonl", Drop)
CONVERSATIONS = Records("generate", "conversations.jsonl", Conversation)
CRITIQUES = Records("generate", "critiques.jsonl", Critique)
COVERAGE = Json("generate", "coverage.json")
DATASET_CARD = Text("generate", "README.md")
FILTERED = Records("filter", "examples.jsonl", Example)
FILTERED_PREFERENCES = Records("filter", "preferences.jsonl", Preference)
FILTER_DROPS = Records("filter", "drops.jsonl", Drop)

REVIEWS = Records("review", "reviews.jsonl", Review)
GOLD_REVIEWS = Records("review", "gold-reviews.jsonl", Review)
ADJUDICATIONS = Records("review", "adjudications.jsonl", Review)
REVIEWED_PAIRS = Records("review", "pairs.jsonl", Example)
"""Candidates that stand for imported pairs, as reviewers saw them."""
GOLD = Records("review", "gold.jsonl", Example)

RESOLVED = Records("resolve", "examples.jsonl", Example)
RESOLVED_PREFERENCES = Records("resolve", "preferences.jsonl", Preference)
DECISIONS = Records("resolve", "decisions.jsonl", Decision)
RESOLVE_DROPS = Records("resolve", "drops.jsonl", Drop)
AGREEMENT = Document("resolve", "agreement.json", Agreement)

TRAIN = Records("split", "train.jsonl", Example)
VALIDATION = Records("split", "validation.jsonl", Example)
TEST = Records("split", "test.jsonl", Example)
EXAMPLES = dict(zip(SPLITS, (TRAIN, VALIDATION, TEST), strict=True))
PREFERENCES: dict[SplitName, Records[Preference]] = {
    split: Records("split", f"preferences-{split}.jsonl", Preference) for split in SPLITS
}
PROBES = Records("split", "probes.jsonl", ProbePrompt)
DROPPED_PROBES = Records("split", "dropped-probes.jsonl", ProbePrompt)
ASSIGNMENTS = Records("split", "splits.jsonl", SplitAssignment)
SPLIT_DROPS = Records("split", "drops.jsonl", Drop)
RESPONSES = Records("evaluate", "responses.jsonl", Response)
SCORES = Records("evaluate", "scores.jsonl", Score)
INSTRUCTIONS = Records("evaluate", "instructions.jsonl", Response)
INSTRUCTION_PROMPTS = Records("evaluate", "instruction-prompts.jsonl", Example)
COMPARISON = Document("evaluate", "comparison.json", Comparison)
CALIBRATION = Document("evaluate", "calibration.json", Calibration)
REWARD_MODEL = Document("evaluate", "reward-model.json", RewardReport)
GENERAL = Document("evaluate", "general.json", GateReport)
STYLE = Document("evaluate", "style.json", StyleReport)
SENSE = Document("evaluate", "sense.json", SenseReport)
SAFETY = Document("evaluate", "safety.json", SafetyCase)
SAFETY_PROMPTS = Records("evaluate", "safety-prompts.jsonl", ProbePrompt)
SAFETY_ANSWERS = Records("evaluate", "safety-answers.jsonl", Response)
SURFACE_ANSWERS = Records("evaluate", "surfaces.jsonl", Response)
ROBUSTNESS = Document("evaluate", "robustness.json", Robustness)
DIAL = Document("evaluate", "dial.json", Dial)
DIAL_ANSWERS = Records("evaluate", "dial.jsonl", Response)
PRICES = Document("evaluate", "prices.json", Prices)
DIVERSITY = Json("evaluate", "diversity.json")
WIN_RATES = Document("evaluate", "pairs.json", PairwiseResult)
BLIND_KEY = Json("people", "key.json")
BLIND_PAIRS = Records("people", "pairs.jsonl", Example)
BLIND_REVIEWS = Records("people", "reviews.jsonl", Review)
PEOPLE = Document("people", "people.json", People)
SWEEP = Document("sweep", "sweep.json", SweepReport)
BAKEOFF = Document("sweep", "bakeoff.json", SweepReport)
SEEDS = Document("seeds", "seeds.json", SeedsReport)
REPORT_PAGE = Text("report", "report.html")
ROW_EXPORTS = Artifact("export", "rows.jsonl")

DROPS: dict[str, Records[Drop]] = {
    one.stage: one
    for one in (IMPORT_DROPS, GENERATE_DROPS, FILTER_DROPS, RESOLVE_DROPS, SPLIT_DROPS)
}
"""Stage → what it took out, in order."""
STAGE_EXAMPLES = {one.stage: one for one in (IMPORTED, GENERATED, FILTERED, RESOLVED)}
_ALL = [one for one in (*vars().values(), *PREFERENCES.values()) if isinstance(one, Records)]
RECORDS: dict[str, tuple[Records[Any], ...]] = {
    stage: tuple(sorted((one for one in _ALL if one.stage == stage), key=lambda one: one.name))
    for stage in (*STAGES[: STAGES.index("split") + 1], "evaluate")
}
"""Stage of data, or the evaluation → every file of records that it leaves."""


def adapter(method: str) -> Artifact:
    """Return the adapter that a training stage leaves."""
    return Artifact(method, "adapter")


def recipe(method: str) -> Text:
    """Return the recipe that a stage trained with, written out in full."""
    return Text(method, "recipe.yaml")


def curve(method: str) -> Artifact:
    """Return the training curve of a stage: one JSON object a logged step."""
    return Artifact(method, "curve.jsonl")


def trained_rows(method: Method) -> Records[Any]:
    """Return the rows of a run that learnt others than the split's: old ones, or the base's own."""
    models: dict[str, type[Record]] = {"dpo": Preference, "kto": UnpairedPreference}
    return Records(method, "trained.jsonl", models.get(method, Example))


def unpaired(split: SplitName) -> Records[UnpairedPreference]:
    """Return KTO's rows of a split."""
    return Records("kto", f"unpaired-{split}.jsonl", UnpairedPreference)


class OutputFile(Frozen):
    """A file as its stage wrote it; ``records`` are the lines of a JSONL file."""

    sha256: str
    bytes: int
    records: int | None = None


class Manifest(Frozen):
    """What a finished stage was made from and what came out; its existence means "done"."""

    format: int = FORMAT
    stage: str
    inputs: dict[str, str]
    """Artifact or label of a file from outside → SHA-256."""
    settings: dict[str, Any]
    seed: int
    key: str
    """SHA-256 of stage, inputs, settings and seed."""
    outputs: dict[str, OutputFile] = Field(default_factory=dict)
    counts: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    """Distribution → version."""
    started: str
    """ISO 8601 in UTC."""
    seconds: float
    foretold: float | None = None
    """Seconds that were foretold before it ran."""
    processor: dict[str, Any] = Field(default_factory=dict)
    """What a stage with a model computed with, and the speeds that it was chosen by."""
    peak_mib: int
    """Highest memory of all its processes."""

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Return the manifest of a file.

        Raises:
            UserError: It is of another format, or was changed by hand.
        """
        data = store.read_json(path)
        if data.get("format") != FORMAT:
            raise UserError(
                f"the round is of format {data.get('format', 1)}, this version reads {FORMAT}",
                where=str(path),
                fix="make the round anew, or read it with the version that made it",
            )
        return store.as_model(cls, data, "manifest", path)


class Reader(Protocol):
    """Who gives a round's records: the round itself, or a stage's work, which has its inputs."""

    def read(self, artifact: Value[V]) -> V:
        """Return what an artifact holds."""

    def read_if_there(self, artifact: Records[R]) -> list[R]:
        """Return the records of an artifact, none where it is not there."""


@dataclass(frozen=True)
class RoundFolder:
    """One round of one persona: a folder of plain files, one folder a stage."""

    folder: Path

    @classmethod
    def open(cls, persona_runs: str | Path, number: int) -> Self:
        """Return round ``number`` (from 1) of a persona's folder, such as ``runs/gym-trainer``.

        Nothing is made on disk; a round that is not there yet has no stage done.
        """
        return cls(Path(persona_runs) / f"round-{number:03d}")

    @property
    def name(self) -> str:
        """The round's name, such as ``round-001``."""
        return self.folder.name

    @property
    def number(self) -> int:
        """The round's number, from 1."""
        return round_number(self.name) or 1

    @property
    def all_rounds(self) -> list[Self]:
        """Every round of the same persona that is on disk, first ones first."""
        paths = self.folder.parent.glob("round-*")
        there = [type(self)(path) for path in paths if path.is_dir() and round_number(path.name)]
        return sorted(there, key=lambda one: one.number)

    @property
    def earlier(self) -> list[Self]:
        """The rounds of the same persona before this one, first ones first."""
        return [one for one in self.all_rounds if one.number < self.number]

    @property
    def previous(self) -> Self | None:
        """The round before this one on disk."""
        return self.earlier[-1] if self.earlier else None

    @property
    def next(self) -> Self:
        """The round after this one; nothing is made on disk."""
        return self.numbered(self.number + 1)

    def numbered(self, number: int) -> Self:
        """Return round ``number`` of the same persona; nothing is made on disk."""
        return type(self).open(self.folder.parent, number)

    def sibling(self, name: str) -> Self:
        """Return another round of the same persona by its name."""
        return type(self)(self.folder.parent / name)

    def path(self, artifact: Artifact) -> Path:
        """Return where an artifact lies, whether it is there or not."""
        return self.folder / artifact.stage / artifact.name

    def stage(self, name: str) -> Path:
        """Return the folder of a finished stage."""
        return self.folder / name

    def partial(self, stage: str) -> Path:
        """Return the folder in which a stage is being made; it is renamed when it is whole."""
        return self.folder / f".{stage}.partial"

    def scratch(self, stage: str) -> Path:
        """Return the folder of what outlives a stage's runs: answers that were paid for."""
        return self.folder / f".{stage}.scratch"

    def has(self, artifact: Artifact) -> bool:
        """Return whether an artifact is there."""
        return self.path(artifact).exists()

    def check_there(self) -> None:
        """Raise a UserError where the round was never begun; it names the rounds that were."""
        if not self.folder.exists():
            raise no_round(self.folder, [one.name for one in self.all_rounds])

    def done(self, stage: str) -> bool:
        """Return whether a stage is finished."""
        return (self.stage(stage) / MANIFEST).exists()

    def read(self, artifact: Value[V]) -> V:
        """Return what an artifact holds, such as records in the order of the file.

        Raises:
            UserError: It is not there, or no valid one; names the line.
        """
        self.require(artifact)
        return artifact._load(self.path(artifact))

    def require(self, *artifacts: Artifact, by: str = "") -> None:
        """Check that artifacts are there; ``by`` names the stage that needs them.

        Raises:
            UserError: One is not; names the stage that makes it.
        """
        for artifact in artifacts:
            if not self.has(artifact):
                what = f"{by} needs {artifact.path}, which" if by else artifact.path
                raise not_yet(f"{what} is not there yet", artifact.stage, self.folder)

    def read_if_there(self, artifact: Records[R]) -> list[R]:
        """Return an artifact's records; none where it is not there."""
        return self.read(artifact) if self.has(artifact) else []

    def manifest(self, stage: str) -> Manifest | None:
        """Return the manifest of a finished stage, or None.

        Raises:
            UserError: The round is of another format.
        """
        path = self.stage(stage) / MANIFEST
        return Manifest.load(path) if path.exists() else None

    def locked(self) -> AbstractContextManager[None]:
        """Hold the round, so that two commands do not write it at once.

        A round that was not there before goes again where a mistake comes before anything is done.

        Raises:
            UserError: Another command holds it, or the folder cannot be written.
        """
        return store.locked(self.folder / LOCK, self.folder, undo=CONFIG)


def round_number(name: str | Path) -> int | None:
    """Return the number that a round's name holds, such as 1 of ``round-001``; None of others."""
    match = _ROUND.fullmatch(str(name))
    return int(match.group(1)) if match else None


def write(folder: Path, artifact: Value[object], value: object) -> Path:
    """Write what ``read`` gives back into the folder that a stage fills, and return its path."""
    path = folder / artifact.name
    artifact._dump(path, value)
    return path
