"""What a round takes over from earlier rounds: kept rows with reviews, decisions and pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rounds.context import RoundContext
from rounds.layout import MANIFEST, RoundFolder
from workbench.errors import UserError
from workbench.records import Decision, Example, Preference, Record, Response, Review
from workbench.store import read_records, write_records

FOLDER = "import"
ROWS = f"{FOLDER}/carry-over-examples.jsonl"
PAIRS = f"{FOLDER}/carry-over-preferences.jsonl"
DECISIONS = f"{FOLDER}/carry-over-decisions.jsonl"
REVIEWS = f"{FOLDER}/carry-over-reviews.jsonl"
BARE = f"{FOLDER}/carry-over-baseline.jsonl"
_READ = (
    "resolve/examples.jsonl",
    "resolve/preferences.jsonl",
    "resolve/decisions.jsonl",
    "review/reviews.jsonl",
    "review/adjudications.jsonl",
    "generate/baseline.jsonl",
)
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Carried:
    """Rows that were decided on in earlier rounds, in their final text, and what belongs to them.

    Every record is the one of its round, id and parents unchanged: a chain back goes on through it.
    """

    rows: list[Example] = field(default_factory=list)
    preferences: list[Preference] = field(default_factory=list)
    """All pairs of those rounds: corrections, bare answers, hard negatives, imported ones."""
    decisions: list[Decision] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    """Of reviewers and adjudicators."""
    bare: list[Response] = field(default_factory=list)
    """The base model's answers to the rows' prompts."""

    def of(self, kept: Sequence[Example]) -> Carried:
        """Return what is left of it where only ``kept`` went through this round's filters.

        A row that a filter masked is still the same one; it goes on under its new id.
        """
        sources = {row.id: row.source for row in self.rows}
        rows: dict[str, Example] = {}
        for row in kept:
            came = row.id if row.id in sources else row.parents[0] if len(row.parents) == 1 else ""
            # A teacher's row may name a carried one as what it was made from; its source differs.
            if came in sources and sources[came] == row.source:
                rows[came] = row
        gone = sources.keys() - rows.keys()
        pairs = [pair for pair in self.preferences if gone.isdisjoint(pair.parents)]
        named = {one for row in rows.values() for one in (row.id, *row.parents)}
        decided = [decision for decision in self.decisions if decision.record in named]
        return Carried(list(rows.values()), pairs, decided, self.reviews, self.bare)

    def counts(self) -> dict[str, int]:
        """What a stage's manifest says of it; nothing where nothing was taken over."""
        if not self.rows and not self.preferences:
            return {}
        return {
            "carried": len(self.rows),
            "carried_preferences": len(self.preferences),
            "carried_reviews": len(self.reviews),
        }


def carried_files(context: RoundContext) -> dict[str, Path]:
    """Return what is read of the rounds that are sources, by the label that a manifest gives it.

    Raises:
        UserError: Such a round is not there, is not split yet, or is not an earlier one.
    """
    found: dict[str, Path] = {}
    for one in context.source_rounds:
        if one.name >= context.round.name:
            raise UserError(
                f"{context.round.name} cannot take rows from {one.name}",
                where="sources",
                fix="name earlier rounds",
            )
        if not (one.stage("split") / MANIFEST).exists():
            number = int(one.name.rpartition("-")[2])
            raise UserError(
                "has no split yet" if one.folder.exists() else "there is no such round",
                where=f"sources: {one.folder}",
                fix=f"`persona run --round {number} --until split` makes it",
            )
        found |= {f"{one.name}/{name}": one.folder / name for name in _READ}
    return found


def read_rounds(rounds: Sequence[RoundFolder], model: str) -> Carried:
    """Return the kept rows of rounds, each once; of two words on a row the later round's counts.

    Args:
        rounds: Of one persona.
        model: The base model of this round; bare answers of another one are left behind.
    """
    rows: dict[str, Example] = {}
    pairs: dict[str, Preference] = {}
    decisions: dict[str, Decision] = {}
    reviews: dict[str, Review] = {}
    bare: dict[str, Response] = {}
    for one in sorted(rounds, key=lambda one: one.name, reverse=True):
        # What a later round decided on, it has kept, corrected or dropped itself, pairs included.
        own = _read(one, "resolve/examples.jsonl", Example)
        rows |= {row.id: row for row in own if decisions.keys().isdisjoint((row.id, *row.parents))}
        made = _read(one, "resolve/preferences.jsonl", Preference)
        pairs |= {pair.id: pair for pair in made if decisions.keys().isdisjoint(pair.parents)}
        decided = _read(one, "resolve/decisions.jsonl", Decision)
        decisions = {decision.record: decision for decision in decided} | decisions
        for name in ("review/reviews.jsonl", "review/adjudications.jsonl", REVIEWS):
            reviews |= {review.id: review for review in _read(one, name, Review)}
        manifest = one.manifest("generate")
        if manifest and manifest.settings.get("model") == model:
            answers = _read(one, "generate/baseline.jsonl", Response)
            bare = {answer.prompt_id: answer for answer in answers} | bare
    named = {one for row in rows.values() for one in (row.id, *row.parents)}
    return Carried(
        list(rows.values()),
        list(pairs.values()),
        [decision for decision in decisions.values() if decision.record in named],
        [review for review in reviews.values() if review.record in named],
        [answer for answer in bare.values() if answer.prompt_id in named],
    )


def _read(one: RoundFolder, name: str, kind: type[R]) -> list[R]:
    path = one.folder / name
    return list(read_records(path, kind)) if path.exists() else []


def write_carried(folder: Path, carried: Carried) -> None:
    """Write what was taken over into the folder of the import."""
    for name, records in (
        (ROWS, carried.rows),
        (PAIRS, carried.preferences),
        (DECISIONS, carried.decisions),
        (REVIEWS, carried.reviews),
        (BARE, carried.bare),
    ):
        write_records(folder / Path(name).name, records)


def carried_inputs(context: RoundContext, *names: str) -> tuple[str, ...]:
    """Return those of the files that a stage reads, none in a round that takes nothing over."""
    return names if context.source_rounds else ()


def read_carried(context: RoundContext) -> Carried:
    """Return what the import of this round took over."""
    if not context.source_rounds:
        return Carried()
    one = context.round
    return Carried(
        _read(one, ROWS, Example),
        _read(one, PAIRS, Preference),
        _read(one, DECISIONS, Decision),
        _read(one, REVIEWS, Review),
        _read(one, BARE, Response),
    )
