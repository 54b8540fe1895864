"""Where a tuned model is weak: traits, topics, probes and turns, claimed only where it is sure.

In: the scores of one arm, and the reviewed answers to the same prompts. Out: gaps, which plan the
next round's rows. Called by ``rounds.planning``, which holds :class:`Gap` in its own records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from workbench.persona import FIDELITY, Persona
from workbench.records import Example, Response, Score
from workbench.stats.bootstrap import RESAMPLES
from workbench.stats.comparison import ALPHA, DRIFT, FEWEST_PAIRS, differences_of
from workbench.stats.significance import holm_within, two_samples, units_for
from workbench.stats.table import Column, Key, tabulate
from workbench.values import Frozen

Family = Literal["trait", "topic", "probe", "turn", "learned"]
Against = Literal["reviewed", "other_traits", "other_topics", "held_out", "first_turn"]
Pairs = list[tuple[float, float]]
"""The arm's value and what it is held against, one a prompt."""
_Place = tuple[Family, str, Against]
_Groups = tuple[Family, str, Against, list[float], list[float]]
"""A place, its prompts' values, and the other prompts'."""


class Gap(Frozen):
    """How far the arm falls short in one place of what it is held against."""

    family: Family
    name: str
    """The trait, the topic, the probe set, or the turn."""
    against: Against
    """``reviewed``: what people kept as the answer to the same prompt; ``other_traits``: the same
    answers' other traits; ``other_topics``, ``held_out``: other prompts; ``first_turn``: of the
    same conversations."""
    prompts: int
    others: int
    """Prompts that they are held against, where these are others; 0 where the same are compared."""
    value: float
    reference: float
    gap: float
    """Mean of ``value`` minus ``reference``; below 0 the arm is weaker here."""
    low: float | None
    """Lower end of the interval of ``gap``; None where there are too few prompts."""
    high: float | None
    p: float | None
    p_adjusted: float | None = None
    """After Holm's correction within the family."""
    needed: int | None = None
    """About how many prompts would settle it, where it is sure before the correction alone."""

    @property
    def is_sure(self) -> bool:
        """Whether the arm is weaker here: interval below 0, and the corrected test agrees."""
        below = self.high is not None and self.high < 0
        tested = self.p_adjusted is not None and self.p_adjusted < ALPHA
        return self.is_enough and below and tested

    @property
    def is_enough(self) -> bool:
        """Whether there are prompts enough to tell a difference at all."""
        return min(self.prompts, self.others or self.prompts) >= FEWEST_PAIRS

    @property
    def certain_gap(self) -> float:
        """The end of the interval nearest to 0, as a size above 0; 0.0 where nothing is sure."""
        return -self.high if self.is_sure and self.high is not None else 0.0


