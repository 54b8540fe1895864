"""What reviewers put in place of an answer, and the preferences that follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from curation.review.reliability import Reliability
from curation.review.votes import Ballot
from workbench.persona import Persona
from workbench.records import Example, Origin, Preference


def best_correction(
    persona: Persona, votes: Sequence[Ballot], trust: Reliability
) -> tuple[str, str]:
    """Return the correction that wins and why others could not be taken; either may be empty.

    A correction that crosses the safety boundary is refused.
    Of several, the one that most reviewers gave word for word is taken; then that of the most
    reliable reviewer (``trust`` is empty where all count alike); then the one with the fewest
    failed traits; then the first by its reviewer's name.
    """
    fit: dict[str, list[Ballot]] = {}
    refused = []
    for ballot in votes:
        if not ballot.corrected:
            continue
        if phrase := persona.safety.unsafe(ballot.corrected):
            refused.append(f"correction by {ballot.reviewer} not taken: unsafe ({phrase!r})")
        else:
            fit.setdefault(ballot.corrected, []).append(ballot)

    def rank(text: str) -> tuple[int, float, int, str]:
        writers = [ballot.reviewer for ballot in fit[text]]
        trusted = max(trust.reviewers.get(writer, 1.0) for writer in writers)
        return -len(writers), -trusted, len(persona.failed_traits(text)), min(writers)

    return min(fit, key=rank, default=""), "; ".join(refused)


def prefers(side: Literal["candidate", "alternative"], votes: Sequence[Ballot]) -> bool:
    """Return whether more of the votes find ``side`` better than find the other better."""
    counts = Counter(ballot.better for ballot in votes)
    return counts[side] > counts["alternative" if side == "candidate" else "candidate"]


def preferences(
    original: Example, kept: Example, reviews: Sequence[str], *, alternative: str | None, bare: str
) -> list[Preference]:
    """Return what the kept answer is preferred to: the original, the alternative, the bare answer.

    Args:
        original: The candidate that was reviewed.
        kept: What became of it.
        reviews: Ids of the reviews that decided.
        alternative: The other answer of a pair where the candidate was found better.
        bare: The base model's own answer, or an empty string.
    """
    replaced: Origin = "edit" if kept.origin == "edit" else "teacher"
    pairs: list[tuple[Origin, str]] = [
        (replaced, original.answer),
        ("teacher", alternative or ""),
        ("baseline", bare),
    ]
    taken = {"", folded(kept.answer)}  # an empty or identical text says nothing
    made: list[Preference] = []
    for origin, rejected in pairs:
        if folded(rejected) in taken:
            continue
        taken.add(folded(rejected))
        made.append(
            Preference(
                prompt=kept.prompt,
                chosen=kept.answer,
                rejected=rejected,
                topic=kept.topic,
                origin=origin,
                source=kept.source,
                parents=unique(kept.id, original.id, *reviews),
            )
        )
    return made


def folded(text: str) -> str:
    """Return ``text`` with white space folded: a moved line break is no correction."""
    return " ".join(text.split())


def unique(*ids: str) -> tuple[str, ...]:
    """Return the ids in their order, each once."""
    return tuple(dict.fromkeys(ids))
