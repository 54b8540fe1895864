"""Every arm against the base and against the base with a system prompt, all tests at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from workbench.errors import UserError
from workbench.persona import FIDELITY
from workbench.records import Response, Score
from workbench.stats.exact import holm
from workbench.stats.intervals import LEVEL, RESAMPLES, differences_of
from workbench.stats.model import Cell, Comparison, Difference, Spread
from workbench.stats.power import detectable, needed
from workbench.stats.table import Column, Key, tabulate

PROMPTED = "base+prompt"
DRIFT = "drift"
"""Name of the probe set whose turns are told one by one."""
_Reference = tuple[Key, str]
"""A column and the arm that it is compared with."""


def compare(
    scores: Sequence[Score],
    base: str = "base",
    seed: int = 0,
    *,
    prompted: str = PROMPTED,
    responses: Sequence[Response] = (),
    traits: Collection[str] | None = None,
    left_out: Mapping[str, str] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare every arm with ``base`` and ``prompted``, in the order of first appearance.

    Fidelity of a pair is that of the traits scored in both. Holm's correction is made within each
    family of tests: fidelity of all arms; all other metrics of all arms; the probe sets; the
    turns; each once for either reference.

    Args:
        scores: Of all arms; one for each response and metric.
        base: Name of the arm that the others are compared with.
        seed: Of the resampling.
        prompted: Name of the base with the persona's system prompt; the second reference.
        responses: What was scored; needed where a prompt was answered with several seeds.
        traits: The traits that fidelity is made of; by default those of the fidelity scores.
        left_out: Trait that carries no weight → why, to be told.
        level: Confidence level of the intervals.
        resamples: Bootstrap resamples of the prompts for each interval.

    Raises:
        UserError: There is no score of ``base``, or a score is given twice.
    """
    table = tabulate(scores, responses, traits)
    arms = tuple(dict.fromkeys(score.arm for score in scores))
    if base not in arms:
        there = ", ".join(arms) or "none"
        raise UserError(
            f"no score of the arm '{base}' to compare with (there are: {there})",
            fix="answer with that arm too",
        )
    prompted = prompted if prompted in arms and prompted != base else ""
    drift = _changes(table)
    tests = _differences(table, base, prompted)
    every = differences_of(
        [*tests.values(), *drift.values()], seed, level=level, resamples=resamples
    )
    found = _corrected(dict(zip(tests, every, strict=False)), level)
    change = zip(drift, every[len(tests) :], strict=True)
    metrics = dict.fromkeys(s.metric for s in scores if not s.probe)
    held_out = {score.prompt_id for score in scores if not score.probe}

    def cells(keys: Iterable[Key]) -> tuple[Cell, ...]:
        return tuple(
            _cell(
                key,
                table.get(key, Column()),
                found.get((key, base)),
                found.get((key, prompted)),
            )
            for key in keys
        )

    asked = [key for key in table if key.probe]
    return Comparison(
        base=base,
        seed=seed,
        level=level,
        resamples=resamples,
        prompts=len(held_out),
        arms=arms,
        metrics=tuple(metrics),
        cells=cells(Key(arm, "", 0, metric) for arm in arms for metric in metrics),
        prompted=prompted,
        traits=tuple(dict.fromkeys(traits or ())),
        left_out=dict(left_out or {}),
        probes=cells(key for key in asked if key.probe != DRIFT),
        drift=cells(key for key in asked if key.probe == DRIFT),
        drift_change={arm: difference for arm, difference in change if difference},
        seeds=_spreads(table),
    )


def _differences(
    table: Mapping[Key, Column], base: str, prompted: str
) -> dict[_Reference, NDArray[np.float64]]:
    """Return the paired differences of every column to its references."""
    return {
        (key, reference): column.minus(table[theirs])
        for reference in filter(None, (base, prompted))
        for key, column in table.items()
        if key.arm != reference and (theirs := key._replace(arm=reference)) in table
    }


def _changes(table: Mapping[Key, Column]) -> dict[str, NDArray[np.float64]]:
    """Return arm → fidelity in the last turn minus that in the first, one value a conversation."""
    turns: dict[str, dict[int, Column]] = defaultdict(dict)
    for key, column in table.items():
        if key.probe == DRIFT and key.metric == FIDELITY and key.turn:
            turns[key.arm][key.turn] = column
    return {
        arm: columns[max(columns)].minus(columns[min(columns)])
        for arm, columns in turns.items()
        if len(columns) > 1
    }


def _corrected(
    found: Mapping[_Reference, Difference | None], level: float
) -> dict[_Reference, Difference]:
    families: dict[tuple[str, str], list[_Reference]] = defaultdict(list)
    for (key, reference), difference in found.items():
        if difference is not None and difference.p is not None:
            families[_family(key), reference].append((key, reference))
    adjusted: dict[_Reference, float] = {}
    for members in families.values():
        p_values = [found[member].p for member in members]  # type: ignore[union-attr]
        adjusted |= zip(members, holm([p for p in p_values if p is not None]), strict=True)
    return {
        member: difference.model_copy(
            update={"p_adjusted": adjusted.get(member), **_power(member[0], difference, level)}
        )
        for member, difference in found.items()
        if difference is not None
    }


def _family(key: Key) -> str:
    if key.probe:
        return DRIFT if key.probe == DRIFT else "probes"
    return FIDELITY if key.metric == FIDELITY else "metrics"


def _power(key: Key, difference: Difference, level: float) -> dict[str, float | int | None]:
    """Return what could be detected, for the fidelity on held-out prompts."""
    if key.probe or key.metric != FIDELITY:
        return {}
    least = detectable(difference.sd, difference.pairs, level=level)
    if least is None or difference.sd is None:
        return {}
    return {"detectable": least, "needed": needed(least / 2, difference.sd, level=level)}


def _cell(
    key: Key, column: Column, difference: Difference | None, against_prompt: Difference | None
) -> Cell:
    values = column.values
    return Cell(
        arm=key.arm,
        metric=key.metric,
        scored=column.scored,
        unscored=column.reasons.total(),
        reasons=dict(column.reasons.most_common()),
        mean=float(np.mean(values)) if values else None,
        difference=difference,
        against_prompt=against_prompt,
        probe=key.probe,
        turn=key.turn,
    )


def _spreads(table: Mapping[Key, Column]) -> tuple[Spread, ...]:
    """Return the spread of the arms that answered with more than one seed."""
    found = []
    for key, column in table.items():
        if key.probe or key.metric != FIDELITY or len(column.seeds) < 2:
            continue
        means = {seed: float(np.mean(values)) for seed, values in sorted(column.seeds.items())}
        found.append(
            Spread(arm=key.arm, means=means, sd=float(np.std(list(means.values()), ddof=1)))
        )
    return tuple(found)
