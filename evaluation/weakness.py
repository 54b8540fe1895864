"""Where a tuned model is weak: traits, topics, probes and turns, claimed only where it is sure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.probes import DRIFT
from evaluation.shortfall import Against, Family, Gap
from workbench.persona import FIDELITY, Persona
from workbench.records import Example, Response, Score
from workbench.stats.exact import holm, sign_test
from workbench.stats.intervals import LEVEL, RESAMPLES, intervals
from workbench.stats.table import Column, Key, tabulate
from workbench.stats.two_samples import two_samples

Array = NDArray[np.float64]


def find_gaps(
    persona: Persona,
    arm: str,
    scores: Sequence[Score],
    responses: Sequence[Response],
    reviewed: Sequence[Example],
    *,
    traits: Iterable[str] | None = None,
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> list[Gap]:
    """Return every place's gap, the widest first within its family.

    A trait is held against the reviewed answers to the same prompts, which rules can score; a trait
    that only a judge can see, against the arm's other traits. A topic's shortfall is held against
    that of the other topics, a probe set's fidelity against that on held-out questions, a later
    turn's against the first turn's. Paired gaps get a BCa bootstrap interval and the exact sign
    test, the others those of :func:`workbench.stats.two_samples.two_samples`; Holm's
    correction is made within each family.

    Args:
        persona: Its rule traits score the reviewed answers.
        arm: The arm that is looked at.
        scores: Of all arms or only this one.
        responses: What was scored; gives topics, and seeds where there are several.
        reviewed: The held-out rows, with the answers that people kept.
        traits: What fidelity is made of; see :func:`workbench.stats.compare`. Of others,
            such as an untrusted judge's, nothing is claimed.
        seed: Of resampling.
        level: Confidence level of the intervals.
        resamples: Number of resamples.
    """
    own = [score for score in scores if score.arm == arm]
    counted = None if traits is None else list(traits)
    table = tabulate(own, responses, counted)
    fidelity = table.get(Key(arm, "", 0, FIDELITY), Column())
    kept = _reviewed(persona, reviewed)
    paired = {
        **_trait_gaps(
            [t.id for t in persona.traits if counted is None or t.id in counted],
            table,
            arm,
            fidelity,
            kept,
        ),
        **_turn_gaps(table, arm),
    }
    found = _paired(paired, seed, level, resamples)
    topic_of = {response.prompt_id: response.topic for response in responses}
    apart = [
        *_topic_samples(fidelity, kept, topic_of),
        *_probe_samples(table, arm, fidelity),
    ]
    found += [
        gap
        for family, name, against, own_values, others in apart
        if (gap := gap_of(family, name, against, own_values, others, seed, level, resamples))
    ]
    return corrected(found)


def gap_of(
    family: Family,
    name: str,
    against: Against,
    values: Sequence[float],
    others: Sequence[float],
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Gap | None:
    """Return the gap between different prompts' values, or None where one side has none."""
    if not len(values) or not len(others):
        return None
    found = two_samples(values, others, seed, level=level, resamples=resamples)
    return Gap(
        family=family,
        name=name,
        against=against,
        prompts=len(values),
        others=len(others),
        value=float(np.mean(values)),
        reference=float(np.mean(others)),
        gap=float(np.mean(values) - np.mean(others)),
        low=found.low,
        high=found.high,
        p=found.p,
    )


def corrected(gaps: Sequence[Gap]) -> list[Gap]:
    """Return gaps with Holm's correction within each family, the widest first."""
    families: dict[str, list[Gap]] = defaultdict(list)
    for gap in gaps:
        families[gap.family].append(gap)
    found = []
    for members in families.values():
        tested = [gap for gap in members if gap.p is not None]
        adjusted = holm([gap.p for gap in tested if gap.p is not None])
        sure = [
            gap.model_copy(update={"p_adjusted": p})
            for gap, p in zip(tested, adjusted, strict=True)
        ]
        found += sorted([*sure, *(gap for gap in members if gap.p is None)], key=lambda g: g.gap)
    return found