def find_gaps(
    persona: Persona,
    arm: str,
    scores: Sequence[Score],
    responses: Sequence[Response],
    reviewed: Sequence[Example],
    *,
    traits: Iterable[str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Gap]:
    """Return every place's gap, the widest first within its family.

    A trait is held against the reviewed answers to the same prompts, which rules can score; a trait
    that only a judge can see, against the arm's other traits. A topic's shortfall is held against
    that of the other topics, a probe set's fidelity against that on held-out questions, a later
    turn's against the first turn's. Paired gaps get a BCa bootstrap interval and the sign-flip
    test, the others those of :func:`workbench.stats.significance.two_samples`; Holm's
    correction is made within each family.

    ``reviewed`` are the held-out rows, with the answers that people kept; ``traits`` are what
    fidelity is made of (:func:`workbench.stats.comparison.compare`): of others, such as an
    untrusted judge's, nothing is claimed.
    """
    own = [score for score in scores if score.arm == arm]
    counted = None if traits is None else list(traits)
    table = tabulate(own, responses, counted)
    fidelity = table.get(Key(arm, "", 0, FIDELITY), Column())
    reviewed_values = _reviewed_values(persona, reviewed)
    claimed = [one.id for one in persona.traits if counted is None or one.id in counted]
    pairs = _trait_pairs(claimed, table, arm, fidelity, reviewed_values) | _turn_pairs(table, arm)
    gaps = _paired_gaps(pairs, seed, resamples)
    topic_of = {response.prompt_id: response.topic for response in responses}
    groups = [
        *_topic_groups(fidelity, reviewed_values, topic_of),
        *_probe_groups(table, arm, fidelity),
    ]
    gaps += filter(None, (gap_of(*group, seed, resamples) for group in groups))
    return corrected(gaps)


def gap_of(
    family: Family,
    name: str,
    against: Against,
    values: Sequence[float],
    others: Sequence[float],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Gap | None:
    """Return the gap between different prompts' values, or None where one group has none."""
    import numpy as np

    if not len(values) or not len(others):
        return None
    mean, reference = float(np.mean(values)), float(np.mean(others))
    test = two_samples(values, others, seed, resamples=resamples)
    return Gap(
        family=family,
        name=name,
        against=against,
        prompts=len(values),
        others=len(others),
        value=mean,
        reference=reference,
        gap=mean - reference,
        **test._asdict(),
    )


def corrected(gaps: Sequence[Gap]) -> list[Gap]:
    """Return gaps with Holm's correction within each family, the widest first."""
    adjusted = holm_within(
        {place: gap.p for place, gap in enumerate(gaps)}, lambda place: gaps[place].family
    )
    families: dict[str, list[Gap]] = {gap.family: [] for gap in gaps}
    for place, gap in enumerate(gaps):
        one = gap.model_copy(update={"p_adjusted": adjusted.get(place)})
        families[gap.family].append(one.model_copy(update={"needed": _needed(one)}))
    # Of gaps of one size, those that were tested stand first.
    return [
        gap
        for members in families.values()
        for gap in sorted(members, key=lambda one: (one.gap, one.p is None))
    ]


def _needed(gap: Gap) -> int | None:
    """Return about how many prompts settle a gap that only the correction makes unsure."""
    if gap.is_sure or not gap.is_enough or not gap.p or not gap.p_adjusted:
        return None
    if gap.p >= ALPHA or gap.high is None or gap.high >= 0:
        return None
    comparisons = gap.p_adjusted / gap.p
    return units_for(gap.p, ALPHA / comparisons, min(gap.prompts, gap.others or gap.prompts))


def _reviewed_values(persona: Persona, rows: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Return prompt → rule trait → 1.0 where the answer that people kept shows it, else 0.0."""
    return {
        row.id: {trait.id: float(bool(trait.passes(row.answer))) for trait in persona.rule_traits}
        for row in rows
    }


def _trait_pairs(
    traits: Sequence[str],
    table: Mapping[Key, Column],
    arm: str,
    fidelity: Column,
    reviewed: Mapping[str, Mapping[str, float]],
) -> dict[_Place, Pairs]:
    places: dict[_Place, Pairs] = {}
    for trait in traits:
        units = table.get(Key(arm, "", 0, trait), Column()).units
        values = {prompt: parts[trait] for prompt, parts in units.items()}
        both = [(v, reviewed[p][trait]) for p, v in values.items() if trait in reviewed.get(p, {})]
        places["trait", trait, "reviewed" if both else "other_traits"] = both or [
            (value, sum(rest) / len(rest))
            for prompt, value in values.items()
            if (rest := [v for n, v in fidelity.units.get(prompt, {}).items() if n != trait])
        ]
    return places


def _turn_pairs(table: Mapping[Key, Column], arm: str) -> dict[_Place, Pairs]:
    turns = {
        key.turn: column.by_prompt
        for key, column in table.items()
        if (key.arm, key.probe, key.metric) == (arm, DRIFT, FIDELITY) and key.turn
    }
    first = turns[min(turns)] if turns else {}
    return {
        ("turn", str(turn), "first_turn"): [(v, first[p]) for p, v in own.items() if p in first]
        for turn, own in sorted(turns.items())[1:]
    }


def _paired_gaps(places: Mapping[_Place, Pairs], seed: int, resamples: int) -> list[Gap]:
    import numpy as np

    samples = [np.array([a - b for a, b in pairs]) for pairs in places.values()]
    differences = differences_of(samples, seed, resamples=resamples)
    return [
        Gap(
            family=family,
            name=name,
            against=against,
            prompts=len(pairs),
            others=0,
            value=float(np.mean([value for value, _ in pairs])),
            reference=float(np.mean([reference for _, reference in pairs])),
            gap=one.mean,
            low=one.low,
            high=one.high,
            p=one.p,
        )
        for ((family, name, against), pairs), one in zip(places.items(), differences, strict=True)
        if one
    ]


def _topic_groups(
    fidelity: Column, reviewed: Mapping[str, Mapping[str, float]], topic_of: Mapping[str, str]
) -> list[_Groups]:
    """Return of each topic its prompts' shortfalls, and those of all other topics."""
    short: dict[str, list[float]] = defaultdict(list)
    for prompt, parts in fidelity.units.items():
        both = parts.keys() & reviewed.get(prompt, {}).keys()
        if both and topic_of.get(prompt):
            missed = sum(parts[name] - reviewed[prompt][name] for name in both) / len(both)
            short[topic_of[prompt]].append(missed)
    return [("topic", topic, "other_topics", *_others(short, topic)) for topic in short]


def _others(groups: Mapping[str, Sequence[float]], name: str) -> tuple[list[float], list[float]]:
    return [*groups[name]], [v for other, values in groups.items() if other != name for v in values]


def by_group(
    family: Family, against: Against, groups: Mapping[str, Sequence[float]], seed: int = 0
) -> list[Gap]:
    """Return the gap of each group's values to those of all other groups, corrected."""
    gaps = (gap_of(family, name, against, *_others(groups, name), seed) for name in groups)
    return corrected([gap for gap in gaps if gap])


def _probe_groups(table: Mapping[Key, Column], arm: str, fidelity: Column) -> list[_Groups]:
    return [
        ("probe", key.probe, "held_out", column.values, fidelity.values)
        for key, column in table.items()
        if key.arm == arm and key.metric == FIDELITY and key.probe and key.probe != DRIFT
    ]
