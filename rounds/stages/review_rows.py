"""What is put before reviewers: filtered rows, imported pairs, and gold rows among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rounds.carry_over import read_carry_over
from rounds.context import RoundContext
from workbench.errors import UserError
from workbench.records import Example, Preference
from workbench.store import read_records

if TYPE_CHECKING:
    from curation.review.reliability import Gold


@dataclass(frozen=True)
class ReviewRows:
    """The rows of one round's review."""

    rows: list[Example]
    """The filtered rows, without those that an earlier round has decided on."""
    pairs: list[Example]
    """Chosen answers of imported pairs; none in a round that nobody reviews by hand."""
    alternatives: dict[str, str]
    """Chosen answer's id → the rejected answer beside it, of all imported pairs."""
    gold: Gold
    decided: list[Example] = field(default_factory=list)
    """Rows that an earlier round has decided on; nobody is asked about them again."""

    @property
    def candidates(self) -> list[Example]:
        """The rows that reviews decide on."""
        return [*self.rows, *self.pairs]

    def pushed(self, round_name: str) -> list[Example]:
        """Return all rows in the order of the push, gold rows strewn among them."""
        from curation.review.reliability import mixed

        return mixed(self.candidates, self.gold, round_name)


def review_rows(context: RoundContext, *, people: bool) -> ReviewRows:
    """Return what the round's reviewers get to see.

    Without people, reviews come from the persona's files: then only gold rows that have recorded
    reviews are mixed in, and imported pairs stand as they were brought.

    Raises:
        UserError: The rows are not filtered yet, or a broken ``gold.jsonl``.
    """
    from curation.argilla.recorded import gold_with_reviews
    from curation.review.pairs import pairs_of
    from curation.review.reliability import Gold, read_gold

    filtered = list(read_records(_filtered(context, "examples.jsonl"), Example))
    decided = {row.id: row for row in read_carry_over(context).of(filtered).rows}
    rows = [row for row in filtered if row.id not in decided]
    pairs = pairs_of(read_records(_filtered(context, "preferences.jsonl"), Preference))
    shown = pairs.candidates if people else []
    known = {row.id for row in (*filtered, *shown)}
    gold = read_gold(context.persona_folder, context.config.review.policy)
    if not people:
        needed = context.config.review.per_record
        gold = gold_with_reviews(context.persona_folder, context.persona, gold, needed)
    fresh = tuple(row for row in gold.examples if row.id not in known)
    compared = {row.id for row in shown}
    return ReviewRows(
        [row for row in rows if row.id not in compared],
        shown,
        pairs.alternatives,
        Gold(fresh, {row.id: gold.outcomes[row.id] for row in fresh}),
        list(decided.values()),
    )


def _filtered(context: RoundContext, name: str) -> Path:
    path = context.round.stage("filter") / name
    if not path.exists():
        raise UserError(
            "there are no filtered rows to review yet",
            where=str(context.round.folder),
            fix="run persona import, generate and filter first, or persona run",
        )
    return path