def _reviewed(persona: Persona, rows: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Return prompt → rule trait → 1.0 where the answer that people kept shows it, else 0.0."""
    return {
        row.id: {trait.id: float(bool(trait.passes(row.answer))) for trait in persona.rule_traits}
        for row in rows
    }


_Pairs = list[tuple[float, float]]
_Place = tuple[Family, str, Against]


def _trait_gaps(
    traits: Sequence[str],
    table: Mapping[Key, Column],
    arm: str,
    fidelity: Column,
    kept: Mapping[str, Mapping[str, float]],
) -> dict[_Place, _Pairs]:
    found: dict[_Place, _Pairs] = {}
    for trait in traits:
        units = table.get(Key(arm, "", 0, trait), Column()).units
        values = {prompt: parts[trait] for prompt, parts in units.items()}
        both = [(v, kept[p][trait]) for p, v in values.items() if trait in kept.get(p, {})]
        if both:
            found["trait", trait, "reviewed"] = both
            continue
        others = [
            (value, sum(rest) / len(rest))
            for prompt, value in values.items()
            if (rest := [v for n, v in fidelity.units.get(prompt, {}).items() if n != trait])
        ]
        if others:
            found["trait", trait, "other_traits"] = others
    return found


def _turn_gaps(table: Mapping[Key, Column], arm: str) -> dict[_Place, _Pairs]:
    turns = {
        key.turn: _means(column)
        for key, column in table.items()
        if (key.arm, key.probe, key.metric) == (arm, DRIFT, FIDELITY) and key.turn
    }
    if not turns:
        return {}
    first = turns[min(turns)]
    return {
        ("turn", str(turn), "first_turn"): [(v, first[p]) for p, v in own.items() if p in first]
        for turn, own in sorted(turns.items())
        if turn != min(turns)
    }


def _paired(places: Mapping[_Place, _Pairs], seed: int, level: float, resamples: int) -> list[Gap]:
    places = {place: pairs for place, pairs in places.items() if pairs}
    samples = [np.array([a - b for a, b in pairs]) for pairs in places.values()]
    every = intervals(samples, seed, level=level, resamples=resamples)
    return [
        Gap(
            family=family,
            name=name,
            against=against,
            prompts=len(pairs),
            others=0,
            value=float(np.mean([value for value, _ in pairs])),
            reference=float(np.mean([reference for _, reference in pairs])),
            gap=float(sample.mean()),
            low=interval.low,
            high=interval.high,
            p=sign_test(int((sample > 0).sum()), int((sample < 0).sum())),
        )
        for ((family, name, against), pairs), sample, interval in zip(
            places.items(), samples, every, strict=True
        )
    ]


_Apart = tuple[Family, str, Against, list[float], list[float]]


def _topic_samples(
    fidelity: Column, kept: Mapping[str, Mapping[str, float]], topic_of: Mapping[str, str]
) -> list[_Apart]:
    """Return of each topic its prompts' shortfalls, and those of all other topics."""
    short: dict[str, list[float]] = defaultdict(list)
    for prompt, parts in fidelity.units.items():
        both = parts.keys() & kept.get(prompt, {}).keys()
        if both and topic_of.get(prompt):
            missed = sum(parts[name] - kept[prompt][name] for name in both) / len(both)
            short[topic_of[prompt]].append(missed)
    return [("topic", topic, "other_topics", *_others(short, topic)) for topic in short]


def _others(groups: Mapping[str, Sequence[float]], name: str) -> tuple[list[float], list[float]]:
    return [*groups[name]], [v for other, values in groups.items() if other != name for v in values]


def by_group(
    family: Family, against: Against, groups: Mapping[str, Sequence[float]], seed: int = 0
) -> list[Gap]:
    """Return the gap of each group's values to those of all other groups, corrected."""
    found = (gap_of(family, name, against, *_others(groups, name), seed) for name in groups)
    return corrected([gap for gap in found if gap])


def _probe_samples(table: Mapping[Key, Column], arm: str, fidelity: Column) -> list[_Apart]:
    held_out = list(_means(fidelity).values())
    return [
        ("probe", key.probe, "held_out", list(_means(column).values()), held_out)
        for key, column in table.items()
        if key.arm == arm and key.metric == FIDELITY and key.probe and key.probe != DRIFT
    ]


def _means(column: Column) -> dict[str, float]:
    return {prompt: sum(parts.values()) / len(parts) for prompt, parts in column.units.items()}
