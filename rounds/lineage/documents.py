"""What is handed on with a round's rows: a datasheet, a Croissant file, a part of the model card.

In: a round, what its stages wrote down, and the persona's card. Out: :class:`DataSheet`, one
answer for each question that a successor asks, from which all documents are written.
``persona document``, the model card and the Hub's folder of rows take theirs from here.

The questions follow the seven parts of T. Gebru et al., Datasheets for Datasets (CACM 64(12),
2021), in our own words.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from rounds import layout
from rounds.artifacts import Records
from rounds.context import RoundContext
from rounds.layout import DROPS, EXAMPLES, PREFERENCES, TRAIN, RoundFolder, trained_rows
from rounds.lineage.croissant import croissant
from rounds.row_export import log_export, write_about
from training.export.source import base_licence
from workbench.errors import UserError
from workbench.inference.base_models import resolve_model
from workbench.inference.endpoint import Endpoint
from workbench.records import SPLITS, Preference, Review, Row
from workbench.stats.agreement import RaterAgreement
from workbench.store import file_hash, whole_folder, write_json
from workbench.text import counted

CARD = "README.md"
"""The persona's card; its front matter says what no stage can know."""
SHEET = "datasheet.md"
CROISSANT = "croissant.json"
FEW = 3
"""Rows of a topic below which it counts as a gap."""


@dataclass(frozen=True)
class Answer:
    """One question of the datasheet and what the round answers."""

    name: str
    """A word for it, such as ``teacher``."""
    part: str
    """The heading that it stands under."""
    question: str
    text: str
    """Empty where nobody knows."""
    required: bool = True
    fix: str = ""
    """Where an empty answer can be given."""


@dataclass(frozen=True)
class DataSheet:
    """All answers about the rows of one round."""

    title: str
    answers: tuple[Answer, ...]

    @property
    def missing(self) -> list[Answer]:
        """Required questions without an answer."""
        return [one for one in self.answers if one.required and not one.text]

    def text(self, name: str) -> str:
        """Return an answer by its name; empty where there is none."""
        return next((one.text for one in self.answers if one.name == name), "")

    def markdown(self) -> str:
        """Return the datasheet."""
        lines, part = [f"# {self.title}"], ""
        for one in self.answers:
            if one.part != part:
                part = one.part
                lines.append(f"## {part}")
            empty = f"*Not filled: {one.fix}.*" if one.required else "Not known."
            lines += [f"### {one.question}", one.text or empty]
        return "\n\n".join(lines) + "\n"

    def card_part(self) -> str:
        """Return what a model's card says of the rows it learnt from."""
        names = ("sources", "teacher", "reviewers", "agreement", "personal_data", "gaps")
        parts = [one for name in names for one in self.answers if one.name == name and one.text]
        return "\n\n".join(f"**{one.question}** {one.text}" for one in parts)


def data_sheet(context: RoundContext) -> DataSheet:
    """Return what a split round answers about its rows.

    Raises:
        UserError: The round is not split.
    """
    title = f"{context.persona.name}: rows of {context.round.name}"
    return DataSheet(title, tuple(_Facts(context).answers()))


def write_documents(context: RoundContext, out: Path | None = None) -> tuple[Path, DataSheet]:
    """Write the split's rows with their documents into a folder, and return it.

    Raises:
        UserError: The round is not split, or the folder holds something else.
    """
    folder = out or context.round.stage("export") / "documents"
    if folder.exists() and not (folder / CROISSANT).exists():
        what = "is there already, and holds no documents"
        raise UserError(what, where=str(folder), fix="name a new folder")
    sheet = data_sheet(context)
    with whole_folder(folder) as draft:
        for artifact in _row_files(context.round):
            shutil.copyfile(context.round.path(artifact), draft / artifact.name)
        _add(context, sheet, draft)
    log_export(context.round, folder)
    return folder, sheet


def add_documents(context: RoundContext, folder: Path, url: str = "") -> None:
    """Put the documents into a folder that holds the split's rows already, such as the Hub's.

    Raises:
        UserError: The round is not split.
    """
    _add(context, data_sheet(context), folder, url)
    log_export(context.round, folder)


def _add(context: RoundContext, sheet: DataSheet, folder: Path, url: str = "") -> None:
    files = _row_files(context.round)
    answers = {one.name: one.text for one in sheet.answers}
    (folder / SHEET).write_text(sheet.markdown(), encoding="utf-8")
    write_json(folder / CROISSANT, croissant(context, answers, files, url))
    write_about(context, folder, {row.id for file in files for row in context.round.read(file)})


