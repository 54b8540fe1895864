"""The verdict: one sentence with its interval, then what a sceptic asks next."""

from __future__ import annotations

from evaluation.report.across import across, across_lines
from evaluation.report.results import headline_arm
from evaluation.report.source import Source
from evaluation.report.words import Words
from evaluation.scorers.variety import UNLOOPED
from workbench.persona import FIDELITY
from workbench.stats import Cell, Comparison, Difference

LOOPING = 0.5
"""Mean of ``unlooped`` below which most of an arm's text repeats itself, and is called broken."""


def verdict(source: Source, words: Words) -> list[str]:
    """Return the verdict's sentences, the headline first.

    People's blind choices take the headline where there are enough of them to give an interval;
    an arm whose text goes round in circles is called broken before any score. Then follow
    fidelity, the system prompt alone, what carries no weight, and forgetting.
    """
    comparison = source.comparison
    arm = headline_arm(comparison)
    base = comparison.cell(comparison.base, FIDELITY)
    cell = comparison.cell(arm, FIDELITY) if arm else None
    if cell is None or cell.difference is None:
        return [words("verdict.base_only", base=words.percent(base.mean)), *_caveats(source, words)]
    sentences = [_fidelity(cell, base, cell.difference, words)]
    if broken := _looping(comparison, cell.arm, words):
        sentences.insert(0, broken)
    if chosen := _people(source, words, cell.arm):
        sentences.insert(0, chosen)
    if said := _prompt(comparison, cell, words):
        sentences.append(said)
    return [*sentences, *_caveats(source, words)]


def _fidelity(cell: Cell, base: Cell, difference: Difference, words: Words) -> str:
    return words(
        f"verdict.{_kind(difference)}",
        arm=words.arm(cell.arm),
        value=words.percent(cell.mean),
        base=words.percent(base.mean),
        points=words.points(difference.mean),
        interval=words.interval(difference),
        pairs=difference.pairs,
    )


def _looping(comparison: Comparison, arm: str, words: Words) -> str:
    """Return that the arm's text goes round in circles; then no trait in it means anything."""
    if UNLOOPED not in comparison.metrics:
        return ""  # of an evaluation before this was measured
    found = comparison.cell(arm, UNLOOPED).mean
    if found is None or found >= LOOPING:
        return ""
    return words("verdict.looping", arm=words.arm(arm), share=words.percent(1 - found))


def _kind(difference: Difference) -> str:
    if not difference.excludes_zero:
        return "unclear"
    return "better" if difference.mean > 0 else "worse"


def _people(source: Source, words: Words, arm: str) -> str:
    people = source.people
    found = people.pairing(arm, source.comparison.base) if people else None
    if people is None or found is None or found.share is None:
        return ""
    kind = "unclear"
    if found.excludes_chance:
        kind = "better" if found.share > 0.5 else "worse"
    return words(
        f"verdict.people.{kind}",
        arm=words.arm(arm),
        base=words.arm(source.comparison.base),
        share=words.percent(found.share),
        interval=words.range(found.low, found.high),
        decided=found.wins + found.losses,
        reviewers=people.reviewers,
    )


def _prompt(comparison: Comparison, cell: Cell, words: Words) -> str:
    """Return how the arm stands to the same base with a system prompt: the honest alternative."""
    against = cell.against_prompt
    if not comparison.prompted or against is None or cell.arm == comparison.prompted:
        return ""
    prompted = comparison.cell(comparison.prompted, FIDELITY)
    return words(
        f"verdict.prompt.{_kind(against)}",
        value=words.percent(prompted.mean),
        arm=words.arm(cell.arm),
        points=words.points(against.mean),
        interval=words.interval(against),
    )


def _caveats(source: Source, words: Words) -> list[str]:
    said = []
    if left_out := source.comparison.left_out:
        reason = next(iter(left_out.values()))
        said.append(words("verdict.judge", count=len(left_out), reason=words.reason(reason)))
    forgot = [arm["arm"] for arm in source.general.get("arms", ()) if not arm["passed"]]
    if forgot:
        said.append(words("verdict.forgot", arms=", ".join(map(words.arm, forgot))))
    held = across(source)
    if held and held.lost:
        said.append(across_lines(source, words)[-1])
    return said
