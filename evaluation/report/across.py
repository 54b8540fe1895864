"""The gate across rounds in words: what the last adapter has lost of the last round's."""

from __future__ import annotations

from evaluation.gate import AcrossRounds
from evaluation.report.source import Source
from evaluation.report.words import Words


def across(source: Source) -> AcrossRounds | None:
    """Return how the last adapter stands to the last round's; None in a first round."""
    data = source.general.get("across")
    return AcrossRounds.model_validate(data) if data else None


def across_lines(source: Source, words: Words) -> list[str]:
    """Return a sentence on each thing that was compared, on what was not and why, and the word."""
    found = across(source)
    if found is None:
        return []
    names = {"arm": words.arm(found.arm), "before": words.arm(found.before), "round": found.round}
    said = []
    if found.cross_entropy_change is not None and found.accuracy_change is not None:
        nats = words.signed(found.cross_entropy_change, 3)
        right = words.points(found.accuracy_change)
        said.append(words("across.general", nats=nats, points=right, **names))
    if found.fidelity:
        told = {
            "points": words.points(found.fidelity.mean),
            "interval": words.interval(found.fidelity),
            "prompts": found.fidelity.pairs,
        }
        said.append(words("across.fidelity", **told, **names))
    if found.not_compared:
        why = ", ".join(words(f"across.why.{one}") for one in found.not_compared)
        said.append(words("across.not_compared", why=why, **names))
    if found.lost:
        lost = ", ".join(words(f"across.lost.{one}") for one in found.lost)
        return [*said, words("across.failed", lost=lost, **names)]
    return (
        [*said, words("across.passed", **names)] if len(said) > bool(found.not_compared) else said
    )