def _row_files(one: RoundFolder) -> list[Records[Any]]:
    """Return the split's files that hold rows."""
    every: list[Records[Any]] = [*EXAMPLES.values(), *PREFERENCES.values()]
    return [file for file in every if one.has(file) and one.path(file).stat().st_size]


def front_matter(folder: Path) -> dict[str, Any]:
    """Return what the persona's card says of itself; empty where it has none."""
    import yaml

    card = folder / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.exists() else ""
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return {}
    try:
        data = yaml.safe_load(text[4:].split("\n---", 1)[0])
    except yaml.YAMLError as error:
        raise UserError("its front matter is no YAML", where=str(card), fix="mend it") from error
    return data if isinstance(data, dict) else {}


class _Facts:
    """A round's files, each read once, and what they answer."""

    def __init__(self, context: RoundContext) -> None:
        self.context, self.one = context, context.round
        self.card = front_matter(context.persona_folder)
        self.one.read(TRAIN)
        self.splits = {
            split: (self._there(EXAMPLES[split]), self._there(PREFERENCES[split]))
            for split in SPLITS
        }
        self.rows: list[Row] = [
            row for examples, pairs in self.splits.values() for row in (*examples, *pairs)
        ]

    def _there(self, *artifacts: Records[Any]) -> list[Any]:
        return [*chain.from_iterable(self.one.read_if_there(one) for one in artifacts)]

    def _counts(self, stage: str) -> dict[str, Any]:
        manifest = self.one.manifest(stage)
        return manifest.counts if manifest else {}

    def _settings(self, stage: str) -> dict[str, Any]:
        manifest = self.one.manifest(stage)
        return manifest.settings if manifest else {}

    def answers(self) -> Iterator[Answer]:
        """Yield every question with its answer, in the order of a reader."""
        card, filled = self.context.persona_folder / CARD, self.context.options.filled
        for name, part, question, required in _QUESTIONS:
            answer: Callable[[], str] | None = getattr(self, f"_{name}", None)
            text = answer() if answer else self._of_card(name)
            fix = _FIXES.get(name, f"write '{name}' into the front matter of {card}")
            yield Answer(name, part, question, text.strip(), required, filled(fix))

    def _of_card(self, name: str) -> str:
        value = self.card.get(name, "")
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")

    def _purpose(self) -> str:
        persona = self.context.persona
        about = f"{persona.role.strip()} For: {persona.audience.strip()}"
        return f"To fine-tune a model to speak as {persona.name}. {about}"

    def _persona(self) -> str:
        persona = self.context.persona
        what = f"{persona.id}, version {persona.version} (`{persona.record_id}`)"
        return f"{what}, language `{persona.language}`, {len(persona.traits)} scored traits."

    def _size(self) -> str:
        parts = [
            f"{split}: {counted(len(examples), 'row')} and {counted(len(pairs), 'preference pair')}"
            for split, (examples, pairs) in self.splits.items()
        ]
        return "; ".join(parts) + "."

    def _sources(self) -> str:
        learnt = (row for row in self._there(trained_rows("sft")) if row.origin == "rehearsal")
        groups = Counter(
            (row.origin, row.source.rpartition(":")[0], isinstance(row, Preference))
            for row in (*self.rows, *learnt)
        )
        return "\n".join(
            f"- {counted(count, 'pair' if pair else 'row')} of origin `{origin}`"
            + (f", from `{source}`" if source else "")
            for (origin, source, pair), count in sorted(groups.items())
        )

    def _teacher(self) -> str:
        who = self._settings("generate").get("teacher")
        taught = self._counts("generate").get("taught", 0)
        if not taught or not who:
            return "No row was written by a teacher model."
        parts = self._counts("generate").get("teachers") or [{**who, "rows": taught}]
        terms = {one.model: _terms(one) for one in self.context.config.teachers}
        lines = [
            f"{counted(one['rows'], 'row')} by `{one['model']}`: {terms[one['model']]}"
            for one in parts
            if terms.get(one["model"])
        ]
        return "\n".join(lines) if len(lines) == len(parts) else ""

    def _models(self) -> str:
        """Models that wrote the rejected sides, or judged rows."""
        name, licence = self.context.config.model, "licence unknown: the base is not here"
        with suppress(UserError):
            licence = base_licence(name, resolve_model(name, weights=False)).id
        what = f"The base model `{Path(name).name}` ({licence}) wrote its own answer to each"
        text = f"{what} question; it is the rejected side of most pairs."
        judge = self._settings("generate").get("judge")
        return f"{text} Judge: `{judge['model']}`." if judge else text

    def _prompts(self) -> str:
        versions = self._counts("generate").get("prompts", {})
        return ", ".join(f"{name} `{mark}`" for name, mark in versions.items())

    def _timeframe(self) -> str:
        manifests = [one for stage in layout.STAGES if (one := self.one.manifest(stage))]
        times = sorted(one.started for one in manifests if one.stage in DATA_STAGES)
        return f"Stages of data ran from {times[0]} to {times[-1]}." if times else ""

    def _filters(self) -> str:
        lines = []
        for stage, artifact in DROPS.items():
            reasons = Counter(drop.reason for drop in self.one.read_if_there(artifact))
            if reasons:
                named = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
                lines.append(f"- {stage} dropped {sum(reasons.values())}: {named}")
        settings = self._settings("filter")
        used = ", ".join(f"{name} {value}" for name, value in settings.items())
        if used:
            lines.append(f"- settings of the filters: {used}")
        return "\n".join(lines)

    def _personal_data(self) -> str:
        policy = self._settings("filter").get("personal_data")
        if policy is None:
            return ""
        drops = self.one.read_if_there(DROPS["filter"])
        dropped = sum(drop.reason == "personal_data" for drop in drops)
        came = {r.id for r in self._there(*_CAME)}
        masked = sum(row.id not in came for row in self._there(*_FILTERED))
        what = f"Rows with addresses, numbers and the like: policy `{policy}`,"
        text = f"{what} {counted(dropped, 'row')} dropped, {counted(masked, 'row')} masked."
        return f"{text} A rule finds them; a name without other marks is not found."

    @cached_property
    def _reviews(self) -> list[Review]:
        return self._there(layout.CARRY_OVER_REVIEWS, layout.REVIEWS)

    def _reviewers(self) -> str:
        per = Counter(one.reviewer for one in self._reviews if one.status == "submitted")
        if not per:
            return ""
        names = pseudonyms(self._reviews)
        each = ", ".join(f"{names[name]} {count}" for name, count in sorted(per.items()))
        settings = self._settings("review")
        how = "people, on a server" if settings.get("people") else "recorded with the persona"
        asked = settings.get("per_record", "?")
        gold = len({one.record for one in self._there(layout.GOLD_REVIEWS)})
        text = f"{counted(len(per), 'reviewer')} ({each} reviews; {how}), {asked} a row."
        return f"{text} {counted(gold, 'row')} with a known outcome tested them."

    def _agreement(self) -> str:
        if not self.one.has(layout.AGREEMENT):
            return ""
        measured = self.one.read(layout.AGREEMENT)
        parts = [
            f"{name}: {_interval(measured.questions[name])}"
            for name in ("decision", "fidelity")
            if name in measured.questions
        ]
        level = f"{measured.confidence:.0%} interval over rows"
        return f"Krippendorff's alpha, {level}. " + "; ".join(parts) + "." if parts else ""

    def _decisions(self) -> str:
        policy = self._settings("resolve").get("policy", {})
        outcomes = Counter(one.outcome for one in self._there(layout.DECISIONS))
        counts = ", ".join(f"{name} {count}" for name, count in outcomes.most_common())
        rule = f"rule `{policy.get('rule')}`, kept from a mean fidelity of"
        return f"{rule} {policy.get('keep_fidelity')}. Outcomes: {counts}." if outcomes else ""

    def _splitting(self) -> str:
        counts, settings = self._counts("split"), self._settings("split")
        if not counts:
            return ""
        names = self.context.persona.topic_name
        held = ", ".join(names(topic) for topic in counts.get("test_topics", ()))
        how = "Related rows go to one split"
        if settings.get("topics", "apart") == "apart":
            return f"{how}, topics whole. Held out for the test: {held}."
        return f"{how}; every split has its share of every topic."

    def _gaps(self) -> str:
        persona = self.context.persona
        topics = Counter(row.topic for row in self.rows)
        few = [persona.topic_name(one) for one in persona.topics if topics[one] < FEW]
        learnt = {row.topic for row in self.splits["train"][0]}
        unseen = [persona.topic_name(one) for one in persona.topics if one not in learnt]
        lines = [f"- one language, `{persona.language}`, and one persona"]
        if few:
            lines.append(f"- topics with fewer than {FEW} rows: {', '.join(few)}")
        if unseen:
            lines.append(f"- topics without a training row: {', '.join(unseen)}")
        if waiting := sum(one.outcome == "queue" for one in self._there(layout.DECISIONS)):
            lines.append(f"- {counted(waiting, 'row')} that reviewers could not settle")
        if len({one.reviewer for one in self._reviews}) < FEW:
            lines.append("- fewer than three reviewers: agreement says little of other people")
        if over := self._counts("import").get("not_drawn"):
            lines.append(f"- {counted(over, 'row')} of the sources not drawn")
        return "\n".join(lines)

    def _uses(self) -> str:
        persona = self.context.persona
        return (
            "Fine-tuning and testing of this persona's voice. Rows teach behaviour and format, not"
            f" knowledge, and are no professional advice. {persona.safety.boundary.strip()}"
        )

    def _withdrawal(self) -> str:
        return (
            "`persona forget` with a row's id, a source or a reviewer's name lists every file,"
            " export, document and adapter that holds something of it."
        )

    def _files(self) -> str:
        paths = [self.one.path(one) for one in _row_files(self.one)]
        lines = [f"- `{path.name}` `{file_hash(path)}`" for path in paths]
        return "\n".join(lines)


