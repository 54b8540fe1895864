"""The carry-over: what a round takes from earlier rounds, kept rows with all that belongs to them.

In: earlier rounds' decisions, reviews and pairs. Out: the ``import`` stage's carry-over files. The
stages read them back with :func:`read_carry_over`, so that nobody is asked about a row twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rounds import layout
from rounds.artifacts import Artifact
from rounds.context import RoundContext
from rounds.layout import Reader, RoundFolder, write
from workbench.errors import UserError
from workbench.records import Decision, Example, Preference, Response, Review

_SOURCES: tuple[Artifact, ...] = (
    layout.RESOLVED,
    layout.RESOLVED_PREFERENCES,
    layout.DECISIONS,
    layout.REVIEWS,
    layout.ADJUDICATIONS,
    layout.BASELINE,
)
"""What is read of an earlier round."""


@dataclass(frozen=True)
class CarryOver:
    """Rows that were decided on in earlier rounds, in their final text, and what belongs to them.

    Every record is the one of its round, id and parents unchanged: a chain back goes on through it.
    """

    rows: list[Example] = field(default_factory=list)
    preferences: list[Preference] = field(default_factory=list)
    """All pairs of those rounds: corrections, baseline answers, hard negatives, imported ones."""
    decisions: list[Decision] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    """Of reviewers and adjudicators."""
    baseline: list[Response] = field(default_factory=list)
    """The base model's answers to the rows' prompts."""

    def of(self, filtered: Sequence[Example]) -> CarryOver:
        """Return what remains of it where only ``filtered`` went through this round's filters.

        A row that a filter masked is still the same one; it goes on under its new id.
        """
        sources = {row.id: row.source for row in self.rows}
        rows: dict[str, Example] = {}
        for row in filtered:
            origin = (
                row.id if row.id in sources else row.parents[0] if len(row.parents) == 1 else ""
            )
            # A teacher's row may name one of these as what it was made from; its source differs.
            if origin in sources and sources[origin] == row.source:
                rows[origin] = row
        gone = sources.keys() - rows.keys()
        pairs = [pair for pair in self.preferences if gone.isdisjoint(pair.parents)]
        named = {one for row in rows.values() for one in (row.id, *row.parents)}
        decisions = [decision for decision in self.decisions if decision.record in named]
        return CarryOver(list(rows.values()), pairs, decisions, self.reviews, self.baseline)

    def counts(self) -> dict[str, int]:
        """Return what a stage's manifest says of it; nothing where nothing was taken over."""
        if not self.rows and not self.preferences:
            return {}
        return {
            "carry_over": len(self.rows),
            "carry_over_preferences": len(self.preferences),
            "carry_over_reviews": len(self.reviews),
        }

    def write(self, folder: Path) -> None:
        """Write it into the folder that the import fills."""
        write(folder, layout.CARRY_OVER_EXAMPLES, self.rows)
        write(folder, layout.CARRY_OVER_PREFERENCES, self.preferences)
        write(folder, layout.CARRY_OVER_DECISIONS, self.decisions)
        write(folder, layout.CARRY_OVER_REVIEWS, self.reviews)
        write(folder, layout.CARRY_OVER_BASELINE, self.baseline)


def carry_over_inputs(context: RoundContext) -> tuple[tuple[RoundFolder, Artifact], ...]:
    """Return what is read of the rounds that are sources.

    Raises:
        UserError: Such a round is not there, is not split yet, or is not an earlier one.
    """
    for one in context.source_rounds:
        if one.number >= context.round.number:
            raise UserError(
                f"{context.round.name} cannot take rows from {one.name}",
                where="sources",
                fix="name earlier rounds",
            )
        if not one.done("split"):
            raise UserError(
                "has no split yet" if one.folder.exists() else "there is no such round",
                where=f"sources: {one.folder}",
                fix=f"`persona run --round {one.number} --until split` makes it",
            )
    return tuple((one, source) for one in context.source_rounds for source in _SOURCES)


def collect_carry_over(rounds: Sequence[RoundFolder], model: str, base: str = "") -> CarryOver:
    """Return the kept rows of rounds, each once; of two words on a row the later round's counts.

    Baseline answers of another base than ``model``, or than ``base`` where that tells more than its
    name (:meth:`RoundContext.base_key`), are left behind.
    """
    rows: dict[str, Example] = {}
    pairs: dict[str, Preference] = {}
    decisions: dict[str, Decision] = {}
    reviews: dict[str, Review] = {}
    baseline: dict[str, Response] = {}
    for one in sorted(rounds, key=lambda one: one.number, reverse=True):
        # What a later round decided on, it has kept, corrected or dropped itself, pairs included.
        decided = set(decisions)
        rows |= {
            row.id: row
            for row in one.read_if_there(layout.RESOLVED)
            if decided.isdisjoint((row.id, *row.parents))
        }
        pairs |= {
            pair.id: pair
            for pair in one.read_if_there(layout.RESOLVED_PREFERENCES)
            if decided.isdisjoint(pair.parents)
        }
        decisions = {own.record: own for own in one.read_if_there(layout.DECISIONS)} | decisions
        for artifact in (layout.REVIEWS, layout.ADJUDICATIONS, layout.CARRY_OVER_REVIEWS):
            reviews |= {review.id: review for review in one.read_if_there(artifact)}
        manifest = one.manifest("generate")
        settings = manifest.settings if manifest else {}
        # Another template under the same name answers otherwise.
        if (settings.get("model"), settings.get("base") or base) == (model, base):
            baseline = {own.prompt_id: own for own in one.read_if_there(layout.BASELINE)} | baseline
    named = {one for row in rows.values() for one in (row.id, *row.parents)}
    return CarryOver(
        list(rows.values()),
        list(pairs.values()),
        [decision for decision in decisions.values() if decision.record in named],
        [review for review in reviews.values() if review.record in named],
        [answer for answer in baseline.values() if answer.prompt_id in named],
    )


def read_carry_over(reader: Reader) -> CarryOver:
    """Return what the import of a round took over, as far as the reader has it."""
    return CarryOver(
        reader.read_if_there(layout.CARRY_OVER_EXAMPLES),
        reader.read_if_there(layout.CARRY_OVER_PREFERENCES),
        reader.read_if_there(layout.CARRY_OVER_DECISIONS),
        reader.read_if_there(layout.CARRY_OVER_REVIEWS),
        reader.read_if_there(layout.CARRY_OVER_BASELINE),
    )