def _terms(endpoint: Endpoint) -> str:
    """Return a teacher's terms in a sentence; empty where somebody has still to say them."""
    if not endpoint.licence or endpoint.outputs_may_train is None:
        return ""
    may = "may" if endpoint.outputs_may_train else "may not"
    return f"licence {endpoint.licence}; by its terms its outputs {may} train another model."


def _interval(one: RaterAgreement) -> str:
    if one.value is None:
        return f"unscored ({one.unscored})"
    if one.low is None or one.high is None:
        return f"{one.value:.2f} (no interval: {one.unscored})"
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}], {counted(one.rows, 'row')}"


def pseudonyms(reviews: list[Review]) -> dict[str, str]:
    """Return reviewer → a letter by the order of names, so that documents name nobody."""
    names = sorted({one.reviewer for one in reviews})
    return {name: f"reviewer {_letters(number)}" for number, name in enumerate(names)}


def _letters(number: int) -> str:
    rest, last = divmod(number, 26)
    return (_letters(rest - 1) if rest else "") + chr(ord("A") + last)


DATA_STAGES = layout.STAGES[: layout.STAGES.index("split") + 1]
_CAME = (
    *(layout.CARRY_OVER_EXAMPLES, layout.CARRY_OVER_PREFERENCES),
    *(layout.IMPORTED, layout.IMPORTED_PREFERENCES, layout.GENERATED),
)
_FILTERED = (layout.FILTERED, layout.FILTERED_PREFERENCES)
_WHY, _WHAT, _HOW = "Why it was made", "What is in it", "How it came about"
_DONE, _USE, _GIVEN, _KEPT = (
    "What was done to it",
    "What it is for",
    "How it is handed on",
    "Who looks after it",
)
_QUESTIONS: tuple[tuple[str, str, str, bool], ...] = (
    ("purpose", _WHY, "What are the rows for?", True),
    ("creator", _WHY, "Who made them?", True),
    ("persona", _WHAT, "Which persona is it?", True),
    ("size", _WHAT, "How many rows are there, and in which split?", True),
    ("splitting", _WHAT, "How were they split?", True),
    ("gaps", _WHAT, "What is known to be missing?", True),
    ("sources", _HOW, "Where does each row come from?", True),
    ("teacher", _HOW, "Which teacher wrote rows, and under which terms?", True),
    ("models", _HOW, "Which other models wrote or judged texts?", False),
    ("prompts", _HOW, "Which versions of the prompts were used?", True),
    ("timeframe", _HOW, "When was it made?", True),
    ("reviewers", _HOW, "Who reviewed the rows?", True),
    ("consent", _HOW, "What were reviewers told, and did they agree?", False),
    ("filters", _DONE, "What was taken out, and why?", True),
    ("personal_data", _DONE, "What became of personal data?", True),
    ("decisions", _DONE, "How did reviews become decisions?", True),
    ("agreement", _DONE, "How well did reviewers agree?", True),
    ("uses", _USE, "What should they be used for, and what not?", True),
    ("license", _GIVEN, "Under which licence may they be passed on?", True),
    ("files", _GIVEN, "Which files are they (SHA-256)?", True),
    ("withdrawal", _KEPT, "How is a row taken back?", True),
    ("contact", _KEPT, "Whom does one ask?", True),
    ("maintenance", _KEPT, "Will it be kept up?", False),
)
_FIXES = {
    "teacher": "give teacher: {licence: …, outputs_may_train: true or false} in the configuration",
    "agreement": "run `persona resolve` on rows with two reviewers",
    "timeframe": "run the stages of data",
    **dict.fromkeys(("personal_data", "filters"), "run `persona filter`"),
    "reviewers": "run `persona review pull`",
    "decisions": "run `persona resolve`",
    "prompts": "run `persona generate`",
    "splitting": "run `persona split`",
}
"""Where an answer comes from that is no word of the card."""
